"""The second backend: answers of Nova for one port, fetched once for all who ask, kept for a short time.

Everything kept belongs to the object, and the object to one port as it is now: when the port or its instance changes,
`retire` drops the object with all it knows, and requests that still wait are asked anew of whatever came after it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping

from metadata import events, openstack, prefetch
from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.identity import Caller
from metadata.nova_cache import Entry, Key, Shelf
from metadata.nova_proxy import DOWN_SECONDS, REQUEST_ID, NovaProxy
from metadata.nova_route import Route, path_of, route
from metadata.prefetch import Wanted
from metadata.responses import Response, method_not_allowed, not_found
from metadata.signature import Subject
from metadata.streamed import Streamed, let_go
from metadata.turns import BusyError
from metadata.upstream import FORWARDED, METHODS, sendable

IDLE_SECONDS = 30.0
"""A guest that asked for nothing for so long is booting when it asks again."""
PREFETCHES_AT_ONCE = 4
PREFETCH_SECONDS = 20.0
"""A prefetch that has not ended by then is not needed any more."""
CONFIRM_SECONDS = 60.0
"""How often an instance that Nova found by address is compared with the one that was meant."""

_ROUTES = 64
_NOT_SHARED = frozenset(("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"))
"""Headers that make an answer of their own; nobody else is given it."""
_NO_BODY = (None, b"")
_META_DATA = (openstack.API, openstack.LATEST, openstack.META_DATA)


Reply = Response | Streamed


class _Flight:
    """One request to Nova that any number of guests' requests wait for."""

    __slots__ = ("began", "claimed", "first", "task", "waiting")

    def __init__(self, task: asyncio.Task[Reply], began: float) -> None:
        self.task = task
        self.began = began
        self.first: asyncio.Future[Reply] | None = None
        """Of the request that it was made for, if that waits for nothing else; it may have been cancelled."""
        self.waiting = 0
        """Requests that wait for it."""
        self.claimed = False
        """One of them has the answer for itself, because it is a streamed one."""

    def tidy(self) -> None:
        """An answer that only one can take, and nobody has taken, is closed."""
        if not self.waiting and not self.claimed and self.task.done():
            self.claimed = True
            let_go(self.task)


class NovaBackend:
    """`metadata.backend.Backend` for one port; made by the owner of the model, who also retires it."""

    __slots__ = (
        "_confirmed",
        "_confirming",
        "_failed_at",
        "_flights",
        "_proxy",
        "_retired",
        "_routes",
        "_shelf",
        "_used",
        "subject",
    )

    def __init__(self, proxy: NovaProxy, subject: Subject) -> None:
        self.subject = subject
        self._proxy = proxy
        self._shelf = Shelf(proxy.library)
        self._flights: dict[Key, _Flight] = {}
        self._routes: dict[bytes, Route | None] = {}
        self._retired = False
        self._used = float("-inf")
        self._confirmed = float("-inf")
        self._failed_at = float("-inf")
        self._confirming: asyncio.Lock | None = None

    def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Reply]:
        """See `Backend`; a document that is there and fresh is answered at once."""
        target = self._route(request.target)
        if target is None:
            return not_found("ec2")
        method = "GET" if request.method == "HEAD" else request.method
        # Nova looks at the method where the password is, and nowhere else.
        if method != "GET" and (target.kind != "password" or method not in METHODS):
            return method_not_allowed(target.api)
        headers = request.headers
        if method != "GET" or target.kind == "password" or request.body not in _NO_BODY:
            return self._alone(request, method, target)
        if headers and not _NOT_SHARED.isdisjoint(headers):
            return self._alone(request, method, target)
        accept = headers.get("accept", "")
        key = (target.target, "" if accept == "*/*" else accept)
        proxy = self._proxy
        moment = proxy.clock()
        boots = moment - self._used > IDLE_SECONDS and prefetch.begins_boot(target.elements)
        self._used = moment
        entry = self._shelf.get(key)
        if entry is not None and moment - entry.fetched < proxy.settings.cache_seconds:
            proxy.counters.hit("fresh")
            return entry.response
        flight = self._flights.get(key)
        first: asyncio.Future[Reply] | None = None
        if flight is None:
            flight = self._take_off(key, target, self._forwarded(request))
            if entry is None:
                # Most requests that are not answered at once: neither a task nor a wait of their own.
                first = flight.first = asyncio.get_running_loop().create_future()
        else:
            proxy.counters.hit("coalesced")
        if boots and proxy.settings.prefetch and proxy.settings.cache_seconds > 0:
            proxy.start(self._prefetch(flight, target))
        return first if first is not None else self._wait(flight, entry, request, target)

    def upstream(self, request: Request) -> tuple[str, str, dict[str, str]]:
        """For explanations: method, URL and the headers that say who is asking, without a signature."""
        target = self._route(request.target)
        method = "GET" if request.method == "HEAD" else request.method
        path = target.target if target is not None else ""
        return method, self._proxy.settings.url.rstrip("/") + path, self._proxy.signer.identity(self.subject)

    @property
    def failing(self) -> bool:
        """Whether Nova failed just now, for this port or, as it could not be connected to, for all."""
        return self._proxy.down or self._proxy.clock() - self._failed_at < DOWN_SECONDS

    def retire(self) -> None:
        """The port or its instance is not what it was: forget everything, and let those who wait ask again."""
        self._retired = True
        self._shelf.clear()
        for flight in list(self._flights.values()):
            flight.task.cancel()
        self._flights.clear()

    def _route(self, target: bytes) -> Route | None:
        try:
            return self._routes[target]
        except KeyError:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            found = self._routes[target] = route(target)
            return found

    def _forwarded(self, request: Request) -> dict[str, str]:
        kept = {name: value for name, value in request.headers.items() if name in FORWARDED and sendable(value)}
        kept[REQUEST_ID] = request.id
        return kept

    async def _alone(self, request: Request, method: str, target: Route) -> Reply:
        """A request that is nobody else's: passed on once, its answer not kept."""
        if target.kind == "password" and method == "POST" and request.body is None:
            # Nova fails with 500 for a POST that names no length; the reference asks for 404.
            return not_found(target.api)
        work = self._proxy.start(self._ask(target, method, self._forwarded(request), request.body))
        try:
            response: Reply = await asyncio.shield(work)
        except asyncio.CancelledError:
            # What changes something is ended: a guest that hangs up must not leave its password half sent.
            if method == "GET":
                work.cancel()
            work.add_done_callback(let_go)
            raise
        if self._retired and method == "GET":
            let_go(work)
            raise RetiredError  # anything else has been done, and must not be done twice
        return response

    async def _wait(self, flight: _Flight, entry: Entry | None, request: Request, target: Route) -> Reply:
        """The flight's answer, or the document that is there if that fails or takes long."""
        flight.waiting += 1
        try:
            response = await self._landed(flight, entry)
            if isinstance(response, Response):
                return response
            if not flight.claimed:
                flight.claimed = True
                return response
        finally:
            flight.waiting -= 1
            flight.tidy()
        return await self._alone(request, "GET", target)

    async def _landed(self, flight: _Flight, entry: Entry | None) -> Reply:
        proxy = self._proxy
        settings = proxy.settings
        patience = None
        if entry is not None and proxy.clock() - entry.fetched < settings.stale_seconds:
            begun = proxy.clock() - flight.began
            patience = 0.0 if self.failing else max(0.0, settings.stale_after - begun)
        await asyncio.wait({flight.task}, timeout=patience)
        if self._retired:
            raise RetiredError
        if flight.task.done():
            if flight.task.cancelled():
                return proxy.unavailable(openstack.API)
            response: Reply = flight.task.result()
            if patience is None or response.status < 500:
                return response
        assert entry is not None
        proxy.counters.hit("stale")
        return entry.response

    def _take_off(self, key: Key, target: Route, headers: Mapping[str, str]) -> _Flight:
        proxy = self._proxy
        began = proxy.clock()
        flight = self._flights[key] = _Flight(proxy.start(self._fly(key, target, headers, began)), began)
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        first = flight.first
        if first is not None and not first.done():
            if self._retired:
                first.set_exception(RetiredError())
            elif flight.task.cancelled():
                first.set_result(self._proxy.unavailable(openstack.API))
            elif (failure := flight.task.exception()) is not None:
                first.set_exception(failure)
            else:
                flight.claimed = True
                first.set_result(flight.task.result())
        flight.tidy()

    async def _fly(self, key: Key, target: Route, headers: Mapping[str, str], began: float) -> Reply:
        response = await self._ask(target, "GET", headers, None)
        if self._retired:
            return response
        if response.status >= 500:
            self._failed_at = self._proxy.clock()
        elif response.status != 200 or isinstance(response, Streamed):
            self._shelf.drop(key)
        elif self._proxy.settings.cache_seconds > 0:
            self._shelf.put(key, response, began)
        return response

    async def _ask(self, target: Route, method: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        if not self._proxy.signer.names_instance:
            refusal = await self._confirm(target.api)
            if refusal is not None:
                return refusal
        return await self._proxy.fetch(self.subject, target, method, headers, body)

    async def _confirm(self, api: str) -> Response | None:
        """None when what Nova finds by the caller's address is the caller's instance.

        Nova knows only the provider's networks. If these have two tenants with the same address, or not the caller's
        network, it finds somebody else's documents.
        """
        proxy = self._proxy
        if self._confirming is None:
            self._confirming = asyncio.Lock()
        async with self._confirming:
            if proxy.clock() - self._confirmed < CONFIRM_SECONDS:
                return None
            target = Route(path_of(_META_DATA), "document", api, _META_DATA)
            response = await proxy.fetch(self.subject, target, "GET", {}, None, proxy.settings.response_bytes)
            assert isinstance(response, Response)  # whatever its size
            if response.status != 200:
                return response
            if _uuid(response.body) == self.subject.instance_id:
                self._confirmed = proxy.clock()
                return None
            events.emit("metadata.nova_wrong_instance", port=self.subject.port_id, instance=self.subject.instance_id)
            return proxy.unavailable(api)

    async def _prefetch(self, flight: _Flight, target: Route) -> None:
        """Have the documents that a booting guest asks for next."""
        await asyncio.wait({flight.task})
        if self._retired or flight.task.cancelled() or flight.task.result().status != 200:
            return
        wanted = list(prefetch.first(target.elements))[::-1]
        left = prefetch.MOST
        running: set[asyncio.Task[list[Wanted]]] = set()
        try:
            async with asyncio.timeout(PREFETCH_SECONDS):
                while (wanted and left > 0) or running:
                    while wanted and left > 0 and len(running) < PREFETCHES_AT_ONCE:
                        left -= 1
                        running.add(asyncio.create_task(self._prefetch_one(*wanted.pop())))
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        wanted[:0] = task.result()[::-1]
        except TimeoutError:
            pass
        finally:
            for task in running:
                task.cancel()

    async def _prefetch_one(self, elements: tuple[str, ...], listing: bool) -> list[Wanted]:
        ahead, project = self._proxy.ahead, self.subject.project_id
        try:
            await ahead.take(project)
        except BusyError:
            return []
        try:
            return await self._prefetch_now(elements, listing)
        finally:
            ahead.give(project)

    async def _prefetch_now(self, elements: tuple[str, ...], listing: bool) -> list[Wanted]:
        proxy = self._proxy
        project = self.subject.project_id
        if proxy.turns.waits(project) or proxy.turns.room(project) <= proxy.settings.connections_per_project // 4:
            return []  # guests' own requests go first
        key = (path_of(elements), "")
        entry = self._shelf.get(key)
        if entry is not None and proxy.clock() - entry.fetched < proxy.settings.cache_seconds:
            response: Reply = entry.response
        elif self._retired:
            return []
        else:
            found = route(key[0].encode())
            assert found is not None
            flight = self._flights.get(key) or self._take_off(key, found, {})
            await asyncio.wait({flight.task})
            if flight.task.cancelled():
                return []
            response = flight.task.result()
        if not listing or response.status != 200 or isinstance(response, Streamed):
            return []
        return list(prefetch.children(elements, response.body))


def _uuid(body: bytes) -> str:
    try:
        found = json.loads(body)["uuid"]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""

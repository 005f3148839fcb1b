"""What all ports share on the way to Nova: signing, turns, times, waiting for a Nova that is away, counting.

`NovaProxy.fetch` gives an answer for whatever happens: what Nova said, or 502, 503 or 504 of ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple

from metadata import events
from metadata.nova_cache import Library
from metadata.nova_route import Route
from metadata.nova_settings import NovaSettings
from metadata.responses import Response, error
from metadata.signature import Signer, Subject
from metadata.streamed import Streamed
from metadata.turns import BusyError, Turns
from metadata.upstream import Answer, Client, UnreachableError, UpstreamError

KNOCK_SECONDS = 0.25
"""How often a Nova that cannot be connected to is tried again while requests wait for it."""
DOWN_SECONDS = 1.0
"""For how long after a failure a document that is there is given out without waiting."""
AHEAD = 8
"""One in so many of the requests at Nova may fetch a document ahead."""
REQUEST_ID = "X-Openstack-Request-Id"

Observe = Callable[[float, str], None]
"""Takes seconds and the `code` label."""


class NovaCounters:
    """Label values come from fixed sets: HTTP codes, reasons of UpstreamError, kinds of hits."""

    __slots__ = ("hits", "requests")

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        """Requests to Nova by its answer's code, or by why there was none."""
        self.hits: dict[str, int] = {}
        """Answers without a request of their own: `fresh`, `stale`, `coalesced`."""

    def request(self, code: str) -> None:
        """Count a request to Nova."""
        self.requests[code] = self.requests.get(code, 0) + 1

    def hit(self, kind: str) -> None:
        """Count an answer that needed none."""
        self.hits[kind] = self.hits.get(kind, 0) + 1


class _StillAwayError(Exception):
    """Others have found out that Nova cannot be connected to, and one of them looks when it can."""


class _Asked(NamedTuple):
    """What Nova is asked for, in whose name, and with how much patience."""

    subject: Subject
    route: Route
    method: str
    headers: Mapping[str, str]
    """Of the guest, without the signature."""
    body: bytes | None
    seconds: float
    whole: int
    """Bytes of an answer that come at once."""


class NovaProxy:
    """Made once per process, on the event loop; `close` ends what is under way."""

    def __init__(
        self,
        settings: NovaSettings,
        client: Client,
        observe: Observe | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`observe` gets how long each request to Nova took. Raises ValueError as `Signer`."""
        self.settings = settings
        self.signer = Signer(settings.secrets, settings.mode, settings.provider_id)
        self.clock = clock
        self.counters = NovaCounters()
        self.library = Library(settings.cache_bytes)
        self.turns = Turns(settings.connections, settings.connections_per_project, settings.waiting_per_project)
        # Everything that is fetched ahead is work that guests' own requests have to wait for, other tenants', too.
        self.ahead = Turns(
            max(1, settings.connections // AHEAD), settings.connections_per_project, settings.waiting_per_project
        )
        """Turns to fetch something ahead, each before one of `turns`."""
        self._client = client
        self._observe = observe
        self._secret = 0
        """Which of the secrets Nova took last."""
        self._away = False
        self._away_at = float("-inf")
        self._back = asyncio.Event()
        self._knocker: asyncio.Task[None] | None = None
        self._waiting = 0
        """Requests that wait for `_back`."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unavailable = {api: _unavailable(settings, api) for api in ("ec2", "openstack")}

    @property
    def down(self) -> bool:
        """Whether Nova could not be connected to just now; what else fails may be one project's trouble."""
        return self.clock() - self._away_at < DOWN_SECONDS

    @property
    def tasks(self) -> int:
        """Requests under way, waiting ones and prefetches included."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that outlives the guest who asked for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel what is under way and end all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def fetch(
        self,
        subject: Subject,
        route: Route,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
        whole: int | None = None,
    ) -> Response | Streamed:
        """Ask Nova in the name of `subject`; `headers` are those of the guest that are passed on.

        An answer of at most `whole` bytes (`whole_bytes` if it is not given) comes whole.
        """
        bound = self.settings.whole_bytes if whole is None else whole
        asked = _Asked(subject, route, method, headers, body, self._seconds(route), bound)
        deadline = self.clock() + self.settings.hold_seconds
        while True:
            try:
                answer = await self._in_turn(asked)
            except (UnreachableError, _StillAwayError) as failure:
                if isinstance(failure, UnreachableError):
                    self._note_away(failure)
                if await self._comes_back(deadline - self.clock()):
                    continue
                return self._unavailable[route.api]
            except UpstreamError as failure:
                self._note_failed(subject, failure)
                return error(failure.status, route.api)
            except BusyError:
                events.emit("metadata.nova_busy", project=subject.project_id)
                return self._unavailable[route.api]
            if self._away:
                self._away = False
                events.emit("metadata.nova_back")
            return self._given(subject, route, answer)

    def unavailable(self, api: str) -> Response:
        """The answer while Nova is not there."""
        return self._unavailable[api]

    def _seconds(self, route: Route) -> float:
        settings = self.settings
        match route.kind:
            case "password":
                return settings.password_timeout
            case "vendordata":
                return settings.vendordata_timeout
        return settings.timeout

    async def _in_turn(self, asked: _Asked) -> Answer:
        """A turn lasts until the body has come, or nobody takes more of it.

        Who gets one while Nova is known to be away does not try again: it would take the time of a connection for each
        that waits for a turn behind, and those would be held far longer than they may.
        """
        project = asked.subject.project_id
        if not self.turns.try_take(project):
            try:
                async with asyncio.timeout(asked.seconds):
                    await self.turns.take(project)
            except TimeoutError:
                raise BusyError from None
        rest = None
        try:
            if self._knocker is not None and not self._knocker.done() and not self._back.is_set():
                raise _StillAwayError
            answer = await self._signed(asked)
            rest = answer.rest
        finally:
            if rest is None:
                self.turns.give(project)
        if rest is not None:
            rest.then(lambda _, __: self.turns.give(project))
        return answer

    async def _signed(self, asked: _Asked) -> Answer:
        """With the secret that Nova took last, and with the others when it does not take it any more."""
        subject, secrets = asked.subject, self.signer.secrets
        first = self._secret
        for offset in range(len(secrets)):
            number = (first + offset) % len(secrets)
            headers = {**asked.headers, **self.signer.headers(subject, secrets[number])}
            answer = await self._counted(
                asked.method, asked.route.target, headers, asked.body, asked.seconds, asked.whole
            )
            if answer.status != 403:
                self._secret = number
                return answer
            if answer.rest is not None and offset < len(secrets) - 1:
                answer.rest.close()
        events.emit("metadata.nova_forbidden", port=subject.port_id, instance=subject.instance_id)
        return answer

    async def _counted(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        count = partial(self._count, self.clock())
        try:
            answer = await self._client.ask(method, target, headers, body, seconds, whole)
        except UpstreamError as failure:
            count(failure.reason)
            raise
        except BaseException:
            count("cancelled")
            raise
        if answer.rest is None:
            count(str(answer.status))
        else:
            answer.rest.then(lambda code, _: count(code))
        return answer

    def _count(self, began: float, code: str) -> None:
        self.counters.request(code)
        if self._observe is not None:
            self._observe(self.clock() - began, code)

    def _given(self, subject: Subject, route: Route, answer: Answer) -> Response | Streamed:
        """Nova's answer as one of ours."""
        status, content_type, headers = answer.status, answer.content_type, answer.headers
        if answer.rest is None:
            return Response(status, content_type, answer.body, headers=headers, api=route.api, lasting=False)
        answer.rest.then(partial(self._passed_on, subject))
        return Streamed(
            status, content_type, answer.body, answer.rest, length=answer.length, headers=headers, api=route.api
        )

    def _passed_on(self, subject: Subject, code: str, failure: UpstreamError | None) -> None:
        """An answer that was passed on has ended."""
        if failure is not None:
            self._note_failed(subject, failure)

    async def _comes_back(self, seconds: float) -> bool:
        """Wait until Nova can be connected to, at most so many seconds; one knocks for all who wait."""
        if seconds <= 0:
            return False
        if self._knocker is None or self._knocker.done():
            self._back.clear()
            self._knocker = self.start(self._knock())
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._back.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def _knock(self) -> None:
        """Ask for the list of versions, which Nova gives to everybody, until there is an answer of any kind."""
        while True:
            await asyncio.sleep(KNOCK_SECONDS)
            if not self._waiting:
                return
            try:
                await self._counted("GET", "/", {}, None, self.settings.timeout, self.settings.response_bytes)
            except UnreachableError:
                continue
            except UpstreamError:
                pass
            self._back.set()
            return

    def _note_failed(self, subject: Subject, failure: UpstreamError) -> None:
        events.emit("metadata.nova_failed", reason=failure.reason, error=str(failure), port=subject.port_id)

    def _note_away(self, failure: UnreachableError) -> None:
        self._away_at = self.clock()
        if not self._away:
            self._away = True
            events.emit("metadata.nova_unreachable", url=self.settings.url, error=str(failure))


def _unavailable(settings: NovaSettings, api: str) -> Response:
    return error(503, api, (("Retry-After", str(settings.retry_after)),))

"""One guest's connection: takes requests, asks who the caller is, gives answers.

The caller is looked up for every request, so a kept connection does not outlive its port. A request of an unknown
caller is held: the connection waits, without being read, until `recheck` finds the port or the time is over. It waits
in the same way for a backend that does not answer at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from metadata import events
from metadata.backend import Backend, RetiredError
from metadata.http1 import STATUS_OF_REASON, Request, RequestReader
from metadata.identity import NO_MAC, Caller, Known, Refused, Unknown
from metadata.relaying import RelayingStream, drop
from metadata.responses import Response, error
from metadata.stream import CLOSED, HELD, LINGERING, READING, WAITING, WRITING
from metadata.streamed import Relay, Streamed, let_go

if TYPE_CHECKING:
    from metadata.server import Listener

_FORBIDDEN = error(403)
_FAILED = error(500)
_TIMED_OUT = error(504)
_REFUSALS = {reason: error(status) for reason, status in STATUS_OF_REASON.items()}


class Connection(RelayingStream):
    """Made by its listener, which says what has arrived with it."""

    __slots__ = (
        "_asked",
        "_backend",
        "_began",
        "_ended",
        "_paid",
        "_port",
        "_reader",
        "_served",
        "_since",
        "_timing",
        "caller",
    )

    def __init__(self, listener: Listener, descriptor: int, caller: Caller) -> None:
        super().__init__(listener, descriptor)
        self.caller = caller
        self._reader: RequestReader | None = None
        self._asked: Request | None = None
        """The request that waits, in HELD and WAITING."""
        self._pending = None
        self._relay = None
        self._owned = False
        self._backend: Backend | None = None
        """Who makes it."""
        self._paid = False
        """The request that waits, in HELD, has been counted by the limit of its port."""
        self._since = 0.0
        self._port = ""
        """Of the request that is being answered, once it is known."""
        self._began = 0.0
        self._ended = 0.0
        """When the last answer was there, but for its bytes."""
        self._served = False
        self._timing = False
        """The deadline is that of a request which has begun."""

    def received(self, data: bytes) -> None:
        """See `Stream`."""
        try:
            reader = self._reader
            request = self.listener.server.memo.get(data) if reader is None or reader.clean else None
            if request is None:
                self._take(data)
            else:
                if reader is not None:
                    reader.close()
                    self._reader = None
                self._answer(request.__copy__())  # type: ignore[attr-defined]  # what copy.copy finds after a search
            if self.state is READING:
                self._go_on()
        except Exception as failure:
            self._failed(failure)

    def resumed(self) -> None:
        """See `Stream`."""
        self._guarded(self._go_on if self._relay is None else self.next_part)

    def sent(self, data: bytes, count: int, now: float) -> None:
        """See `Stream`."""
        self.state = READING
        self.written(count, data, self._stay, b"", now)
        if self.state is READING and (self._reader is not None or not self._watching):
            self._guarded(self._go_on)

    def lost(self) -> None:
        """See `Stream`."""
        waiting = self.state is WAITING or self._relay is not None
        if self.state is not LINGERING and (self._begun or self.writing or waiting):
            self.listener.counters.drop("disconnected")
        self.close()

    def recheck(self) -> None:
        """Look a held caller up again; the answer goes out if it is known now."""
        if self.state is HELD:
            self._guarded(self._look_again)

    def expire(self) -> None:
        """See `Stream`."""
        if self.state is HELD:
            self._guarded(self._give_up)
        elif self.state is WAITING:
            self.listener.counters.drop("slow_backend")
            if self._relay is None:
                self._guarded(lambda: self._arrived(_TIMED_OUT))
            else:
                self.close()
        elif self.state is READING and self._begun:
            self._refuse("slow_request")
        else:
            if self.state is WRITING:
                self.listener.counters.drop("slow_reader")
            elif self.state is READING:
                self.listener.counters.drop("idle")
            self.close()

    def await_bytes(self) -> None:
        """See `Stream`; sets until when the bytes are waited for."""
        if not self._room():
            return
        settings = self.listener.server.settings
        begun = self._begun
        if begun and not self._timing:
            self._timing = True
            self.register(settings.header_timeout)
        elif not self.registered:
            self.register(settings.idle_timeout if self._served else settings.header_timeout)
        self.watch()

    def close(self) -> None:
        """See `Stream`."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._asked is not None:
            self._asked = None
            self.listener.held.pop(self, None)
            self.abandon()
        if self._relay is not None:
            self.break_off()
        super().close()

    def whose(self) -> str:
        """See `Stream`: the port, or as long as there is none, the MAC or address in its network."""
        if self._port:
            return self._port
        with suppress(Exception):  # a request that fails by the same mistake is logged
            verdict = self.listener.server.lookup.lookup(self.caller)
            if isinstance(verdict, Known):
                return verdict.port_id
        return f"{self.caller.network_id} {self.caller.mac or self.caller.address}"

    def admitted(self) -> bool:
        """See `Stream`."""
        listener = self.listener
        if self.registered or not listener.owners:
            return True
        if listener.connections >= listener.room:  # they have become so many since it was accepted
            listener.counters.drop("too_many_connections")
            return False
        if listener.owners.get(self.whose(), 0) < listener.server.settings.connections_per_port:
            return True
        listener.counters.drop("too_many_connections_of_port")
        return False

    def _room(self) -> bool:
        """Whether the connection may go on and wait; it is answered 503 and closed if its port has too many."""
        if self.state is not READING or self.admitted():
            return True
        if not self._served:
            self.last(self.listener.server.unavailable.encode(self.listener.server.ending(False)))
        self.close()
        return False

    @property
    def _begun(self) -> bool:
        """Whether a request has begun and is not complete."""
        return self._reader is not None and self._reader.partial

    def _take(self, data: bytes) -> None:
        """Bytes to requests."""
        server = self.listener.server
        reader = self._reader
        if reader is None:
            reader = self._reader = RequestReader(server.settings)
        fresh = reader.clean
        reader.feed(data)
        if fresh:
            server.memo.learn(data, reader)

    def _go_on(self) -> None:
        """Answer what was read, until something has to be waited for."""
        while self.state is READING:
            reader = self._reader
            if reader is not None and reader.requests:
                self._answer(reader.requests.popleft())
            elif reader is not None and reader.refusal:
                self._refuse(reader.refusal)
            else:
                self.await_bytes()
                return

    def _answer(self, request: Request) -> None:
        server = self.listener.server
        began = self._began = self._ended = monotonic()
        verdict = server.lookup.lookup(self.caller)
        if isinstance(verdict, Unknown):
            self._hold(request, verdict)
            return
        self._reply(request, verdict, began)
        if server.observe is not None and self.state is not WAITING:
            server.observe(self._ended - began)

    def _reply(self, request: Request, verdict: Known | Refused, moment: float, paid: bool = False) -> None:
        server = self.listener.server
        if isinstance(verdict, Known):
            port = self._port = verdict.port_id
            if server.limiter is not None and not paid and (wait := server.limiter.take(port, moment)):
                self.listener.counters.drop("rate_limited")
                self._respond(request, _too_many(math.ceil(wait)))
                return
            now = time()
            response = None
            if (request.gated or verdict.gated) and server.gate is not None:
                response = server.gate(request, verdict, now)
            if response is None:
                answer = verdict.backend.answer(request, self.caller, now)
                if not isinstance(answer, Response):
                    self._wait(request, answer, verdict.backend)
                    return
                response = answer
        else:
            self._port = ""
            self.listener.counters.lookup_failed(verdict.reason)
            server.note("metadata.refused_caller", **self._fields(), reason=verdict.reason)
            response = _FORBIDDEN
        self._respond(request, response)

    def _respond(self, request: Request, response: Response) -> None:
        listener = self.listener
        server = listener.server
        listener.counters.requests[response.label] += 1
        stay = request.keep_alive
        head_only = request.method == "HEAD"
        now = self._ended = monotonic()
        if now >= server.endings_until:
            server.renew()
        ending = server.endings[stay]
        shared = b""
        if response.big and not head_only:
            data, shared = response.parts(ending)
        else:
            data = response.encode(ending, head_only)
        if server.access is not None:
            if now < server.access_at:
                server.access_skipped += 1
            else:
                server.access(self.caller, request, response, self._port, now - self._began)
        self._served = True
        self._timing = False
        if response.hop_limit is not None:
            self.limit_hops(response.hop_limit)
        if shared or (stay and not self.registered):
            self.write(data, stay, shared)  # one that begins to wait must count before the next one is let in
        else:
            self.post(data, stay)

    def _hold(self, request: Request, verdict: Unknown) -> None:
        self._port = ""
        listener = self.listener
        server = listener.server
        listener.counters.lookup_failed(verdict.reason)
        server.note("metadata.unknown_caller", **self._fields(), reason=verdict.reason)
        if server.settings.hold_seconds <= 0 or verdict is NO_MAC:  # that of this connection is never known
            self._respond(request, server.unavailable)
            return
        if not self._room():
            return
        if not listener.may_hold(self.caller):
            listener.counters.drop("too_many_held")
            self._respond(request, server.unavailable)
            return
        self.register(server.settings.hold_seconds)
        self.state = HELD
        self._asked = request
        listener.held[self] = None
        self.unwatch()

    def _look_again(self) -> None:
        verdict = self.listener.server.lookup.lookup(self.caller)
        if not isinstance(verdict, Unknown):
            paid = self._paid
            self._reply(self._release(), verdict, monotonic(), paid)
            self._go_on()

    def _give_up(self) -> None:
        self._respond(self._release(), self.listener.server.unavailable)
        self._go_on()

    def _release(self) -> Request:
        request = self._asked
        assert request is not None
        self._asked = None
        self._backend = None
        self._paid = False
        self.listener.held.pop(self, None)
        self.state = READING
        return request

    def _wait(self, request: Request, answer: Awaitable[Response | Streamed], backend: Backend) -> None:
        """Answer when the backend has the answer."""
        if not self._room():
            drop(answer)
            return
        self._asked = request
        self._backend = backend
        self._since = monotonic()
        self.await_future(answer)

    def came(self, pending: asyncio.Future[Any]) -> None:
        """See `RelayingStream`."""
        try:
            self._settle(pending)
        except Exception as failure:
            let_go(pending)
            self._failed(failure)

    def _settle(self, pending: asyncio.Future[Any]) -> None:
        if self._relay is not None:
            if self.pass_on(self._relay, pending):
                self._go_on()
        elif not pending.cancelled() and (isinstance(pending.exception(), RetiredError) or self._is_old()):
            let_go(pending)
            self._ask_again(self._release())
            self._go_on()
        else:
            self._arrived(_FAILED if pending.cancelled() else pending.result())

    def _ask_again(self, request: Request) -> None:
        """The same request, to whatever its caller is now; it counts, and is measured, as one."""
        server, since = self.listener.server, self._since
        verdict = server.lookup.lookup(self.caller)
        if isinstance(verdict, Unknown):
            self._hold(request, verdict)
            self._paid = self.state is HELD
            return
        self._reply(request, verdict, monotonic(), paid=True)
        if self.state is WAITING:
            self._since = since
        elif server.observe is not None:
            server.observe(monotonic() - since)

    def _is_old(self) -> bool:
        """Whether the answer was ready, but the caller became another before its turn to be written came."""
        request = self._asked
        if request is None or request.method not in ("GET", "HEAD"):
            return False  # anything else has been done, and must not be done twice
        verdict = self.listener.server.lookup.lookup(self.caller)
        return not isinstance(verdict, Known) or verdict.backend is not self._backend

    def _arrived(self, response: Response | Streamed) -> None:
        self.abandon()
        if (observe := self.listener.server.observe) is not None:
            observe(monotonic() - self._since)
        if isinstance(response, Streamed):
            self._begin_relay(self._release(), response)
        else:
            self._respond(self._release(), response)
        self._go_on()

    def _begin_relay(self, request: Request, response: Streamed) -> None:
        server = self.listener.server
        relay = self._relay = Relay(
            response, chunks=request.chunks, keep_alive=request.keep_alive, patience=server.settings.write_timeout
        )
        bodiless = request.method == "HEAD"
        stay = request.keep_alive if bodiless else relay.stay
        ending = server.ending(stay)
        self.listener.counters.request(response.label)
        if server.access is not None:
            server.access(self.caller, request, response, self._port, monotonic() - self._began)
        self._served = True
        self._timing = False
        if bodiless:
            self._relay = None
            relay.close()
            self.write(relay.head(ending), stay)
        else:
            self.send_part(relay, relay.begin(ending))

    def _refuse(self, reason: str) -> None:
        """Answer a request that is not understood, and end."""
        self.listener.counters.drop(reason)
        self._end(_REFUSALS[reason])

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that calls code of others; a mistake there is this guest's 500 and nobody else's trouble."""
        try:
            step()
        except Exception as failure:
            self._failed(failure)

    def _failed(self, failure: Exception) -> None:
        """The guest gets 500, the operator the traceback."""
        events.log.error("metadata.request_failed", exc_info=failure, extra={"fields": self._fields()})
        if self._relay is not None:
            self.close()  # the half of another answer is out already
            return
        self.listener.counters.request(_FAILED.label)
        self.listener.held.pop(self, None)
        self.abandon()
        if self.state is not CLOSED:
            self._end(_FAILED)

    def _end(self, response: Response) -> None:
        if self._reader is not None:
            self._reader.requests.clear()
        self.end(response.encode(self.listener.server.ending(False)))

    def _fields(self) -> dict[str, object]:
        caller = self.caller
        return {"network": caller.network_id, "mac": caller.mac, "address": caller.address}


@lru_cache(64)
def _too_many(seconds: int) -> Response:
    """Another request may pass after so many seconds."""
    return error(429, headers=(("Retry-After", str(seconds)),))

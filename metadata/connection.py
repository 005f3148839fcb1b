"""One guest's connection: takes requests, asks who the caller is, gives answers.

The caller is looked up for every request, so a kept connection does not outlive its port. A request of an unknown
caller is held: the connection waits, without being read, until `recheck` finds the port or the time is over.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from metadata import events
from metadata.http1 import STATUS_OF_REASON, Request, RequestReader
from metadata.identity import Caller, Known, Refused, Unknown, peer_address, syn_source
from metadata.responses import Response, error
from metadata.settings import share
from metadata.stream import State, Stream

if TYPE_CHECKING:
    from metadata.server import Listener

# linux/tcp.h; not in the socket module.
TCP_SAVED_SYN = 28
_SAVED_SYN_BYTES = 256
"""Ethernet, IPv6 and TCP headers with all options are 114 bytes; the rest is room for IPv6 extension headers."""

_FORBIDDEN = error(403)
_FAILED = error(500)
_REFUSALS = {reason: error(status) for reason, status in STATUS_OF_REASON.items()}


class Connection(Stream):
    """Made by its listener, which then calls `readable`."""

    __slots__ = ("_held", "_reader", "_served", "_timing", "caller")

    def __init__(self, listener: Listener, sock: socket.socket, address: str) -> None:
        super().__init__(listener, sock)
        self.caller = Caller(listener.network_id, _source_mac(sock), peer_address(address))
        self.source = self.caller.mac or self.caller.address
        self._reader: RequestReader | None = None
        self._held: Request | None = None
        self._served = False
        self._timing = False
        """The deadline is that of a request which has begun."""

    def received(self, data: bytes) -> None:
        """See `Stream`."""
        try:
            self._take(data)
            self._go_on()
        except Exception as failure:
            self._failed(failure)

    def resumed(self) -> None:
        """See `Stream`."""
        self._guarded(self._go_on)

    def lost(self) -> None:
        """See `Stream`."""
        if self.state is not State.LINGERING and (self._begun or self.writing):
            self.listener.counters.drop("disconnected")
        self.close()

    def recheck(self) -> None:
        """Look a held caller up again; the answer goes out if it is known now."""
        if self.state is State.HELD:
            self._guarded(self._look_again)

    def expire(self) -> None:
        """See `Stream`."""
        if self.state is State.HELD:
            self._guarded(self._give_up)
        elif self.state is State.READING and self._begun:
            self._refuse("slow_request")
        else:
            if self.state is State.WRITING:
                self.listener.counters.drop("slow_reader")
            elif self.state is State.READING:
                self.listener.counters.drop("idle")
            self.close()

    def await_bytes(self) -> None:
        """See `Stream`; sets until when the bytes are waited for."""
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
        self._held = None
        if self.state is State.HELD:
            self.listener.held.pop(self, None)
        super().close()

    @property
    def _begun(self) -> bool:
        """Whether a request has begun and is not complete."""
        return self._reader is not None and self._reader.partial

    def _take(self, data: bytes) -> None:
        """Bytes to requests; one that is known by its bytes is answered here, without the parser."""
        memo = self.listener.server.memo
        reader = self._reader
        fresh = reader is None or reader.clean
        request = memo.get(data) if fresh else None
        if request is not None:
            self._answer(request)
            return
        if reader is None:
            reader = self._reader = RequestReader(self.listener.server.settings)
        reader.feed(data)
        if fresh:
            memo.learn(data, reader)

    def _go_on(self) -> None:
        """Answer what was read, until something has to be waited for."""
        while self.state is State.READING:
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
        observe = server.observe
        started = time.perf_counter() if observe is not None else 0.0
        verdict = server.lookup.lookup(self.caller)
        if isinstance(verdict, Unknown):
            self._hold(request, verdict)
            return
        self._reply(request, verdict)
        if observe is not None:
            observe(time.perf_counter() - started)

    def _reply(self, request: Request, verdict: Known | Refused) -> None:
        if isinstance(verdict, Known):
            response = verdict.tree.answer(request.method, request.target, time.time(), request.body)
        else:
            self.listener.counters.lookup_failed(verdict.reason)
            self.listener.server.note("metadata.refused_caller", **self._fields(), reason=verdict.reason)
            response = _FORBIDDEN
        self._respond(request, response)

    def _respond(self, request: Request, response: Response) -> None:
        server = self.listener.server
        self.listener.counters.request(response.label)
        stay = request.keep_alive
        head_only = request.method == "HEAD"
        shared = b""
        if response.big and not head_only:
            data, shared = response.parts(server.ending(stay))
        else:
            data = response.encode(server.ending(stay), head_only)
        if server.access is not None:
            server.access(self.caller, request, response)
        self._served = True
        self._timing = False
        self.write(data, stay, shared)

    def _hold(self, request: Request, verdict: Unknown) -> None:
        listener = self.listener
        server = listener.server
        listener.counters.lookup_failed(verdict.reason)
        server.note("metadata.unknown_caller", **self._fields(), reason=verdict.reason)
        limit = server.settings.held_per_network
        own = sum(other.source == self.source for other in listener.held)
        if len(listener.held) >= limit or own >= share(limit):
            listener.counters.drop("too_many_held")
            self._respond(request, server.unavailable)
            return
        self.register(server.settings.hold_seconds)
        self.state = State.HELD
        self._held = request
        listener.held[self] = None
        self.unwatch()

    def _look_again(self) -> None:
        verdict = self.listener.server.lookup.lookup(self.caller)
        if not isinstance(verdict, Unknown):
            self._reply(self._release(), verdict)
            self._go_on()

    def _give_up(self) -> None:
        self._respond(self._release(), self.listener.server.unavailable)
        self._go_on()

    def _release(self) -> Request:
        request = self._held
        assert request is not None
        self._held = None
        self.listener.held.pop(self, None)
        self.state = State.READING
        return request

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
        self.listener.counters.request(_FAILED.label)
        self.listener.held.pop(self, None)
        if self.state is not State.CLOSED:
            self._end(_FAILED)

    def _end(self, response: Response) -> None:
        if self._reader is not None:
            self._reader.requests.clear()
        self.end(response.encode(self.listener.server.ending(False)))

    def _fields(self) -> dict[str, object]:
        caller = self.caller
        return {"network": caller.network_id, "mac": caller.mac, "address": caller.address}


def _source_mac(sock: socket.socket) -> str | None:
    """The MAC of the SYN that made this connection; can be read only once."""
    with suppress(OSError):
        return syn_source(sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, _SAVED_SYN_BYTES))
    return None

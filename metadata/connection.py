"""One guest's TCP connection: reads requests, asks who the caller is, writes answers.

It works on the socket itself, not on an asyncio transport: most guests open a connection for one request, and with
TCP_DEFER_ACCEPT that request is there when the connection is accepted. Such a connection is read, answered and closed
without the event loop ever hearing of it. Only one that has to wait for something registers with the loop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from metadata import events
from metadata.http1 import READ_BYTES, STATUS_OF_REASON, Request, RequestReader
from metadata.identity import Caller, Known, Refused, Unknown, peer_address, syn_source
from metadata.responses import Response, error

if TYPE_CHECKING:
    from metadata.server import Listener

# linux/tcp.h; not in the socket module.
TCP_SAVED_SYN = 28
_SAVED_SYN_BYTES = 256
"""Ethernet, IPv6 and TCP headers with all options are 134 bytes; the rest is room for IPv6 extension headers."""

LINGER_BYTES = 1 << 20

_FORBIDDEN = error(403)
_FAILED = error(500)
_REFUSALS = {reason: error(status) for reason, status in STATUS_OF_REASON.items()}


class State(IntEnum):
    """What a connection is waiting for."""

    READING = 0
    """The next bytes of a request."""
    HELD = 1
    """Its caller to become known."""
    WRITING = 2
    """The guest to take the rest of an answer."""
    LINGERING = 3
    """The guest to end, after an error answer."""
    CLOSED = 4


class Connection:
    """See the module. Made by its listener, which then calls `readable`."""

    __slots__ = (
        "_fd",
        "_held",
        "_lingered",
        "_listener",
        "_out",
        "_reader",
        "_registered",
        "_served",
        "_sock",
        "_stay",
        "_timing",
        "_watching",
        "caller",
        "deadline",
        "state",
    )

    def __init__(self, listener: Listener, sock: socket.socket, address: str) -> None:
        self._listener = listener
        self._sock = sock
        self._fd = -1
        self._reader: RequestReader | None = None
        self._held: Request | None = None
        self._out: memoryview | None = None
        self._stay = True
        self._served = False
        self._timing = False
        self._registered = False
        self._watching = False
        self._lingered = 0
        self.state = State.READING
        self.deadline = 0.0
        self.caller = Caller(listener.network_id, _source_mac(sock), peer_address(address))

    # Events of the loop and of the listener.

    def readable(self) -> None:
        """Bytes, the end of the stream or an error may be there."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            self._await_bytes()
            return
        except OSError:
            self._lost()
            return
        if not data:
            self._lost()
        elif self.state is State.LINGERING:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.close()
        else:
            try:
                self._received(data)
            except Exception as failure:
                self._failed(failure)

    def writable(self) -> None:
        """The guest took some of the answer."""
        assert self._out is not None
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lost()
            return
        self._out = self._out[sent:]
        if self._out:
            return
        listener = self._listener
        listener.loop.remove_writer(self._fd)
        self._out = None
        self.state = State.READING
        if self._stay:
            self.deadline = listener.loop.time() + listener.server.settings.idle_timeout
            self._guarded(self._continue)
        else:
            self.close()

    def recheck(self) -> None:
        """Look a held caller up again; the answer goes out if it is known now."""
        if self.state is State.HELD:
            self._guarded(self._look_again)

    def expire(self) -> None:
        """`deadline` has passed."""
        listener = self._listener
        if self.state is State.HELD:
            self._guarded(partial(self._release, None))
        elif self.state is State.WRITING:
            listener.counters.drop("slow_reader")
            self.close()
        elif self.state is State.READING and self._reader is not None and self._reader.partial:
            self._refuse("slow_request")
        else:
            if self.state is State.READING:
                listener.counters.drop("idle")
            self.close()

    def close(self) -> None:
        """End the connection; may be called again."""
        if self.state is State.CLOSED:
            return
        listener = self._listener
        if self._registered:
            if self.state is State.WRITING:
                listener.loop.remove_writer(self._fd)
            self._unwatch()
            listener.forget(self)
        self.state = State.CLOSED
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._held = self._out = None
        self._sock.close()

    # Requests.

    def _received(self, data: bytes) -> None:
        memo = self._listener.server.memo
        reader = self._reader
        fresh = reader is None or reader.clean
        request = memo.get(data) if fresh else None
        if request is not None:
            self._answer(request)
        else:
            if reader is None:
                reader = self._reader = RequestReader(self._listener.server.settings)
            reader.feed(data)
            if fresh:
                memo.learn(data, reader)
        self._continue()

    def _continue(self) -> None:
        """Answer what was read, until something has to be waited for."""
        reader = self._reader
        while self.state is State.READING:
            if reader is not None and reader.requests:
                self._answer(reader.requests.popleft())
            elif reader is not None and reader.refusal:
                self._refuse(reader.refusal)
            else:
                self._await_bytes()
                return

    def _answer(self, request: Request) -> None:
        server = self._listener.server
        verdict = server.lookup.lookup(self.caller)
        if isinstance(verdict, Unknown):
            self._hold(request, verdict)
        else:
            self._reply(request, verdict)

    def _reply(self, request: Request, verdict: Known | Refused) -> None:
        if isinstance(verdict, Known):
            response = verdict.tree.answer(request.method, request.target, time.time(), request.body)
        else:
            self._listener.counters.lookup_failed(verdict.reason)
            self._listener.server.note("metadata.refused_caller", **self._fields(), reason=verdict.reason)
            response = _FORBIDDEN
        self._respond(request, response)

    def _respond(self, request: Request, response: Response) -> None:
        listener = self._listener
        server = listener.server
        listener.counters.request(response.label)
        stay = request.keep_alive
        data = response.encode(server.ending(stay), request.method == "HEAD")
        if server.access is not None:
            server.access(self.caller, request, response)
        self._served = True
        self._timing = False
        self._write(data, stay)

    def _write(self, data: bytes, stay: bool) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._lost()
            return
        if sent == len(data):
            if not stay:
                self.close()
            elif self._registered:
                self.deadline = self._listener.loop.time() + self._listener.server.settings.idle_timeout
            return
        self._out = memoryview(data)[sent:]
        self._stay = stay
        self._register(self._listener.server.settings.write_timeout)
        self.state = State.WRITING
        self._unwatch()
        self._listener.loop.add_writer(self._fd, self.writable)

    def _hold(self, request: Request, verdict: Unknown) -> None:
        listener = self._listener
        server = listener.server
        listener.counters.lookup_failed(verdict.reason)
        server.note("metadata.unknown_caller", **self._fields(), reason=verdict.reason)
        if len(listener.held) >= server.settings.held_per_network:
            listener.counters.drop("too_many_held")
            self._respond(request, server.unavailable)
            return
        self._register(server.settings.hold_seconds)
        self.state = State.HELD
        self._held = request
        listener.held[self] = None
        self._unwatch()

    def _release(self, verdict: Known | Refused | None) -> None:
        """Answer the held request; None: its caller stayed unknown."""
        request = self._held
        assert request is not None
        self._held = None
        self._listener.held.pop(self, None)
        self.state = State.READING
        if verdict is None:
            self._respond(request, self._listener.server.unavailable)
        else:
            self._reply(request, verdict)
        self._continue()

    def _look_again(self) -> None:
        verdict = self._listener.server.lookup.lookup(self.caller)
        if not isinstance(verdict, Unknown):
            self._release(verdict)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that calls code of others; a mistake there is this guest's 500 and nobody else's trouble."""
        try:
            step()
        except Exception as failure:
            self._failed(failure)

    # Ends and waits.

    def _await_bytes(self) -> None:
        """Let the loop say when there is more to read, and set until when it is waited for."""
        if self.state is not State.READING:
            return
        listener = self._listener
        settings = listener.server.settings
        begun = self._reader is not None and self._reader.partial
        if not self._registered:
            self._register(settings.idle_timeout if self._served and not begun else settings.header_timeout)
            self._timing = begun
        elif begun and not self._timing:
            self.deadline = listener.loop.time() + settings.header_timeout
            self._timing = True
        self._watch()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._listener.loop.add_reader(self._fd, self.readable)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._listener.loop.remove_reader(self._fd)

    def _register(self, seconds: float) -> None:
        listener = self._listener
        if not self._registered:
            self._registered = True
            self._fd = self._sock.fileno()
            listener.remember(self)
        self.deadline = listener.loop.time() + seconds

    def _refuse(self, reason: str) -> None:
        """Answer a request that is not understood, and end."""
        listener = self._listener
        listener.counters.drop(reason)
        self._end(_REFUSALS[reason].encode(listener.server.ending(False)))

    def _failed(self, failure: Exception) -> None:
        """The guest gets 500, the operator the traceback."""
        events.log.error("metadata.request_failed", exc_info=failure, extra={"fields": self._fields()})
        self._listener.counters.request(_FAILED.label)
        if self.state is State.WRITING:
            self.close()  # half an answer is out already
        elif self.state is not State.CLOSED:
            self._end(_FAILED.encode(self._listener.server.ending(False)))

    def _end(self, data: bytes) -> None:
        """Write a last answer and read on for a moment: a socket closed with unread bytes resets the connection, and
        the guest would lose the answer."""
        if self._reader is not None:
            self._reader.requests.clear()
        try:
            self._sock.send(data)
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._register(self._listener.server.settings.linger_seconds)
        self.state = State.LINGERING
        self._watch()

    def _lost(self) -> None:
        """The guest closed or reset the connection."""
        begun = self._reader is not None and self._reader.partial
        if self.state is not State.LINGERING and (begun or self._out is not None):
            self._listener.counters.drop("disconnected")
        self.close()

    def _fields(self) -> dict[str, object]:
        caller = self.caller
        return {"network": caller.network_id, "mac": caller.mac, "address": caller.address}


def _source_mac(sock: socket.socket) -> str | None:
    """The MAC of the SYN that made this connection; can be read only once."""
    with suppress(OSError):
        return syn_source(sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, _SAVED_SYN_BYTES))
    return None

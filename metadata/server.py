"""The guest-facing server: one listener per network, all in one event loop.

Works with asyncio's and uvloop's loops. The listening sockets are made elsewhere, inside the networks' namespaces, and
must have TCP_SAVE_SYN = 2 set before they listen, or no caller has a MAC.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate

from metadata import events, imds
from metadata.connection import Connection
from metadata.counters import Counters
from metadata.exchange import Exchange, SocketCalls, give_up, log_mistake
from metadata.http1 import Request, RequestMemo
from metadata.identity import Caller, CallerLookup, Known, caller_of
from metadata.limits import Limiter, Window, limiter
from metadata.responses import Response, ending, error
from metadata.settings import Settings
from metadata.stream import Stream
from metadata.streamed import Streamed

ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the process ran out of something."""
NOTES_PER_SECOND = 50
"""Log records of what guests do; the rest of the second is silent, the counters go on."""
LOGGED_TARGET_BYTES = 256

PROXIED = ""
"""Stands for a network's id in the listener for proxies, whose guests are of all networks."""

ACCESS_PER_SECOND = 100
"""Records of the access log, of all networks: so many at once, and so many a second in the long run.

A record costs more than an answer. Under load they come one by one, since a hundred in a row would hold everybody up
once a second. The next one says how many were left out.
"""

AccessHook = Callable[[Caller, Request, Response | Streamed, str, float], None]
"""Takes the port's id ("": not known) and the seconds that the answer took, held ones included."""
Gate = Callable[[Request, Known, float], Response | None]
"""Takes the wall clock as its last argument. Asked about what `imds` is about: see `Request.gated`, `Known.gated`."""


class Listener:
    """The metadata service of one network: its listening sockets and the connections that came in through them."""

    __slots__ = ("_sockets", "connections", "counters", "held", "loop", "network_id", "owners", "server")

    def __init__(self, server: MetadataServer, network_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.network_id = network_id
        self.loop = loop
        self.counters = Counters()
        self.connections = 0
        """Open connections that wait for something."""
        self.owners: dict[str, int] = {}
        """The same of each port, or of each MAC or address that is no port's."""
        self.held: dict[Connection, None] = {}
        """Connections whose request waits for its caller to become known, oldest first."""
        self._sockets: tuple[socket.socket, ...] = ()

    def add(self, sock: socket.socket) -> None:
        """Accept connections from a listening socket, which belongs to the listener from now on.

        Raises OSError, and then it is closed.
        """
        try:
            # Inherited by every accepted socket.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The answer acknowledges the request: a packet less for each connection.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            if seconds := self.server.settings.defer_accept_seconds:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)
        except OSError:
            sock.close()
            raise
        self.listen(sock)

    def listen(self, sock: socket.socket) -> None:
        """As `add`, for a socket that needs nothing more."""
        sock.setblocking(False)
        self._sockets += (sock,)
        self.loop.add_reader(sock.fileno(), self._accept, sock)

    @property
    def room(self) -> int:
        """Connections that may be open together."""
        return self.server.settings.connections_per_network

    def may_hold(self, caller: Caller) -> bool:
        """Whether one more request may wait for its caller to become known.

        One MAC (or address without one) gets at most half of the room: it leaves the rest to its neighbours.
        """
        limit = self.server.settings.held_per_network
        own = sum(_source(other.caller) == _source(caller) for other in self.held)
        return len(self.held) < limit and own < max(1, limit // 2)

    def serve(self, descriptor: int, syn: bytes, peer: str, data: bytes | None) -> None:
        """Serve an accepted socket; see `SocketCalls.accept_each`. Does not raise."""
        connection = None
        try:
            if self.connections >= self.room:
                self.counters.drop("too_many_connections")
                self.server.turn_away(descriptor)
            else:
                connection = self.begin(descriptor, syn, peer)
        except Exception as failure:
            log_mistake(self.network_id, failure)
        if connection is None:
            os.close(descriptor)
            return
        try:
            if data is None:
                connection.await_bytes()
            else:
                connection.arrived(data)
        except Exception as failure:
            give_up(connection, failure)

    def begin(self, descriptor: int, syn: bytes, peer: str) -> Connection | None:
        """The connection of an accepted socket; None, and nothing is done with the socket: it is not to be served."""
        return Connection(self, descriptor, caller_of(self.network_id, syn, peer))

    def close(self) -> None:
        """Close the listening sockets; connections are the server's to close."""
        for sock in self._sockets:
            self.loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets = ()

    def remember(self, connection: Stream) -> None:
        """The connection has to wait for something."""
        self.connections += 1
        self.owners[connection.owner] = self.owners.get(connection.owner, 0) + 1
        self.server.remember(connection, self)

    def forget(self, connection: Stream) -> None:
        """The connection is closing."""
        self.connections -= 1
        left = self.owners.pop(connection.owner) - 1
        if left:
            self.owners[connection.owner] = left
        self.server.forget(connection)

    def _accept(self, listening: socket.socket) -> None:
        exchange = self.server.exchange
        try:
            accepted = exchange.accept(listening.fileno())
        except OSError as failure:
            self._pause(listening, failure)
            return
        with exchange.collected():
            for descriptor, syn, peer, data in accepted:
                self.serve(descriptor, syn, peer, data)

    def _pause(self, listening: socket.socket, failure: OSError) -> None:
        events.emit("metadata.accept_failed", network=self.network_id, error=str(failure))
        self.loop.remove_reader(listening.fileno())
        self.loop.call_later(ACCEPT_PAUSE, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self.loop.add_reader(listening.fileno(), self._accept, listening)


class MetadataServer:
    """Serves every attached network; all methods are called on the event loop.

    `lookup` says who a caller is, `calls` are the system calls for kept connections. `access` is called for every
    answered request, instead of the access log that the server writes (`events.access`). `gate` may answer a known
    caller's request before its backend is asked. `observe` gets the seconds that each answer took, from the complete
    request to the answer's bytes, without those that were held.
    """

    def __init__(
        self,
        lookup: CallerLookup,
        calls: SocketCalls,
        settings: Settings | None = None,
        access: AccessHook | None = None,
        observe: Callable[[float], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.lookup = lookup
        self.settings = settings or Settings()
        self.memo = RequestMemo(imds.concerns)
        self.access = access
        self.observe = observe
        self.gate = gate
        self.unavailable = _unavailable(self.settings)
        self.limiter = _limiter(self.settings)
        self._second_ends = 0.0
        self.endings = (b"", b"")
        """The last header lines of an answer, Date and Connection: for one that ends the connection, and one after
        which it stays. Of this second until `endings_until`; see `ending`."""
        self.endings_until = 0.0
        """By time.monotonic."""
        self._own_access = access is None
        self._notes_left = 0
        self.access_at = 0.0
        """By time.monotonic, when `access` is to be called again; 0 for a hook, which is always called."""
        self.access_skipped = 0
        self._listeners: dict[str, Listener] = {}
        self._waiting: dict[Stream, Listener] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._retired = Counters()
        self.exchange = Exchange(calls)

    @property
    def listeners(self) -> dict[str, Listener]:
        """By network id; not to be changed."""
        return self._listeners

    @property
    def retired(self) -> Counters:
        """The counters of all networks that were detached."""
        return self._retired

    def configure(self, settings: Settings) -> None:
        """Use other settings from now on; waiting connections keep their deadlines."""
        if _limits(settings) != _limits(self.settings):
            self.limiter = _limiter(settings)
        self.settings = settings
        self.memo = RequestMemo(imds.concerns)  # what is in the old one was read by other limits
        self.unavailable = _unavailable(settings)

    def attach(self, network_id: str, sock: socket.socket) -> Listener:
        """Serve a network on a listening socket (a further one, when it has one already). Raises OSError as `add`."""
        listener = self._listeners.get(network_id) or Listener(self, network_id, asyncio.get_running_loop())
        listener.add(sock)
        self._listeners[network_id] = listener
        return listener

    def take(self, listener: Listener) -> None:
        """Serve by a listener that was made elsewhere; there is none yet for its network."""
        assert listener.network_id not in self._listeners
        self._listeners[listener.network_id] = listener

    def detach(self, network_id: str) -> None:
        """Close the network's sockets and connections; nothing happens when it is not attached."""
        listener = self._listeners.pop(network_id, None)
        if listener is None:
            return
        self.flush()
        listener.close()
        for connection in [waiting for waiting, owner in self._waiting.items() if owner is listener]:
            connection.close()
        self._retired.add(listener.counters)

    def recheck(self, network_id: str) -> None:
        """Ports or instances of the network changed: look the callers of held requests up again."""
        for key in (network_id, PROXIED):
            listener = self._listeners.get(key)
            if listener is not None and listener.held:
                for connection in list(listener.held):
                    connection.recheck()

    def close(self) -> None:
        """Detach every network."""
        for network_id in list(self._listeners):
            self.detach(network_id)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self.exchange.close()

    def flush(self) -> None:
        """Send the answers that are made, before the model changes."""
        self.exchange.flush()

    def totals(self) -> Counters:
        """The counters of all networks there are and were."""
        counters = Counters()
        counters.add(self._retired)
        for listener in self._listeners.values():
            counters.add(listener.counters)
        return counters

    # For listeners and connections.

    def remember(self, connection: Stream, listener: Listener) -> None:
        """Watch the connection's deadline."""
        self._waiting[connection] = listener
        if self._sweep is None:
            self._sweep = listener.loop.call_later(self.settings.sweep_seconds, self._expire, listener.loop)

    def forget(self, connection: Stream) -> None:
        """No longer watch it."""
        self._waiting.pop(connection, None)

    def turn_away(self, descriptor: int) -> None:
        """Answer a connection that is too many, whatever it asks; it has been read, and is to be closed."""
        with suppress(OSError):
            os.write(descriptor, self.unavailable.encode(self.ending(False)))

    def ending(self, stay: bool) -> bytes:
        """The last header lines of an answer sent now: Date, Connection."""
        self.renew()
        return self.endings[stay]

    def note(self, name: str, **fields: object) -> None:
        """Log an event that guests can cause as often as they like."""
        self.renew()
        if self._notes_left > 0:
            self._notes_left -= 1
            events.emit(name, **fields)

    def renew(self) -> None:
        """Once a second: the Date header, and how much of what guests do is logged."""
        now = time.time()
        if -1.0 <= now - self._second_ends < 0:  # below: the clock was set back
            return
        self._second_ends = float(int(now) + 1)
        date = formatdate(now, usegmt=True)
        self.endings = (ending(date, False), ending(date, True))
        self.endings_until = time.monotonic() + (self._second_ends - now)
        self._notes_left = NOTES_PER_SECOND
        if self._own_access:
            self.access = self._log_access if events.access.isEnabledFor(logging.DEBUG) else None

    def _log_access(
        self, caller: Caller, request: Request, response: Response | Streamed, port: str, seconds: float
    ) -> None:
        now = time.monotonic()
        if now < self.access_at:
            self.access_skipped += 1
            return
        gap = 1 / ACCESS_PER_SECOND
        self.access_at = max(self.access_at, now - 1 + gap) + gap
        skipped, self.access_skipped = self.access_skipped, 0
        events.emit(
            "metadata.request",
            id=request.id,
            network=caller.network_id,
            port=port,
            mac=caller.mac,
            address=caller.address,
            method=request.method,
            path=request.target[:LOGGED_TARGET_BYTES].decode("ascii", "backslashreplace"),
            status=response.status,
            seconds=round(seconds, 6),
            **({"suppressed": skipped} if skipped else {}),
        )

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.flush()
        now = loop.time()
        for connection in list(self._waiting):
            try:
                if connection.deadline <= now:
                    connection.expire()
                else:
                    connection.look_out()
            except Exception as failure:
                give_up(connection, failure)
        self._sweep = loop.call_later(self.settings.sweep_seconds, self._expire, loop) if self._waiting else None


def _limits(settings: Settings) -> tuple[float, int, tuple[Window, Window] | None]:
    return settings.rate, settings.burst, settings.windows


def _limiter(settings: Settings) -> Limiter | None:
    return limiter(*_limits(settings))


def _unavailable(settings: Settings) -> Response:
    return error(503, headers=(("Retry-After", str(settings.retry_after)),))


def _source(caller: Caller) -> str:
    return caller.mac or caller.address

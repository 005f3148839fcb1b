"""Serves the proxies of Neutron's metadata agents on a Unix socket: guests of all networks through one listener."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from socket import SocketType
from typing import TYPE_CHECKING

import msgspec

from metadata.connection import Connection
from metadata.dropin import Forwarded, ForwardedReader
from metadata.http1 import Request
from metadata.identity import Caller
from metadata.server import PROXIED, Listener
from metadata.stream import borrowed

if TYPE_CHECKING:
    from metadata.server import MetadataServer

CONNECTIONS = 16
"""How many networks' connections the proxies may have open together; each limits its own network itself."""
HELD = 16
"""How many networks' requests may wait together."""

Admits = Callable[[SocketType], bool]


class DropinConnection(Connection):
    """A proxy's connection, for one request, as haproxy's `option http-server-close` has it.

    A second request on it could be what the proxy took for the body of the first: a guest's bytes, with any header it
    likes. So there is none.
    """

    __slots__ = ()

    def received(self, data: bytes) -> None:
        """See `Stream`."""
        # Not from the memo: what a request's bytes are says who its caller is, and that may change with every byte.
        self._guarded(lambda: self._read(data))

    def _read(self, data: bytes) -> None:
        if self._reader is None:
            self._reader = ForwardedReader(self.listener.server.settings)
        self._reader.feed(data)
        self._go_on()

    def _answer(self, request: Request) -> None:
        assert isinstance(self._reader, ForwardedReader)
        self.caller = self._reader.callers.popleft()
        super()._answer(msgspec.structs.replace(request, keep_alive=False))

    def whose(self) -> str:
        """See `Stream`: nobody's; the proxy limits the connections of its guests."""
        return PROXIED

    def admitted(self) -> bool:
        """See `Stream`."""
        return True

    def _refuse(self, reason: str) -> None:
        if reason.startswith("forwarded_"):
            self.listener.server.note("metadata.forwarded_refused", reason=reason)
        super()._refuse(reason)


class DropinListener(Listener):
    """Accepts those local processes that `admits` lets pass."""

    __slots__ = ("_admits",)

    def __init__(self, server: MetadataServer, loop: asyncio.AbstractEventLoop, admits: Admits) -> None:
        super().__init__(server, PROXIED, loop)
        self._admits = admits

    @property
    def room(self) -> int:
        """See `Listener`."""
        return CONNECTIONS * super().room

    def may_hold(self, caller: Caller) -> bool:
        """See `Listener`; every network has its own share."""
        limit = self.server.settings.held_per_network
        same = sum(1 for connection in self.held if _place(connection.caller) == _place(caller))
        return same < limit and len(self.held) < HELD * limit

    def begin(self, descriptor: int, syn: bytes, peer: str) -> Connection | None:
        """See `Listener`."""
        with borrowed(descriptor) as sock:
            admitted = self._admits(sock)
        return DropinConnection(self, descriptor, Caller(PROXIED, None, "")) if admitted else None


def attach(server: MetadataServer, sock: socket.socket, admits: Admits) -> DropinListener:
    """Serve proxies on a listening Unix socket, which belongs to the server from now on; on the event loop."""
    listener = DropinListener(server, asyncio.get_running_loop(), admits)
    server.take(listener)
    listener.listen(sock)
    return listener


def _place(caller: Caller) -> tuple[str, str]:
    return caller.network_id, caller.router_id if isinstance(caller, Forwarded) else ""

"""The DHCPv4 core of one network on its packet socket: reads frames, hands them in, sends what comes out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable

from dataplane import packets
from dataplane.closer import Closer
from dataplane.dhcp.core import Dhcp4Core, Output, Send
from dataplane.leases import LeaseEvent
from dataplane.metrics import Histogram

# Chosen: a burst of one network is read in one go, but the others get their turn after it.
READ_AT_ONCE = 64

LeaseHook = Callable[[LeaseEvent], None]


class DhcpService:
    """A thin shell: everything that decides is in the core, which outlives the socket."""

    def __init__(self, core: Dhcp4Core, on_lease: LeaseHook, durations: Histogram, closer: Closer) -> None:
        self.core = core
        self.unsent = 0
        """Replies that the kernel did not take."""
        self._on_lease = on_lease
        self._durations = durations
        self._closer = closer
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, sock: socket.socket) -> None:
        """Serve on a packet socket of `packets`, which belongs to the service from now on, instead of any earlier."""
        self.close()
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable, sock)

    def close(self) -> None:
        """Stop serving; the core keeps what it knows."""
        if self._sock is not None and self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._closer.close(self._sock)
        self._sock = None

    def deliver(self, outputs: Iterable[Output]) -> None:
        """Send the frames and pass the lease events on, in their order."""
        for output in outputs:
            if isinstance(output, Send):
                self._send(output.frame)
            else:
                self._on_lease(output)

    def _readable(self, sock: socket.socket) -> None:
        core, observe = self.core, self._durations.observe
        for _ in range(READ_AT_ONCE):
            try:
                frame, unfilled = packets.receive(sock)
            except OSError:
                # Nothing left to read; or the device went down, which the kernel tells once.
                return
            began = time.perf_counter()
            self.deliver(core.receive(frame, time.time(), check_udp=not unfilled))
            observe(time.perf_counter() - began)

    def _send(self, frame: bytes) -> None:
        if self._sock is None:
            self.unsent += 1
            return
        try:
            self._sock.send(frame)
        except OSError:
            # A full queue or a device that is down: the guest asks again (RFC 2131 section 4.1).
            self.unsent += 1

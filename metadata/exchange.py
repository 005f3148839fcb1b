"""Connections in rounds: what they ask is read from all of them at once, and their answers go out at once.

Written one by one, each answer wakes a client that has just gone to sleep, and each system call gives the interpreter's
lock away and takes it back.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from metadata import events
from metadata.http1 import READ_BYTES
from metadata.stream import SENDING

if TYPE_CHECKING:
    from metadata.stream import Stream

ROUND = 64
"""Answers that go out one after the other, and connections that are made or read before anything else has its turn."""

Accepted = tuple[int, bytes, str, bytes | None]
"""Descriptor, Ethernet header of the SYN, peer's address, and its first bytes: see `SocketCalls.accept_each`."""


class SocketCalls(Protocol):
    """System calls for many sockets; `fastpath.sockets` has them."""

    def accept_each(self, listening: int, scratch: bytearray, size: int, /) -> list[Accepted]:
        """Accept what there is and read once from each; bytes are None where there are none yet.

        Whoever calls has to close the descriptors. Raises OSError where the process has run out of something.
        """

    def receive_each(self, epoll: select.epoll, scratch: bytearray, size: int, /) -> list[tuple[int, bytes]]:
        """Read once from each socket that is ready; b"" where the other side has ended or the connection is broken."""

    def send_each(self, descriptors: list[int], messages: list[bytes], ends: list[bool], /) -> list[int]:
        """Write each message to its socket; how many bytes each took, -1 for a broken connection.

        Where `ends` says so, a socket that took all of it is closed.
        """


class Exchange:
    """Reads the connections it watches and gives their bytes to `Stream.arrived`; sends what is posted."""

    def __init__(self, calls: SocketCalls) -> None:
        self._calls = calls
        self._streams: dict[int, Stream] = {}
        """Those that are watched, by descriptor."""
        self._outbox: list[tuple[Stream, bytes]] = []
        self._scratch = bytearray(ROUND * READ_BYTES)
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_round = False

    def watch(self, descriptor: int, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        """Read from the stream's socket whenever there is something. Raises OSError where the kernel has no memory."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop = loop
            loop.add_reader(self._epoll.fileno(), self._round, self._epoll)
        self._epoll.register(descriptor, select.EPOLLIN)
        self._streams[descriptor] = stream

    def unwatch(self, descriptor: int) -> None:
        """Leave what comes in the kernel; must be called before the socket is closed."""
        assert self._epoll is not None
        del self._streams[descriptor]
        self._epoll.unregister(descriptor)

    def accept(self, listening: int) -> list[Accepted]:
        """See `SocketCalls.accept_each`."""
        return self._calls.accept_each(listening, self._scratch, READ_BYTES)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """What is posted inside goes out together at the end."""
        self._in_round = True
        try:
            yield
        finally:
            self._in_round = False
            self.flush()

    def post(self, stream: Stream, data: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """Send the answer of a stream in state SENDING at the end of the round, or when the loop has gone round."""
        outbox = self._outbox
        outbox.append((stream, data))
        if self._in_round:
            return
        if len(outbox) == 1:
            loop.call_soon(self.flush)
        elif len(outbox) >= ROUND:
            self.flush()

    def flush(self) -> None:
        """Send what was posted, and what follows from that: the answers to requests that were sent ahead."""
        while self._outbox:
            outbox, self._outbox = self._outbox, []
            now = outbox[0][0].listener.loop.time()
            # Who was closed meanwhile may have left the number of its socket to another.
            going = [each for each in outbox if each[0].state is SENDING]
            ends = [stream.ends for stream, _ in going]
            taken = self._calls.send_each([stream.descriptor for stream, _ in going], [data for _, data in going], ends)
            left = []
            for (stream, data), count in zip(going, taken, strict=True):
                if stream.ends and count == len(data):
                    stream.ended()  # before anything can make a descriptor of the same number
                else:
                    left.append((stream, data, count))
            for stream, data, count in left:
                try:
                    if stream.state is SENDING:
                        stream.sent(data, count, now)
                except Exception as failure:
                    give_up(stream, failure)

    def close(self) -> None:
        """Watch nothing any more; all streams are closed."""
        if self._epoll is not None and self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = self._loop = None

    def _round(self, epoll: select.epoll) -> None:
        self.flush()  # what has come now is behind what goes out
        taken = self._calls.receive_each(epoll, self._scratch, READ_BYTES)
        # Whose all of it is, before any of them can be closed and its number be another's.
        arrived = [(self._streams[descriptor], data) for descriptor, data in taken]
        with self.collected():
            for stream, data in arrived:
                try:
                    stream.arrived(data)
                except Exception as failure:
                    give_up(stream, failure)


def give_up(stream: Stream, failure: Exception) -> None:
    """Log a mistake with one connection and end it; it does not keep back what the others ask and are answered."""
    log_mistake(stream.listener.network_id, failure)
    try:
        stream.close()
    except Exception as another:
        log_mistake(stream.listener.network_id, another)


def log_mistake(network_id: str, failure: Exception) -> None:
    """Something of ours went wrong with a connection of the network."""
    events.log.error("metadata.request_failed", exc_info=failure, extra={"fields": {"network": network_id}})

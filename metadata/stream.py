"""The byte side of a guest's connection: reads, writes, waits, ends.

It works on the descriptor itself, not on an asyncio transport: most guests open a connection for one request, and with
TCP_DEFER_ACCEPT that request is there when the connection is accepted. Such a connection is read, answered and closed
without the event loop, or a socket object, ever being made for it. Only one that has to wait for something is watched:
see `Exchange`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from socket import SocketType
from typing import TYPE_CHECKING, Final

from metadata.http1 import READ_BYTES

if TYPE_CHECKING:
    from metadata.server import Listener

LINGER_BYTES = 1 << 20
"""What a guest may still send after an error answer before the connection is cut."""


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
    WAITING = 5
    """The backend to have the answer."""
    SENDING = 6
    """The turn of its answer, which goes out with those of others."""


# Python 3.11 runs a function to look a member of an enumeration up.
READING: Final = State.READING
HELD: Final = State.HELD
WRITING: Final = State.WRITING
LINGERING: Final = State.LINGERING
CLOSED: Final = State.CLOSED
WAITING: Final = State.WAITING
SENDING: Final = State.SENDING


class Stream:
    """One accepted socket, which belongs to the stream; what to do with the bytes is the subclass's."""

    __slots__ = (
        "_lingered",
        "_looking",
        "_out",
        "_peeked",
        "_registered",
        "_shared",
        "_stay",
        "_watching",
        "deadline",
        "descriptor",
        "ends",
        "listener",
        "owner",
        "state",
    )

    def __init__(self, listener: Listener, descriptor: int) -> None:
        self.listener = listener
        self.state: State = READING
        self.deadline = 0.0
        """Of the loop's clock; the server calls `expire` after it. Holds once the stream is registered."""
        self.owner = ""
        """Whose it is, for the limit of connections; set once it is registered."""
        self.descriptor = descriptor
        """Of the socket, non-blocking; once it is closed the number may be another's."""
        self.ends = False
        """In state SENDING: the socket is closed by who sends, once it has taken all of the answer."""
        self._out: memoryview | None = None
        self._shared = b""
        self._stay = True
        self._registered = False
        self._watching = False
        self._looking = False
        self._peeked = False
        self._lingered = 0

    # For the subclass to say.

    def received(self, data: bytes) -> None:
        """Bytes came in; does not raise."""
        raise NotImplementedError

    def resumed(self) -> None:
        """An answer that had to wait is written whole and the connection stays; does not raise."""
        raise NotImplementedError

    def lost(self) -> None:
        """The guest closed or reset the connection."""
        raise NotImplementedError

    def sent(self, data: bytes, count: int, now: float) -> None:
        """In state SENDING: the socket has taken `count` bytes of an answer at `now`, or is broken (-1).

        Not called for an answer with `ends` that was taken whole: see `ended`.
        """
        raise NotImplementedError

    def whose(self) -> str:
        """Who made the connection; asked once, when it has to wait."""
        return ""

    def admitted(self) -> bool:
        """Whether it may begin to wait, or has begun; asked before it registers."""
        return True

    def limit_hops(self, hops: int) -> None:
        """How far the packets of this connection go from now on.

        It stays so: what is sent again after a loss must not go further than it did at first.
        """
        with suppress(OSError), borrowed(self.descriptor) as sock:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)

    def arrived(self, data: bytes) -> None:
        """Called with what was read: bytes, or nothing, which is the end of the stream or an error."""
        state = self.state
        if state is CLOSED:
            return  # by what came for another in the same round
        if not data:
            self.lost()
        elif state is LINGERING:
            self._drop(data)
        else:
            self.received(data)

    def writable(self) -> None:
        """The guest took some of the answer."""
        assert self._out is not None
        try:
            sent = os.write(self.descriptor, self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lost()
            return
        self._out = self._out[sent:]
        if not self._out and self._shared:
            self._out, self._shared = memoryview(self._shared), b""
        if self._out:
            return
        self.listener.loop.remove_writer(self.descriptor)
        self._out = None
        self.state = READING
        if self._stay:
            self.register(self.listener.server.settings.idle_timeout)
            self.resumed()
        else:
            self.close()

    # For the subclass to use.

    @property
    def registered(self) -> bool:
        """Whether the stream had to wait before, so that the loop and the server know it."""
        return self._registered

    @property
    def writing(self) -> bool:
        """Whether a part of an answer is not written yet."""
        return self._out is not None

    def await_bytes(self) -> None:
        """Let the loop say when there is more to read."""
        if not self._registered:
            self.register(self.listener.server.settings.header_timeout)
        self.watch()

    def write(self, data: bytes, stay: bool, shared: bytes = b"") -> None:
        """Write an answer; what the guest does not take now is written later, in state WRITING.

        `shared` follows `data` and is kept as it is, not copied: many guests may be slow with the same big document.
        """
        try:
            sent = os.writev(self.descriptor, (data, shared)) if shared else os.write(self.descriptor, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = -1
        self.written(sent, data, stay, shared)

    def written(self, sent: int, data: bytes, stay: bool, shared: bytes = b"", now: float = 0.0) -> None:
        """The socket has taken `sent` bytes of an answer, or is broken (-1); `now` as the loop says, 0: to be asked."""
        if sent < 0:
            self.lost()
        elif sent < len(data) + len(shared):
            if not self.admitted():
                self.close()
                return
            if sent < len(data):
                self._out, self._shared = memoryview(data)[sent:], shared
            else:
                self._out = memoryview(shared)[sent - len(data) :]
            self._stay = stay
            self.register(self.listener.server.settings.write_timeout)
            self.state = WRITING
            self.unwatch()
            self.listener.loop.add_writer(self.descriptor, self.writable)
        elif not stay:
            self.close()
        elif self._registered:
            listener = self.listener
            self.deadline = (now or listener.loop.time()) + listener.server.settings.idle_timeout

    def post(self, data: bytes, stay: bool) -> None:
        """As `write`, but together with what goes to others; until then in state SENDING, then `sent` is called."""
        self.state = SENDING
        self._stay = stay
        # One that is registered has to be forgotten before its descriptor may be another's.
        self.ends = not (stay or self._registered)
        self.listener.server.exchange.post(self, data, self.listener.loop)

    def last(self, data: bytes) -> None:
        """Write as much as fits of an answer to whom is not to be waited for, and leave the closing to the caller."""
        with suppress(OSError):
            # A socket that is closed with unread bytes resets the connection, and the answer is lost.
            os.read(self.descriptor, READ_BYTES)
        with suppress(OSError):
            os.write(self.descriptor, data)

    def end(self, data: bytes) -> None:
        """Write a last answer, then read on for a moment.

        A socket that is closed with unread bytes resets the connection, and the guest would lose the answer.
        """
        if self.state is WRITING:
            self.close()  # half of another answer is out already
            return
        try:
            os.write(self.descriptor, data)
            with borrowed(self.descriptor) as sock:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if not self.admitted():
            self.close()
            return
        self.register(self.listener.server.settings.linger_seconds)
        self.state = LINGERING
        self.watch()

    def register(self, seconds: float) -> None:
        """Have the server call `expire` after so many seconds."""
        if not self._registered:
            self._registered = True
            self.owner = self.whose()
            self.listener.remember(self)
        self.deadline = self.listener.loop.time() + seconds

    def watch(self) -> None:
        """Read when there is something to read. Where the kernel has no memory or descriptor for that, close."""
        if not self._watching:
            try:
                self.listener.server.exchange.watch(self.descriptor, self, self.listener.loop)
            except OSError:
                self.listener.counters.drop("not_watched")
                self.close()
                return
            self._watching = True

    def look_out(self) -> None:
        """An answer has been waited for for a while: from now on notice when the guest goes."""
        if self.state is WAITING and not self._peeked and not self._looking:
            self._looking = True
            self.listener.loop.add_reader(self.descriptor, self._look)

    def unwatch(self) -> None:
        """Leave what the guest sends in the kernel."""
        if self._watching:
            self._watching = False
            self.listener.server.exchange.unwatch(self.descriptor)

    def close(self) -> None:
        """End the connection; may be called again."""
        if self.state is CLOSED:
            return
        if self._registered:
            if self.state is WRITING:
                self.listener.loop.remove_writer(self.descriptor)
            self.unwatch()
            self._look_away()
            self.listener.forget(self)
        self.state = CLOSED
        self._out = None
        self._shared = b""
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def ended(self) -> None:
        """Its answer with `ends` has gone out whole, and the socket is closed."""
        self.descriptor = -1
        self.close()

    def expire(self) -> None:
        """`deadline` has passed."""
        raise NotImplementedError

    def _look(self) -> None:
        """Has the guest gone while its answer is made? What it sent meanwhile stays in the kernel, unread."""
        if self.state is not WAITING:
            self._look_away()
            return
        try:
            with borrowed(self.descriptor) as sock:
                there = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            there = b""
        if there:
            self._peeked = True
            self._look_away()
        else:
            self.lost()

    def _look_away(self) -> None:
        if self._looking:
            self._looking = False
            self.listener.loop.remove_reader(self.descriptor)

    def _drop(self, data: bytes) -> None:
        self._lingered += len(data)
        if self._lingered > LINGER_BYTES:
            self.close()


@contextmanager
def borrowed(descriptor: int) -> Iterator[SocketType]:
    """A non-blocking socket, for what takes more than its descriptor; it stays open. Raises OSError if it cannot be."""
    sock = SocketType(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()

"""A connection that waits: for an answer that somebody makes, or for the parts of one that goes out as it comes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from metadata.stream import READING, WAITING, WRITING, Stream, borrowed
from metadata.streamed import Relay, let_go
from metadata.upstream import UpstreamError

# struct linger: on, no time. Closing sends RST.
_RESET = struct.pack("ii", 1, 0)


class RelayingStream(Stream):
    """The subclass sets the attributes when it is made: most connections never wait."""

    __slots__ = ("_owned", "_pending", "_relay")

    _pending: asyncio.Future[Any] | None
    """The answer to come, or the next part of it, in WAITING."""
    _owned: bool
    """Nobody else waits for it."""
    _relay: Relay | None
    """The answer that goes out as it comes, in WAITING and WRITING."""

    def came(self, pending: asyncio.Future[Any]) -> None:
        """What was waited for is there, or has failed; does not raise."""
        raise NotImplementedError

    def await_future(self, awaitable: Awaitable[Any]) -> None:
        """Call `came` when it is done; a task belongs to somebody else, a coroutine or future to this stream.

        Most answers are there in a moment, and to have the loop watch a new connection takes seven system calls: it
        is watched once it has waited until the server looks (`look_out`).
        """
        self.register(self.listener.server.settings.answer_timeout)
        self.unwatch()
        self.state = WAITING
        self._peeked = False
        self._pending = asyncio.ensure_future(awaitable)
        self._owned = not isinstance(awaitable, asyncio.Task)
        self._pending.add_done_callback(self._done)

    def abandon(self) -> None:
        """No longer wait; what is done for others goes on."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        pending.remove_done_callback(self._done)
        if self._owned:
            pending.cancel()
            pending.add_done_callback(let_go)

    def send_part(self, relay: Relay, part: bytes) -> None:
        """Write a part of an answer, then ask for the next."""
        self.write(part, True)
        if self.state is WRITING:
            relay.waits(self.listener.loop.time())
            self.register(relay.patience)
        elif self.state is READING:
            self.next_part()

    def next_part(self) -> None:
        """Ask for more, when the guest has what there was."""
        relay = self._relay
        assert relay is not None
        relay.goes_on(self.listener.loop.time())
        self.await_future(relay.read())

    def pass_on(self, relay: Relay, pending: asyncio.Future[Any]) -> bool:
        """Take what `relay.read` gave; whether it was the end, and the connection may go on."""
        self.state = READING
        try:
            part = pending.result()
            last = b"" if part else relay.end()
        except (UpstreamError, asyncio.CancelledError):
            self.listener.counters.drop("broken_backend")
            self.close()
            return False
        if part:
            self.send_part(relay, part)
            return False
        self._relay = None
        self.write(last, relay.stay)
        return True

    def break_off(self) -> None:
        """Before the connection is closed: what the guest has of the answer must not look like all of it."""
        self.abandon()
        if self._relay is not None:
            self._relay.close()
            self._relay = None
            with suppress(OSError), borrowed(self.descriptor) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _done(self, pending: asyncio.Future[Any]) -> None:
        if pending is self._pending:
            self._pending = None
            self.came(pending)


def drop(awaitable: Awaitable[Any]) -> None:
    """Nobody waits for what a backend gave; see `Backend.answer` for whose it is."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, asyncio.Future) and not isinstance(awaitable, asyncio.Task):
        awaitable.cancel()

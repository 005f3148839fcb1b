"""One connection to Nova: a request at a time.

What comes when nothing was asked, or after the end of an answer, could be taken for the answer to whoever asks next:
such a connection is closed. A body that is too large to come with its answer is passed on as it is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from metadata.http1_answers import AnswerReader
from metadata.upstream import PART_BYTES, Answer, BrokenError, Rest, SlowError, UpstreamError

HELD_BYTES = 2 * PART_BYTES
"""Of a body that nobody takes; more stays with Nova."""


class EndedError(BrokenError):
    """A kept connection was gone before anything of the answer came: the request may be sent again."""


class Link(asyncio.Protocol):
    """`freed` is called when the connection may carry another request, `ended` when it is gone."""

    __slots__ = (
        "_ended", "_freed", "_keep", "_loop", "_paused", "_reader", "_rest", "_seconds", "_transport", "_used",
        "_waiting", "_whole", "deadline", "since",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, freed: Callable[[Link], None], ended: Callable[[Link], None]
    ) -> None:
        self.deadline = 0.0
        """Of the loop's clock: until when Nova may take for the request under way."""
        self.since = 0.0
        """When it was freed last; for whoever keeps it."""
        self._loop = loop
        self._freed = freed
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiting: asyncio.Future[Answer] | None = None
        self._rest: _Rest | None = None
        self._whole = 0
        self._seconds = 0.0
        self._keep = False
        self._used = False
        self._paused = False

    @property
    def lost(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport is None or self._transport.is_closing()

    def ask(self, request: bytes, limit: int, whole: int, seconds: float, keep: bool) -> asyncio.Future[Answer]:
        """Send a request; nothing else is under way. The future fails with UpstreamError.

        `limit` and `whole` are bytes of the body: the greatest that is taken, and that comes with the answer; `seconds`
        what Nova may take until `deadline`, for whoever looks after that. `keep`: the connection is to stay.
        """
        self._reader.begin(limit)
        self._whole = whole
        self._seconds = seconds
        self._keep = keep
        waiting = self._waiting = self._loop.create_future()
        if self._transport is not None:
            self._transport.write(request)
        else:
            self._fail(BrokenError("the connection ended at once"))
        return waiting

    def give_up(self, waiting: asyncio.Future[Answer]) -> None:
        """Nobody wants the answer any more that `ask` gave this future for."""
        if self._waiting is waiting:
            self._waiting = None
            self.abort()
        elif not waiting.cancelled() and waiting.exception() is None and (rest := waiting.result().rest) is not None:
            rest.close()

    def late(self) -> None:
        """Nova's time is over."""
        self._fail(SlowError(f"no answer within {self._seconds:g} s"))

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclasses of asyncio's

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self._rest is None:
            self.abort()
            return
        reader = self._reader
        reader.feed(data)
        if reader.complete:
            self._finish()
        elif reader.failure is not None:
            self._fail(reader.failure)
        elif self._rest is not None:
            self._hand_on(self._rest)
        elif not reader.in_head and max(reader.size, reader.length or 0) > self._whole:
            self._hand_on(self._begin_rest())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        reader = self._reader
        if self._waiting is not None or self._rest is not None:
            if exc is None:
                reader.end()
            if reader.complete:
                self._finish()
            elif self._used and not reader.begun:
                self._fail(EndedError("the connection had ended"))
            else:
                self._fail(reader.failure or BrokenError(f"the connection ended too soon: {exc}"))
        reader.close()
        self._ended(self)

    # For the rest of a body.

    def resume(self, rest: Rest | None) -> None:
        """There is room for more of it."""
        if self._paused and self._rest is rest:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    def drop(self, rest: Rest) -> None:
        """Nobody takes any more of it, and it has not come to its end."""
        if self._rest is rest:
            self._rest = None
            self.abort()

    def _begin_rest(self) -> _Rest:
        rest = self._rest = _Rest(self, self._reader.status, self.deadline - self._loop.time(), self._seconds)
        self._give(b"", rest)
        return rest

    def _hand_on(self, rest: _Rest) -> None:
        parts, self._reader.parts = self._reader.parts, []
        rest.take(parts)
        if rest.held > HELD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _finish(self) -> None:
        """The answer is whole."""
        reader = self._reader
        rest = self._rest
        if rest is None and reader.size > self._whole:
            rest = self._begin_rest()
        if rest is None:
            parts = reader.parts
            self._give(parts[0] if len(parts) == 1 else b"".join(parts), None)
        else:
            rest.take(reader.parts)
            rest.finish(None)
            self._rest = None
        self._used = True
        if reader.stays and self._keep and reader.failure is None and not self.lost:
            self.resume(None)
            self._freed(self)
        else:
            self.abort()

    def _give(self, body: bytes, rest: _Rest | None) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        if not waiting.done():
            reader = self._reader
            waiting.set_result(
                Answer(reader.status, reader.content_type(), reader.headers(), body, rest, reader.length)
            )
        elif rest is not None:
            rest.close()

    def _fail(self, failure: UpstreamError) -> None:
        waiting, self._waiting = self._waiting, None
        rest, self._rest = self._rest, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(failure)
        if rest is not None:
            rest.take(self._reader.parts)
            rest.finish(failure)
        self.abort()


class _Rest(Rest):
    """Nova is not read while nobody takes what has come."""

    __slots__ = ("_failure", "_finished", "_left", "_link", "_more", "_parts", "_seconds", "held")

    def __init__(self, link: Link, status: int, left: float, seconds: float) -> None:
        """Nova may take `left` seconds more, of `seconds` altogether."""
        super().__init__(status)
        self.held = 0
        """Bytes that have come and were not taken."""
        self._link = link
        self._left = left
        self._seconds = seconds
        self._parts: deque[bytes] = deque()
        self._more: asyncio.Future[None] | None = None
        self._finished = False
        self._failure: UpstreamError | None = None

    def take(self, parts: list[bytes]) -> None:
        """These bytes have come."""
        for part in parts:
            self.held += len(part)
            self._parts.extend(part[at : at + PART_BYTES] for at in range(0, len(part), PART_BYTES))
        if parts:
            self._wake()

    def finish(self, failure: UpstreamError | None) -> None:
        """No more comes."""
        self._finished = True
        self._failure = failure
        self._wake()

    async def _next(self) -> bytes:
        if not self._parts and not self._finished:
            loop = asyncio.get_running_loop()
            began = loop.time()
            self._more = loop.create_future()
            try:
                async with asyncio.timeout(self._left):
                    await self._more
            except TimeoutError:
                raise SlowError(f"no answer within {self._seconds:g} s") from None
            finally:
                self._more = None
            self._left -= loop.time() - began
        if self._parts:
            part = self._parts.popleft()
            self.held -= len(part)
            if self.held <= HELD_BYTES // 2:
                self._link.resume(self)
            return part
        if self._failure is not None:
            raise self._failure
        return b""

    def _stop(self) -> None:
        self._parts.clear()
        if not self._finished:
            self._finished = True
            self._link.drop(self)

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

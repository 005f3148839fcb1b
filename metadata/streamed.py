"""Answers that are too large to be kept: their body is passed on to one guest as it comes.

A guest must never take a part of a body for the whole: what has no length goes in chunks (RFC 9112 7.1), and to a guest
of HTTP/1.0 until the connection ends, which is reset if the body did not come to its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from metadata.responses import phrase
from metadata.upstream import BrokenError, Rest


class Streamed:
    """An answer whose body has not come yet, or only its beginning; for one taker, who reads `rest` or closes it."""

    __slots__ = ("api", "content_type", "first", "headers", "label", "length", "rest", "status")

    def __init__(
        self,
        status: int,
        content_type: str,
        first: bytes,
        rest: Rest,
        *,
        length: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        api: str = "none",
    ) -> None:
        """`first` is the beginning of the body, `length` the bytes of the whole, None if nobody knows them yet.

        The others as in `metadata.responses.Response`.
        """
        self.status = status
        self.content_type = content_type
        self.first = first
        self.rest = rest
        self.length = length
        self.headers = headers
        self.api = api
        self.label = (api, str(status))
        """Counter labels."""

    def head(self, ending: bytes, framing: str = "") -> bytes:
        """Status line and headers; `framing` says where the body ends, `ending` as in `Response.encode`."""
        lines = [
            f"HTTP/1.1 {self.status} {phrase(self.status)}",
            *([f"Content-Type: {self.content_type}"] if self.content_type else []),
            *([framing] if framing else []),
            *(f"{name}: {value}" for name, value in self.headers),
            "",
        ]
        return "\r\n".join(lines).encode("ascii") + ending

    def close(self) -> None:
        """Nobody takes it."""
        self.rest.close()


class Relay:
    """A streamed answer on its way to a guest: frames its parts, and sees that there are as many bytes as were named.

    `patience` is how many seconds the guest may still take to take it, all parts together.
    """

    __slots__ = ("_chunked", "_left", "_since", "_streamed", "patience", "stay")

    def __init__(self, streamed: Streamed, *, chunks: bool, keep_alive: bool, patience: float) -> None:
        """`chunks`: the guest understands them; `keep_alive`: it asked for the connection to stay."""
        self._streamed = streamed
        self._left = streamed.length
        self._chunked = streamed.length is None and chunks
        self.stay = keep_alive and (self._chunked or streamed.length is not None)
        """Whether the connection stays after the answer: only if the guest sees where the body ends."""
        self.patience = patience
        self._since: float | None = None

    def begin(self, ending: bytes) -> bytes:
        """The head, and what there is of the body. Raises BrokenError as `frame`."""
        first = self._streamed.first
        framing = "Transfer-Encoding: chunked" if self._chunked else self._length()
        return self._streamed.head(ending, framing) + (self.frame(first) if first else b"")

    def head(self, ending: bytes) -> bytes:
        """The answer to HEAD."""
        return self._streamed.head(ending, self._length())

    async def read(self) -> bytes:
        """The next part as it is sent; empty after the end. Raises UpstreamError."""
        part = await self._streamed.rest.read()
        return self.frame(part) if part else b""

    def frame(self, part: bytes) -> bytes:
        """A part, which is not empty, as it is sent. Raises BrokenError if it is more than was named."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(part), part)
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise BrokenError("the body is longer than its length")
        return part

    def end(self) -> bytes:
        """What is sent after the last part. Raises BrokenError if there were fewer bytes than were named."""
        if self._left:
            raise BrokenError("the body is shorter than its length")
        return b"0\r\n\r\n" if self._chunked else b""

    def waits(self, now: float) -> None:
        """From now on the guest is waited for."""
        self._since = now

    def goes_on(self, now: float) -> None:
        """The guest is not waited for any more, if it was."""
        if self._since is not None:
            self.patience -= now - self._since
            self._since = None

    def close(self) -> None:
        """The guest takes no more of it."""
        self._streamed.close()

    def _length(self) -> str:
        return "" if self._streamed.length is None else f"Content-Length: {self._streamed.length}"


def let_go(future: asyncio.Future[Any]) -> None:
    """Close what came of a future that nobody waits for any more; a callback for when it is done."""
    if not future.cancelled() and future.exception() is None and isinstance(future.result(), Streamed):
        future.result().close()

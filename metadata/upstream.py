"""What a backend upstream is to the proxy: requests, answers and failures, and which headers go which way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
"""What is passed on; HEAD is asked as GET, so that its answer can be kept."""

FORWARDED = frozenset((
    "accept", "content-type", "user-agent", "range", "if-match", "if-none-match", "if-modified-since",
    "if-unmodified-since", "if-range",
))  # fmt: skip
"""Headers of guests that reach Nova; no other does, and none of them says who is asking."""

PART_BYTES = 64 * 1024
"""Of a body that is passed on as it comes, how much is taken at once."""

RETURNED = frozenset((
    "accept-ranges", "allow", "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-range", "etag", "expires", "last-modified", "retry-after", "vary", "www-authenticate",
))  # fmt: skip
"""Headers of Nova that reach guests, beside Content-Type; a Location would show them an address of ours."""


_SENDABLE = re.compile(r"[\t -~]*").fullmatch


class UpstreamError(Exception):
    """Nova gave no answer that can be passed on; `reason` is a short stable word."""

    reason = "failed"
    status = 502


class UnreachableError(UpstreamError):
    """No connection: nothing was asked."""

    reason = "unreachable"
    status = 503


class SlowError(UpstreamError):
    """No whole answer in time."""

    reason = "timeout"
    status = 504


class BrokenError(UpstreamError):
    """No HTTP, a connection that ended too soon, or a switch of protocol."""

    reason = "broken"


class TooLargeError(UpstreamError):
    """The answer is greater than what is taken."""

    reason = "too_large"


Ended = Callable[[str, UpstreamError | None], None]
"""Takes the answer's status as text, the failure's reason, or `cancelled`; and the failure."""


class Rest:
    """What has not come yet of an answer's body: read it to its end or close it.

    A client subclasses it for `_next` and `_stop`.
    """

    __slots__ = ("_after", "_code", "_over")

    def __init__(self, status: int) -> None:
        self._code = str(status)
        self._after: list[Ended] = []
        self._over = False

    def then(self, ended: Ended) -> None:
        """Have this called once, when the body has ended in whatever way."""
        self._after.append(ended)

    async def read(self) -> bytes:
        """The next part, of PART_BYTES at most; empty at the end. Raises UpstreamError, and is closed then."""
        try:
            part = await self._next()
        except UpstreamError as failure:
            self._end(failure.reason, failure)
            raise
        if not part:
            self._end(self._code)
        return part

    def close(self) -> None:
        """Take no more of it; may be called again, and after its end."""
        self._end("cancelled")

    async def _next(self) -> bytes:
        raise NotImplementedError

    def _stop(self) -> None:
        """Let go of the connection, which is of no more use if the body is not at its end."""
        raise NotImplementedError

    def _end(self, code: str, failure: UpstreamError | None = None) -> None:
        if self._over:
            return
        self._over = True
        self._stop()
        for ended in self._after:
            ended(code, failure)


class Answer(msgspec.Struct, frozen=True):
    """What Nova answered."""

    status: int
    content_type: str
    """Empty: it named none."""
    headers: tuple[tuple[str, str], ...]
    """Those of RETURNED."""
    body: bytes
    """As much as was read."""
    rest: Rest | None = None
    """None: `body` is all there is."""
    length: int | None = None
    """Bytes of `body` and `rest` together, if Nova named them."""


class Client(Protocol):
    """`nova_client.NovaClient`; a Protocol, so that nothing else needs an HTTP library."""

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        """One request; raises UpstreamError.

        A body of `whole` bytes or less comes with the answer. Nova's part of it all takes at most so many seconds.
        """

    async def close(self) -> None:
        """End all connections."""


def sendable(value: str) -> bool:
    """Whether a header's value can be written into a head of ours: visible ASCII, spaces and tabs (RFC 9110 5.5)."""
    return _SENDABLE(value) is not None

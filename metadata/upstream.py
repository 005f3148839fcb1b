"""What a backend upstream is to the proxy: requests, answers and failures, and which headers go which way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
"""What is passed on; HEAD is asked as GET, so that its answer can be kept."""

FORWARDED = frozenset((
    "accept", "content-type", "user-agent", "range", "if-match", "if-none-match", "if-modified-since",
    "if-unmodified-since", "if-range",
))  # fmt: skip
"""Headers of guests that reach Nova; no other does, and none of them says who is asking."""

RETURNED = frozenset((
    "accept-ranges", "allow", "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-range", "etag", "expires", "last-modified", "retry-after", "vary", "www-authenticate",
))  # fmt: skip
"""Headers of Nova that reach guests, beside Content-Type; a Location would show them an address of ours."""


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


class Answer(msgspec.Struct, frozen=True):
    """What Nova answered."""

    status: int
    content_type: str
    """Empty: it named none."""
    headers: tuple[tuple[str, str], ...]
    """Those of RETURNED."""
    body: bytes


class Client(Protocol):
    """`nova_client.NovaClient`; a Protocol, so that nothing else needs an HTTP library."""

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        """One request, that ends within so many seconds; raises UpstreamError."""

    async def close(self) -> None:
        """End all connections."""


def sendable(value: str) -> bool:
    """Whether a header's value can be written into a head of ours: visible ASCII, spaces and tabs (RFC 9110 5.5)."""
    return all(" " <= letter <= "~" or letter == "\t" for letter in value)

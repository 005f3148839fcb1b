"""HTTP answers: rendered once, encoded with few copies for every request.

A `Response` keeps its head ready; `encode` adds the two things that change, the date and whether the connection
stays open. A response with a `seed` gets fresh random bytes in every answer.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from metadata.seeds import SEED_CHARACTERS, fresh_seed

TEXT = "text/plain; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
JSON = "application/json"

BIG_BYTES = 32 << 10
"""From this size on a body is not copied for each answer (chosen: below it, one small copy is cheaper)."""

_EXPLANATIONS = {
    400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    405: "The method is not allowed for this resource.",
    408: "The request took too long.",
    409: "The password is already set.",
    429: "Too many requests. Please try again at a later time.",
    500: "The server has either erred or is incapable of performing the requested operation.",
    503: "The server is currently unavailable. Please try again at a later time.",
    502: "The gateway received no usable answer.",
    504: "The gateway has timed out.",
}

BODILESS = frozenset((204, 304))
"""Their end is the end of the head; a length would be that of something else (RFC 9110 8.6)."""


class Response:
    """One answer, immutable.

    `status` is the HTTP code, `body` the exact bytes, empty with 204 and 304; `headers` are further header lines (name,
    value). `content_type` may be empty: the answer names none then. `api` says which tree it is from (`ec2`,
    `openstack`, or `none` for an answer before any tree), for counters: a small fixed set. `seed_at` is the offset in
    `body` where SEED_CHARACTERS of fresh base64 are inserted, or None. `lasting` says that the same document gives the
    same answer again. `hop_limit` is the IP TTL (IPv6: hop limit) of the packets that carry the answer, 1 to 255; None:
    the system's.
    """

    __slots__ = (
        "_head",
        "_tail",
        "api",
        "big",
        "body",
        "content_type",
        "headers",
        "hop_limit",
        "label",
        "lasting",
        "seeded",
        "status",
    )

    def __init__(
        self,
        status: int,
        content_type: str,
        body: bytes,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        api: str = "none",
        seed_at: int | None = None,
        lasting: bool = True,
        hop_limit: int | None = None,
    ) -> None:
        self.status = status
        self.content_type = content_type
        self.headers = headers
        self.api = api
        self.lasting = lasting
        self.hop_limit = hop_limit
        self.label = (api, str(status))
        """Counter labels."""
        self.seeded = seed_at is not None
        self.body = body if seed_at is None else body[:seed_at]
        self._tail = b"" if seed_at is None else body[seed_at:]
        self.big = len(body) >= BIG_BYTES
        """Whether to write it by `parts`."""
        length = len(body) + (SEED_CHARACTERS if self.seeded else 0)
        self._head = _head(status, content_type, headers, length)

    def content(self) -> bytes:
        """The body of one answer, with a seed of its own where it has one."""
        return self.body + fresh_seed() + self._tail if self.seeded else self.body

    def encode(self, ending: bytes, head_only: bool = False) -> bytes:
        """The whole answer; `ending` are the last header lines and the empty line (see `ending`)."""
        if head_only:
            return self._head + ending
        if self.seeded:
            return b"".join((self._head, ending, self.body, fresh_seed(), self._tail))
        return b"".join((self._head, ending, self.body))

    def parts(self, ending: bytes) -> tuple[bytes, bytes]:
        """The whole answer in two: what is of this answer only, and what all answers share."""
        if self.seeded:
            return b"".join((self._head, ending, self.body, fresh_seed())), self._tail
        return self._head + ending, self.body


@lru_cache(1024)
def _head(status: int, content_type: str, headers: tuple[tuple[str, str], ...], length: int) -> bytes:
    """Status line and headers of an answer that says its length."""
    lines = [
        f"HTTP/1.1 {status} {phrase(status)}",
        *([f"Content-Type: {content_type}"] if content_type else []),
        *([f"Content-Length: {length}"] if status not in BODILESS else []),
        *(f"{name}: {value}" for name, value in headers),
        "",
    ]
    return "\r\n".join(lines).encode("ascii")


def ending(date: str, keep_alive: bool) -> bytes:
    """The end of a head: Date (RFC 9110 6.6.1), Connection, and the empty line. `date` is an IMF-fixdate."""
    return f"Date: {date}\r\n{'' if keep_alive else 'Connection: close' + chr(13) + chr(10)}\r\n".encode("ascii")


def error(status: int, api: str = "none", headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An error answer with a small HTML body, as Nova gives it."""
    title = f"{status} {phrase(status)}"
    text = _EXPLANATIONS.get(status, _EXPLANATIONS[400])
    page = (
        f"<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n  {text}\n </body>\n</html>"
    )
    return Response(status, HTML, page.encode("ascii"), headers=headers, api=api)


@lru_cache(64)
def phrase(status: int) -> str:
    """The reason phrase; a code that is not registered has none of its own."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unregistered"


def not_found(api: str) -> Response:
    """A known instance has no such item."""
    return error(404, api)


def method_not_allowed(api: str, allow: str = "GET, HEAD") -> Response:
    """The item exists, the method does not fit it (RFC 9110 15.5.6)."""
    return error(405, api, (("Allow", allow),))

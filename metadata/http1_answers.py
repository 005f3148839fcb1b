"""Bytes of a connection to Nova to HTTP/1 answers: llhttp, and the rules that it leaves to its user. No I/O.

llhttp in its strict mode refuses bare CR and LF, folded headers, NUL, Content-Length together with Transfer-Encoding,
repeated or malformed lengths, and anything behind the last answer of a connection.
"""

from __future__ import annotations

from typing import Any

import httptools

from metadata.responses import BODILESS
from metadata.upstream import RETURNED, BrokenError, TooLargeError, UpstreamError, sendable

FIELD_BYTES = 8190
"""One header line, as aiohttp and Apache have it."""
HEAD_BYTES = 64 * 1024
"""Status lines and headers of one answer, interim ones (1xx) included."""

_RETURNED = frozenset(name.encode() for name in RETURNED)


class AnswerReader:
    """The answers of one connection, one at a time: `begin`, then `feed` until `complete` or `failure`."""

    __slots__ = (
        "_chunked", "_connection", "_fed", "_headers", "_limit", "_parser", "_type", "complete", "failure", "in_head",
        "length", "parts", "size", "status", "stays",
    )  # fmt: skip

    failure: UpstreamError | None
    """Why nothing more is read from this connection."""
    complete: bool
    """The answer is there to its last byte."""
    stays: bool
    """Whether Nova keeps the connection open after it."""
    parts: list[bytes]
    """What has come of the body; the user takes it out."""
    size: int
    """Bytes of the body that have come."""
    in_head: bool
    """Status and headers have not come yet."""
    status: int
    length: int | None
    """Bytes of the whole body, if Nova named them."""
    _type: bytes | None
    _headers: list[tuple[bytes, bytes]]
    _connection: bytes

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self.begin(0)

    def begin(self, limit: int) -> None:
        """Expect an answer, with a body of `limit` bytes at most."""
        self._limit = limit
        self._fed = 0
        self.failure = None
        self.complete = False
        self.stays = False
        self.parts = []
        self.size = 0
        self._reset()

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._fed > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; never raises. A failure after the end of the answer leaves it as it is."""
        parser = self._parser
        if parser is None or self.failure is not None:
            return
        self._fed += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.failure is None:
                self.failure = BrokenError(f"no HTTP: {error}")
        # The parser keeps pieces of a header, and chunks have sizes and extensions.
        if self._fed > HEAD_BYTES + 8 * self.size and self.failure is None:
            self.failure = BrokenError("headers that are too large, or chunks that are too small")

    def end(self) -> None:
        """The connection has ended: so has a body that says nothing of its length."""
        if self.complete or self.failure is not None:
            return
        if self.in_head or self.length is not None or self._chunked:
            self.failure = BrokenError("the connection ended too soon")
        else:
            self.complete = True

    def close(self) -> None:
        """Drop the parser, which refers back to this object."""
        self._parser = None

    def content_type(self) -> str:
        """Empty: there is none that could be passed on."""
        value = "" if self._type is None else _text(self._type)
        return value if sendable(value) else ""

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Those of RETURNED, without those that are for the connection only."""
        if not self._headers:
            return ()
        named = {name.strip() for name in self._connection.split(b",")}
        found = ((name, _text(value)) for name, value in self._headers if name.lower() not in named)
        return tuple((name.decode("ascii"), value) for name, value in found if sendable(value))

    # Called by the parser; what is raised here comes out of it as HttpParserError.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > FIELD_BYTES:
            raise ValueError("a header that is too long")
        if not self.in_head:
            return  # a trailer
        lower = name.lower()
        if lower == b"content-length":
            self.length = int(value)
        elif lower == b"content-type":
            if self._type is None:
                self._type = value
        elif lower in _RETURNED:
            self._headers.append((name, value))
        elif lower == b"connection":
            self._connection += b"," + value.lower()
        elif lower == b"transfer-encoding":
            self._chunked = True
            if _text(value).lower() != "chunked":
                raise ValueError("a transfer coding other than chunked")

    def on_headers_complete(self) -> None:
        status = self.status = self._parser.get_status_code()
        if status < 100 or status > 599 or status == 101:
            self.failure = BrokenError(f"status {status}")
            raise ValueError
        if status < 200:
            return
        self.in_head = False
        if status in BODILESS:
            self.length = None  # it is that of an answer with a body
        elif self.length is not None and self.length > self._limit:
            self.failure = TooLargeError(f"{self.length} bytes")
            raise ValueError

    def on_body(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > self._limit:
            self.failure = TooLargeError(f"more than {self._limit} bytes")
            raise ValueError
        self.parts.append(part)

    def on_message_complete(self) -> None:
        if self.in_head:
            self._reset()  # an interim answer; the one that counts follows
            return
        self.complete = True
        self.stays = self._parser.should_keep_alive()

    def _reset(self) -> None:
        self.in_head = True
        self.status = 0
        self.length = None
        self._chunked = False
        self._type = None
        self._headers = []
        self._connection = b""


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("latin-1")

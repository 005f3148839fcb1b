"""Bytes of one connection to HTTP/1 requests: llhttp, and the rules that it leaves to its user.

No I/O: `RequestReader.feed` takes bytes, `requests` and `refusal` are what came out. llhttp in its strict mode refuses
bare CR and LF, folded headers, NUL, Content-Length together with Transfer-Encoding, repeated or malformed lengths.
The rest of the rules is here. No header says who a caller is; those in `KEPT_HEADERS` are kept for what they ask.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from itertools import count

import httptools
import msgspec

from metadata.settings import Settings

TARGET_BYTES = 2048
HEADERS = 64
READ_BYTES = 8192
"""How much is read from a connection at once."""

_REQUEST_LINE = len("  HTTP/1.1\r\n\r\n")
"""Bytes of a head beside method, target and header lines."""

MEMO_ENTRIES = 256
MEMO_BYTES = 1024

STATUS_OF_REASON = {
    "syntax": 400,
    "version": 505,
    "target": 400,
    "target_too_long": 414,
    "headers_too_large": 431,
    "body_too_large": 413,
    "transfer_encoding": 501,
    "connect": 405,
    "expect": 417,
    "hosts": 400,
    "pipelined": 429,
    "slow_request": 408,
    "forwarded_network": 400,
    "forwarded_address": 400,
}
"""The answer to a request that is refused for a reason of `counters.DROP_REASONS`."""


_TOKENS = ("x-aws-ec2-metadata-token", "x-metadata-token")

KEPT_HEADERS: dict[bytes, str] = {
    name.encode(): name
    for name in (
        *_TOKENS,
        *(f"{token}-ttl-seconds" for token in _TOKENS),
        "x-forwarded-for",
        "metadata",
        "metadata-flavor",
        "accept",
        "content-type",
        "user-agent",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
    )
}
"""Headers that a request keeps: lower-case name as sent, to its key. None of them says who the caller is."""

NO_HEADERS: dict[str, str] = {}
"""Of every request that has none to keep; not to be changed."""

_PROCESS = os.urandom(8).hex()
# The form that OpenStack services take over from their callers: req- and a UUID.
_ID_PREFIX = f"req-{_PROCESS[:8]}-{_PROCESS[8:12]}-4{_PROCESS[12:15]}-8000-"
_numbers = count(1)


class Request(msgspec.Struct, frozen=True, gc=False):
    """One complete request."""

    method: str
    target: bytes
    """Origin form, as it was sent."""
    keep_alive: bool
    """Whether the connection stays open; HTTP/1.0 never asks for it here."""
    body: bytes | None = None
    """None: the request named no body, which is not the same as an empty one."""
    headers: dict[str, str] = msgspec.field(default_factory=lambda: NO_HEADERS)
    """Those of KEPT_HEADERS, by lower-case name; repeated ones joined by a comma. Not to be changed."""
    made_id: str = ""
    """The id, once it was asked for."""
    chunks: bool = True
    """Whether an answer may come in chunks (RFC 9112 7.1): not to HTTP/1.0."""
    gated: bool = True
    """It may be that the gate (`imds`) has something against it; False was worked out for what comes again."""

    @property
    def id(self) -> str:
        """A name for the log and for the services that are asked in turn; made when it is first wanted."""
        if not self.made_id:
            msgspec.structs.force_setattr(self, "made_id", f"{_ID_PREFIX}{next(_numbers):012x}")
        return self.made_id


class _RefusedError(Exception):
    """Leaves the parser after `refusal` was set."""


class RequestReader:
    """The requests of one connection, in order."""

    __slots__ = (
        "_body",
        "_body_size",
        "_fed",
        "_framed",
        "_head_size",
        "_headers",
        "_hosts",
        "_in_head",
        "_kept",
        "_parser",
        "_settings",
        "_target",
        "clean",
        "partial",
        "refusal",
        "requests",
    )

    def __init__(self, settings: Settings) -> None:
        self.requests: deque[Request] = deque()
        """Complete requests; the user takes them out."""
        self.refusal: str | None = None
        """Why nothing more is read from this connection, a key of STATUS_OF_REASON; after all of `requests`."""
        self.partial = False
        """A request has begun and is not complete."""
        self.clean = True
        """Nothing was fed since the end of the last request that could change how the next bytes are read."""
        self._settings = settings
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._fed = 0
        self._body: list[bytes] = []
        self._begin()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection; never raises. After a refusal they are ignored."""
        if self.refusal or self._parser is None:
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request asked for another protocol: answered as what it is, without the upgrade (RFC 9110 7.8).
            # What follows it may be of that other protocol, so nothing more is read.
            if self.requests:
                self.requests[-1] = msgspec.structs.replace(self.requests[-1], keep_alive=False)
            else:
                self.refusal = "syntax"
        except httptools.HttpParserError:
            self.refusal = self.refusal or "syntax"
        self.clean = not self.partial and data.endswith(b"\r\n")
        if self.partial and not self.refusal:
            # The parser keeps pieces of a header, and chunks have sizes and extensions: the raw bytes count as well.
            room = self._settings.header_bytes
            if self._in_head:
                self.refusal = "headers_too_large" if self._fed > room else None
            elif self._fed > room + 8 * self._settings.body_bytes:
                self.refusal = "body_too_large"

    def close(self) -> None:
        """Drop the parser, which refers back to this object."""
        self._parser = None

    # Called by the parser.

    def on_message_begin(self) -> None:
        self.partial = True
        self._begin()

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._head_size += len(part)
        if len(self._target) > TARGET_BYTES:
            self._refuse("target_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._head_size += len(name) + len(value) + 4
        if self._headers > HEADERS or self._head_size > self._settings.header_bytes:
            self._refuse("headers_too_large")
        if not self._in_head:
            return  # a trailer must not pass for a header (RFC 9110 6.5.1)
        name = name.lower()
        kept = KEPT_HEADERS.get(name)
        if kept is not None:
            self._keep(kept, value.strip().decode("latin-1"))
        elif name == b"host":
            self._hosts += 1
            if self._hosts > 1:
                self._refuse("hosts")
        elif name == b"content-length":
            self._framed = True
            # Refused before it is sent. (What is no number is refused by the parser.)
            digits = value.strip()
            if digits.isdigit() and int(digits[:20]) > self._settings.body_bytes:
                self._refuse("body_too_large")
        elif name == b"transfer-encoding":
            self._framed = True
            if value.strip().lower() != b"chunked" or self._version() == "1.0":
                self._refuse("transfer_encoding")
        elif name == b"expect":
            self._refuse("expect")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._in_head = False
        if self._version() not in ("1.0", "1.1"):
            self._refuse("version")
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse("connect")
        if self._head_size + len(method) + _REQUEST_LINE > self._settings.header_bytes:
            self._refuse("headers_too_large")
        if not self._target.startswith(b"/") or b"#" in self._target:
            self._refuse("target")

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > self._settings.body_bytes:
            self._refuse("body_too_large")
        self._body.append(part)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        request = Request(
            self._parser.get_method().decode("ascii"),
            self._target,
            self._parser.should_keep_alive() and self._version() == "1.1",
            b"".join(self._body) if self._framed else None,
            self._kept,
            chunks=self._version() == "1.1",
        )
        self.partial = False
        self._fed = 0
        self._body = []
        if len(self.requests) >= self._settings.pipelined:
            self._refuse("pipelined")
        self.requests.append(request)

    def _begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._headers = 0
        self._hosts = 0
        self._head_size = 0
        self._kept = NO_HEADERS
        self._framed = False
        self._body = []
        self._body_size = 0

    def _keep(self, name: str, value: str) -> None:
        if self._kept is NO_HEADERS:
            self._kept = {name: value}
        else:
            before = self._kept.get(name)
            self._kept[name] = value if before is None else f"{before}, {value}"

    def _version(self) -> str:
        assert self._parser is not None
        return self._parser.get_http_version()

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        raise _RefusedError


class RequestMemo:
    """Requests by the exact bytes that they came in.

    Guests of one image send the same bytes again and again, mostly one request per connection. A request that came
    alone, whole, without a body, at the start of a message is a function of its bytes, headers included, so it need
    not be parsed twice. Requests with a token are not remembered: they are one guest's, and secret. Bounded; when it is
    full it starts again. What is found is to be copied before it is used: every request has an id of its own.
    """

    __slots__ = ("_gated", "_requests", "get")

    def __init__(self, gated: Callable[[Request], bool] = lambda _: True) -> None:
        """`gated` says of a request what its `gated` is to be."""
        self._gated = gated
        self._requests: dict[bytes, Request] = {}
        self.get = self._requests.get
        """The request that these bytes are, or None."""

    def learn(self, data: bytes, reader: RequestReader) -> None:
        """Remember `data`, all that `reader` was given since the last message, if that was such a request."""
        if (
            len(data) > MEMO_BYTES
            or len(reader.requests) != 1
            or not reader.clean
            or reader.refusal
            or reader.requests[0].body is not None
            or not data.endswith(b"\r\n\r\n")
            or not reader.requests[0].headers.keys().isdisjoint(_TOKENS)
        ):
            return
        if len(self._requests) >= MEMO_ENTRIES:
            self._requests.clear()
        request = reader.requests[0]
        self._requests[data] = msgspec.structs.replace(request, made_id="", gated=self._gated(request))

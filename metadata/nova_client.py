"""The HTTP client towards Nova: one pool of kept connections, TLS, times, sizes, and which headers go which way.

What the guest's bytes are is not looked at: bodies are passed as they are in both directions, nothing is decoded,
decompressed or followed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp import hdrs
from yarl import URL

from metadata.nova_settings import NovaSettings
from metadata.responses import BODILESS
from metadata.upstream import (
    PART_BYTES,
    RETURNED,
    Answer,
    BrokenError,
    Rest,
    SlowError,
    TooLargeError,
    UnreachableError,
    UpstreamError,
    sendable,
)


class NovaClient:
    """Asks Nova; made on the event loop, of which it uses no thread. Close it with `close`.

    Raises OSError (ssl.SSLError is one) when certificates or keys cannot be read.
    """

    def __init__(self, settings: NovaSettings) -> None:
        self._url = settings.url.rstrip("/")
        self._limit = settings.response_bytes
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout)
        tls = tls_context(settings) if settings.url.startswith("https:") else True
        self._pool = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=30))
        # A kept connection may end just when a request is sent on it. A GET is sent again then, a POST cannot be.
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, force_close=True))

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        """See `Client`: one request and its answer, whatever its status.

        `target` is path and query, percent-encoded; `headers` are all that are sent beside Host, Content-Length and
        Accept-Encoding.
        """
        session = self._pool if method in ("GET", "OPTIONS") else self._fresh
        ends = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(ends):
                response = await session.request(
                    method,
                    URL(self._url + target, encoded=True),
                    headers={**headers, hdrs.ACCEPT_ENCODING: "identity"},
                    data=body,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
                try:
                    return await self._take(response, whole, ends)
                except BaseException:
                    response.close()
                    raise
        except _FAILURES as error:
            raise _failure(error, seconds) from error

    async def close(self) -> None:
        """End all connections."""
        await self._pool.close()
        await self._fresh.close()

    async def _take(self, response: aiohttp.ClientResponse, whole: int, ends: float) -> Answer:
        """`ends`: when Nova's time is over, by the loop's clock."""
        if response.status < 200 or response.status > 599:
            raise BrokenError(f"status {response.status}")
        # Of an answer without a body it is the length of another one's.
        length = None if response.status in BODILESS else response.content_length
        if (length or 0) > self._limit:
            raise TooLargeError(f"{length} bytes")
        body = bytearray()
        rest: Rest | None = None
        while length is None or length <= whole:
            part = await response.content.read(PART_BYTES)
            if not part:
                break
            body += part
            if len(body) > self._limit:
                raise TooLargeError(f"more than {self._limit} bytes")
            if len(body) > whole or response.content.at_eof():
                break
        if len(body) > whole or (length or 0) > whole:
            rest = _Rest(response, self._limit - len(body), ends)
        content_type, headers = _returned(response)
        if rest is None:
            response.release()
        return Answer(response.status, content_type, headers, bytes(body), rest, length)

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=(hdrs.ACCEPT, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
            trust_env=False,
            max_line_size=8190,
            max_field_size=8190,
        )


def _returned(response: aiohttp.ClientResponse) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Content-Type, empty if there is none, and the headers that reach the guest."""
    content_type = response.headers.get(hdrs.CONTENT_TYPE, "")
    found = [(name, value) for name, value in response.headers.items() if name.lower() in RETURNED and sendable(value)]
    if found and hdrs.CONNECTION in response.headers:
        lines = response.headers.getall(hdrs.CONNECTION)
        named = {name.strip().lower() for line in lines for name in line.split(",")}
        found = [(name, value) for name, value in found if name.lower() not in named]
    return content_type if sendable(content_type) else "", tuple(found)


class _Rest(Rest):
    """Is not read while nobody asks for more: aiohttp then stops reading the connection, at 128 KiB."""

    __slots__ = ("_left", "_response", "_room")

    def __init__(self, response: aiohttp.ClientResponse, room: int, ends: float) -> None:
        """`room`: bytes that may still come; `ends` as in `_take`."""
        super().__init__(response.status)
        self._response = response
        self._room = room
        self._left = ends - asyncio.get_running_loop().time()

    async def _next(self) -> bytes:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left):
                part = await self._response.content.read(PART_BYTES)
        except _FAILURES as error:
            raise _failure(error, self._left) from error
        self._left -= clock() - began
        self._room -= len(part)
        if self._room < 0:
            raise TooLargeError("more than is taken")
        return part

    def _stop(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


# TimeoutError is an OSError.
_FAILURES = (aiohttp.ClientError, asyncio.IncompleteReadError, OSError, ValueError)


def _failure(error: Exception, seconds: float) -> UpstreamError:
    """A failure of aiohttp or of the connection as ours."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return UnreachableError(str(error))
    if isinstance(error, TimeoutError):
        return SlowError(f"no answer within {seconds:g} s")
    return BrokenError(f"{type(error).__name__}: {error}")


def tls_context(settings: NovaSettings) -> ssl.SSLContext:
    """How Nova proves who it is, and how we do. Raises OSError."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert, settings.client_key or None)
    return context

"""The HTTP client towards Nova: one pool of kept connections, TLS, times, and how a request is written.

What the guest's bytes are is not looked at: bodies are passed as they are in both directions, nothing is decoded,
decompressed or followed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import aiohappyeyeballs

from metadata.nova_name import Name
from metadata.nova_settings import NovaSettings
from metadata.upstream import Answer, BrokenError, SlowError, UnreachableError
from metadata.upstream_link import EndedError, Link

KEEP_SECONDS = 30.0
"""A connection that was not used for so long is ended."""
CLOSE_SECONDS = 1.0
"""What ended connections may take to be gone."""
SECOND_ADDRESS = 0.25
"""Seconds after which a name's next address is tried beside the first (RFC 8305 5)."""

_REPEATABLE = frozenset(("GET", "OPTIONS"))
_WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))


class NovaClient:
    """Asks Nova; made on the event loop. Close it with `close`.

    Raises OSError (ssl.SSLError is one) when certificates or keys cannot be read.
    """

    def __init__(self, settings: NovaSettings) -> None:
        self._limit = settings.response_bytes
        self._connect_timeout = settings.connect_timeout
        url = urlsplit(settings.url)
        self._tls = tls_context(settings) if url.scheme == "https" else None
        port = 443 if self._tls else 80
        host = url.hostname or ""
        self._host = host if host.isascii() else host.encode("idna").decode()
        self._port = url.port or port
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._path = url.path.rstrip("/")
        self._fixed = (
            f" HTTP/1.1\r\nHost: {name if self._port == port else f'{name}:{self._port}'}\r\n"
            "Accept-Encoding: identity\r\n"
        )
        self._loop = asyncio.get_running_loop()
        self._name = Name(self._host, self._port)
        self._links: set[Link] = set()
        """All there are."""
        self._idle: deque[Link] = deque()
        """Those that wait for a request, the one that waits longest first."""
        self._busy: dict[Link, None] = {}
        """Those whose answer has not come."""
        self._closed = False
        self._clock: asyncio.TimerHandle | None = None
        self._broom: asyncio.TimerHandle | None = None

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        """See `Client`: one request and its answer, whatever its status.

        `target` is path and query, percent-encoded; `headers` are all that are sent beside Host, Content-Length,
        Connection and Accept-Encoding.
        """
        # A kept connection may end just when a request is sent on it. A GET is sent again then, a POST cannot be.
        keep = method in _REPEATABLE
        request = self._encode(method, target, headers, body, keep)
        ends = self._loop.time() + seconds
        if keep and (link := self._kept()) is not None:
            try:
                return await self._exchange(link, request, ends, seconds, whole, True)
            except EndedError:
                pass
        link = await self._connect(ends, seconds)
        return await self._exchange(link, request, ends, seconds, whole, keep)

    async def close(self) -> None:
        """End all connections; requests fail from now on."""
        self._closed = True
        for timer in (self._clock, self._broom):
            if timer is not None:
                timer.cancel()
        for link in list(self._links):
            link.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._links:  # noqa: ASYNC110
                    await asyncio.sleep(0)

    def _encode(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, keep: bool) -> bytes:
        """Raises BrokenError for what cannot be written into a head."""
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if not keep:
            lines.append("Connection: close\r\n")
        if body is not None or method in _WITH_BODY:
            lines.append(f"Content-Length: {len(body or b'')}\r\n")
        head = f"{method} {self._path}{target}{self._fixed}{''.join(lines)}"
        ends = len(lines) + 3
        if head.count("\n") != ends or head.count("\r") != ends or "\0" in head:
            raise BrokenError("a header that cannot be sent")
        try:
            return head.encode() + b"\r\n" + (body or b"")
        except UnicodeEncodeError as error:
            raise BrokenError(str(error)) from error

    async def _exchange(
        self, link: Link, request: bytes, ends: float, seconds: float, whole: int, keep: bool
    ) -> Answer:
        link.deadline = ends
        waiting = link.ask(request, self._limit, whole, seconds, keep)
        self._busy[link] = None
        if self._clock is None or self._clock.when() > ends:
            self._wind(ends)
        try:
            return await waiting
        except asyncio.CancelledError:
            link.give_up(waiting)
            raise
        finally:
            self._busy.pop(link, None)

    def _kept(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.lost:
                return link
        return None

    async def _connect(self, ends: float, seconds: float) -> Link:
        """A new connection. Raises UnreachableError, or SlowError if Nova's time is over."""
        if self._closed:
            raise BrokenError("the client is closed")
        until = min(ends, self._loop.time() + self._connect_timeout)
        try:
            async with asyncio.timeout_at(until):
                sock = await aiohappyeyeballs.start_connection(
                    await self._name.addresses(), happy_eyeballs_delay=SECOND_ADDRESS, loop=self._loop
                )
                _, link = await self._loop.create_connection(
                    lambda: Link(self._loop, self._freed, self._ended), sock=sock, ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )  # fmt: skip
        except TimeoutError as error:
            if until == ends:
                raise SlowError(f"no answer within {seconds:g} s") from error
            self._name.doubt()
            raise UnreachableError(f"no connection within {self._connect_timeout:g} s") from error
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: uvloop, of a socket
            self._name.doubt()
            raise UnreachableError(f"{self._host}:{self._port}: {error}") from error
        if self._closed:
            link.abort()
        elif not link.lost:
            self._links.add(link)
        return link

    # Called by links.

    def _freed(self, link: Link) -> None:
        link.since = self._loop.time()
        self._idle.append(link)
        if self._broom is None:
            self._broom = self._loop.call_later(KEEP_SECONDS, self._sweep)

    def _ended(self, link: Link) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    # One timer for all requests, and one for all that is idle.

    def _wind(self, when: float) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = self._loop.call_at(when, self._strike)

    def _strike(self) -> None:
        self._clock = None
        now = self._loop.time()
        for link in [link for link in self._busy if link.deadline <= now]:
            link.late()
        left = [link.deadline for link in self._busy if link.deadline > now]
        if left:
            self._wind(min(left))

    def _sweep(self) -> None:
        self._broom = None
        now = self._loop.time()
        while self._idle and self._idle[0].since <= now - KEEP_SECONDS:
            self._idle.popleft().abort()
        if self._idle:
            self._broom = self._loop.call_at(self._idle[0].since + KEEP_SECONDS, self._sweep)


def tls_context(settings: NovaSettings) -> ssl.SSLContext:
    """How Nova proves who it is, and how we do. Raises OSError."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert, settings.client_key or None)
    return context

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
from metadata.upstream import RETURNED, Answer, BrokenError, SlowError, TooLargeError, UnreachableError, sendable


class NovaClient:
    """Asks Nova; made on the event loop, of which it uses no thread. Close it with `close`.

    Raises OSError (ssl.SSLError is one) when certificates or keys cannot be read.
    """

    def __init__(self, settings: NovaSettings) -> None:
        self._url = settings.url.rstrip("/")
        self._limit = settings.response_bytes
        self._connect_timeout = settings.connect_timeout
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        tls = tls_context(settings) if settings.url.startswith("https:") else True
        self._pool = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=30))
        # A kept connection may end just when a request is sent on it. A GET is sent again then, a POST cannot be.
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, force_close=True))

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        """One request and its whole answer, whatever its status.

        `target` is path and query, percent-encoded; `headers` are all that are sent beside Host, Content-Length and
        Accept-Encoding. Raises UpstreamError.
        """
        session = self._pool if method in ("GET", "OPTIONS") else self._fresh
        try:
            async with session.request(
                method,
                URL(self._url + target, encoded=True),
                headers={**headers, hdrs.ACCEPT_ENCODING: "identity"},
                data=body,
                allow_redirects=False,
                timeout=self._timeout(seconds),
            ) as response:
                return await self._take(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(str(error)) from error
        except TimeoutError as error:
            raise SlowError(f"no answer within {seconds:g} s") from error
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise BrokenError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """End all connections."""
        await self._pool.close()
        await self._fresh.close()

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        found = self._timeouts.get(seconds)
        if found is None:  # one per route, so there are few
            found = aiohttp.ClientTimeout(total=seconds, sock_connect=self._connect_timeout)
            self._timeouts[seconds] = found
        return found

    async def _take(self, response: aiohttp.ClientResponse) -> Answer:
        if response.status < 200 or response.status > 599:
            raise BrokenError(f"status {response.status}")
        if (response.content_length or 0) > self._limit:
            raise TooLargeError(f"{response.content_length} bytes")
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > self._limit:
                raise TooLargeError(f"more than {self._limit} bytes")
        named = {
            name.strip().lower() for line in response.headers.getall(hdrs.CONNECTION, ()) for name in line.split(",")
        }
        headers = tuple(
            (name, value)
            for name, value in response.headers.items()
            if name.lower() in RETURNED and name.lower() not in named and sendable(value)
        )
        content_type = response.headers.get(hdrs.CONTENT_TYPE, "")
        return Answer(response.status, content_type if sendable(content_type) else "", headers, bytes(body))

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


def tls_context(settings: NovaSettings) -> ssl.SSLContext:
    """How Nova proves who it is, and how we do. Raises OSError."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert, settings.client_key or None)
    return context

"""The addresses of a name, asked for now and then and not for every connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

FRESH_SECONDS = 10.0
"""For so long a name is taken to have the addresses it had, as aiohttp does."""
AGAIN_SECONDS = 1.0
"""After a name could not be resolved, the addresses it had are used for so long before it is tried again."""
NEWER_SECONDS = 0.5
"""For so long newer addresses are waited for after a failed connection; then it is the old ones again."""


class Name:
    """A host and port as addresses to connect to, in `socket.getaddrinfo`'s form; made on the event loop.

    All who ask while the resolver is busy share its answer. Once a name has been resolved, nobody waits for the
    resolver any more, unless a connection failed, and then not for long.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._known: Sequence[Any] = ()
        self._until = 0.0
        """Of the loop's clock: when `_known` is to be asked for anew."""
        self._doubted = False
        self._asking: asyncio.Task[None] | None = None
        self._failure: OSError | None = None
        try:
            self._known = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
            self._until = float("inf")
        except (socket.gaierror, UnicodeError):  # the latter: what can be no name, either
            pass

    async def addresses(self) -> Sequence[Any]:
        """At least one. Raises OSError for a name that cannot be resolved, and could not be before."""
        if self._known and self._loop.time() < self._until:
            return self._known
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask())
        # Not cancelled with who waits: others do as well.
        if not self._known:
            await asyncio.shield(self._asking)
        elif self._doubted:
            await asyncio.wait((self._asking,), timeout=NEWER_SECONDS)
        if not self._known:
            raise self._failure or OSError("no address")
        return self._known

    def doubt(self) -> None:
        """None of the addresses could be connected to: the next who wants them waits for newer ones."""
        if self._until != float("inf"):
            self._doubted, self._until = True, 0.0

    async def _ask(self) -> None:
        try:
            self._known = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._until = self._loop.time() + FRESH_SECONDS
        except (OSError, UnicodeError) as failure:
            self._failure = OSError(str(failure))
            self._until = self._loop.time() + AGAIN_SECONDS
        finally:
            self._doubted = False
            self._asking = None

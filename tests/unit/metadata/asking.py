"""Asks a Nova backend without a guest-facing server before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from metadata.http1 import Request
from metadata.identity import Caller
from metadata.nova import NovaBackend
from metadata.nova_client import NovaClient
from metadata.nova_proxy import NovaProxy
from metadata.nova_settings import NovaSettings
from metadata.records import InstanceDocument
from metadata.responses import Response
from metadata.signature import Subject
from metadata.upstream import Rest
from tests.nova import SECRET, Nova

CALLER = Caller("blue-net", "02:00:00:00:00:05", "10.0.0.5")


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Parts(Rest):
    """The last part of a body; `let_go` gets one entry when it was let go of."""

    def __init__(self, body: bytes, let_go: list[None]) -> None:
        super().__init__(200)
        self._parts = [body]
        self._let_go = let_go

    async def _next(self) -> bytes:
        await asyncio.sleep(0)
        return self._parts.pop() if self._parts else b""

    def _stop(self) -> None:
        self._let_go.append(None)


def settings(url: str, **changes: Any) -> NovaSettings:
    return NovaSettings(**{"url": url, "secrets": (SECRET,), "prefetch": False, "hold_seconds": 0.0, **changes})


def subject(instance: InstanceDocument, **changes: Any) -> Subject:
    return Subject(**{
        "port_id": "p", "network_id": "blue-net", "instance_id": instance.uuid, "project_id": instance.project_id,
        "address": "10.0.0.5", **changes,
    })  # fmt: skip


@asynccontextmanager
async def proxy(upstream: Nova, clock: Callable[[], float] | None = None, **changes: Any) -> AsyncIterator[NovaProxy]:
    chosen = settings(upstream.url, **changes)
    made = NovaProxy(chosen, NovaClient(chosen), clock=clock or Clock())
    try:
        yield made
    finally:
        await made.close()


async def ask(
    backend: NovaBackend, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Response:
    request = Request(
        method, path.encode("latin-1"), True, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = backend.answer(request, CALLER, 0.0)
    if isinstance(answer, Response):
        return answer
    came = await asyncio.ensure_future(answer)
    assert isinstance(came, Response)
    return came

"""A Nova that cannot be connected to: who waits for it, how long, and who finds out that it is there again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from metadata.nova import NovaBackend
from metadata.nova_proxy import NovaProxy
from metadata.upstream import Answer, UnreachableError
from tests.nova import nova
from tests.unit.metadata.asking import ask, proxy, settings, subject
from tests.unit.metadata.lab import until
from tests.unit.metadata.sample import FULL

META_DATA = "/openstack/latest/meta_data.json"


@pytest.mark.asyncio
async def test_nova_away() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        await upstream.stop()
        found = await ask(NovaBackend(shared, subject(FULL)), META_DATA)
        assert (found.status, found.headers) == (503, (("Retry-After", "1"),))
        assert shared.counters.requests == {"unreachable": 1}
        await upstream.start()


@pytest.mark.asyncio
async def test_requests_wait_for_a_nova_that_comes_back_and_one_knocks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metadata.nova_proxy.KNOCK_SECONDS", 0.01)
    async with nova(FULL) as upstream, proxy(upstream, hold_seconds=8.0) as shared:
        await upstream.stop()
        backends = [NovaBackend(shared, subject(FULL, port_id=str(number))) for number in range(30)]
        asking = [asyncio.create_task(ask(backend, META_DATA)) for backend in backends]
        await until(lambda: shared.counters.requests.get("unreachable", 0) >= 32)
        assert shared.tasks == 31
        assert shared.turns.used == 0
        await upstream.start()
        assert {found.status for found in await asyncio.gather(*asking)} == {200}
        await until(lambda: not shared.tasks)


@pytest.mark.asyncio
async def test_nobody_knocks_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metadata.nova_proxy.KNOCK_SECONDS", 0.01)
    async with nova(FULL) as upstream, proxy(upstream, hold_seconds=0.05) as shared:
        await upstream.stop()
        assert (await ask(NovaBackend(shared, subject(FULL)), META_DATA)).status == 503
        await until(lambda: not shared.tasks)
        await upstream.start()


class Hole:
    """A `Client` of a Nova that takes no connection, and says so when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.knocks = 0
        self.there = False
        self.fail = asyncio.Event()

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        if target == "/":
            self.knocks += 1
        else:
            self.asked.append(target)
            await self.fail.wait()
        if not self.there:
            raise UnreachableError("no connection within 3 s")
        return Answer(200, "text/plain", (), b"")

    async def close(self) -> None:
        pass


@pytest.mark.asyncio
@pytest.mark.parametrize("back", [False, True])
async def test_who_waited_for_a_turn_does_not_try_what_others_found_out(
    monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """Each turn would take the time of a connection: the last ones would wait far longer than a request is held."""
    monkeypatch.setattr("metadata.nova_proxy.KNOCK_SECONDS", 0.01)
    hole = Hole()
    chosen = settings("http://nova", hold_seconds=5.0 if back else 0.2, connections_per_project=2, cache_seconds=0.0)
    shared = NovaProxy(chosen, hole)
    backends = [NovaBackend(shared, subject(FULL, port_id=str(number))) for number in range(10)]
    asking = [asyncio.create_task(ask(backend, f"/latest/{n}")) for n, backend in enumerate(backends)]
    await until(lambda: len(hole.asked) == 2)
    hole.fail.set()
    await until(lambda: hole.knocks > 2)
    assert len(hole.asked) == 2
    assert shared.turns.used == 0
    hole.there = back
    assert {found.status for found in await asyncio.gather(*asking)} == {200 if back else 503}
    assert len(hole.asked) == (12 if back else 2)
    await shared.close()

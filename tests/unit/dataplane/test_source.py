"""source: the change log, and the memory source against the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dataplane.errors import GapError
from dataplane.model import Change, DesiredState
from dataplane.source import ChangeLog, MemorySource
from tests.unit.dataplane.source_contract import SourceContract, take


class TestMemorySource(SourceContract):
    """The memory source keeps the contract."""

    @pytest.fixture
    def source(self) -> MemorySource:
        """An empty source."""
        return MemorySource()

    async def put(self, source: Any, document: DesiredState) -> None:
        source.put(document)

    async def delete(self, source: Any, kind: Any, key: str) -> None:
        source.delete((kind, key))

    async def lose_history(self, source: Any) -> Any:
        source.lose_history()
        return source


def change(position: int, size: int = 1) -> Change:
    return Change(position, deletes=(("ports", "x"),) * size)


@pytest.mark.asyncio
async def test_the_log_is_bounded_and_says_so() -> None:
    log = ChangeLog(10, kept_objects=4)
    for position in range(11, 17):
        log.append(change(position))
    with pytest.raises(GapError):
        await anext(log.follow(11))
    assert [c.position for c in await take(log.follow(12), 4)] == [13, 14, 15, 16]


@pytest.mark.asyncio
async def test_one_great_change_is_kept() -> None:
    log = ChangeLog(kept_objects=4)
    log.append(change(1))
    log.append(change(2, 100))
    assert await take(log.follow(1), 1) == [change(2, 100)]
    with pytest.raises(GapError):
        await anext(log.follow(0))


@pytest.mark.asyncio
async def test_a_follower_that_falls_behind_in_the_middle_is_told() -> None:
    log = ChangeLog(kept_objects=2)
    log.append(change(1))
    follower = log.follow(0)
    assert await anext(follower) == change(1)
    for position in range(2, 6):
        log.append(change(position))
    with pytest.raises(GapError):
        await anext(follower)


@pytest.mark.asyncio
async def test_closing_ends_followers_after_what_they_have_not_seen() -> None:
    log = ChangeLog()
    waiting = asyncio.ensure_future(take(log.follow(0), 2))
    log.append(change(1))
    log.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [c async for c in log.follow(0)] == [change(1)]


def test_positions_must_grow() -> None:
    log = ChangeLog(5)
    with pytest.raises(ValueError, match="position 5 after 5"):
        log.append(change(5))

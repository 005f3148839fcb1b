"""What every source must do, as tests: a test class inherits these and provides the source as a fixture.

The fixture `source` gives an object with `snapshot` and `changes` of `dataplane.source.Source`; `put(source, state)`
and `delete(source, ref)` make it change, `lose_history(source)` makes it forget its changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dataplane.desired import Desired
from dataplane.errors import GapError
from dataplane.model import Change, DesiredState
from dataplane.source import Source
from tests.unit.dataplane.states import network, port, state


async def take(changes: AsyncIterator[Change], number: int) -> list[Change]:
    """The next so many changes."""
    return [await anext(changes) for _ in range(number)]


class SourceContract:
    """Inherit, and override the three verbs."""

    async def put(self, source: Any, document: DesiredState) -> None:
        """Commit a document."""
        raise NotImplementedError

    async def delete(self, source: Any, kind: Any, key: str) -> None:
        """Commit a delete."""
        raise NotImplementedError

    async def lose_history(self, source: Any) -> Any:
        """Make the source forget its changes; gives the source to go on with."""
        raise NotImplementedError

    @pytest.mark.asyncio
    async def test_changes_after_a_snapshot_lead_to_the_next_snapshot(self, source: Source) -> None:
        await self.put(source, state([network("blue")], [port("p1", 5)]))
        position, first = await source.snapshot()
        model = Desired.of(first)
        await self.put(source, state(ports=[port("p2", 6), port("p1", 7)]))
        await self.delete(source, "ports", "p2")
        await self.put(source, state([network("green")], [port("p3", 5, "green")]))
        async for change in source.changes(position):
            model.apply(change)
            if change.position == (await source.snapshot())[0]:
                break
        _, last = await source.snapshot()
        assert set(model.state().ports) == set(last.ports)
        assert set(model.state().networks) == set(last.networks)

    @pytest.mark.asyncio
    async def test_positions_grow_and_a_follower_can_come_back(self, source: Source) -> None:
        start, _ = await source.snapshot()
        for name in "abcdef":
            await self.put(source, state([network("blue", name=name)]))
        one = await take(source.changes(start), 6)
        positions = [change.position for change in one]
        assert positions == sorted(set(positions))
        assert positions[0] > start
        for index, position in enumerate(positions[:-1]):
            assert await take(source.changes(position), 5 - index) == one[index + 1 :]

    @pytest.mark.asyncio
    async def test_a_change_that_changes_nothing_is_none(self, source: Source) -> None:
        await self.put(source, state([network("blue")]))
        position, _ = await source.snapshot()
        await self.put(source, state([network("blue")]))
        assert (await source.snapshot())[0] == position

    @pytest.mark.asyncio
    async def test_followers_wait_and_all_get_the_same(self, source: Source) -> None:
        start, _ = await source.snapshot()
        waiting = [asyncio.ensure_future(take(source.changes(start), 2)) for _ in range(3)]
        await asyncio.sleep(0)
        await self.put(source, state([network("blue")]))
        await self.put(source, state([network("green")]))
        first, second, third = await asyncio.gather(*waiting)
        assert first == second == third
        assert [change.puts[0].id for change in first] == ["blue", "green"]

    @pytest.mark.asyncio
    async def test_lost_history_is_a_gap(self, source: Source) -> None:
        before, _ = await source.snapshot()
        await self.put(source, state([network("blue")]))
        source = await self.lose_history(source)
        after, held = await source.snapshot()
        assert [item.id for item in held.networks] == ["blue"]
        with pytest.raises(GapError):
            await anext(source.changes(before))
        with pytest.raises(GapError):
            await anext(source.changes(after + 1))
        waiting = asyncio.ensure_future(take(source.changes(after), 1))
        await self.put(source, state([network("green")]))
        [change] = await waiting
        assert change.position > after

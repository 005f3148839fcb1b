"""store: acknowledged means durable, refused means untouched, and the source contract holds."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dataplane import store_writer
from dataplane.desired import Desired
from dataplane.errors import DocumentError, GapError, StoreError
from dataplane.leases import LeaseRow
from dataplane.model import DesiredState, Ip, Mac, NetworkId, Object, PortId
from dataplane.status import Counts
from dataplane.store import Store
from dataplane.store_writer import Question
from tests.unit.dataplane.source_contract import SourceContract, take
from tests.unit.dataplane.states import instance, network, port, state


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    store = await Store.open(tmp_path / "state" / "store.db")
    yield store
    await store.close()


async def reopen(store: Store) -> Store:
    """Close, and open the same file again."""
    await store.close()
    return await Store.open(store._writer._path)


def objects(document: DesiredState) -> set[Any]:
    items: list[Object] = [*document.networks, *document.ports, *document.instances]
    return {(item.id, repr(item)) for item in items}


def lease(number: int, **more: Any) -> LeaseRow:
    mac, address = Mac(f"fa:16:3e:00:00:{number:02x}"), Ip(f"10.0.0.{number}")
    row = {"state": "bound", "since": 1.0, "updated": 2.0, "expires": 3.5, **more}
    return LeaseRow(NetworkId("blue"), PortId(f"p{number}"), mac, address, **row)


def block(store: Store) -> threading.Event:
    """Keep the writer's thread busy until the event is set, so that what follows is committed together."""
    go_on = threading.Event()
    store._writer.submit(Question(lambda _: go_on.wait(10), lambda result, error: None))
    return go_on


class TestStoreAsSource(SourceContract):
    """The store keeps the contract of sources."""

    @pytest_asyncio.fixture
    async def source(self, tmp_path: Path) -> AsyncIterator[Store]:
        """An empty store, and whatever it was reopened as."""
        self.store = await Store.open(tmp_path / "store.db")
        yield self.store
        await self.store.close()

    async def put(self, source: Any, document: DesiredState) -> None:
        await self.store.apply(document)

    async def delete(self, source: Any, kind: Any, key: str) -> None:
        await self.store.delete([(kind, key)])

    async def lose_history(self, source: Any) -> Any:
        self.store = await reopen(self.store)
        return self.store


@pytest.mark.asyncio
async def test_what_was_acknowledged_is_there_after_reopening(store: Store) -> None:
    first = await store.apply(state([network("blue", vni=7), network("green")], [port("p1", 5)], [instance(1)]))
    assert first.position == 1
    assert first.changed["networks"] == Counts(created=2)
    second = await store.apply(state(ports=[port("p1", 6), port("p2", 7)]))
    assert (second.position, second.changed["ports"]) == (2, Counts(created=1, updated=1))
    third = await store.delete([("ports", "p2")])
    assert (third.position, third.changed["ports"]) == (3, Counts(deleted=1))
    position, before = await store.snapshot()
    again = await reopen(store)
    assert (await again.snapshot())[0] == position == again.position == 3
    assert objects((await again.snapshot())[1]) == objects(before)
    assert again.desired.network_by_vni[7].id == "blue"
    await again.close()


@pytest.mark.asyncio
async def test_an_apply_that_changes_nothing_makes_no_position(store: Store) -> None:
    document = state([network("blue")], [port("p1", 5)])
    await store.apply(document)
    again = await store.apply(document, prune=True)
    assert (again.position, again.changed["ports"]) == (1, Counts(unchanged=1))
    assert (await store.delete([("ports", "p9")], missing_ok=True)).position == 1


@pytest.mark.asyncio
async def test_a_dry_run_tells_and_does_nothing(store: Store) -> None:
    await store.apply(state([network("blue")], [port("p1", 5)]))
    told = await store.apply(state([network("green")]), prune=True, dry_run=True)
    assert told.position == 1
    assert told.changed["networks"] == Counts(created=1, deleted=1)
    assert (await store.delete([("ports", "p1")], dry_run=True)).changed["ports"] == Counts(deleted=1)
    with pytest.raises(DocumentError):
        await store.delete([("networks", "blue")], dry_run=True)
    assert list(store.desired.networks) == ["blue"]


@pytest.mark.asyncio
async def test_a_refused_document_changes_nothing(store: Store) -> None:
    await store.apply(state([network("blue")], [port("p1", 5)]))
    with pytest.raises(DocumentError, match=r"ports\[1\].mac_address"):
        await store.apply(state(ports=[port("p2", 6), port("p3", 5)]))
    with pytest.raises(DocumentError, match="networks/blue: is still used by port p1"):
        await store.delete([("networks", "blue")])
    assert (await store.snapshot())[0] == 1
    assert list(store.desired.ports) == ["p1"]


@pytest.mark.asyncio
async def test_transactions_that_wait_together_share_a_commit(store: Store) -> None:
    await store.apply(state([network("blue")]))
    commits: list[str] = []
    await store._ask(lambda c: c.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None))
    go_on = block(store)
    waiting = [asyncio.ensure_future(store.apply(state(ports=[port(f"p{n}", n)]))) for n in range(2, 52)]
    await asyncio.sleep(0)
    # Staged, visible at the head, but neither durable nor told to anyone.
    assert len(store.desired.ports) == 50
    position, durable = await store.snapshot()
    assert (position, store.position, durable.ports) == (1, 1, ())
    go_on.set()
    applied = await asyncio.gather(*waiting)
    assert [one.position for one in applied] == list(range(2, 52))
    assert commits == ["COMMIT"]
    assert [change.position for change in await take(store.changes(1), 50)] == list(range(2, 52))


@pytest.mark.asyncio
async def test_nothing_is_acknowledged_before_its_commit(store: Store) -> None:
    committing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def trace(sql: str) -> None:
        if sql == "COMMIT":  # called before the statement is carried out
            loop.call_soon_threadsafe(committing.set)
            go_on.wait(10)

    await store._ask(lambda c: c.set_trace_callback(trace))
    waiting = asyncio.ensure_future(store.apply(state([network("blue")])))
    following = asyncio.ensure_future(anext(store.changes(0)))
    await committing.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert not following.done()
    assert (await store.snapshot())[0] == 0
    go_on.set()
    assert (await waiting).position == (await following).position == 1


@pytest.mark.asyncio
async def test_an_unchanged_apply_waits_for_what_it_rests_on(store: Store) -> None:
    go_on = block(store)
    document = state([network("blue")])
    first = asyncio.ensure_future(store.apply(document))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(store.apply(document))
    await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    assert (await first).position == (await second).position == 1


@pytest.mark.asyncio
async def test_a_full_disk_refuses_and_takes_back(store: Store) -> None:
    await store.apply(state([network("blue")], [port("p1", 5)]))
    before = store.desired.state()
    (pages,) = await store._ask(lambda c: c.execute("PRAGMA page_count").fetchone())
    await store._ask(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall())
    great = state(instances=[instance(1, user_data="x" * 100_000)])
    go_on = block(store)
    waiting = [
        asyncio.ensure_future(one)
        for one in (
            store.apply(great),
            store.apply(state(ports=[port("p1", 6), port("p2", 7)])),
            store.delete([("ports", "p1")]),
            store.apply(state(ports=[port("p2", 7)])),
        )
    ]
    await asyncio.sleep(0)
    go_on.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert "full; nothing was changed" in str(results[0])
    assert store.position == 1
    assert vars(store.desired) == vars(Desired.of(before))
    # There is room for small things, and positions go on without a hole.
    assert (await store.apply(state(ports=[port("p3", 8)]))).position == 2
    await store._ask(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchall())
    assert (await store.apply(great)).position == 3
    again = await reopen(store)
    assert sorted(again.desired.ports) == ["p1", "p3"]
    assert len(again.desired.instances) == 1
    await again.close()


@pytest.mark.asyncio
async def test_what_was_staged_on_a_refused_transaction_is_refused_too(store: Store) -> None:
    await store.apply(state([network("blue")]))
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def trace(sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            loop.call_soon_threadsafe(began.set)
            go_on.wait(10)

    await store._ask(lambda c: c.execute("PRAGMA query_only = ON").fetchall())
    await store._ask(lambda c: c.set_trace_callback(trace))
    first = asyncio.ensure_future(store.apply(state(ports=[port("p1", 5)])))
    await began.wait()  # the first commit can no more be joined
    store._writer.submit(Question(lambda c: c.execute("PRAGMA query_only = OFF").fetchall(), lambda r, e: None))
    second = asyncio.ensure_future(store.apply(state(ports=[port("p1", 6)])))
    await asyncio.sleep(0)
    go_on.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
    assert (await store.apply(state(ports=[port("p2", 7)]))).position == 2
    again = await reopen(store)
    assert list(again.desired.ports) == ["p2"]
    await again.close()


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_does_not_undo(store: Store) -> None:
    go_on = block(store)
    going = asyncio.ensure_future(store.apply(state([network("blue")])))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    go_on.set()
    assert (await store.apply(state([network("green")]))).position == 2
    assert [change.puts[0].id for change in await take(store.changes(0), 2)] == ["blue", "green"]


@pytest.mark.asyncio
async def test_close_finishes_what_is_under_way(store: Store) -> None:
    waiting = asyncio.ensure_future(store.apply(state([network("blue")])))
    following = asyncio.ensure_future(take(store.changes(0), 2))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert (await waiting).position == 1
    with pytest.raises(StopAsyncIteration):
        await following
    with pytest.raises(StoreError, match="closed"):
        await store.apply(state([network("green")]))
    with pytest.raises(StoreError, match="closed"):
        await store.load_leases()
    store.record_leases([lease(5)])
    assert not store._writer._thread.is_alive()


@pytest.mark.asyncio
async def test_a_file_is_used_by_one_process_only(store: Store) -> None:
    with pytest.raises(StoreError, match="in use by another nodeplane"):
        await Store.open(store._writer._path)


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError):
        await Store.open(path)
    with pytest.raises(StoreError):
        await Store.open(path / "below-a-file" / "store.db")


@pytest.mark.asyncio
async def test_an_object_that_cannot_be_read(store: Store) -> None:
    await store.apply(state([network("blue")]))
    await store._ask(lambda c: c.execute("UPDATE objects SET body = '{}'"))
    with pytest.raises(StoreError, match="kind networks in the database cannot be read"):
        await reopen(store)


@pytest.mark.asyncio
async def test_the_past_of_another_process_is_a_gap(store: Store) -> None:
    await store.apply(state([network("blue")]))
    again = await reopen(store)
    with pytest.raises(GapError):
        await anext(again.changes(0))
    await again.close()


@pytest.mark.asyncio
async def test_the_journal_of_leases(store: Store) -> None:
    store.record_leases([lease(5), lease(6), lease(7)])
    store.record_leases([lease(5, updated=9.0, hostname="late")], gone=[lease(6)])
    await store.apply(state([network("blue")]))
    again = await reopen(store)
    assert await again.load_leases() == [lease(7), lease(5, updated=9.0, hostname="late")]
    again.record_leases([], gone=[lease(5)])
    again.record_leases([lease(8)])
    again = await reopen(again)
    assert await again.load_leases() == [lease(7), lease(8)]
    await again.close()


@pytest.mark.asyncio
async def test_what_is_settled_survives_a_crash(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as another process finds it, while nothing else makes the writer go on."""
    monkeypatch.setattr("dataplane.store_writer.LEASE_DELAY_SECONDS", 3600.0)
    for number in (5, 6):
        store.record_leases([lease(number)])
        await store.settled()
    with contextlib.closing(sqlite3.connect(store._writer._path)) as other:
        assert store_writer.load_leases(other) == [lease(5), lease(6)]


@pytest.mark.asyncio
async def test_leases_wait_for_a_disk_that_recovers(store: Store) -> None:
    await store._ask(lambda c: c.execute("PRAGMA query_only = ON"))
    go_on = block(store)
    store.record_leases([lease(5), lease(6)])
    go_on.set()
    with pytest.raises(StoreError):
        await store.apply(state([network("blue")]))
    store.record_leases([lease(6, updated=9.0)])
    await store._ask(lambda c: c.execute("PRAGMA query_only = OFF"))
    again = await reopen(store)
    assert sorted(row.address for row in await again.load_leases()) == ["10.0.0.5", "10.0.0.6"]
    assert {row.updated for row in await again.load_leases()} == {2.0, 9.0}
    await again.close()


@pytest.mark.asyncio
async def test_the_journal_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.store_writer.MAX_LEASES", 3)
    store.record_leases([lease(n) for n in range(1, 9)])
    await store.apply(state([network("blue")]))
    assert [row.address for row in await store.load_leases()] == ["10.0.0.6", "10.0.0.7", "10.0.0.8"]


@pytest.mark.asyncio
async def test_a_question_that_fails_is_answered_and_harms_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="no such table"):
        await store._ask(lambda c: c.execute("SELECT * FROM nowhere"))

    def wrong(_: sqlite3.Connection) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await store._ask(wrong)
    assert (await store.apply(state([network("blue")]))).position == 1

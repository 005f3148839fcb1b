"""store_writer: lease rows gather without delaying anyone, and only the last word on each is written."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane import store_writer
from dataplane.errors import StoreError
from dataplane.leases import LeaseRow
from dataplane.model import Change, Ip, Mac, Network, NetworkId, PortId
from dataplane.store_writer import Question, Transaction, Writer

SECONDS = 10.0


class Desk:
    """A writer, and what it tells."""

    def __init__(self, path: Path) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.writer = Writer(path, self.told.put, self.told.put)
        self.writer.start(lambda result, error: self.told.put(error or result))
        self.opened = self.told.get(timeout=SECONDS)

    def ask(self, work: Any) -> Any:
        """The result of work on the connection."""
        self.writer.submit(Question(work, lambda result, error: self.told.put(error or result)))
        return self.told.get(timeout=SECONDS)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A writer on a new database."""
    desk = Desk(tmp_path / "store.db")
    yield desk
    desk.writer.stop()


def lease(updated: float) -> LeaseRow:
    return LeaseRow(NetworkId("n"), PortId("p"), Mac("fa:16:3e:00:00:05"), Ip("10.0.0.5"), "bound", 1.0, updated)


def transaction(position: int, epoch: int = 0) -> Transaction:
    item = Network(NetworkId(f"n{position}"))
    return Transaction(epoch, Change(position, (item,)), [store_writer.encode(item)])


def test_opening_tells_position_and_objects(desk: Desk) -> None:
    position, desired, passwords = desk.opened
    assert (position, desired.networks, passwords) == (0, {}, {})


def test_opening_a_file_in_use_tells_why(desk: Desk) -> None:
    error = Desk(desk.writer._path).opened
    assert isinstance(error, StoreError)
    assert "in use" in str(error)


def test_commits_in_order_and_after_a_refusal_only_the_next_epoch(desk: Desk) -> None:
    desk.writer.submit(transaction(1))
    assert desk.told.get(timeout=SECONDS) == 1
    desk.ask(lambda c: c.execute("PRAGMA query_only = ON").fetchall())
    desk.writer.submit(transaction(2))
    assert isinstance(desk.told.get(timeout=SECONDS), StoreError)
    desk.ask(lambda c: c.execute("PRAGMA query_only = OFF").fetchall())
    desk.writer.submit(transaction(3))
    desk.writer.submit(transaction(2, epoch=1))
    assert desk.told.get(timeout=SECONDS) == 2
    position, desired, passwords = desk.ask(store_writer.load)
    assert passwords == {}
    assert (position, set(desired.networks)) == (2, {"n1", "n2"})


def test_lease_rows_are_written_without_anyone_else(desk: Desk) -> None:
    written: queue.SimpleQueue[str] = queue.SimpleQueue()
    desk.ask(lambda c: c.set_trace_callback(lambda sql: written.put(sql) if sql == "COMMIT" else None))
    for updated in range(100):
        desk.writer.record_leases([lease(float(updated))], [])
    written.get(timeout=SECONDS)
    assert desk.ask(store_writer.load_leases) == [lease(99.0)]
    desk.writer.record_leases([lease(100.0)], [])
    written.get(timeout=SECONDS)
    assert desk.ask(store_writer.load_leases) == [lease(100.0)]


def test_the_first_lease_row_is_written_at_once_and_a_storm_shares_a_commit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "LEASE_DELAY_SECONDS", 3600.0)
    written: queue.SimpleQueue[str] = queue.SimpleQueue()
    desk.ask(lambda c: c.set_trace_callback(lambda sql: written.put(sql) if sql == "COMMIT" else None))
    desk.writer.record_leases([lease(1.0)], [])
    written.get(timeout=SECONDS)
    for updated in range(2, 100):
        desk.writer.record_leases([lease(float(updated))], [])
    assert written.empty()
    desk.ask(store_writer.settled)
    assert written.qsize() == 1
    assert desk.ask(store_writer.load_leases) == [lease(99.0)]


def test_lease_rows_that_could_not_be_written_are_kept(desk: Desk) -> None:
    tried: list[str] = []
    desk.ask(lambda c: (c.execute("PRAGMA query_only = ON"), c.set_trace_callback(tried.append)))
    desk.writer.record_leases([lease(1.0)], [])
    desk.ask(lambda c: c.set_trace_callback(None))
    assert tried == ["BEGIN IMMEDIATE"]
    desk.ask(lambda c: c.execute("PRAGMA query_only = OFF").fetchall())
    desk.writer.submit(transaction(1))
    assert desk.told.get(timeout=SECONDS) == 1
    assert desk.ask(store_writer.load_leases) == [lease(1.0)]


def test_stop_writes_what_is_queued(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.db")
    desk.writer.submit(transaction(1))
    desk.writer.record_leases([lease(1.0)], [])
    desk.writer.stop()
    again = Desk(tmp_path / "store.db")
    assert again.opened[0] == 1
    assert again.ask(store_writer.load_leases) == [lease(1.0)]
    again.writer.stop()

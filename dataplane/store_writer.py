"""The one thread that touches the database: transactions in groups, one sync for all that wait.

While a commit is being synced the next transactions gather in the queue; they then share one commit. Nothing is ever
delayed for that, except the lease rows of a storm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dataplane import store_schema
from dataplane.desired import Desired
from dataplane.errors import StoreError
from dataplane.indexes import kind_of
from dataplane.leases import MAX_LEASES, LeaseKey, LeaseRow
from dataplane.model import CLASSES, Change, Kind, Object

# Chosen: least time between two commits of nothing but lease rows. The first row after a pause is written at once,
# those of a storm share commits; a row lost in a crash costs a view, not a guest.
LEASE_DELAY_SECONDS = 0.25

_DECODERS: dict[Kind, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(cls) for kind, cls in CLASSES.items()}
_LEASE_DECODER = msgspec.json.Decoder(LeaseRow)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A staged change with its position; `bodies` are the puts as JSON, in order.

    `forgotten` are the instances whose passwords go with it.
    """

    epoch: int
    change: Change
    bodies: Sequence[bytes]
    forgotten: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """Work on the connection between two transactions; `answer` gets the result or the error."""

    work: Callable[[sqlite3.Connection], Any]
    answer: Callable[[Any, BaseException | None], None]


class Writer:
    """Owns the thread, the lock file and the connection."""

    def __init__(self, path: Path, committed: Callable[[int], None], refused: Callable[[StoreError], None]) -> None:
        """Results are told in the writer's thread, in the order of the transactions.

        `committed(position)`: every transaction up to this position is durable. `refused(error)`: those of the
        present epoch that are not committed never will be; later transactions must carry the next epoch.
        """
        self._path = path
        self._committed = committed
        self._refused = refused
        self._queue: queue.SimpleQueue[Transaction | Question | None] = queue.SimpleQueue()
        self._dead_epoch = -1
        self._leases: dict[LeaseKey, LeaseRow | None] = {}
        self._leases_queued = False
        self._leases_due = 0.0
        """By time.monotonic, when lease rows need not wait for company any longer."""
        self._leases_lock = threading.Lock()
        self._lock_file = -1
        self._thread = threading.Thread(target=self._run, name="nodeplane-store", daemon=True)

    def start(self, opened: Callable[[Any, BaseException | None], None]) -> None:
        """Open the database in the thread; `opened` gets what `load` gives, or the StoreError."""
        self._queue.put(Question(load, opened))
        self._thread.start()

    def submit(self, job: Transaction | Question) -> None:
        """Queue a job; jobs are done in order."""
        self._queue.put(job)

    def record_leases(self, rows: Iterable[LeaseRow], gone: Iterable[LeaseRow]) -> None:
        """Keep rows and forget others, soon; only the last word on each lease is written."""
        with self._leases_lock:
            wake, self._leases_queued = not self._leases_queued, True
            for row in gone:
                self._leases.pop((row.port_id, row.address), None)
                self._leases[row.port_id, row.address] = None
            for row in rows:
                self._leases.pop((row.port_id, row.address), None)
                self._leases[row.port_id, row.address] = row
        if wake:
            self._queue.put(Question(_nothing, _no_answer))

    def stop(self) -> None:
        """Finish everything queued and close; waits for the thread (call it outside of the loop's thread)."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        first = self._queue.get()
        assert isinstance(first, Question)
        try:
            connection = self._open()
        except BaseException as error:  # whoever opens the store must hear of it, whatever it is
            first.answer(None, error)
            return
        try:
            self._answer(connection, first)
            while self._serve(connection):
                pass
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            os.close(self._lock_file)

    def _open(self) -> sqlite3.Connection:
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot open {lock}: {error}") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return store_schema.connect(self._path)
        except BaseException as error:
            os.close(self._lock_file)
            if isinstance(error, BlockingIOError):
                raise StoreError(f"{self._path} is in use by another nodeplane") from error
            raise

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Do what is queued; False when told to stop."""
        jobs, going_on = self._gather()
        transactions: list[Transaction] = []
        for job in jobs:
            if isinstance(job, Transaction):
                transactions.append(job)
            else:
                self._write(connection, transactions)
                transactions = []
                self._answer(connection, job)
        self._write(connection, transactions)
        return going_on

    def _gather(self) -> tuple[list[Transaction | Question], bool]:
        """At least one job, and all others that are there; waits for company if only lease rows are to be written."""
        jobs: list[Transaction | Question] = []
        job = self._queue.get()
        while True:
            if job is None:
                return jobs, False
            if isinstance(job, Transaction) or job.work is not _nothing:
                jobs.append(job)
            try:
                wait = None if jobs else max(0.0, self._leases_due - time.monotonic())
                job = self._queue.get(block=wait is not None, timeout=wait)
            except queue.Empty:
                return jobs, True

    def _write(self, connection: sqlite3.Connection, transactions: Sequence[Transaction]) -> None:
        """Commit all transactions that are still wanted, and the lease rows, together."""
        wanted = [job for job in transactions if job.epoch > self._dead_epoch]
        with self._leases_lock:
            leases, self._leases = self._leases, {}
            self._leases_queued = False
        if leases:
            self._leases_due = time.monotonic() + LEASE_DELAY_SECONDS
        elif not wanted:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in wanted:
                _write_change(connection, job)
            _write_leases(connection, leases)
            connection.execute("COMMIT")
        except Exception as error:  # sqlite3.Error, or a MemoryError: none may end the thread
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            with self._leases_lock:  # they are tried again with the next job; newer words win
                self._leases = {**leases, **self._leases}
            if wanted:
                # Later transactions were staged on top of these, so nothing of this epoch may be written any more.
                self._dead_epoch = wanted[-1].epoch
                reason = StoreError(f"{self._path}: {error}; nothing was changed, make room or check the disk")
                self._refused(reason)
            return
        if wanted:
            self._committed(wanted[-1].change.position)

    def _answer(self, connection: sqlite3.Connection, question: Question) -> None:
        try:
            result = question.work(connection)
        except Exception as error:
            reason = StoreError(f"{self._path}: {error}") if isinstance(error, sqlite3.Error) else error
            question.answer(None, reason)
        else:
            question.answer(result, None)


def load(connection: sqlite3.Connection) -> tuple[int, Desired, dict[str, bytes]]:
    """Position, objects and passwords of a database."""
    (position,) = connection.execute("SELECT position FROM head").fetchone()
    desired = Desired()
    kind: Kind
    for kind, body in connection.execute("SELECT kind, body FROM objects"):
        try:
            desired.add(_DECODERS[kind].decode(body))
        except (KeyError, msgspec.MsgspecError) as error:
            raise StoreError(f"an object of kind {kind} in the database cannot be read: {error}") from error
    return position, desired, dict(connection.execute("SELECT instance, value FROM passwords"))


def load_leases(connection: sqlite3.Connection) -> list[LeaseRow]:
    """The journal, longest unheard first; rows beyond the bound of a lease table are removed from the journal."""
    connection.execute(
        "DELETE FROM leases WHERE rowid NOT IN (SELECT rowid FROM leases ORDER BY rowid DESC LIMIT ?)", (MAX_LEASES,)
    )
    rows = connection.execute("SELECT body FROM leases ORDER BY rowid")
    return [_LEASE_DECODER.decode(body) for (body,) in rows]


def save_password(connection: sqlite3.Connection, instance: str, password: bytes) -> bool:
    """Keep the password of an instance that is there and has none; whether it is kept."""
    return connection.execute(
        "INSERT INTO passwords (instance, value) SELECT ?1, ?2"
        " WHERE EXISTS (SELECT 1 FROM objects WHERE kind = 'instances' AND id = ?1) ON CONFLICT DO NOTHING",
        (instance, password),
    ).rowcount == 1  # fmt: skip


def load_secret(connection: sqlite3.Connection, name: str) -> bytes | None:
    """The secret of that name, or None."""
    row = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def save_secret(connection: sqlite3.Connection, name: str, value: bytes) -> None:
    """Keep a secret in the place of any of that name."""
    connection.execute("INSERT OR REPLACE INTO secrets (name, value) VALUES (?, ?)", (name, value))


def encode(item: Object) -> bytes:
    """An object as it is stored."""
    return msgspec.json.encode(item)


def _write_change(connection: sqlite3.Connection, job: Transaction) -> None:
    change = job.change
    connection.executemany("DELETE FROM objects WHERE kind = ? AND id = ?", change.deletes)
    connection.executemany(
        "INSERT OR REPLACE INTO objects (kind, id, body) VALUES (?, ?, CAST(? AS TEXT))",
        [(kind_of(item), item.id, body) for item, body in zip(change.puts, job.bodies, strict=True)],
    )
    connection.executemany("DELETE FROM passwords WHERE instance = ?", [(instance,) for instance in job.forgotten])
    connection.execute("UPDATE head SET position = ?", (change.position,))


def _write_leases(connection: sqlite3.Connection, leases: dict[LeaseKey, LeaseRow | None]) -> None:
    gone = [key for key, row in leases.items() if row is None]
    kept = [(*key, msgspec.json.encode(row)) for key, row in leases.items() if row is not None]
    connection.executemany("DELETE FROM leases WHERE port_id = ? AND address = ?", gone)
    connection.executemany(
        "INSERT OR REPLACE INTO leases (port_id, address, body) VALUES (?, ?, CAST(? AS TEXT))", kept
    )


def settled(connection: sqlite3.Connection) -> None:
    """The work of a job that only wants what was told before it written, as far as the disk takes it."""


def _nothing(connection: sqlite3.Connection) -> None:
    """The work of a job that only wakes the thread, for the lease rows."""


def _no_answer(result: Any, error: BaseException | None) -> None:
    """Nobody waits."""

"""The embedded store: desired state in SQLite, behind the source interface.

A transaction is checked and staged on the in-memory head at once, so that many can be under way, and acknowledged
when it is durable; transactions that wait together share one commit (see `store_writer`). When a commit fails, every
transaction that is not acknowledged is refused and taken back from the head. All methods belong to the loop that
opened the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dataplane import store_writer
from dataplane.desired import Desired
from dataplane.errors import StoreError
from dataplane.indexes import kind_of
from dataplane.leases import LeaseRow
from dataplane.model import KINDS, Change, DesiredState, Instance, Kind, Object
from dataplane.source import ChangeLog
from dataplane.status import Counts
from dataplane.store_writer import Question, Transaction, Writer

T = TypeVar("T")

# Chosen: who follows the store is some changes behind it, not thousands.
FORGOTTEN = 4096
"""Instances of which is remembered when they became another machine."""


class Applied(msgspec.Struct, frozen=True):
    """What became of a transaction."""

    position: int
    """Position that holds it; that of the last real change if nothing differed, or for a dry run."""
    changed: dict[str, Counts]
    """By kind."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A transaction that is staged on the head and not yet durable."""

    change: Change
    undo: Change
    durable: asyncio.Future[None]
    forgotten: Sequence[str]
    """Instances whose passwords go with it."""


class Store:
    """Desired state that survives; also a `Source`. Made by `open`."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._writer = Writer(
            path,
            committed=lambda position: self._call(self._acknowledge, position),
            refused=lambda error: self._call(self._refuse, error),
        )
        self._head = Desired()
        self._log = ChangeLog()
        self._passwords: dict[str, bytes] = {}
        self._pending: deque[_Pending] = deque()
        self._forgotten_at: dict[str, int] = {}
        """Position at which an instance became another machine, the earliest first."""
        self._forgotten_floor = 0
        """What became another machine at this position or before may not be in there."""
        self._epoch = 0
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open or create the database and load it. Raises StoreError, SchemaTooNewError."""
        loop = asyncio.get_running_loop()
        store = cls(path, loop)
        opened: asyncio.Future[tuple[int, Desired, dict[str, bytes]]] = loop.create_future()
        store._writer.start(store._answer_to(opened))
        position, store._head, store._passwords = await opened
        store._log = ChangeLog(position)
        store._forgotten_floor = position
        return store

    @property
    def desired(self) -> Desired:
        """The head, for reading: may be some milliseconds ahead of what is durable, never holds what was refused."""
        return self._head

    @property
    def position(self) -> int:
        """Position of the newest durable transaction."""
        return self._log.position

    async def apply(self, document: DesiredState, *, prune: bool = False, dry_run: bool = False) -> Applied:
        """Put a document (of `documents.decode`), with `prune` as the whole state; returns when it is durable.

        A document that changes nothing makes no new position. Raises DocumentError, before anything is changed, or
        StoreError, when nothing was kept.
        """
        self._check_open()
        change = self._head.stage(document, prune=prune)
        return await self._commit(change, self._head.tally(change, document), dry_run)

    async def delete(
        self, refs: Sequence[tuple[Kind, str]], *, missing_ok: bool = False, dry_run: bool = False
    ) -> Applied:
        """Delete objects; returns when that is durable.

        Raises DocumentError for what does not exist (unless `missing_ok`) and for a network that keeps a port;
        paths are `networks/<id>`. Raises StoreError as `apply`.
        """
        self._check_open()
        change = self._head.stage(deletes=refs, missing_ok=missing_ok)
        return await self._commit(change, self._head.tally(change), dry_run)

    async def snapshot(self) -> tuple[int, DesiredState]:
        """Position and state of the last durable transaction."""
        if not self._pending:
            return self._log.position, self._head.state()
        objects: dict[Kind, dict[str, Object]] = {kind: dict(self._head.of_kind(kind)) for kind in KINDS}
        for pending in reversed(self._pending):
            for kind, key in pending.undo.deletes:
                del objects[kind][key]
            for item in pending.undo.puts:
                objects[kind_of(item)][item.id] = item
        state: dict[str, Any] = {kind: tuple(by_id.values()) for kind, by_id in objects.items()}
        return self._log.position, DesiredState(**state)

    def changes(self, position: int) -> AsyncIterator[Change]:
        """Durable transactions after `position` (see `Source`); ends when the store is closed.

        The changes before the start of this process are not kept: GapError.
        """
        return self._log.follow(position)

    def record_leases(self, rows: Iterable[LeaseRow], gone: Iterable[LeaseRow] = ()) -> None:
        """Write rows to the journal of leases and take others out, soon; never waits and never fails."""
        if not self._closed:
            self._writer.record_leases(rows, gone)

    async def load_leases(self) -> list[LeaseRow]:
        """The journal of leases, longest unheard first. Raises StoreError."""
        return await self._ask(store_writer.load_leases)

    async def settled(self) -> None:
        """Return when the lease rows recorded so far are in the journal. Raises StoreError when the store is closed.

        A disk that refuses them is not waited for: they are written when it recovers.
        """
        await self._ask(store_writer.settled)

    def password(self, instance: str) -> bytes:
        """The password that the instance with this uuid has posted, durably; empty if there is none."""
        return self._passwords.get(instance, b"")

    async def save_password(self, instance: str, password: bytes, seen: int | None = None) -> bool:
        """Keep the password of an instance; returns when it is durable.

        False: there is one already, or no such instance, and nothing is changed. A password ends with its instance,
        and when the instance gets another project or image: a rebuilt machine is another machine. `seen` is the
        position that whoever took the password knew; it is not kept if the instance became another machine since.
        Raises StoreError.
        """
        self._check_open()
        if seen is not None and self._is_another(instance, seen):
            return False
        future: asyncio.Future[bool] = self._loop.create_future()
        future.add_done_callback(_retrieve)
        settle = self._answer_to(future)

        def answered(kept: bool, error: BaseException | None) -> None:
            # Told to the loop in the order of the database: a change that forgets the password may be right behind.
            if kept:
                self._call(self._passwords.__setitem__, instance, password)
            settle(kept, error)

        work = partial(store_writer.save_password, instance=instance, password=password)
        self._writer.submit(Question(work, answered))
        return await asyncio.shield(future)

    async def load_secret(self, name: str) -> bytes | None:
        """What `save_secret` kept under this name, or None. Raises StoreError."""
        return await self._ask(partial(store_writer.load_secret, name=name))

    async def save_secret(self, name: str, value: bytes) -> None:
        """Keep something that is nobody's to read; returns when it is durable. Raises StoreError."""
        await self._ask(partial(store_writer.save_secret, name=name, value=value))

    async def close(self) -> None:
        """Finish what is under way and close the file; following ends. May be called twice."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._writer.stop)
            # The thread told its last results to the loop before it ended, so they have been heard by now.
            self._log.close()

    async def _commit(self, change: Change, counts: dict[str, Counts], dry_run: bool) -> Applied:
        if dry_run:
            return Applied(self._head_position(), counts)
        if change.puts or change.deletes:
            bodies = [store_writer.encode(item) for item in change.puts]
            forgotten = self._forgotten(change)
            change = Change(self._head_position() + 1, change.puts, change.deletes)
            durable: asyncio.Future[None] = self._loop.create_future()
            durable.add_done_callback(_retrieve)
            self._pending.append(_Pending(change, self._head.apply(change), durable, forgotten))
            self._writer.submit(Transaction(self._epoch, change, bodies, forgotten))
        position = self._head_position()
        if self._pending:
            await asyncio.shield(self._pending[-1].durable)
        return Applied(position, counts)

    def _forgotten(self, change: Change) -> list[str]:
        """Instances that are not the same machine after a change that is about to be applied."""
        gone = [key for kind, key in change.deletes if kind == "instances"]
        for item in change.puts:
            if not isinstance(item, Instance):
                continue
            old = self._head.instances.get(item.id)
            if old is not None and (old.project_id, old.image_id) != (item.project_id, item.image_id):
                gone.append(item.id)
        return gone

    def _is_another(self, instance: str, seen: int) -> bool:
        """Whether the instance may be another machine than at position `seen`, by a transaction until now.

        A later one is behind the password in the writer's queue, and takes it away.
        """
        return (
            seen < self._forgotten_floor
            or self._forgotten_at.get(instance, 0) > seen
            or any(instance in pending.forgotten for pending in self._pending)
        )

    def _head_position(self) -> int:
        return self._pending[-1].change.position if self._pending else self._log.position

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    async def _ask(self, work: Callable[[Any], T]) -> T:
        """Do some work on the connection, in the writer's thread."""
        self._check_open()
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.submit(Question(work, self._answer_to(future)))
        return await future

    def _answer_to(self, future: asyncio.Future[T]) -> Callable[[T, BaseException | None], None]:
        def settle(result: T, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        return lambda result, error: self._call(settle, result, error)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """From the writer's thread into the loop; a loop that is gone has nobody left to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _acknowledge(self, position: int) -> None:
        """All transactions up to `position` are durable."""
        while self._pending and self._pending[0].change.position <= position:
            done = self._pending.popleft()
            for instance in done.forgotten:
                self._passwords.pop(instance, None)
                self._forgotten_at.pop(instance, None)
                self._forgotten_at[instance] = done.change.position
            while len(self._forgotten_at) > FORGOTTEN:
                self._forgotten_floor = self._forgotten_at.pop(next(iter(self._forgotten_at)))
            self._log.append(done.change)
            if not done.durable.done():
                done.durable.set_result(None)

    def _refuse(self, error: StoreError) -> None:
        """No transaction that is still pending will ever be durable: take them back, the newest first."""
        self._epoch += 1
        while self._pending:
            refused = self._pending.pop()
            self._head.apply(refused.undo)
            if not refused.durable.done():
                refused.durable.set_exception(StoreError(str(error)))


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the outcome as seen: who waited may have been cancelled."""
    if not future.cancelled():
        future.exception()

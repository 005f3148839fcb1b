"""Where desired state comes from: the contract of every source, and the log that keeps a source's recent changes.

The contract (tests/unit/dataplane/source_contract.py checks it for every source):

1. `snapshot()` gives a position and the whole state at that position.
2. `changes(position)` gives each later change exactly once, in order, with growing positions, and then waits for
   more; only what is committed is given. If the source cannot tell every later change it raises GapError instead,
   and the consumer starts again from a snapshot.
3. A consumer that goes away in the middle, and comes back with the position of the last change it took, misses
   nothing and gets nothing twice.
4. Disconnection never empties the state: the last known one stands, and after reconnection a difference is given.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from dataplane.desired import Desired
from dataplane.errors import GapError
from dataplane.model import Change, DesiredState, Kind

# Chosen: some minutes of a busy region's changes; a bound on the old objects that are kept alive.
KEPT_OBJECTS = 16384


class Source(Protocol):
    """A provider of desired state."""

    async def snapshot(self) -> tuple[int, DesiredState]:
        """Position and state, consistent with each other."""
        ...

    def changes(self, position: int) -> AsyncIterator[Change]:
        """Every change after `position`, without end; raises GapError when some of them are no longer known."""
        ...


class ChangeLog:
    """The newest changes of a source, for any number of followers; the oldest are forgotten at a bound."""

    def __init__(self, position: int = 0, *, kept_objects: int = KEPT_OBJECTS) -> None:
        """Start after `position`; changes with more than `kept_objects` objects in all are not kept (the last is)."""
        self._floor = position
        self._position = position
        self._kept_objects = kept_objects
        self._objects = 0
        self._changes: deque[Change] = deque()
        self._news = asyncio.Event()
        self._closed = False

    @property
    def position(self) -> int:
        """Position of the newest change."""
        return self._position

    def append(self, change: Change) -> None:
        """Take in the next change; its position must be greater than every earlier one."""
        if change.position <= self._position:
            raise ValueError(f"position {change.position} after {self._position}")
        self._changes.append(change)
        self._position = change.position
        self._objects += _size(change)
        while self._objects > self._kept_objects and len(self._changes) > 1:
            dropped = self._changes.popleft()
            self._floor = dropped.position
            self._objects -= _size(dropped)
        self._wake()

    def forget(self) -> None:
        """Keep no change: every follower that has not seen the newest gets a GapError."""
        self._changes.clear()
        self._objects = 0
        self._floor = self._position
        self._wake()

    def close(self) -> None:
        """End every follower after the changes it has not seen yet."""
        self._closed = True
        self._wake()

    async def follow(self, position: int) -> AsyncIterator[Change]:
        """Each change after `position` once, waiting for more until `close`; raises GapError as `Source.changes`."""
        while True:
            if not self._floor <= position <= self._position:
                raise GapError(f"changes after {position} are not known, only those after {self._floor}")
            news = self._news
            start = bisect_right(self._changes, position, key=lambda change: change.position)
            fresh = [self._changes[index] for index in range(start, len(self._changes))]
            for change in fresh:
                yield change
                position = change.position
            if not fresh:
                if self._closed:
                    return
                await news.wait()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class MemorySource:
    """A source that keeps nothing: for tests, and for state that is given anew at every start."""

    def __init__(self) -> None:
        self.desired = Desired()
        self._log = ChangeLog()

    @property
    def position(self) -> int:
        """Position of the newest change."""
        return self._log.position

    def put(self, state: DesiredState, *, prune: bool = False) -> int:
        """Commit a document; gives the position that holds it. Raises DocumentError."""
        return self._commit(self.desired.stage(state, prune=prune))

    def delete(self, *refs: tuple[Kind, str]) -> int:
        """Commit deletes; gives the position without these objects. Raises DocumentError."""
        return self._commit(self.desired.stage(deletes=refs))

    def lose_history(self) -> None:
        """Forget the changes, as a source does that was restarted."""
        self._log.forget()

    async def snapshot(self) -> tuple[int, DesiredState]:
        """See Source."""
        return self._log.position, self.desired.state()

    def changes(self, position: int) -> AsyncIterator[Change]:
        """See Source."""
        return self._log.follow(position)

    def _commit(self, change: Change) -> int:
        if change.puts or change.deletes:
            self.desired.apply(change)
            self._log.append(Change(self._log.position + 1, change.puts, change.deletes))
        return self._log.position


def _size(change: Change) -> int:
    return len(change.puts) + len(change.deletes)

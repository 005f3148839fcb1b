"""Fair turns at something that only so many may use at once.

Every tenant has a share of its own, so one whose requests hang cannot keep the others waiting. Nobody takes more than
half of what is left either, so that many whose requests hang leave room for one more (dynamic thresholds: Choudhury
and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). Where the whole is used up, those that wait get the next
turn tenant by tenant.
"""

from __future__ import annotations

import asyncio
from collections import deque


class BusyError(Exception):
    """Too many of this tenant wait already."""


class Turns:
    """`total` turns at once, `each` of one tenant, but not more than half of what is left.

    `waiting` of a tenant may wait, one more is refused.
    """

    __slots__ = ("_each", "_left", "_queues", "_used", "_waiting")

    def __init__(self, total: int, each: int, waiting: int) -> None:
        self._left = total
        self._each = each
        self._waiting = waiting
        self._used: dict[str, int] = {}
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """Of tenants with somebody waiting, the one whose turn is next first."""

    @property
    def used(self) -> int:
        """Turns that are taken."""
        return sum(self._used.values())

    def waits(self, tenant: str) -> bool:
        """Whether somebody of the tenant waits."""
        return tenant in self._queues

    def room(self, tenant: str) -> int:
        """How many turns the tenant could take now."""
        return max(0, min(self._each, (self._left + 1) // 2) - self._used.get(tenant, 0))

    def try_take(self, tenant: str) -> bool:
        """Take a turn if there is one now and nobody of the tenant waits."""
        if tenant in self._queues or self.room(tenant) <= 0:
            return False
        self._start(tenant)
        return True

    async def take(self, tenant: str) -> None:
        """Wait for a turn; give it back with `give`. Raises BusyError."""
        if self.try_take(tenant):
            return
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = deque()
        if len(queue) >= self._waiting:
            raise BusyError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(tenant)  # it came in the same moment
            elif self._queues.get(tenant) is queue and turn in queue:
                queue.remove(turn)
                if not queue:
                    del self._queues[tenant]
            raise

    def give(self, tenant: str) -> None:
        """A turn is over; the next one who may have it starts."""
        self._left += 1
        if self._used[tenant] == 1:
            del self._used[tenant]
        else:
            self._used[tenant] -= 1
        self._next()

    def _start(self, tenant: str) -> None:
        self._left -= 1
        self._used[tenant] = self._used.get(tenant, 0) + 1

    def _next(self) -> None:
        for tenant in list(self._queues):
            if self._left <= 0:
                return
            if self.room(tenant) <= 0:
                continue
            queue = self._queues.pop(tenant)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    self._start(tenant)
                    turn.set_result(None)
                    break
            if queue:
                self._queues[tenant] = queue  # behind the others

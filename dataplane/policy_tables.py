"""Tables of rules as the packet engine holds them, and what a change adds to and removes from them.

A `Table` is the plain twin of a `fastpath.classify.RuleSet`: the same rules, one above the other. It knows whose every
line is, so that lines which several have in common are there once, and that an answer can say why.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from dataplane.errors import PolicyFullError
from fastpath.rules import ZONES, Header, Rule, first_match

K = TypeVar("K", bound=Hashable)
Owner = TypeVar("Owner", bound=Hashable)
"""Whose a line is."""


class Action(enum.IntEnum):
    """What a line says. Of tables that hold sets of addresses it is always ALLOW: the packet is in the set."""

    DROP = 0
    REJECT = 1
    """Drop, and tell the sender."""
    ALLOW = 2
    TRACK = 3
    """Allow, and let the answers pass."""


class Line(NamedTuple):
    """A rule and what it says."""

    rule: Rule
    action: Action = Action.ALLOW


class Delta(NamedTuple):
    """What one change does to a table: to be carried out as one transaction."""

    add: tuple[Line, ...] = ()
    remove: tuple[Line, ...] = ()


class Table(Generic[Owner]):
    """Lines by zone; a change is made of `add`, `remove` and so on, and ends with `flush`."""

    def __init__(self) -> None:
        self._zones: dict[int | None, dict[Line, dict[Owner, None]]] = {}
        self._before: dict[Line, bool] = {}
        """Lines touched since the last `flush`: whether they were there then."""

    def add(self, line: Line, owner: Owner) -> None:
        """Have a line on behalf of an owner."""
        lines = self._zones.setdefault(line.rule.zone, {})
        owners = lines.get(line)
        self._before.setdefault(line, bool(owners))
        if owners is None:
            owners = lines[line] = {}
        owners[owner] = None

    def remove(self, line: Line, owner: Owner) -> None:
        """Forget a line on behalf of an owner; others may still have it."""
        owners = self._zones.get(line.rule.zone, {}).get(line)
        if owners is not None and owner in owners:
            self._before.setdefault(line, True)
            del owners[owner]

    def assign(self, zone: int, wanted: Mapping[Line, Owner]) -> None:
        """Let a zone have these lines, each with one owner, and no others."""
        for line, owners in self._zones.get(zone, {}).items():
            for owner in [owner for owner in owners if line not in wanted or wanted[line] != owner]:
                self.remove(line, owner)
        for line, owner in wanted.items():
            self.add(line, owner)

    def clear(self, zone: int) -> None:
        """Let a zone have no lines."""
        self.assign(zone, {})

    def flush(self) -> Delta:
        """End a change; what was added and removed again is not told."""
        add, remove = [], []
        for line, before in self._before.items():
            lines = self._zones[line.rule.zone]
            if not lines[line]:
                # Only now: a line that goes and comes in one change keeps its place among its equals.
                del lines[line]
                if not lines:
                    del self._zones[line.rule.zone]
                if before:
                    remove.append(line)
            elif not before:
                add.append(line)
        self._before.clear()
        return Delta(tuple(add), tuple(remove))

    def find(self, header: Header) -> tuple[Line, Owner] | None:
        """The line that decides about a packet, and its oldest owner: looks at every line of the packet's zone."""
        zones = (None, header.zone)
        found = [(line, owners) for zone in zones for line, owners in self._zones.get(zone, {}).items() if owners]
        number = first_match(((number, line.rule) for number, (line, _) in enumerate(found)), header)
        if number < 0:
            return None
        line, owners = found[number]
        return line, next(iter(owners))

    def lines(self) -> Iterable[Line]:
        """Every line."""
        return (line for lines in self._zones.values() for line, owners in lines.items() if owners)

    def __len__(self) -> int:
        return sum(1 for _ in self.lines())


class Zones(Generic[K]):
    """Numbers below `fastpath.rules.ZONES` for whatever needs one, counted, and given again when nobody holds them."""

    def __init__(self) -> None:
        self._numbers: dict[K, int] = {}
        self._holders: dict[K, int] = {}
        self._idle: dict[K, None] = {}
        self._free: list[int] = []

    def hold(self, key: K) -> tuple[int, bool]:
        """The number of a key, and whether it is new. Raises PolicyFullError."""
        number = self._numbers.get(key)
        new = number is None
        if number is None:
            if not self._free and len(self._numbers) >= ZONES:
                raise PolicyFullError(f"more than {ZONES} policies, classes or sources on one node")
            number = self._numbers[key] = heapq.heappop(self._free) if self._free else len(self._numbers)
        self._holders[key] = self._holders.get(key, 0) + 1
        self._idle.pop(key, None)
        return number, new

    def release(self, key: K) -> None:
        """Let go what was held once; the number stays the key's until `sweep`."""
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self._idle[key] = None

    def of(self, key: K) -> int | None:
        """The number of a key that has one."""
        return self._numbers.get(key)

    def __iter__(self) -> Iterator[K]:
        """The keys that have a number."""
        return iter(self._numbers)

    def sweep(self) -> list[int]:
        """Take back the numbers that nobody holds any more."""
        gone = [self._numbers.pop(key) for key in self._idle]
        self._idle.clear()
        for number in gone:
            heapq.heappush(self._free, number)
        return gone

    def __len__(self) -> int:
        return len(self._numbers)

"""Zones of rules by what they hold: whoever has the same lines has the same zone (hash-consing)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from dataplane.errors import PolicyFullError
from dataplane.policy_rules import in_zone
from dataplane.policy_tables import Line, Table
from fastpath.rules import ZONES

K = TypeVar("K", bound=Hashable)

_DIGEST: Final = (1 << 64) - 1


@dataclass(eq=False, slots=True)
class _Zone(Generic[K]):
    number: int
    lines: set[Line]
    digest: int
    """Sum of the hashes of its lines: a change costs as many hashes as it has lines."""
    holders: set[K] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Step(Generic[K]):
    """What some holders of one zone (None: of none) want to have changed."""

    zone: _Zone[K] | None
    come: frozenset[Line]
    gone: frozenset[Line]


class SharedZones(Generic[K]):
    """Gives keys zones of a table, equal ones to keys with equal lines; `settle` ends a change.

    A key whose lines change stays in its zone if it is alone there, or if all others there change alike; else it moves
    to the zone that holds just these lines, or to a new one. A key without lines has no zone.
    """

    def __init__(self, table: Table[None]) -> None:
        self._table = table
        self._lines: dict[K, Counter[Line]] = {}
        self._before: dict[K, dict[Line, bool]] = {}
        """Lines touched since the last `settle`: whether the key had them then."""
        self._zones: dict[K, _Zone[K]] = {}
        self._by_digest: dict[int, list[_Zone[K]]] = {}
        self._free: list[int] = []
        self._numbers = 0
        """How many were ever given."""

    def add(self, key: K, line: Line) -> None:
        """Give a key a line, which has no zone; as often as it is added, it has to be removed."""
        lines = self._lines.setdefault(key, Counter())
        self._before.setdefault(key, {}).setdefault(line, line in lines)
        lines[line] += 1

    def remove(self, key: K, line: Line) -> None:
        """Take a line from a key that has it."""
        lines = self._lines[key]
        self._before.setdefault(key, {}).setdefault(line, True)
        lines[line] -= 1
        if not lines[line]:
            del lines[line]
            if not lines:
                del self._lines[key]

    def of(self, key: K) -> int | None:
        """The number of a key's zone, as of the last `settle`."""
        zone = self._zones.get(key)
        return None if zone is None else zone.number

    def __len__(self) -> int:
        """How many zones there are."""
        return sum(map(len, self._by_digest.values()))

    def settle(self) -> None:
        """Bring zones and table to what the keys have now. Raises PolicyFullError."""
        steps: dict[_Step[K], list[K]] = {}
        for key, before in self._before.items():
            lines = self._lines.get(key, ())
            come = frozenset(line for line, had in before.items() if not had and line in lines)
            gone = frozenset(line for line, had in before.items() if had and line not in lines)
            if come or gone:
                steps.setdefault(_Step(self._zones.get(key), come, gone), []).append(key)
        self._before.clear()
        left = {step.zone: None for step, keys in steps.items() if self._take(step, keys)}
        for zone in left:
            if zone is not None and not zone.holders:
                self._forget(zone)
                heapq.heappush(self._free, zone.number)
                self._table.clear(zone.number)

    def _take(self, step: _Step[K], keys: list[K]) -> bool:
        """Carry out one step for its keys; whether they left their zone."""
        zone = step.zone
        digest = 0 if zone is None else zone.digest
        digest = (digest + sum(map(hash, step.come)) - sum(map(hash, step.gone))) & _DIGEST
        wanted = set(step.come) if zone is None else (zone.lines - step.gone) | step.come
        target = next((each for each in self._by_digest.get(digest, ()) if each.lines == wanted), None)
        if zone is not None and target is None and wanted and len(keys) == len(zone.holders):
            for line in step.gone:
                self._table.remove(in_zone(line, zone.number), None)
            for line in step.come:
                self._table.add(in_zone(line, zone.number), None)
            self._forget(zone)
            zone.lines, zone.digest = wanted, digest
            self._by_digest.setdefault(digest, []).append(zone)
            return False
        if wanted and target is None:
            target = _Zone(self._number(), wanted, digest)
            self._by_digest.setdefault(digest, []).append(target)
            for line in wanted:
                self._table.add(in_zone(line, target.number), None)
        for key in keys:
            if zone is not None:
                zone.holders.remove(key)
                del self._zones[key]
            if target is not None:
                target.holders.add(key)
                self._zones[key] = target
        return True

    def _number(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        if self._numbers >= ZONES:
            raise PolicyFullError(f"more than {ZONES} different policies on one node")
        self._numbers += 1
        return self._numbers - 1

    def _forget(self, zone: _Zone[K]) -> None:
        same = self._by_digest[zone.digest]
        same.remove(zone)
        if not same:
            del self._by_digest[zone.digest]

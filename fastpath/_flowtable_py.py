"""The memory of a flow cache and what decides about it, in plain Python: specification and oracle of `_flowtable_c`.

Which flows a full cache keeps is no part of the specification; what it answers is.
"""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import Final

from fastpath._ruleset_py import RuleSet
from fastpath.batch_errors import BatchInUseError
from fastpath.flows import MOST_FLOWS, CachedFlow
from fastpath.rules import KEY4, KEY6

WINDOW: Final = 32
"""Cached calls that a decision looks at."""
ASIDE: Final = 3
"""The dearest of them, which something else may have disturbed, do not count."""
DIRECT: Final = 8
"""Direct calls that are remembered."""
EVERY: Final = 16
"""While trying, one call in so many is direct."""
RARELY: Final = 256
"""While the cache serves."""
WINDOWS: Final = 64
"""A try warms up for so many windows at most."""
REST: Final = 256
"""Direct calls after a try that failed; twice as many after each further one, up to LONGEST."""
LONGEST: Final = 8192
SETS: Final = 8
"""Rule sets whose answers are kept apart; kept alive until as many others came."""


class Governor:
    """Decides whether a cache is worth its while, by what calls cost through it and past it.

    It begins by trying: nearly all calls go through the cache, until its hit rate rises no more. Then it serves if that
    was cheaper than going past it, by a twentieth at least, and rests if not: for a while all calls go past it, before
    it is tried again. Two windows in a row that are dearer than direct calls end its service.
    """

    def __init__(self) -> None:
        self._rest = REST
        self._beside: list[float] = []
        self._enter("trying")
        self._costs = (0.0, 0.0)

    @property
    def state(self) -> str:
        """`trying`, `serving` or `resting`."""
        return self._state

    @property
    def costs(self) -> tuple[float, float]:
        """What a packet cost through the cache and past it, as they were compared last; in the unit of `record`."""
        return self._costs

    def direct(self) -> bool:
        """Whether the next call goes past the cache."""
        every = {"trying": EVERY, "serving": RARELY, "resting": 1}[self._state]
        return self._calls % every == every - 1

    def record(self, direct: bool, packets: int, hits: int, cost: float) -> None:
        """Take note of a call of so many packets: how many were found, and what all of it cost."""
        if not packets:
            return
        self._calls += 1
        if direct:
            self._beside = [*self._beside[1 - DIRECT :], cost / packets]
        if self._state == "resting":
            if self._calls >= self._rest:
                self._rest = min(2 * self._rest, LONGEST)
                self._enter("trying")
        elif not direct:
            self._hits += hits
            self._packets += packets
            self._samples.append(cost / packets)
            if len(self._samples) == WINDOW:
                self._decide()

    def _enter(self, state: str) -> None:
        self._state = state
        self._calls = self._windows = self._strikes = self._hits = self._packets = 0
        self._rate = 0.0
        self._samples: list[float] = []

    def _decide(self) -> None:
        rate = self._hits / self._packets
        total = 0.0
        for sample in sorted(self._samples)[:-ASIDE]:
            total += sample
        cached, direct = total / (WINDOW - ASIDE), sorted(self._beside)[len(self._beside) // 2]
        self._costs = (cached, direct)
        self._hits = self._packets = 0
        self._samples = []
        if self._state == "serving":
            self._strikes = self._strikes + 1 if cached > direct else 0
            if self._strikes == 2:
                self._enter("resting")
            return
        self._windows += 1
        if rate > self._rate + 0.02 and self._windows < WINDOWS:
            self._rate = rate
        elif cached < direct * 0.95:
            self._enter("serving")
            self._rest = REST
        else:
            self._enter("resting")


@dataclass(slots=True)
class _Entry:
    rule: int
    stamp: int
    packets: int = 1
    bytes: int = 0
    seen: bool = False


Known = tuple[int, int, bytes, int]
"""Place of the rule set, IP version, key, mark."""


class FlowCache:
    """Answers of rule sets by flow, for `capacity` flows (1 to 4,194,304); one thread at a time.

    `seed` (64 bits) is of the hash and of the choice what to keep; it is random unless given, and then nobody outside
    can choose flows that meet in one place. `always`: it is used whatever that costs, else its `Governor` decides.
    All memory is taken at once: at most about 140 bytes for each flow of the capacity.

    An answer is good for the version of the rules that it was made under: a change of the rules empties nothing, old
    answers are not used any more, and are renewed when their flow comes again. Raises ValueError for a capacity or seed
    that does not fit.
    """

    def __init__(self, capacity: int, *, seed: int | None = None, always: bool = False) -> None:
        if not 1 <= capacity <= MOST_FLOWS:
            raise ValueError(f"capacity is 1 to {MOST_FLOWS} flows")
        seed = secrets.randbits(64) if seed is None else seed
        if not 0 <= seed < 1 << 64:
            raise ValueError("seed is 64 bits")
        self._capacity, self._always = capacity, always
        self._random = random.Random(seed)
        self._busy = False
        self._counts = dict.fromkeys(("hits", "misses", "direct", "inserted", "renewed", "evicted", "refused"), 0)
        self.clear()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def capacity(self) -> int:
        """As given."""
        return self._capacity

    @property
    def slots(self) -> int:
        """The most flows that it ever holds: up to about twice the capacity."""
        return self._capacity

    @property
    def memory(self) -> int:
        """Bytes taken; 0 if they are Python's."""
        return 0

    @property
    def serving(self) -> bool:
        """Whether answers come from it now, but for samples."""
        return self._always or self._governor.state == "serving"

    def clear(self) -> None:
        """Forget all flows and rule sets, and begin to try whether the cache pays; counters stay.

        Raises BatchInUseError while another thread looks up in it.
        """
        self._enter()
        self._entries: dict[Known, _Entry] = {}
        self._governor = Governor()
        self._sets: list[RuleSet | None] = [None] * SETS
        self._stamps: list[tuple[int, int]] = [(0, 0)] * SETS
        self._next = self._oldest = 0
        self._leave()

    def stats(self) -> dict[str, int | float | str]:
        """Counters since it was made, and its state: for people.

        - hits, misses, direct: packets found, not found, and sent past the cache
        - inserted, renewed (they were of another version), evicted, refused (no room, and chance was against them)
        - flows: how many it holds, those of other versions among them
        - state, cached_cost, direct_cost: see `Governor`; costs in an unknown unit
        """
        cached, direct = self._governor.costs
        state = "serving" if self._always else self._governor.state
        return {
            **self._counts, "flows": len(self), "state": state, "cached_cost": cached, "direct_cost": direct,
        }  # fmt: skip

    def flows(self) -> list[CachedFlow]:
        """Return what it holds: a copy, slow for many. Raises BatchInUseError while another thread looks up in it."""
        found = []
        for (_, version, key, _), entry in self._entries.items():
            *words, source_port, destination_port, protocol, zone = (KEY4 if version == 4 else KEY6).unpack(key)
            half = len(words) // 2
            found.append(CachedFlow(
                version, _number(words[:half]), _number(words[half:]), protocol >> 1, source_port, destination_port,
                zone & 0x7FFF, zone >> 15, entry.rule, entry.packets, entry.bytes,
            ))  # fmt: skip
        return found

    def _enter(self) -> None:
        if self._busy:
            raise BatchInUseError("another thread looks up in this cache")
        self._busy = True

    def _leave(self) -> None:
        self._busy = False

    def _view(self, rules: RuleSet) -> tuple[int, int]:
        """The place of a rule set and what stands for it as it is now."""
        for place, known in enumerate(self._sets):  # noqa: B007
            if known is rules:
                break
        else:
            place, self._oldest = self._oldest, (self._oldest + 1) % SETS
            self._sets[place] = rules
            self._stamps[place] = (0, 0)
        stamp, version = self._stamps[place]
        if not stamp or version != rules.version:
            self._next += 1
            self._stamps[place] = (self._next, rules.version)
        return place, self._stamps[place][0]

    def _record(self, direct: bool, packets: int, hits: int, began: int) -> None:
        if not self._always:
            self._governor.record(direct, packets, hits, time.perf_counter_ns() - began)

    def _find(self, known: Known, stamp: int, size: int) -> int | None:
        entry = self._entries.get(known)
        if entry is None or entry.stamp != stamp:
            self._counts["misses"] += 1
            return None
        self._counts["hits"] += 1
        entry.packets += 1
        entry.bytes += size
        entry.seen = True
        return entry.rule

    def _keep(self, known: Known, stamp: int, rule: int, size: int) -> None:
        entry = self._entries.get(known)
        if entry is not None:
            self._counts["renewed"] += entry.stamp != stamp
            entry.stamp, entry.rule = stamp, rule
            entry.packets += 1
            entry.bytes += size
            return
        if len(self._entries) == self._capacity:
            if self._random.randrange(4):
                self._counts["refused"] += 1
                return
            while (first := self._entries.pop(oldest := next(iter(self._entries)))).seen:
                first.seen = False
                self._entries[oldest] = first
            self._counts["evicted"] += 1
        self._entries[known] = _Entry(rule, stamp, bytes=size)
        self._counts["inserted"] += 1


def _number(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value << 32 | word
    return value

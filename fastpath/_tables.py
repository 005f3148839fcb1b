"""What the tables and results of VXLAN have in common, in both twins."""

from __future__ import annotations

import secrets
from array import array

from fastpath.reasons import Reason


def fresh_counters() -> array[int]:
    """One uint64 for each reason, all 0."""
    return array("Q", bytes(8 * len(Reason)))


def by_reason(counters: array[int]) -> dict[Reason, int]:
    """Counters as a dictionary."""
    return dict(zip(Reason, counters, strict=True))


def column(count: int) -> array[int]:
    """So many uint32, all 0."""
    return array("I", bytes(4 * count))


def random_odd() -> int:
    """The multiplier of a table's hash: 64 bits, odd, not known to anybody outside."""
    return secrets.randbits(64) | 1

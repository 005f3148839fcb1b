from __future__ import annotations

from dataplane.dhcp import wire
from dataplane.dhcp.counters import CORE_DROP_REASONS, DROP_REASONS, NOTES, Counters
from fastpath import framing


def test_counting() -> None:
    counters = Counters()
    counters.drop("short")
    counters.drop("short")
    counters.note("held")
    counters.note("option_dropped", 3)
    assert counters.dropped == {"short": 2}
    assert counters.noted == {"held": 1, "option_dropped": 3}
    assert counters.received == counters.sent == {}


def test_no_reason_has_two_meanings() -> None:
    tables = (framing.DROP_REASONS, wire.DROP_REASONS, CORE_DROP_REASONS)
    assert sum(len(table) for table in tables) == len(DROP_REASONS)
    assert not set(NOTES) & set(DROP_REASONS)

"""Meters against buckets of exact fractions that know nothing of billionths, laziness or 64 bits."""

from __future__ import annotations

from array import array
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.meters import Meter
from tests.twins import METERS

SIZES = st.integers(0, 1500)
RATES = st.one_of(st.integers(0, 2000), st.integers(0, 10**12))
BURSTS = st.one_of(st.integers(1, 4000), st.integers(1, (1 << 32) - 1))
GAPS = st.one_of(st.integers(0, 10**4), st.integers(0, 3 * 10**9), st.integers(0, 1 << 58))


@st.composite
def meter_of(draw: Any) -> Meter:
    rate, burst, overhead = draw(RATES), draw(BURSTS), draw(st.integers(-64, 64))
    rest: dict[str, Any] = {
        "unit": draw(st.sampled_from(("bytes", "packets"))), "aware": draw(st.booleans()), "drop": None,
        "overhead": overhead,
    }  # fmt: skip
    if draw(st.booleans()):
        return Meter(rate=rate, burst=burst, excess=draw(st.one_of(st.just(0), BURSTS)), **rest)
    return Meter(rate=rate, burst=burst, peak=min(10**12, rate + draw(RATES)), peak_burst=draw(BURSTS), **rest)


class Model:
    """RFC 2697 and RFC 2698 as they read, with rational tokens that flow in continuously."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.first, self.second = Fraction(meter.burst), Fraction(meter.peak_burst or meter.excess)
        self.time = Fraction(0)

    def colour(self, now: int, size: int, before: int) -> int:
        meter, seconds = self.meter, Fraction(now, 10**9) - self.time
        self.time += seconds
        first = self.first + meter.rate * seconds
        if meter.peak is None:
            overflow = max(Fraction(0), first - meter.burst)
            self.second = min(Fraction(meter.excess), self.second + overflow)
        else:
            self.second = min(Fraction(meter.peak_burst or 0), self.second + meter.peak * seconds)
        self.first = min(Fraction(meter.burst), first)
        need = max(0, size + meter.overhead) if meter.unit == "bytes" else 1
        if not meter.aware:
            before = 0
        if meter.peak is not None:
            if before == 2 or self.second < need:
                return 2
            self.second -= need
            if before == 1 or self.first < need:
                return 1
            self.first -= need
            return 0
        if before == 0 and self.first >= need:
            self.first -= need
            return 0
        if before <= 1 and self.second >= need:
            self.second -= need
            return 1
        return 2


@pytest.mark.parametrize("twin", METERS)
@settings(max_examples=60, deadline=None)
@given(
    meter=meter_of(),
    steps=st.lists(st.tuples(GAPS, st.lists(st.tuples(SIZES, st.integers(0, 2)), max_size=8)), max_size=8),
)
def test_no_error_at_all(twin: ModuleType, meter: Meter, steps: list[tuple[int, list[tuple[int, int]]]]) -> None:
    meters, model, now = twin.Meters(1), Model(meter), 0
    meters.add(meter)
    batch = Batch(8)
    bits = (0, Flags.YELLOW, Flags.RED)
    for gap, packets in steps:
        now += gap
        batch.fill([bytes(size) for size, _ in packets])
        for i, (_, before) in enumerate(packets):
            batch.flags[i] = bits[before]
        assert twin.meter(batch, meters, now, by=array("i", bytes(32))) == len(packets)
        wanted = [model.colour(now, size, before) for size, before in packets]
        assert [batch.flags[i] for i in range(len(packets))] == [bits[colour] for colour in wanted]
        if packets:
            tokens = meters.tokens(0)
            assert (Fraction(tokens.committed, 10**9), Fraction(tokens.other, 10**9)) == (model.first, model.second)

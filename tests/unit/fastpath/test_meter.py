"""Meters in both twins: RFC 2697's and RFC 2698's colours, what is dropped, tables and arguments."""

from __future__ import annotations

import threading
from array import array
from types import ModuleType
from typing import Any

import pytest

from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.meters import Counts, Meter, MeterError, Tokens
from fastpath.reasons import Reason
from tests.twins import METERS

pytestmark = pytest.mark.parametrize("twin", METERS)

S = 10**9
GREEN, YELLOW, RED = Flags(0), Flags.YELLOW, Flags.RED


def packets(count: int, size: int = 100, **flags: int) -> Batch:
    batch = Batch(max(count, 1), slot=2048)
    batch.fill([bytes(size)] * count)
    return batch


def colours(twin: ModuleType, meters: Any, now: int, before: list[int] | None = None, **more: Any) -> list[int]:
    """The colours that meter 0 gives to packets of 100 bytes, which had these before."""
    batch = packets(len(before) if before is not None else 6)
    for i, flags in enumerate(before or []):
        batch.flags[i] = flags | Flags.IPV4
    twin.meter(batch, meters, now, **more)
    assert all(batch.flags[i] & Flags.IPV4 for i in range(len(before or [])))
    return [batch.flags[i] & (YELLOW | RED) for i in range(batch.count)]


def table(twin: ModuleType, *meters: Meter) -> Any:
    made = twin.Meters(16)
    assert [made.add(meter) for meter in meters] == list(range(len(meters)))
    return made


def test_single_rate(twin: ModuleType) -> None:
    """RFC 2697 section 3: first the committed bucket, then the excess one; filled in that order at one rate."""
    meters = table(twin, Meter(rate=100, burst=200, excess=100))
    assert colours(twin, meters, 5) == [GREEN, GREEN, YELLOW, RED, RED, RED]
    assert meters.tokens(0) == Tokens(5, 0, 0)
    assert colours(twin, meters, 5 + S) == [GREEN, RED, RED, RED, RED, RED]
    assert colours(twin, meters, 5 + 4 * S)[:4] == [GREEN, GREEN, YELLOW, RED]
    assert meters.counts(0) == Counts(5, 2, 11, 500, 200, 1100)


def test_two_rates(twin: ModuleType) -> None:
    """RFC 2698 section 3: the peak bucket decides on red, the committed one on green; each at its own rate."""
    meters = table(twin, Meter(rate=100, burst=100, peak=300, peak_burst=400))
    assert colours(twin, meters, 0) == [GREEN, YELLOW, YELLOW, YELLOW, RED, RED]
    assert colours(twin, meters, S) == [GREEN, YELLOW, YELLOW, RED, RED, RED]
    assert meters.tokens(0) == Tokens(S, 0, 0)


def test_a_better_colour_than_before_is_never_given(twin: ModuleType) -> None:
    single = table(twin, Meter(rate=0, burst=200, excess=200, aware=True))
    assert colours(twin, single, 0, [RED, YELLOW, GREEN, GREEN, GREEN, GREEN]) == [
        RED,
        YELLOW,
        GREEN,
        GREEN,
        YELLOW,
        RED,
    ]
    double = table(twin, Meter(rate=0, burst=200, peak=0, peak_burst=300, aware=True))
    assert colours(twin, double, 0, [RED, YELLOW, GREEN, GREEN, GREEN, GREEN]) == [RED, YELLOW, GREEN, GREEN, RED, RED]
    blind = table(twin, Meter(rate=0, burst=200))
    assert colours(twin, blind, 0, [RED, YELLOW, GREEN]) == [GREEN, GREEN, RED]


@pytest.mark.parametrize(
    ("drop", "verdicts"), [("red", [0, 0, 30, 30]), ("yellow", [0, 30, 30, 30]), (None, [0, 0, 0, 0])]
)
def test_what_is_dropped(twin: ModuleType, drop: Any, verdicts: list[int]) -> None:
    meters = table(twin, Meter(rate=0, burst=100, excess=100, drop=drop))
    batch = packets(5)
    batch.verdict[4] = Reason.ECN
    assert twin.meter(batch, meters, 0) == verdicts.count(0)
    assert list(batch.verdict[:5]) == [*verdicts, Reason.ECN]
    assert int(Reason.METERED) == 30
    # A packet that was dropped before takes no tokens.
    assert sum(meters.counts(0)[:3]) == 4


def test_packets_and_overhead(twin: ModuleType) -> None:
    meters = table(twin, Meter(rate=2, burst=3, unit="packets"), Meter(rate=1, burst=240, overhead=20),
                   Meter(rate=1, burst=240, overhead=-40), Meter(rate=1, burst=1, overhead=-512))  # fmt: skip
    greens = []
    for index in range(4):
        batch = packets(6)
        assert twin.meter(batch, meters, 7, by=array("i", [index] * 6)) == meters.counts(index).green
        greens.append(meters.counts(index).green)
    assert greens == [3, 2, 4, 6]
    assert [meters.counts(index).green_bytes for index in range(4)] == [300, 240, 240, 0]
    twin.meter(packets(6), meters, 7 + S // 2, by=array("I", bytes(24)))
    assert meters.counts(0).green == 4


def test_whose_meter(twin: ModuleType) -> None:
    """Columns, buffers and mappings; what has no meter goes on without a colour and counts nowhere."""
    meters = table(twin, *[Meter(rate=0, burst=50, drop=None)] * 3)
    batch = packets(6)
    for i, value in enumerate((0, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF)):
        batch.tunnel[i] = batch.vni[i] = value
        batch.rule[i] = i - 1
    red = [int(RED)]
    assert twin.meter(batch, meters, 0) == 6
    assert list(batch.flags[:6]) == red * 3 + [0] * 3
    assert twin.meter(batch, meters, 0, by="vni", mapping=array("i", [-1, 9, 2, 1])) == 6
    assert [meters.counts(i).red for i in range(3)] == [1, 2, 2]
    twin.meter(batch, meters, 0, by="rule")
    assert [meters.counts(i).red for i in range(3)] == [2, 3, 3]
    twin.meter(batch, meters, 0, by=array("I", [2] * 6), mapping=array("I", [0, 0, 1]))
    assert [meters.counts(i).red for i in range(3)] == [2, 9, 3]
    meters.remove(1)
    twin.meter(batch, meters, 0, by=array("i", [1] * 6))
    with pytest.raises(KeyError):
        meters.counts(1)


def test_table(twin: ModuleType) -> None:
    meters = twin.Meters(2)
    one, two = (
        Meter(rate=5, burst=100),
        Meter(rate=1, burst=2, peak=3, peak_burst=4, unit="packets", aware=True, drop=None, overhead=-14),
    )
    assert (meters.add(one), meters.add(two), len(meters), meters.capacity) == (0, 1, 2, 2)
    with pytest.raises(MeterError, match="capacity: the table takes 2 meters"):
        meters.add(one)
    assert (meters.meter(0), meters.meter(1)) == (one, two)
    twin.meter(packets(1, 60), meters, 3)
    meters.replace(0, Meter(rate=5, burst=30, excess=1000))
    # What was left stays as far as it fits; a change is no new burst.
    assert meters.tokens(0) == Tokens(3, 30 * S, 0)
    assert meters.counts(0).green == 1
    meters.remove(0)
    assert (0 in meters, 1 in meters, 2 in meters, "0" in meters, len(meters)) == (False, True, False, False, 1)
    assert meters.add(one) == 0
    assert (meters.counts(0), meters.tokens(0)) == (Counts(0, 0, 0, 0, 0, 0), Tokens(0, 100 * S, 0))
    for method, arguments in ((meters.replace, (5, one)), (meters.remove, (5,)), (meters.tokens, (-1,))):
        with pytest.raises(KeyError):
            method(*arguments)


def test_time_that_goes_back_adds_nothing(twin: ModuleType) -> None:
    meters = table(twin, Meter(rate=100, burst=100))
    assert colours(twin, meters, 10 * S, [0, 0]) == [GREEN, RED]
    assert colours(twin, meters, 9 * S, [0]) == [RED]
    assert colours(twin, meters, 11 * S - 1, [0]) == [RED]
    assert colours(twin, meters, 11 * S, [0]) == [GREEN]


def test_the_largest_numbers(twin: ModuleType) -> None:
    """No product wraps around: the classic error of meters."""
    most = (1 << 32) - 1
    meters = table(
        twin, Meter(rate=10**12, burst=most, excess=most), Meter(rate=10**12, burst=most, peak=10**12, peak_burst=most)
    )
    for now in (0, 1, 20_000_000, 1 << 40, (1 << 63) + 5, (1 << 64) - 1):
        for index in range(2):
            batch = packets(1)
            assert twin.meter(batch, meters, now, by=array("i", [index])) == 1
            assert meters.tokens(index).now == now
            assert meters.tokens(index).committed == (most - 100) * S
    assert meters.tokens(0).other == most * S


def test_arguments(twin: ModuleType) -> None:
    meters, batch = table(twin, Meter(rate=1, burst=1)), packets(2)
    for arguments, message in (
        ({"now": -1}, "now"), ({"now": 1 << 64}, "now"), ({"by": "length"}, "by: 'length' is not"),
        ({"by": array("i", [1])}, "by: 2 packets"), ({"by": bytes(8)}, "by: is not a buffer of 32-bit"),
        ({"mapping": array("Q", [1])}, "mapping: is not"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            twin.meter(batch, meters, **{"now": 0, **arguments})
    assert twin.meter(batch, meters, 0) == 0
    with pytest.raises(ValueError, match="yellow"):
        twin.mark(batch, yellow=64)
    with pytest.raises(MeterError, match="capacity"):
        twin.Meters(0)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("rate", {"rate": -1}), ("rate", {"rate": 10**12 + 1}), ("burst", {"burst": 1 << 32}), ("burst", {"burst": 0}),
        ("excess", {"excess": -1}), ("excess", {"excess": 1, "peak": 10, "peak_burst": 1}),
        ("peak", {"peak": 4, "peak_burst": 1}), ("peak_burst", {"peak": 10}), ("peak_burst", {"peak_burst": 10}),
        ("peak_burst", {"peak": 10, "peak_burst": 0}), ("overhead", {"overhead": 513}), ("unit", {"unit": "bits"}),
        ("drop", {"drop": "green"}), ("burst", {"burst": 0, "peak": 9, "peak_burst": 9}),
    ],
)  # fmt: skip
def test_meters_that_cannot_be(twin: ModuleType, field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(MeterError) as raised:
        Meter(**{"rate": 5, "burst": 5, **wrong})
    assert raised.value.field == field


def test_two_threads_share_a_meter(twin: ModuleType) -> None:
    """Of 8,000 packets that two threads meter, exactly the burst is green."""
    meters = table(twin, Meter(rate=0, burst=123_400))

    def work() -> None:
        batch = packets(100)
        for _ in range(40):
            batch.verdict[:100] = array("I", bytes(400))
            twin.meter(batch, meters, 1)

    if twin.__name__.endswith("_py"):
        work()
        work()
    else:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert meters.counts(0)[:3] == (1234, 0, 6766)


def test_threads_that_change_a_table_get_numbers_of_their_own(twin: ModuleType) -> None:
    """Each number is given to one, and a meter is removed by one, while another thread meters."""
    meters, given, removed = twin.Meters(300), [], []
    end, metered = threading.Event(), packets(2000)
    metered.tunnel[:2000] = array("I", range(2000))

    def meter() -> None:
        while not end.is_set():
            metered.verdict[:2000] = array("I", bytes(8000))
            twin.meter(metered, meters, 1)

    def change() -> None:
        mine = [meters.add(Meter(rate=1, burst=1)) for _ in range(50)]
        given.extend(mine)
        for index in range(300):
            try:
                meters.remove(index)
            except KeyError:
                continue
            removed.append(index)

    threads = [threading.Thread(target=meter)] + [threading.Thread(target=change) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    end.set()
    threads[0].join()
    assert len(given) == len(removed) == 250
    assert len(meters) == 0
    assert sorted(meters.add(Meter(rate=1, burst=1)) for _ in range(300)) == list(range(300))

"""Five-tuples of batches: whose packets are looked at, what is kept, how hashes spread, and what is allocated."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest

from fastpath import _batch_py, _flow_py, _hasher_py, _select
from fastpath.flags import Flags
from tests.flow_frames import common
from tests.flow_frames import frame as any_frame
from tests.twins import BATCH_C, COMPILED_LEVELS, HASHER_C, needs_build, stages
from tests.unit.fastpath.flow_packets import HASH4, IP4, IP6, ONE, PORTS, TWO, ip4, ip6, udp


@pytest.fixture(params=stages("flow"))
def flow(request: pytest.FixtureRequest) -> ModuleType:
    module = request.param
    assert isinstance(module, ModuleType)
    return module


@pytest.mark.parametrize("sequential", [True, False])
def test_hash_spreads(sequential: bool) -> None:
    """Entropy ports of 64 x 4096 flows, neighbours or random: chi-square over 4096 classes, far from its tails."""
    chance = random.Random(7)
    hasher = _hasher_py.Hasher()
    counts: Counter[int] = Counter()
    total = 1 << 14
    for i in range(total):
        ports = (1024 + i).to_bytes(2, "big") if sequential else chance.randbytes(2)
        key = ONE + bytes(12) + TWO + bytes(12) + ports + b"\x01\xbb" + bytes([6, 4, 0, 0])
        counts[_flow_py.hash_key(hasher, key) & 0x3FF] += 1
    expected = total / 1024
    statistic = sum((counts[i] - expected) ** 2 / expected for i in range(1024))
    # 1023 degrees of freedom: deviation 45; random ports repeat, which adds a little.
    assert 1023 - 6 * 45 < statistic < 1023 + 8 * 45


def batch_of(flow: ModuleType, count: int, slot: int = 256) -> _batch_py.Batch:
    batches = _batch_py if flow is _flow_py else BATCH_C
    assert batches is not None
    made: _batch_py.Batch = batches.Batch(count, slot=slot, headroom=64)
    return made


def test_dropped_packets_are_passed_over(flow: ModuleType) -> None:
    chance = random.Random(3)
    for dropped in ({0}, {3, 4}, set(range(8)), set(range(0, 40, 2)), {39}):
        batch = batch_of(flow, 40)
        batch.fill([common(chance) for _ in range(40)])
        for i in dropped:
            batch.verdict[i] = 7
        column = batch.key.cast("B")
        for i in range(40):
            batch.flags[i] = batch.layers[i] = batch.hash[i] = 99
            column[i * 40 : i * 40 + 40] = bytes([99]) * 40
        assert flow.extract(batch) == 40 - len(dropped)
        for i in range(40):
            kept = (batch.flags[i], batch.layers[i], batch.hash[i], bytes(column[i * 40 : i * 40 + 40]))
            assert (kept == (99, 99, 99, bytes([99]) * 40)) == (i in dropped)


def test_flags_of_others_are_kept(flow: ModuleType) -> None:
    """Checksums, meters and decapsulation say things that parsing does not know."""
    chance = random.Random(5)
    others = [Flags.PARTIAL_CHECKSUM, Flags.VALID_CHECKSUM, Flags.CE | Flags.GBP, Flags.YELLOW, Flags.RED, 0]
    for make in (common, any_frame, lambda chance: IP4 + ip4(17, udp()), lambda chance: IP6 + ip6(6, udp())):
        for run in (flow.extract, flow.keys):
            batch = batch_of(flow, 40, 2048)
            batch.fill([make(chance) for _ in range(40)])
            run(batch)
            found = list(batch.flags[:40])
            for i in range(40):
                batch.flags[i] = int(others[i % len(others)]) | 0xFFFF
            run(batch)
            assert list(batch.flags[:40]) == [flags | int(others[i % len(others)]) for i, flags in enumerate(found)]


def test_key_of_a_former_packet_is_gone(flow: ModuleType) -> None:
    batch = batch_of(flow, 8)
    batch.fill([IP6 + ip6(17, udp())] * 8)
    flow.extract(batch)
    batch.fill([IP4 + ip4(17, udp())] * 7 + [b""])
    flow.extract(batch)
    column = batch.key.cast("B")
    assert [bytes(column[i * 40 + 4 : i * 40 + 16]) for i in range(8)] == [bytes(12)] * 8
    assert bytes(column[280:320]) == bytes(40)


def test_packets_that_moved_in_their_slots(flow: ModuleType) -> None:
    batch = batch_of(flow, 9)
    inner = IP4 + ip4(6, PORTS + bytes(16))
    batch.fill([bytes(50) + inner] * 9)
    for i in range(9):
        batch.place(i, batch.offset[i] + 50, len(inner))
    assert flow.extract(batch) == 9
    assert list(batch.hash[:9]) == [HASH4] * 9


def test_closed_and_foreign_batches(flow: ModuleType) -> None:
    batch = batch_of(flow, 1)
    batch.close()
    for stage in (flow.extract, flow.keys):
        with pytest.raises(ValueError, match="closed"):
            stage(batch)
        with pytest.raises((TypeError, AttributeError)):
            stage(None)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seed_is_64_bits(seed: int) -> None:
    for module in (_hasher_py, HASHER_C):
        if module is not None:
            with pytest.raises(ValueError, match="seed is 64 bits"):
                module.Hasher(seed)


@pytest.mark.parametrize("seed", [0, 1, (1 << 64) - 1, _hasher_py.DEFAULT_SEED])
def test_both_hashers_have_the_same_keys(seed: int) -> None:
    plain = _hasher_py.Hasher(seed)
    assert plain.odd & 1
    if HASHER_C is not None:
        made = HASHER_C.Hasher(seed)
        assert (made.seed, made.odd, made.keys) == (plain.seed, plain.odd, plain.keys)


@needs_build
def test_a_million_packets_allocate_nothing() -> None:
    for level in COMPILED_LEVELS:
        flow = _select.stage("flow", level)
        batch = batch_of(flow, 1000)
        chance = random.Random(5)
        batch.fill([common(chance) for _ in range(1000)])
        flow.extract(batch)
        # A call's own result and the loop's counter, not one object a packet; threads of whoever runs the tests may
        # allocate at some time, but not each time.
        assert min(growth(partial(flow.extract, batch)) for _ in range(5)) < 1024


def growth(stage: Callable[[], int]) -> int:
    """Bytes that were allocated at most at a time while a stage ran 200 times."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(200):
            stage()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

"""Five-tuple, VXLAN and checksums of packets: one batch of 256 or one frame, at every level that runs here.

For a quick look while working on a function; `python -m bench run packets` has the peers, the C anchor and the caches.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.perpacket import levels as ours
from bench.perpacket import native, outer, verify
from bench.perpacket.levels import Level
from bench.perpacket.native import Schedule
from bench.perpacket.profiles import parse
from bench.perpacket.python_rungs import Scapy, packed
from fastpath.batch import Batch

BATCH = 256
PROFILE = parse("v4-udp-64")
ROUNDS = 200


def module(level: Level, stage: str) -> ModuleType:
    try:
        return level.stage(stage)
    except ImportError as error:
        pytest.skip(str(error))


def packets(wrapped: int = 0) -> tuple[Batch, Schedule]:
    batch = native.fill(PROFILE, BATCH, 1, wrapped=wrapped)
    return batch, native.schedule(batch, BATCH)


def bench_stage(benchmark: BenchmarkFixture, schedule: Schedule, stage: object, *arguments: object) -> None:
    """A round is one call for the batch, which is put back before."""
    timed: Any = benchmark.pedantic
    timed(stage, args=arguments, setup=schedule.rewind, rounds=ROUNDS, warmup_rounds=3)


@pytest.mark.parametrize("function", ["keys", "extract"])
def test_flow(benchmark: BenchmarkFixture, level: Level, function: str) -> None:
    batch, schedule = packets()
    stage = getattr(module(level, "flow"), function)
    assert stage(batch) == BATCH
    assert verify.keys(batch, verify.SAMPLE) == verify.tuples(batch.frames()[: verify.SAMPLE])
    bench_stage(benchmark, schedule, stage, batch)


def test_five_tuple(benchmark: BenchmarkFixture, level: Level) -> None:
    frame = native.fill(PROFILE, 1, 1).frame(0)
    function = module(level, "flow").five_tuple
    assert function(frame) == packed(Scapy().five_tuple(frame))
    benchmark(function, frame)


def test_encap(benchmark: BenchmarkFixture, level: Level) -> None:
    module(level, "vxlan")
    batch, schedule = packets()
    inner = batch.frames()
    stage, arguments = ours.encap(level)
    assert stage(batch, *arguments) == BATCH
    made = [outer.without_port(frame) for frame in batch.frames()[: verify.SAMPLE]]
    assert made == verify.encapsulated(inner[: verify.SAMPLE])
    bench_stage(benchmark, schedule, stage, batch, *arguments)


def test_decap(benchmark: BenchmarkFixture, level: Level) -> None:
    module(level, "vxlan")
    batch, schedule = packets(wrapped=4)
    wanted = [Scapy().decap(frame)[1] for frame in batch.frames()[: verify.SAMPLE]]
    stage, arguments = ours.decap(level)
    assert stage(batch, *arguments) == BATCH
    assert batch.frames()[: verify.SAMPLE] == wanted
    bench_stage(benchmark, schedule, stage, batch, *arguments)


@pytest.mark.parametrize("function", ["verify", "fill"])
def test_layer4_checksums(benchmark: BenchmarkFixture, level: Level, function: str) -> None:
    batch, schedule = packets()
    before = batch.frames()
    stage = getattr(module(level, "checksum"), function)
    assert stage(batch) == BATCH
    # The packets' checksums are scapy's: filling them in changes nothing.
    assert batch.frames() == before
    bench_stage(benchmark, schedule, stage, batch)

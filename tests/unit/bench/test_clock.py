"""Timing in turns, and what is kept of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from bench import cores
from bench.context import Case, Context, Options, Progress
from bench.perpacket import clock, native, pipeline
from bench.perpacket.clock import Contender
from bench.results import OURS


def context(tmp_path: Path, repeat: int) -> Context:
    case = Case("case", "How many?", (), lambda _: None, network=False)
    options = Options(repeat=repeat, seconds=1e-6)
    return Context(case, options, cores.choose(), tmp_path, Progress(Console(quiet=True)))


def test_rungs_are_timed_in_turns_without_collection(tmp_path: Path) -> None:
    order: list[str] = []

    def timed(name: str, cost: float) -> Contender:
        def run(passes: int) -> float:
            assert not gc.isenabled()
            order.append(name)
            return cost

        return Contender(name, "hot", run, packets=10)

    bench = context(tmp_path, repeat=3)
    one, other = timed("one", 500.0), timed("other", 250.0)
    clock.race(bench, [one, other])
    assert gc.isenabled()
    assert order[-6:] == ["one", "other"] * 3
    assert one.passes == 2  # a microsecond of 500 ns each
    clock.against(bench, one, other, 1.5)
    figures = {(figure.measure, figure.subject): figure for figure in bench.result(0.0).figures}
    assert figures[clock.TIME, "one"].values == (50.0,) * 3
    ratio = figures[clock.OF_ANCHOR, OURS]
    assert (ratio.values, ratio.target, ratio.met) == ((2.0,) * 3, 1.5, False)


def test_calls_go_to_every_frame() -> None:
    seen: list[bytes] = []
    assert clock.calls(seen.append, [b"a", b"b"])(2) > 0
    assert seen == [b"a", b"b"] * 2


def test_a_pass_is_the_median_one(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0, 10, 20, 200, 300, 311])
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter_ns=lambda: next(moments)))
    assert clock.call(lambda: None)(3) == 11


def test_repeated_calls() -> None:
    seen: list[int] = []
    clock.repeated(3, seen.append, 1)(2)
    assert len(seen) == 6


class Chunks:
    """A schedule of four chunks of 10 packets whose stages take 110 and 310 ticks a chunk, with 10 for the clock."""

    packets, chunk = 40, 10

    def time_stages(self, calls: list[Callable[[], object]], passes: int) -> tuple[float, tuple[float, ...]]:
        for call in calls:
            call()
        return 420.0, (110.0, 310.0)


def test_stages_are_timed_together_and_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "clock", lambda: (2.0, 10.0))
    bench = context(tmp_path, repeat=2)
    called: list[str] = []
    stages: dict[str, Callable[[], object]] = {name: partial(called.append, name) for name in ("parse", "encap")}
    whole = pipeline.Pipeline("avx2", "hot", cast(native.Schedule, Chunks()), stages, target=60.0)
    pipeline.race(bench, [whole])
    assert called[:2] == ["parse", "encap"]
    figures = {figure.measure: figure for figure in bench.result(0.0).figures}
    assert figures["time"].values == (20.0, 20.0)  # 400 ticks of half a nanosecond for 10 packets
    assert (figures["time"].target, figures["time"].met) == (60.0, True)
    assert (figures["parse"].values, figures["encap"].values) == ((5.0, 5.0), (15.0, 15.0))

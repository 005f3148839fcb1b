"""Times rungs side by side: every round goes past all of them, so that a disturbance meets each alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.context import Context
from bench.cores import pinned
from bench.perpacket import native
from bench.perpacket.native import Anchor, Schedule
from bench.results import OURS

REPEATS = 7
CALIBRATION = 3
"""Passes that warm up and decide how many a repetition has."""
MOST_PASSES = 1 << 14
SECONDS = 0.015
"""Of one repetition; a pass that takes longer is made once."""
TIME = "time"
OF_ANCHOR = "of the C anchor"


Run = Callable[[int], float]
"""Takes a number of passes and returns the nanoseconds of the median one: interrupts and other work are not in it."""


@dataclass
class Contender:
    """One rung under one set of circumstances."""

    subject: str
    variant: str
    run: Run
    packets: int
    """Of one pass."""
    measure: str = TIME
    target: float | None = None
    passes: int = 1
    found: list[float] = field(default_factory=list)
    """ns per packet, one for each repetition."""

    @property
    def median(self) -> float:
        return statistics.median(self.found)


def calls(call: Callable[[bytes], object], frames: Sequence[bytes]) -> Run:
    """A pass is one call for each frame, from a loop in Python."""

    def once() -> None:
        for frame in frames:
            call(frame)

    return _median(once)


def repeated(times: int, function: Callable[..., object], *arguments: object) -> Run:
    """A pass is so many calls, from a loop in Python."""

    def once() -> None:
        for _ in range(times):
            function(*arguments)

    return _median(once)


def call(function: Callable[..., object], *arguments: object) -> Run:
    """A pass is one call."""
    return _median(partial(function, *arguments))


def _median(once: Callable[[], object]) -> Run:
    def run(passes: int) -> float:
        clock = time.perf_counter_ns
        took = []
        for _ in range(min(passes, MOST_PASSES)):
            began = clock()
            once()
            took.append(clock() - began)
        return statistics.median(took)

    return run


def calls_from_c(call: Callable[[bytes], object], frames: Sequence[bytes]) -> Run:
    """One call for each frame from a loop in C: the call itself, without what the interpreter takes to come to it."""
    arguments = list(frames)
    return lambda passes: _net(native.stopwatch().time_calls(call, arguments, passes), 1)


def stage(schedule: Schedule, function: Callable[..., object], *arguments: object) -> Run:
    """A pass gives every chunk of the schedule to a batch stage of ours; putting the packets back is not timed."""
    chunks = schedule.packets // schedule.chunk
    return lambda passes: _net(schedule.time(function, arguments, passes), chunks)


def anchor(schedule: Schedule, c: Anchor, function: str) -> Run:
    """The same of a function of anchor.c."""
    address = c.function(function)
    chunks = schedule.packets // schedule.chunk
    return lambda passes: _net(schedule.time_anchor(address, c.state, passes), chunks)


def sums(c: Anchor, data: bytes, times: int) -> Run:
    """A pass is so many checksums by anchor.c."""
    address = c.function(native.SUM)
    return lambda passes: _net(native.stopwatch().time_sum(address, data, times, passes), 1)


def _net(ticks: float, calls: int) -> float:
    """Nanoseconds of so many calls of which each took `ticks`, less what reading the clock takes."""
    rate, own = native.clock()
    return max(0.0, ticks - own) / rate * calls


def race(bench: Context, contenders: Sequence[Contender]) -> None:
    """Time them all, in turns, on one core without garbage collection; the figures go into the case's result."""
    rounds = bench.repeats(REPEATS)
    seconds = bench.seconds(SECONDS)
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        with pinned(bench.cores.server):
            for contender in contenders:
                took = max(contender.run(CALIBRATION), 1.0)
                contender.passes = max(1, int(seconds * 1e9 / took))
                contender.found.clear()
            for _ in range(rounds):
                for contender in contenders:
                    contender.found.append(contender.run(contender.passes) / contender.packets)
    finally:
        if enabled:
            gc.enable()
    for contender in contenders:
        for value in contender.found:
            bench.record(contender.measure, value, "ns", subject=contender.subject, variant=contender.variant,
                         better="lower", target=contender.target)  # fmt: skip


def against(bench: Context, ours: Contender | None, mark: Contender | None, target: float) -> None:
    """Record what `ours` takes as a multiple of `mark`, round by round."""
    if ours is None or mark is None:
        return
    for mine, theirs in zip(ours.found, mark.found, strict=True):
        bench.record(OF_ANCHOR, mine / theirs, "x", subject=OURS, variant=ours.variant, better="lower", target=target)

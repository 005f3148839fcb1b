"""Times rungs side by side: every round goes past all of them, so that a disturbance meets each alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.context import Context
from bench.cores import pinned
from bench.perpacket import native
from bench.perpacket.native import Anchor, Schedule
from bench.results import OURS

REPEATS = 7
SECONDS = 0.015
"""Of one repetition; a call that takes longer is made once."""
TIME = "time"
OF_ANCHOR = "of the C anchor"


@dataclass
class Contender:
    """One rung under one set of circumstances."""

    subject: str
    variant: str
    run: Callable[[int], float]
    """Nanoseconds of so many passes."""
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


def calls(call: Callable[[bytes], object], frames: Sequence[bytes]) -> Callable[[int], float]:
    """A pass is one call for each frame, from a loop in Python."""

    def run(passes: int) -> float:
        began = time.perf_counter_ns()
        for _ in range(passes):
            for frame in frames:
                call(frame)
        return time.perf_counter_ns() - began

    return run


def calls_from_c(call: Callable[[bytes], object], frames: Sequence[bytes]) -> Callable[[int], float]:
    """The same from a loop in C: the call itself, without what the interpreter takes to come to it."""
    arguments = list(frames)
    return lambda passes: native.packets().time_calls(call, arguments, passes) / native.clock()[0]


def call(function: Callable[..., object], *arguments: object) -> Callable[[int], float]:
    """A pass is one call."""

    def run(passes: int) -> float:
        began = time.perf_counter_ns()
        for _ in range(passes):
            function(*arguments)
        return time.perf_counter_ns() - began

    return run


def stage(schedule: Schedule, function: Callable[..., object], *arguments: object) -> Callable[[int], float]:
    """A pass gives every chunk of the schedule to a batch stage of ours; putting the packets back is not timed."""
    return lambda passes: _net(schedule, schedule.time(function, arguments, passes), passes)


def anchor(schedule: Schedule, c: Anchor, function: str) -> Callable[[int], float]:
    """The same of a function of anchor.c."""
    address = c.function(function)
    return lambda passes: _net(schedule, schedule.time_anchor(address, c.state, passes), passes)


def sums(c: Anchor, data: bytes) -> Callable[[int], float]:
    """A pass is one checksum by anchor.c."""
    address = c.function(native.SUM)
    return lambda passes: native.packets().time_sum(address, data, passes) / native.clock()[0]


def _net(schedule: Schedule, ticks: int, passes: int) -> float:
    """Nanoseconds, less what reading the clock takes."""
    rate, own = native.clock()
    return max(0.0, ticks - own * passes * (schedule.packets // schedule.chunk)) / rate


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
                contender.run(1)  # warms up
                took = max(contender.run(1), 1.0)
                contender.passes = max(1, int(seconds * 1e9 / took))
                contender.found.clear()
            for _ in range(rounds):
                for contender in contenders:
                    took = contender.run(contender.passes)
                    contender.found.append(took / contender.passes / contender.packets)
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

"""The shape that encap, decap and five-tuple share: packets, checks, then bytes, lists and batches, hot and cold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from bench.context import Context
from bench.perpacket import clock, native, verify
from bench.perpacket.clock import Contender
from bench.perpacket.levels import Level, all_levels
from bench.perpacket.native import Anchor, Schedule
from bench.perpacket.profiles import Profile, parse
from bench.perpacket.python_rungs import Rung, rungs
from fastpath._calibrate import choice
from fastpath.batch import Batch

BATCH: Final = 256
COLD: Final = 100_000
ROUGH: Final = 32
"""Packets of a pass of the rungs that take microseconds each."""
BYTES, LIST, HOT, CACHE_COLD = "bytes", "list", "batch hot", "batch cold"
PROFILES: Final = tuple(map(parse, (
    "v4-udp-64", "v4-udp-512", "v4-udp-1400", "v4-tcp-64", "v6-tcp-512", "mixed-mixed-imix",
    "malformed",
)))  # fmt: skip
METHOD: Final = (
    f"bytes: one call a packet from a loop in Python. list: one call with {BATCH} of them. batch hot: one call for "
    f"{BATCH} packets packed tightly enough for L2. batch cold: one call for {COLD:,} packets at a stride of 2 KiB "
    "(205 MB), with prefetch in nodeplane and in the anchor.",
    "One core, no garbage collection; each repetition takes all rungs in turn and is the median of its calls, so that "
    "an interrupt is not in it. Putting a batch's columns back between calls is outside the clock. ns are TSC ticks "
    "over the measured TSC rate; cycles are TSC cycles.",
    "C anchor: bench/load/anchor.c, -O3 -march=native, on the same memory and columns. It does less: no tables, "
    "no counters, one tunnel.",
)


@dataclass(frozen=True)
class Stage:
    """What a case does to packets, for every kind of rung."""

    name: str
    anchor: str
    """Function of anchor.c, hot; with `_ahead` cold."""
    wrapped: int
    """Whether the packets are encapsulated: 0, 4 or 6."""
    rung: Callable[[Rung], Callable[[bytes], Any]]
    """The call of a Python rung."""
    call: Callable[[Level], Callable[[bytes], Any]]
    """nodeplane's call for one frame, at a level."""
    list_call: Callable[[Level], Callable[[list[bytes]], Any]]
    batch: Callable[[Level], tuple[Callable[..., Any], tuple[object, ...]]]
    """nodeplane's batch function, and what it takes after the batch."""
    check: Callable[[Context, Stage, Batch, list[Rung], Anchor, list[Level]], None]
    """Compare everything on the batch, which is to be left as it was."""
    targets: dict[str, float]
    """By BYTES and LIST: ns; by HOT and CACHE_COLD: times the anchor."""


def peers(bench: Context) -> list[Rung]:
    """The Python rungs that are installed; their versions go into the result."""
    found: list[Rung] = []
    for rung in rungs():
        if isinstance(rung, str):
            bench.missing(rung)
            continue
        found.append(rung)
        if rung.version:
            bench.versions[rung.name] = rung.version
    return found


def built(bench: Context, stage: str) -> list[Level]:
    """The levels at which a stage can be loaded; which one serves is noted."""
    found: list[Level] = []
    for level in all_levels():
        try:
            level.stage(stage)
        except ImportError as error:
            bench.missing(f"{level.name}: {error}")
            continue
        found.append(level)
        if level.serves(stage):
            bench.method(f"{stage}: nodeplane chooses {level.name}; {choice(stage).reason}.")
    return found


def run(bench: Context, stage: Stage) -> None:
    """All profiles of a case."""
    for text in METHOD:
        bench.method(text)
    rate, _ = native.clock()
    bench.method(f"1 ns = {rate:.2f} TSC cycles.")
    anchor, python, levels = Anchor(), peers(bench), built(bench, stage.name)
    for profile in bench.profiles(PROFILES):
        bench.step(f"{profile}: verify")
        batch = native.fill(profile, BATCH, bench.options.seed, wrapped=stage.wrapped)
        if not profile.malformed and not stage.wrapped:
            verify.sound(batch.frames())
            bench.verified(f"The packets: scapy makes the same lengths and checksums of {verify.SAMPLE} a profile.")
        stage.check(bench, stage, batch, [] if profile.malformed else python, anchor, levels)
        bench.verified("nodeplane: every level leaves what the plain twin leaves, in packets and columns.")
        bench.step(f"{profile}: bytes and lists")
        contenders = list(_single(stage, profile, batch.frames(), python, levels))
        clock.race(bench, contenders)
        bench.step(f"{profile}: batches")
        _batches(bench, stage, profile, batch, anchor, levels)


def _single(stage: Stage, profile: Profile, frames: list[bytes], python: list[Rung],
            levels: list[Level]) -> Iterator[Contender]:  # fmt: skip
    for rung in [] if profile.malformed else python:
        some = frames if rung.name == "struct" else frames[:ROUGH]
        yield Contender(rung.name, f"{profile}, {BYTES}", clock.calls(stage.rung(rung), some), len(some))
    for level in levels:
        some = frames[:ROUGH] if level.level == "pure" else frames
        for way in (BYTES, LIST):
            if profile.malformed and stage.name == "vxlan":
                continue  # calls raise there: only batches have verdicts
            run = clock.calls(stage.call(level), some) if way == BYTES else clock.call(stage.list_call(level), some)
            target = stage.targets.get(way) if level.serves(stage.name) and str(profile) == "v4-udp-64" else None
            yield Contender(level.name, f"{profile}, {way}", run, len(some), target=target)


def _batches(bench: Context, stage: Stage, profile: Profile, hot: Batch, anchor: Anchor, levels: list[Level]) -> None:
    cold = native.fill(profile, COLD, bench.options.seed, slot=native.COLD_SLOT, wrapped=stage.wrapped)
    for way, batch in ((HOT, hot), (CACHE_COLD, cold)):
        schedule = native.schedule(batch, batch.count)
        variant = f"{profile}, {way}"
        ours: Contender | None = None
        contenders: list[Contender] = []
        for level in levels:
            if level.level == "pure" and way == CACHE_COLD:
                continue
            function, arguments = stage.batch(level)
            if not profile.malformed:
                _all_pass(level.name, batch, function(batch, *arguments), schedule)
            run = clock.stage(schedule, function, batch, *arguments)
            contenders.append(Contender(level.name, variant, run, schedule.packets))
            if level.serves(stage.name):
                ours = contenders[-1]
        mark: Contender | None = None
        if not profile.malformed:
            function_name = stage.anchor + ("_ahead" if way == CACHE_COLD else "")
            passed = schedule.run_anchor(anchor.function(function_name), anchor.state)
            _all_pass(Anchor.name, batch, passed, schedule)
            mark = Contender(Anchor.name, variant, clock.anchor(schedule, anchor, function_name), schedule.packets)
            contenders.append(mark)
        clock.race(bench, contenders)
        clock.against(bench, ours, mark, stage.targets[way])
        schedule.rewind()


def _all_pass(who: str, batch: Batch, passed: int, schedule: Schedule) -> None:
    """Every packet that is timed goes the usual way, not only the sample."""
    schedule.rewind()
    if passed != len(batch):
        raise verify.WrongAnswerError(f"{who}: {passed} of {len(batch)} packets went on")

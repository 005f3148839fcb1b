"""Lookups a second: nodeplane's levels and rte_acl in turns, on the same headers and in batches of the same size."""

from __future__ import annotations

import gc
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.classify import scan
from bench.classify.acl import Acl
from bench.classify.files import Rules, Trace
from bench.context import Context
from bench.cores import pinned
from bench.perpacket.levels import PLAIN, Level, all_levels
from fastpath._calibrate import choice

STAGE: Final = "classify"
BATCHES: Final = (1, 32, 256, 1024, 4096)
BATCH: Final = 1024
"""Of everything that is not about the size of a batch."""
FEW: Final = 4096
"""Headers of a pass with a batch of one."""
PLAIN_COMPARISONS: Final = 200_000
REPEATS: Final = 5
SECONDS: Final = 0.05
"""Of one repetition of one rung."""


@dataclass
class Engine:
    """A rule set at one level of nodeplane. The id of a rule is its position in the set."""

    level: Level
    rules: Any
    """A RuleSet; the compiled levels share one."""

    @property
    def name(self) -> str:
        return self.level.name

    def calls(self, trace: Trace, batch: int) -> tuple[Callable[[], None], array[int]]:
        """One pass over the headers in calls of `batch`, and where the answers go."""
        out = array("i", bytes(4 * len(trace)))
        keys, answers, size = memoryview(trace.keys), memoryview(out), trace.size
        pieces = [
            (keys[size * at : size * (at + batch)], answers[at : at + batch]) for at in range(0, len(trace), batch)
        ]
        lookup_keys, rules, version = self.level.function(STAGE, "lookup_keys"), self.rules, trace.version

        def once() -> None:
            for piece, target in pieces:
                lookup_keys(rules, piece, target, version)

        return once, out


def engines(bench: Context, records: bytes) -> list[Engine]:
    """Every level that runs here, plain first."""
    found: list[Engine] = []
    compiled: Any = None
    for level in all_levels():
        try:
            level.stage(STAGE)
        except ImportError as error:
            bench.missing(f"{level.name}: {error}")
            continue
        if level == PLAIN:
            from fastpath._ruleset_py import RuleSet as Plain

            found.append(Engine(level, Plain(records)))
            continue
        if compiled is None:
            from fastpath._ruleset_c import RuleSet

            compiled = RuleSet(records)
        found.append(Engine(level, compiled))
        if level.serves(STAGE):
            bench.method(f"{STAGE}: nodeplane chooses {level.name}; {choice(STAGE).reason}.")
    return found


def serving(found: Sequence[Engine]) -> Engine:
    """The one that this process takes by itself."""
    return next((engine for engine in found if engine.level.serves(STAGE)), found[-1])


def few(engine: Engine, rules: Rules, trace: Trace, batch: int) -> Trace:
    """The headers of a pass: all, but for the plain twin and for batches of one."""
    most = len(trace)
    if engine.level == PLAIN:
        most = min(most, max(1, PLAIN_COMPARISONS // len(rules)))
    elif batch == 1:
        most = min(most, FEW)
    return trace if most == len(trace) else Trace(trace.name, trace.version, trace.keys[: most * trace.size])


def check(engine: Engine, rules: Rules, trace: Trace, wanted: array[int], batch: int = BATCH) -> None:
    """Raise WrongAnswerError unless every answer (plain: of some headers) is right."""
    some = few(engine, rules, trace, batch) if engine.level == PLAIN else trace
    once, out = engine.calls(some, batch)
    once()
    scan.compare(engine.name, rules, some, out, wanted[: len(some)])


Timer = Callable[[float], float]
"""Takes seconds and returns the nanoseconds a lookup of the median pass."""


@dataclass
class Rung:
    """One engine on one trace with one size of batch."""

    subject: str
    variant: str
    time: Timer
    found: list[float] = field(default_factory=list)
    """Million lookups a second, one for each repetition."""

    @property
    def median(self) -> float:
        return statistics.median(self.found)


def ours(engine: Engine, rules: Rules, trace: Trace, batch: int) -> Timer:
    """The clock of an engine of ours."""
    some = few(engine, rules, trace, batch)
    once, _ = engine.calls(some, batch)
    return lambda seconds: passes(once, seconds) / len(some)


def theirs(acl: Acl, method: str, batch: int) -> Timer:
    """The clock of rte_acl, on the trace that it has loaded."""
    return lambda seconds: acl.time(method, batch, seconds)


def passes(once: Callable[[], None], seconds: float) -> float:
    """Nanoseconds of the median of the passes that fit into so many seconds; at least one."""
    clock = time.perf_counter_ns
    took = []
    ends = clock() + int(seconds * 1e9)
    while True:
        began = clock()
        once()
        now = clock()
        took.append(now - began)
        if now >= ends:
            return float(statistics.median(took))


def race(bench: Context, rungs: Sequence[Rung]) -> None:
    """Time them in turns, on one core and without garbage collection; the rates go into the result."""
    seconds = bench.seconds(SECONDS)
    gc.collect()
    gc.disable()
    try:
        with pinned(bench.cores.server):
            for rung in rungs:
                rung.time(0.0)
            for _ in range(bench.repeats(REPEATS)):
                for rung in rungs:
                    rung.found.append(1e3 / rung.time(seconds))
    finally:
        gc.enable()
    for rung in rungs:
        for rate in rung.found:
            bench.record("lookups", rate, "M/s", subject=rung.subject, variant=rung.variant, better="higher")

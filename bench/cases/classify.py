"""How quickly is the rule found that a packet matches, and how quickly do rules change?"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench.classify import footprint, lookups, scan, sets, traces, updates
from bench.classify.acl import NAME, Acl, AclError
from bench.classify.acl import version as acl_version
from bench.classify.files import Rules, Trace, read_trace
from bench.classify.lookups import BATCH, BATCHES, Engine, Rung
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.perpacket.levels import PLAIN
from bench.processes import MIB

PEER: Final = "acl"
UNIFORM: Final = "uniform"
RIVALS: Final = {"baseline": ("sse",), "avx2": ("avx2",), "avx512": ("avx512x16", "avx512x32")}
"""rte_acl's methods of the same instruction set; the best of them counts."""
RATIO: Final = {1000: 1.4, 10_000: 1.3, 100_000: 6.0}
MEAN: Final = {10_000: 2.5, 100_000: 8.0}
RATIO_AVX2: Final = 2.0
BUILD: Final = {10_000: 120.0, 100_000: 150.0}
"""Milliseconds."""
MEMORY: Final = {10_000: 2.0, 100_000: 12.0}
"""MiB."""
SIX_TARGET: Final = 0.5
WORST_TARGET: Final = 5.0
BUILDS: Final = 3
METHOD: Final = (
    f"Headers: {traces.HEADERS:,}, each within a rule drawn with equal chances (uniform), then by Zipf's law, one "
    "flow, none that matches, fields of different headers crossed, and the costliest of the uniform ones repeated. The "
    "sets tuples and flood are made to spoil tables.",
    f"Lookups are called from Python on keys and results that lie in one buffer each, in calls of {BATCH:,} headers "
    "unless said; a repetition is the median pass over all headers, and goes past nodeplane's levels and rte_acl in "
    "turns, on one core. The plain twin gets a few headers only.",
    f"{NAME} (bench/load/acl.c) has a header a pointer, as its interface wants, of 16 bytes (IPv6: 40), and is called "
    f"from C. Times {NAME}: the level over its best method of the same instruction set, in the same repetition.",
    "Build: from packed rules to the first lookup; rte_acl's with adding the rules. Index: what lookups read, as "
    "RuleSet.stats() says; process growth: measured in a process of its own, with the rules themselves.",
)


def _scale(rules: Rules) -> int:
    """The number in the tables of targets that is about that of these rules; 0 where none applies."""
    if rules.version == 6 or rules.name.partition("-")[0] in sets.AGAINST:
        return 0
    return next((size for size in sets.SIZES if size * 3 // 4 <= len(rules) <= size * 5 // 4), 0)


@dataclass
class Found:
    """What is compared over sets."""

    ratios: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    """By level, number of rules and set."""
    rates: dict[str, float] = field(default_factory=dict)
    """Of the level that serves, uniform, by set."""


def run(bench: Context) -> None:
    """All sets, or those of --rules."""
    for text in METHOD:
        bench.method(text)
    if bench.asked(PEER):
        try:
            bench.versions[NAME] = f"DPDK {acl_version()}"
        except MissingToolError as error:
            bench.missing(str(error))
    found = Found()
    names = bench.options.rules or sets.DEFAULT
    for name in names:
        bench.step(f"{name}: rules")
        rules = sets.load(name, bench.options.seed)
        if rules.flags:
            asking = f"{rules.flags} rules ask for TCP flags, which a trace has not"
            bench.method(f"{rules.name}: {asking}: that condition is left out.")
        _set(bench, rules, found)
    for name in () if bench.options.rules else sets.BRIEF:
        _brief(bench, sets.load(name, bench.options.seed), found)
    _over_sets(bench, found)


def _set(bench: Context, rules: Rules, found: Found) -> None:
    trace = _trace(bench, rules)
    wanted = scan.answers(rules, trace)
    scan.expected(rules, trace, wanted)
    engines = lookups.engines(bench, rules.records)
    ours = lookups.serving(engines)
    bench.step(f"{rules.name}: check")
    for engine in engines:
        for batch in BATCHES if engine.level != PLAIN else (BATCH,):
            lookups.check(engine, rules, trace, wanted, batch)
    bench.verified(
        "All levels and methods: every answer against a linear scan of the rules (bench/load/scan.c), which is itself "
        "compared with fastpath.rules.first_match on a sample; the plain twin: some headers."
    )
    bench.step(f"{rules.name}: build, memory")
    _build(bench, rules, type(ours.rules), ours)
    with _peer(bench, rules) as acl:
        _uniform(bench, rules, trace, wanted, engines, acl, found)
        if bench.options.trace is None:
            _other_traces(bench, rules, trace, wanted, engines, acl)
    if rules.name.partition("-")[0] in sets.AGAINST:
        return
    bench.step(f"{rules.name}: updates")
    updates.run(bench, rules, trace, wanted, type(ours.rules), ours, targets=ours.level != PLAIN)


def _brief(bench: Context, rules: Rules, found: Found) -> None:
    """The level that serves, on uniform headers."""
    trace = _trace(bench, rules)
    wanted = scan.answers(rules, trace)
    ours = lookups.serving(lookups.engines(bench, rules.records))
    lookups.check(ours, rules, trace, wanted)
    bench.step(f"{rules.name}: {trace.name}")
    rung = Rung(ours.name, f"{rules.name}, {trace.name}, batch {BATCH}", lookups.ours(ours, rules, trace, BATCH))
    lookups.race(bench, [rung])
    found.rates[rules.name] = rung.median


def _trace(bench: Context, rules: Rules) -> Trace:
    if bench.options.trace is not None:
        trace = read_trace(bench.options.trace, rules.version, len(rules))
    else:
        trace = traces.uniform(rules, bench.options.seed)
    if bench.options.zipf is None:
        return trace
    return traces.zipf(trace, bench.options.zipf, bench.options.seed, max(len(trace), traces.HEADERS))


def _build(bench: Context, rules: Rules, kind: Callable[[bytes], Any], ours: Engine) -> None:
    scale = _scale(rules)
    for _ in range(min(BUILDS, bench.repeats(BUILDS))):
        began = time.perf_counter()
        kind(rules.records)
        bench.record("build", (time.perf_counter() - began) * 1e3, "ms", variant=rules.name, better="lower",
                     target=BUILD.get(scale))  # fmt: skip
    if ours.level == PLAIN:
        return
    said = ours.rules.stats().values()
    for measure, key in (("index", "lookup_bytes"), ("rules", "rule_bytes")):
        bench.record(measure, sum(version[key] for version in said) / MIB, "MiB", variant=rules.name, better="lower",
                     target=MEMORY.get(scale) if measure == "index" else None)  # fmt: skip
    growth, peak = footprint.measure(rules, bench.directory)
    bench.record("process growth", growth / MIB, "MiB", variant=rules.name, better="lower")
    bench.record("process growth, peak of the build", peak / MIB, "MiB", variant=rules.name, better="lower")


@contextmanager
def _peer(bench: Context, rules: Rules) -> Iterator[Acl | None]:
    """rte_acl with the rules, if it is asked for and here."""
    if not bench.asked(PEER):
        yield None
        return
    bench.step(f"{rules.name}: {NAME} builds")
    try:
        acl = Acl(rules, bench.directory, min(bench.cores.server))
    except (MissingToolError, AclError) as error:
        bench.missing(f"{NAME}, {rules.name}: {error}")
        yield None
        return
    with acl:
        bench.record("build", acl.build * 1e3, "ms", subject=NAME, variant=rules.name, better="lower")
        bench.record("process growth", acl.memory / MIB, "MiB", subject=NAME, variant=rules.name, better="lower")
        yield acl


def _uniform(bench: Context, rules: Rules, trace: Trace, wanted: array[int], engines: list[Engine], acl: Acl | None,
             found: Found) -> None:  # fmt: skip
    """Every level with every size of batch, and every method of the peer."""
    if acl is not None:
        _take(acl, rules, trace, wanted)
    rivals = {method for methods in RIVALS.values() for method in methods}
    timed = [method for method in acl.methods if method in rivals] if acl is not None else []
    for batch in BATCHES:
        bench.step(f"{rules.name}: {trace.name}, batches of {batch}")
        variant = f"{rules.name}, {trace.name}, batch {batch}"
        levels = [engine for engine in engines if engine.level != PLAIN or batch == BATCH]
        rungs = [Rung(one.name, variant, lookups.ours(one, rules, trace, batch)) for one in levels]
        if acl is not None:
            rungs += [Rung(f"{NAME} {method}", variant, lookups.theirs(acl, method, batch)) for method in timed]
        lookups.race(bench, rungs)
        if batch == BATCH:
            by_name = {rung.subject: rung for rung in rungs}
            found.rates[rules.name] = by_name[lookups.serving(engines).name].median
            _against(bench, rules, by_name, found)


def _against(bench: Context, rules: Rules, rungs: dict[str, Rung], found: Found) -> None:
    """Each level as a multiple of the peer's best of the same instruction set."""
    for level, methods in RIVALS.items():
        rivals = [rungs[f"{NAME} {method}"] for method in methods if f"{NAME} {method}" in rungs]
        if level not in rungs or not rivals:
            continue
        best = max(rivals, key=lambda rung: rung.median)
        scale = _scale(rules)
        target = RATIO.get(scale) if level == "avx512" else RATIO_AVX2 if level == "avx2" and scale else None
        for mine, other in zip(rungs[level].found, best.found, strict=True):
            found.ratios.setdefault((level, len(rules), rules.name), []).append(mine / other)
            bench.record(f"times {NAME}", mine / other, "x", subject=level, variant=f"{rules.name}, {UNIFORM}",
                         better="higher", target=target)  # fmt: skip


def _other_traces(bench: Context, rules: Rules, trace: Trace, wanted: array[int], engines: list[Engine],
                  acl: Acl | None) -> None:  # fmt: skip
    """The level that serves, and the peer's best methods, on the other traces; beside the uniform one."""
    seed = bench.options.seed
    ours = lookups.serving(engines)

    def cost(keys: bytes) -> float:
        once, _ = ours.calls(Trace("", rules.version, keys), len(keys) // trace.size)
        return min(lookups.passes(once, 0.0) for _ in range(3))

    def harm(count: int = len(trace)) -> Trace:
        return traces.worst(trace, cost, count)

    made: list[tuple[Callable[[], Trace | None], bool]] = [
        (lambda: traces.zipf(trace, traces.EXPONENT, seed), False),
        (lambda: traces.one_flow(trace, list(wanted)), False),
        (lambda: traces.misses(rules, trace, seed), False),
        (lambda: traces.crossed(trace, seed), True),
        (harm, True),
    ]
    for make, adverse in made:
        other = make()
        if other is None:
            bench.missing(f"{rules.name}: no header misses all rules")
            continue
        bench.step(f"{rules.name}: {other.name}")
        right = scan.answers(rules, other)
        lookups.check(ours, rules, other, right)
        rungs = [Rung(ours.name, f"{rules.name}, {other.name}, batch {BATCH}", lookups.ours(ours, rules, other, BATCH))]
        if acl is not None:
            _take(acl, rules, other, right)
            rungs += [
                Rung(f"{NAME} {method}", rungs[0].variant, lookups.theirs(acl, method, BATCH))
                for method in RIVALS.get(ours.name, ()) if method in acl.methods
            ]  # fmt: skip
        beside = Rung(ours.name, f"{rules.name}, {trace.name}, beside {other.name}",
                      lookups.ours(ours, rules, trace, BATCH))  # fmt: skip
        lookups.race(bench, [*rungs, beside] if adverse else rungs)
        if adverse:
            for harmed, usual in zip(rungs[0].found, beside.found, strict=True):
                bench.record("times as slow as uniform", usual / harmed, "x", variant=f"{rules.name}, {other.name}",
                             better="lower", target=WORST_TARGET)  # fmt: skip


def _take(acl: Acl, rules: Rules, trace: Trace, wanted: array[int]) -> None:
    """Let the peer load a trace and check all its methods."""
    acl.load(trace)
    for method in acl.methods:
        scan.compare(f"{NAME} {method}", rules, trace, acl.answers(method), wanted)


def _over_sets(bench: Context, found: Found) -> None:
    """Means over the three kinds, IPv6 beside IPv4, and the sets that are made to be slow beside acl."""
    for level in RIVALS:
        for size in sets.SIZES:
            kinds = [values for (name, count, rules), values in found.ratios.items()
                     if (name, count) == (level, size) and rules in sets.DEFAULT[:9]]  # fmt: skip
            if len(kinds) == 3:
                for row in zip(*kinds, strict=True):
                    bench.record(f"times {NAME}, geometric mean", math.prod(row) ** (1 / 3), "x", subject=level,
                                 variant=f"{size:,} rules", better="higher",
                                 target=MEAN.get(size) if level == "avx512" else None)  # fmt: skip
    for name, rate in found.rates.items():
        if name.endswith("-v6") and (four := found.rates.get(name[:-3])):
            bench.record("of the IPv4 rate", rate / four, "x", variant=name, better="higher", target=SIX_TARGET)
        made, _, count = name.partition("-")
        if made in sets.AGAINST and (usual := found.rates.get(f"acl-{count}")):
            bench.record("times as slow as acl", usual / rate, "x", variant=name, better="lower",
                         target=WORST_TARGET if name in sets.DEFAULT else None)  # fmt: skip


CASE = Case("classify", "How quickly is the rule found that a packet matches, and how quickly do rules change?",
            (PEER,), run, network=False)  # fmt: skip

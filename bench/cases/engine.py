"""What does a packet of a known flow cost on its whole way: parse, connection, rules, verdict, tunnel?"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network
from typing import Any, Final

from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.perpacket import levels as ours
from bench.perpacket import native, outer, pipeline, verify
from bench.perpacket.levels import PLAIN, Level, all_levels
from bench.perpacket.native import Schedule
from bench.perpacket.pipeline import Pipeline
from bench.perpacket.profiles import MOST_FLOWS, ZIPF, Profile, count, parse
from fastpath._calibrate import choice
from fastpath.batch import Batch
from fastpath.connections import Ct
from fastpath.reasons import Reason
from fastpath.rules import Rule

PROFILES: Final = tuple(map(parse, ("v4-udp-64", "v4-tcp-64", "v6-tcp-512", "mixed-mixed-imix")))
FLOWS: Final = (1024, 4096, 16384, 65536, 262144, MOST_FLOWS)
OF_FLOWS: Final = parse("v4-udp-64")
BATCH: Final = 256
COLD: Final = 400 * BATCH
FEWEST: Final = 16384
"""Packets of a pass over few flows."""
TARGET: Final = 60.0
STAGES: Final = ("flow", "flowcache", "vxlan")
"""Those that are built for every level; connections and verdicts are not."""
SECOND: Final = 1_000_000_000
RULES: Final = 1000
SOME_PORTS: Final = (20000, 22047)
"""Those of an eighth of the flows."""
DENIED: Final = (RULES - 3, RULES - 2)
"""Ids of their rules, both ways."""


def rules() -> list[Rule]:
    """Many for other addresses, one for some of the flows, one for all of them."""
    others = [Rule(priority=3, source=IPv4Network((172 << 24 | i << 8, 32))) for i in range(RULES - 3)]
    some = [Rule(priority=2, destination_ports=SOME_PORTS), Rule(priority=2, source_ports=SOME_PORTS)]
    return [*others, *some, Rule(priority=1)]


class Engine:
    """The stages of docs/fastpath.md's `carry` at one level, on tables that may be shared."""

    def __init__(self, level: Level, tables: Any, allowed: bytes) -> None:
        self.level, self.tables, self.allowed = level, tables, allowed
        self.tunnels = ours.encap(level)[1][0]

    def stages(self, batch: Batch, now: int) -> dict[str, Callable[[], Any]]:
        """Calls without arguments."""
        table, cache, rule_set = self.tables
        function = self.level.function
        verdicts = importlib.import_module("fastpath._verdicts_py" if self.level == PLAIN else "fastpath._verdicts_c")
        return {
            "parse": partial(function("flow", "extract"), batch),
            "connection": partial(table.track, batch, now, policy=1),
            "cache": partial(function("flowcache", "lookup"), batch, cache, rule_set, connections=True),
            "verdict": partial(verdicts.permit, batch, self.allowed),
            "commit": partial(table.commit, batch, now, policy=1, denied=Reason.DENIED),
            "encap": partial(function("vxlan", "encap"), batch, self.tunnels),
        }

    def carry(self, batch: Batch, now: int, turned: bool = False) -> int:
        """All of them once, on the packets or as if they were the answers; how many went into the tunnel."""
        passed = 0
        for name, stage in self.stages(batch, now).items():
            passed = stage()
            if turned and name == "parse":
                native.packets().turn(batch)
        return passed


def tables(level: Level, flows: int) -> Any:
    """Connections, cache and rules for so many flows: the compiled ones, or the twins."""
    end = "py" if level == PLAIN else "c"
    found = (importlib.import_module(f"fastpath._{name}_{end}") for name in ("conntrack", "flowtable", "ruleset"))
    conntrack, flowtable, ruleset = found
    capacity = max(flows, 1024)
    return (
        conntrack.Conntrack(capacity, seed=1),
        # It serves whether it pays or not: the question is what it costs.
        flowtable.FlowCache(2 * capacity, seed=1, always=True),
        ruleset.RuleSet(rules()),
    )


def run(bench: Context) -> None:
    """Hot and cold, then over 1,024 to 1 M flows."""
    bench.method(
        f"Six calls from Python for each batch of {BATCH}, as in docs/fastpath.md: parse (flow.extract), connection "
        "(Conntrack.track), cache (flowcache.lookup), verdict (verdicts.permit), commit (Conntrack.commit), encap "
        "(vxlan.encap over IPv4). All connections are established, all flows are in the cache, which may not rest; "
        f"{RULES:,} rules are behind it. time: all six; each stage's own time stands beside it. Who calls the cache "
        "only when track says that rules are needed saves that stage."
    )
    bench.method(
        f"batch hot: {BATCH} packets again and again. batch cold: batches of {BATCH} out of {COLD:,} packets at a "
        "stride of 2 KiB (210 MB). flows: batches drawn from one packet of each flow, so that packets and all tables "
        "grow. Except in the hot batch, packet i does not lie in slot i, as after a compaction or in a ring."
    )
    try:
        native.packets()
    except MissingToolError as error:
        bench.missing(str(error))
        return
    levels = _built(bench)
    for profile in bench.profiles(PROFILES):
        bench.step(f"{profile}: verify")
        _check(bench, profile, levels)
        for way, batch in (
            ("batch hot", native.fill(profile, BATCH, bench.options.seed)),
            ("batch cold", native.fill(profile, COLD, bench.options.seed, slot=native.COLD_SLOT)),
        ):
            bench.step(f"{profile}: {way}")
            schedule = native.schedule(batch, BATCH)
            _race(bench, f"{profile}, {way}", batch, schedule, schedule, profile.flows,
                  levels if way == "batch hot" else levels[1:])  # fmt: skip
            schedule.restore()
    for flows in FLOWS:
        profile = replace(bench.profiles((OF_FLOWS,))[0], flows=flows)
        batch = native.fill(profile, flows, bench.options.seed, each=True)
        every = native.schedule(batch, BATCH)
        for exponent in (0.0, ZIPF):
            law = "zipf" if exponent else "uniform"
            bench.step(f"{count(flows)} flows, {law}")
            order = native.draws(flows, exponent, max(FEWEST, flows), bench.options.seed)
            variant = f"{profile.kind}, {count(flows)} flows, {law}"
            _race(bench, variant, batch, every, native.schedule(batch, BATCH, order), flows, levels[1:])
            every.restore()


def _built(bench: Context) -> list[Level]:
    """The levels, plain first; which one serves each stage is noted."""
    for stage in STAGES:
        bench.method(f"{stage}: nodeplane chooses {choice(stage).level}; {choice(stage).reason}.")
    return list(all_levels())


def _race(bench: Context, variant: str, batch: Batch, every: Schedule, schedule: Schedule, flows: int,
          levels: list[Level]) -> None:  # fmt: skip
    """Time the schedule, all of whose packets are in `every`."""
    allowed = b"\1" * RULES
    shared = tables(levels[-1], flows)
    contenders = []
    for level in levels:
        engine = Engine(level, tables(level, flows) if level == PLAIN else shared, allowed)
        _establish(engine, batch, every)
        target = TARGET if level.serves("flow") else None
        stages = engine.stages(batch, 12 * SECOND)
        contenders.append(Pipeline(level.name, variant, schedule, stages, target))
    pipeline.race(bench, contenders)
    _, cache, _ = shared
    if cache.stats()["hits"] < 9 * cache.stats()["misses"]:
        raise verify.WrongAnswerError(f"{variant}: the flows did not stay in the cache: {cache.stats()}")


def _establish(engine: Engine, batch: Batch, every: Schedule) -> None:
    """Each packet, its answer, and the packet again, seconds apart; then everything must be known and pass."""
    for step, turned in enumerate((False, True, False, False)):
        for first in range(0, every.packets, every.chunk):
            every.rewind(first)
            passed = engine.carry(batch, 3 * step * SECOND, turned)
            if passed != every.chunk:
                raise verify.WrongAnswerError(f"{engine.level.name}: {passed} of {every.chunk} packets went on")
    if any(ct & (Ct.KIND | Ct.LOOKUP) != Ct.ESTABLISHED for ct in batch.ct[: every.chunk]):
        raise verify.WrongAnswerError(f"{engine.level.name}: not every packet is of an established connection")


def _check(bench: Context, profile: Profile, levels: list[Level]) -> None:
    """Every level against the plain twin, while connections come, are answered, and some are not let pass."""
    batch = native.fill(profile, BATCH, bench.options.seed)
    frames = batch.frames()
    verify.sound(frames)
    schedule = native.schedule(batch, BATCH)
    allowed = bytes(i not in DENIED for i in range(RULES))
    wanted: list[tuple[list[object], bytes]] = []
    for level in levels:
        engine = Engine(level, tables(level, BATCH), allowed)
        for step, turned in enumerate((False, True, False)):
            schedule.rewind()
            engine.carry(batch, 3 * step * SECOND, turned)
            state: list[object] = list(zip(verify.state(batch), batch.rule[:BATCH], strict=True))
            found = (state, bytes(engine.tables[0].export()))
            if level == PLAIN:
                wanted.append(found)
            verify.same(f"{level.name}, pass {step}", found[0], wanted[step][0])
            verify.same(f"{level.name}, connections after pass {step}", [found[1]], [wanted[step][1]])
    denied = [verdict == Reason.DENIED for verdict in batch.verdict[:BATCH]]
    if not any(denied) or all(denied):
        raise verify.WrongAnswerError(f"{profile}: {sum(denied)} of {BATCH} packets were denied")
    sample = [i for i in range(BATCH) if not denied[i]][: verify.SAMPLE]
    made = [outer.without_port(batch.frame(i)) for i in sample]
    verify.same("nodeplane", made, verify.encapsulated([frames[i] for i in sample]))
    schedule.restore()
    bench.verified(
        "Every level leaves what the plain twins leave: verdicts, rules, connection bits, keys, all other columns, the "
        "encapsulated bytes, and the table of connections, for new, answering and established packets, of which an "
        f"eighth is denied. Of {verify.SAMPLE} packets a profile scapy makes the same bytes, but for the source port."
    )
    bench.verified("Timed packets all pass, in established connections, before the clock starts.")


CASE = Case("engine", "What does a packet of a known flow cost on its whole way?", (), run, network=False)

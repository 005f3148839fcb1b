"""What does a lookup cost whose flow is known?"""

from __future__ import annotations

import ctypes
import statistics
import time
from array import array
from collections.abc import Callable
from typing import Any, Final

from bench import compile
from bench.classify import scan, sets, stepping_aside, traces
from bench.classify.files import Rules, Trace
from bench.context import Case, Context
from bench.perpacket import clock, native
from bench.perpacket.clock import MOST_PASSES, Contender, Run
from bench.perpacket.levels import Level, compiled

STAGE: Final = "flowcache"
BATCH: Final = 1024
RULES: Final = ("acl-10k", "fw-100k")
FLOWS: Final = (1024, 65_536)
RESIDENT: Final = 60_000
"""A trace of 65,536 headers has about as many flows."""
TARGET: Final = 1000 / 150
"""ns, of so many flows."""
ANCHOR: Final = "C anchor"


def run(bench: Context) -> None:
    """Resident flows, uniform and by Zipf's law, through the cache, past it and through the anchor."""
    bench.method(
        f"Calls of {BATCH:,} from Python. keys: on the classifier's packed keys of 16 bytes. batch: on a Batch whose "
        "key column was filled just before, outside the clock, as parsing would. rules: the classifier without a "
        "cache. The cache has room for all flows and all of them are in it; it may not rest here."
    )
    bench.method(
        f"{stepping_aside.OF_RULES}: the time of a call through a cache that may rest, with room for "
        f"{stepping_aside.ROOM:,} flows, as a multiple of one past it, repetition by repetition, after it has found "
        "out whether it helps."
    )
    bench.method(
        "C anchor: bench/load/flowcache.c, -O3 -march=native, one call for all keys. It does less: no counters, "
        "versions, eviction or protection against floods."
    )
    from fastpath._ruleset_c import RuleSet

    for name in bench.options.rules or RULES:
        rules = sets.load(name, bench.options.seed)
        if rules.version != 4:
            raise ValueError(f"{name}: flow-cache takes IPv4 rules")
        uniform = traces.uniform(rules, bench.options.seed, max(FLOWS))
        pieces = list(dict.fromkeys(uniform.keys[at : at + 16] for at in range(0, len(uniform.keys), 16)))
        for flows in FLOWS:
            some = pieces[:flows]
            # Whole batches: some headers of the trace are the same.
            once = Trace("uniform", rules.version, b"".join(some + some[: -len(some) % BATCH]))
            _race(bench, rules, once)
        _race(bench, rules, traces.zipf(once, 0.99, bench.options.seed, max(FLOWS)))
        serving = next(level for level in compiled() if level.serves(STAGE))
        stepping_aside.measure(bench, rules, RuleSet(rules.records), serving)


def _race(bench: Context, rules: Rules, trace: Trace) -> None:
    from fastpath._ruleset_c import RuleSet

    bench.step(f"{rules.name}, {trace.name}, {len(trace):,} headers")
    wanted, compiled_rules = scan.answers(rules, trace), RuleSet(rules.records)
    variant = f"{rules.name}, {trace.name}, {len(trace):,}"
    contenders, marked, ours = [], _anchor(trace, wanted, variant), None
    for level in compiled():
        for way, timed in _ways(level, compiled_rules, rules, trace, wanted):
            target = TARGET if way == "keys" and len(trace) >= RESIDENT and level.serves(STAGE) else None
            contenders.append(Contender(level.name, f"{variant}, {way}", timed, len(trace), target=target))
            if way == "keys" and level.serves(STAGE):
                ours = contenders[-1]
    clock.race(bench, [*contenders, marked])
    clock.against(bench, ours, marked, 1.5)
    bench.verified(
        "nodeplane: every answer of every level, by a linear search through the rules; the anchor's but for flows that "
        "found no room in it."
    )


def _ways(level: Level, compiled_rules: Any, rules: Rules, trace: Trace,
          wanted: array[int]) -> list[tuple[str, Run]]:  # fmt: skip
    """What is timed at a level, after its answers were compared."""
    from fastpath._flowtable_c import FlowCache

    out = array("i", bytes(4 * len(trace)))
    keys, answers = memoryview(trace.keys), memoryview(out)
    pieces = [
        (keys[16 * at : 16 * (at + BATCH)], answers[at : at + BATCH]) for at in range(0, len(trace), BATCH)
    ]  # fmt: skip
    cache = FlowCache(len(trace), always=True)
    found, past = level.function(STAGE, "lookup_keys"), level.function("classify", "lookup_keys")
    lookup = level.function(STAGE, "lookup")

    def through() -> None:
        for piece, target in pieces:
            found(cache, compiled_rules, piece, target)

    def direct() -> None:
        for piece, target in pieces:
            past(compiled_rules, piece, target)

    for _ in range(8):
        through()
        scan.compare(f"{level.name}, keys", rules, trace, out, wanted)
    batch = native.batch_class()(BATCH, slot=256, headroom=64)
    batch.fill([bytes(64)] * BATCH)
    columns = [_column(piece) for piece, _ in pieces]
    key = memoryview(batch.key).cast("B")
    for column, (_, target) in zip(columns, pieces, strict=True):
        key[: len(column)] = column
        lookup(batch, cache, compiled_rules)
        target[:] = batch.rule[:BATCH]
    scan.compare(f"{level.name}, batch", rules, trace, out, wanted)
    batches = _batches(lambda: lookup(batch, cache, compiled_rules), key, columns)
    return [("keys", clock.call(through)), ("batch", batches), ("rules", clock.call(direct))]


def _column(keys: memoryview) -> bytes:
    """The key column of a batch (40 bytes a packet) for classifier's keys of 16 bytes."""
    made = bytearray()
    for at in range(0, len(keys), 16):
        one = bytes(keys[at : at + 16])
        made += one[3::-1] + bytes(12) + one[7:3:-1] + bytes(12) + one[9:7:-1] + one[11:9:-1]
        made += bytes((one[12] >> 1 | (one[13] & 1) << 7, 4)) + one[14:16]
    return bytes(made)


def _batches(call: Callable[[], object], key: memoryview, columns: list[bytes]) -> Run:
    def run(passes: int) -> float:
        took = []
        for _ in range(min(passes, MOST_PASSES)):
            total = 0
            for column in columns:
                key[: len(column)] = column
                began = time.perf_counter_ns()
                call()
                total += time.perf_counter_ns() - began
            took.append(total)
        return statistics.median(took)

    return run


def _anchor(trace: Trace, wanted: array[int], variant: str) -> Contender:
    """The anchor with all flows in it, but for what found no room: answers are compared where it has one."""
    library = ctypes.CDLL(str(compile.library("flowcache")))
    n, out = len(trace), array("i", bytes(4 * len(trace)))
    keys = ctypes.create_string_buffer(trace.keys, len(trace.keys))
    answers, given = (ctypes.c_int32 * n).from_buffer(out), (ctypes.c_int32 * n).from_buffer(wanted)
    first = {trace.keys[at : at + 16]: wanted[at // 16] for at in range(0, 16 * n, 16)}
    once = ctypes.create_string_buffer(b"".join(first), 16 * len(first))
    rules = (ctypes.c_int32 * len(first))(*first.values())
    if library.flowcache_fill(once, rules, len(first), max(10, (2 * n - 1).bit_length())) < 0:
        raise MemoryError
    library.flowcache_lookup(keys, n, answers)
    wrong = sum(a != b for a, b in zip(answers, given, strict=True))
    if wrong > n // 50:
        raise scan.WrongAnswerError(f"{ANCHOR}: {wrong} of {n} answers are wrong")
    # The buffers live as long as what is timed.
    return Contender(ANCHOR, f"{variant}, keys", clock.call(library.flowcache_lookup, keys, n, answers), n)


CASE = Case("flow-cache", "What does a lookup cost whose flow is known?", (), run, network=False)

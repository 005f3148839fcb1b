"""Traces that a flow cache serves, half serves or cannot serve, and what a call costs that has one in front."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import Any, Final

from bench.classify import scan, traces
from bench.classify.files import Rules, Trace
from bench.context import Context
from bench.perpacket import clock
from bench.perpacket.clock import Contender
from bench.perpacket.levels import Level
from bench.results import OURS

STAGE: Final = "flowcache"
BATCH: Final = 1024
ROOM: Final = 65_536
"""Flows that the cache has room for."""
TIMES: Final = 16
"""So many more flows, in the traces that are too large for it."""
SETTLED: Final = 4096
"""Calls before the clock starts: it has tried, failed and tried again by then, or it serves."""
OF_RULES: Final = "of the rules alone"
TARGET: Final = 1.1


def cases(rules: Rules, seed: int, headers: int, times: int) -> Iterator[Trace]:
    """The traces, each named by what it asks of a cache with room for `headers` flows; IPv4."""
    uniform = traces.uniform(rules, seed, headers)
    yield Trace("all flows in it", uniform.version, uniform.keys)
    yield traces.one_flow(uniform, count=headers)
    many = Trace(f"{times} times as many flows", uniform.version, _spread(uniform, times))
    yield Trace(f"{many.name}, in turns", many.version, many.keys)
    yield traces.uniform_of(many, seed, headers * times)
    yield traces.zipf(many, traces.EXPONENT, seed, headers * times)
    missed = traces.misses(rules, uniform, seed, headers)
    if missed is not None:
        yield Trace("no rule matches, each flow once", missed.version, _spread(missed, times))


def _spread(trace: Trace, times: int) -> bytes:
    """The headers and others like them, which differ in the lower bits of the source port."""
    count = len(trace)
    made = []
    for number in range(times):
        mask = (bytes(8) + number.to_bytes(2, "little") + bytes(6)) * count
        mixed = int.from_bytes(trace.keys, sys.byteorder) ^ int.from_bytes(mask, sys.byteorder)
        made.append(mixed.to_bytes(16 * count, sys.byteorder))
    return b"".join(made)


def measure(bench: Context, rules: Rules, compiled: Any, level: Level) -> None:
    """Time calls through a cache that may rest, and past it, in turns."""
    from fastpath._flowtable_c import FlowCache

    found, past = level.function(STAGE, "lookup_keys"), level.function("classify", "lookup_keys")
    for trace in cases(rules, bench.options.seed, ROOM, TIMES):
        bench.step(f"{rules.name}, {trace.name}")
        n = len(trace)
        out = array("i", bytes(4 * n))
        keys, answers = memoryview(trace.keys), memoryview(out)
        pieces = [(keys[16 * at : 16 * (at + BATCH)], answers[at : at + BATCH]) for at in range(0, n, BATCH)]
        cache = FlowCache(ROOM)

        def through(pieces: Any = pieces, cache: Any = cache) -> None:
            for piece, target in pieces:
                found(cache, compiled, piece, target)

        def alone(pieces: Any = pieces) -> None:
            for piece, target in pieces:
                past(compiled, piece, target)

        alone()
        wanted = out[:]
        first = Trace(trace.name, trace.version, trace.keys[: 16 * ROOM])
        scan.compare(f"{level.name}, {trace.name}", rules, first, wanted[:ROOM], scan.answers(rules, first))
        for _ in range(max(3, -(-SETTLED // len(pieces)))):
            through()
            scan.compare(f"{level.name}, {trace.name}, through the cache", rules, trace, out, wanted)
        state = "serves" if cache.serving else "rests"
        variant = f"{rules.name}, {trace.name}"
        pair = [
            Contender(level.name, f"{variant}, cache that {state}", clock.call(through), n),
            Contender(level.name, f"{variant}, rules", clock.call(alone), n),
        ]
        clock.race(bench, pair)
        for mine, theirs in zip(pair[0].found, pair[1].found, strict=True):
            bench.record(OF_RULES, mine / theirs, "x", subject=OURS, variant=variant, better="lower", target=TARGET)
    bench.verified(
        "a cache that may rest: every answer is the classifier's, the first ones a linear search's through the rules."
    )

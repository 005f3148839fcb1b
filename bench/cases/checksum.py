"""What does the Internet checksum cost?"""

from __future__ import annotations

import random

from bench.context import Case, Context
from bench.perpacket import clock, suite, verify
from bench.perpacket.clock import Contender
from bench.perpacket.native import Anchor
from bench.perpacket.python_rungs import Scapy

SIZES = (20, 64, 512, 1450, 9000)
FROM_C = "called from C"
TIMES = 64
"""Calls of a pass."""
TARGET_SIZE, TARGET = 1450, 25.0
"""Bytes and nanoseconds."""


def run(bench: Context) -> None:
    """Each size: scapy's answer, then everybody in turns."""
    bench.method("One call a buffer of random bytes, from a loop in Python, so that what the interpreter "
                 "takes is in it; called from C: the same functions without that. The anchor is always called from C. "
                 "The buffer is hot.")  # fmt: skip
    anchor, python, levels = Anchor(), suite.peers(bench), suite.built(bench, "checksum")
    rng = random.Random(bench.options.seed)
    for size in SIZES:
        bench.step(f"{size} bytes")
        _verify(bench, anchor, size, rng)
        data = rng.randbytes(size)
        variant = f"{size} B"
        contenders = [
            Contender(rung.name, variant, clock.calls(rung.checksum, [data] * TIMES), TIMES) for rung in python
        ]
        for level in levels:
            function = level.function("checksum", "internet_checksum")
            target = TARGET if level.serves("checksum") and size == TARGET_SIZE else None
            for way, timed in (
                (variant, clock.calls(function, [data] * TIMES)),
                (f"{variant}, {FROM_C}", clock.calls_from_c(function, [data] * TIMES)),
            ):
                contenders.append(Contender(level.name, way, timed, TIMES, target=target))
        contenders.append(Contender(Anchor.name, f"{variant}, {FROM_C}", clock.sums(anchor, data, TIMES), TIMES))
        clock.race(bench, contenders)
    bench.verified("All: scapy's checksum of 16 random buffers of each size, and of one byte less and more.")


def _verify(bench: Context, anchor: Anchor, size: int, rng: random.Random) -> None:
    scapy = Scapy()
    buffers = [rng.randbytes(size + extra) for extra in (-1, 0, 1) for _ in range(16)]
    wanted = [scapy.checksum(data) for data in buffers]
    verify.same(Anchor.name, [anchor.checksum(data) for data in buffers], wanted)
    for rung in suite.peers(bench):
        verify.same(rung.name, [rung.checksum(data) for data in buffers], wanted)
    for level in suite.built(bench, "checksum"):
        verify.same(level.name, verify.answers(level.function("checksum", "internet_checksum"), buffers), wanted)


CASE = Case("checksum", "What does the Internet checksum cost?", (), run, network=False)

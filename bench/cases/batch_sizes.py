"""How large must a batch be?"""

from __future__ import annotations

from bench.context import Case, Context
from bench.perpacket import clock, native, suite
from bench.perpacket.clock import Contender
from bench.perpacket.native import Anchor
from bench.perpacket.profiles import parse
from bench.perpacket.stages import STAGES

SIZES = (1, 8, 32, 64, 256)
PROFILE = parse("v4-udp-64")
EMPTY = "empty batch"
TIMES = 64
"""Calls of a pass."""
TARGET = 1.0
"""ns per packet of a batch of 256, for the call itself."""


def run(bench: Context) -> None:
    """Each stage with one call for 1 to 256 packets, and with none."""
    bench.method(f"Slots of 2 KiB, {max(SIZES)} packets in turn, one call from C for each batch of the given size; the "
                 "C anchor is called through a pointer.")  # fmt: skip
    bench.method(f"{EMPTY}: a call from a loop in Python for a batch without packets, divided by {max(SIZES)}.")
    anchor = Anchor()
    for profile in bench.profiles((PROFILE,)):
        for name, stage in STAGES.items():
            batch = native.fill(profile, max(SIZES), bench.options.seed, slot=native.COLD_SLOT, wrapped=stage.wrapped)
            levels = suite.built(bench, stage.name)
            stage.check(bench, stage, batch, [] if profile.malformed else suite.peers(bench), anchor, levels)
            for size in SIZES:
                bench.step(f"{name}, {profile}, {size}")
                schedule = native.schedule(batch, size)
                variant = f"{name}, {profile}, batch of {size}"
                contenders = []
                for level in levels:
                    function, arguments = stage.batch(level)
                    timed = clock.stage(schedule, function, batch, *arguments)
                    contenders.append(Contender(level.name, variant, timed, schedule.packets))
                contenders.append(Contender(Anchor.name, variant, clock.anchor(schedule, anchor, stage.anchor),
                                            schedule.packets))  # fmt: skip
                clock.race(bench, contenders)
                schedule.restore()
            _empty(bench, name)


def _empty(bench: Context, name: str) -> None:
    stage = STAGES[name]
    batch = native.batch_class()(max(SIZES))
    contenders = []
    for level in suite.built(bench, stage.name):
        function, arguments = stage.batch(level)
        timed = clock.repeated(TIMES, function, batch, *arguments)
        target = TARGET if level.serves(stage.name) else None
        contenders.append(Contender(level.name, f"{name}, {EMPTY}", timed, TIMES * max(SIZES), target=target))
    clock.race(bench, contenders)


CASE = Case("batch-sizes", "How large must a batch be?", (), run, network=False)

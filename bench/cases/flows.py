"""What does a packet cost when its flow was last seen long ago?"""

from __future__ import annotations

from dataclasses import replace

from bench.context import Case, Context
from bench.perpacket import clock, native, suite
from bench.perpacket.clock import Contender
from bench.perpacket.native import Anchor
from bench.perpacket.profiles import MOST_FLOWS, ZIPF, count, parse
from bench.perpacket.stages import STAGES

FLOWS = (1, 256, 4096, 16384, 65536, 262144, MOST_FLOWS)
PROFILE = parse("v4-udp-64")
FEWEST = 16384
"""Packets of a pass."""


def run(bench: Context) -> None:
    """Each stage over 1 to 1 M flows, drawn uniformly and by Zipf's law."""
    bench.method(
        f"One packet of each flow lies in memory; batches of {suite.BATCH} are drawn from them at random, uniformly or "
        f"by Zipf's law ({ZIPF}), so that the number of flows decides from which cache a packet comes. Columns stay in "
        "the cache. Memory: the cache lines that the packets' headers touch, two a packet."
    )
    anchor = Anchor()
    for profile in bench.profiles((PROFILE,)):
        for name, stage in STAGES.items():
            levels = [level for level in suite.built(bench, stage.name) if level.level != "pure"]
            few = native.fill(profile, suite.BATCH, bench.options.seed, wrapped=stage.wrapped)
            stage.check(bench, stage, few, [] if profile.malformed else suite.peers(bench), anchor,
                        suite.built(bench, stage.name))  # fmt: skip
            for flows in FLOWS:
                one = replace(profile, flows=flows)
                batch = native.fill(one, max(flows, suite.BATCH), bench.options.seed, wrapped=stage.wrapped, each=True)
                for exponent in (0.0, ZIPF):
                    bench.step(f"{name}, {count(flows)} flows{', Zipf' if exponent else ''}")
                    order = native.draws(flows, exponent, max(FEWEST, flows), bench.options.seed)
                    schedule = native.schedule(batch, suite.BATCH, order)
                    variant = f"{name}, {count(flows)} flows, {'zipf' if exponent else 'uniform'}"
                    contenders = []
                    for level in levels:
                        function, arguments = stage.batch(level)
                        timed = clock.stage(schedule, function, batch, *arguments)
                        contenders.append(Contender(level.name, variant, timed, schedule.packets))
                    timed = clock.anchor(schedule, anchor, f"{stage.anchor}_ahead")
                    contenders.append(Contender(Anchor.name, variant, timed, schedule.packets))
                    clock.race(bench, contenders)
                    schedule.restore()


CASE = Case("flows", "What does a packet cost when its flow was last seen long ago?", (), run, network=False)

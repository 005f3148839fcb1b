"""What does it cost to put a frame into VXLAN?"""

from __future__ import annotations

from bench.context import Case, Context
from bench.perpacket import levels as ours
from bench.perpacket import native, outer, suite, verify
from bench.perpacket.levels import PLAIN, Level
from bench.perpacket.native import Anchor
from bench.perpacket.python_rungs import Rung
from bench.perpacket.suite import Stage
from bench.perpacket.verify import SAMPLE
from fastpath.batch import Batch


def check(bench: Context, stage: Stage, batch: Batch, python: list[Rung], anchor: Anchor, levels: list[Level]) -> None:
    """All against the headers that scapy makes; nodeplane's levels against the plain twin, with the source port."""
    frames = batch.frames()
    schedule = native.schedule(batch, batch.count)
    plain: list[object] | None = None
    made: list[bytes] = []
    for level in levels:
        function, arguments = stage.batch(level)
        function(batch, *arguments)
        state, made = verify.state(batch), batch.frames()
        plain = state if level == PLAIN else plain
        verify.same(f"{level.name}, batch", state, plain or state)
        schedule.rewind()
        if python:
            verify.same(f"{level.name}, bytes", verify.answers(stage.call(level), frames), made)
            verify.same(f"{level.name}, list", stage.list_call(level)(frames), made)
    if not python:
        return
    wanted = verify.encapsulated(frames[:SAMPLE])
    if levels:
        verify.same("nodeplane", [outer.without_port(frame) for frame in made[:SAMPLE]], wanted)
    for rung in python:
        found = [outer.without_port(rung.encap(frame)) for frame in frames[:SAMPLE]]
        verify.same(rung.name, found, wanted)
    schedule.run_anchor(anchor.function(stage.anchor), anchor.state)
    verify.same(Anchor.name, [outer.without_port(frame) for frame in batch.frames()[:SAMPLE]], wanted)
    schedule.rewind()
    bench.verified(f"All: the bytes that scapy makes of the first {SAMPLE} packets of each profile, but for the source "
                   "port, which is in 49152-65535 and of each rung's own hash.")  # fmt: skip


STAGE = Stage(
    name="vxlan", anchor="anchor_encap", wrapped=0, check=check,
    rung=lambda rung: rung.encap,
    call=ours.encap_call,
    list_call=ours.encap_list_call,
    batch=ours.encap,
    targets={suite.HOT: 1.1, suite.CACHE_COLD: 1.1, suite.BYTES: 35},
)  # fmt: skip


def run(bench: Context) -> None:
    """See `suite.run`."""
    bench.method("IPv4 underlay, DF, UDP checksum zero, source port from the inner flow. bytes and list make new "
                 "`bytes` objects; a batch gets its header in front, in place.")  # fmt: skip
    suite.run(bench, STAGE)


CASE = Case("encap", "What does it cost to put a frame into VXLAN?", (), run, network=False)

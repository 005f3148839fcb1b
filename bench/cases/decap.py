"""What does it cost to check a VXLAN frame and take it out?"""

from __future__ import annotations

from bench.context import Case, Context
from bench.perpacket import levels as ours
from bench.perpacket import native, outer, suite, verify
from bench.perpacket.levels import PLAIN, Level
from bench.perpacket.native import Anchor
from bench.perpacket.python_rungs import Rung, Scapy
from bench.perpacket.suite import Stage
from bench.perpacket.verify import SAMPLE
from fastpath.batch import Batch


def check(bench: Context, stage: Stage, batch: Batch, python: list[Rung], anchor: Anchor, levels: list[Level]) -> None:
    """All against what scapy takes out; nodeplane's levels against the plain twin, with verdicts and counters."""
    frames = batch.frames()
    schedule = native.schedule(batch, batch.count)
    plain: list[object] | None = None
    for level in levels:
        function, arguments = stage.batch(level)
        passed = function(batch, *arguments)
        state = verify.state(batch)
        plain = state if level == PLAIN else plain
        verify.same(f"{level.name}, batch", state, plain or state)
        if python:
            if passed != len(frames):
                raise verify.WrongAnswerError(f"{level.name} drops {len(frames) - passed} of {len(frames)}")
            inner = list(zip(batch.vni[: len(frames)].tolist(), batch.frames(), strict=True))
            schedule.rewind()
            verify.same(f"{level.name}, bytes", verify.answers(stage.call(level), frames), inner)
            verify.same(f"{level.name}, list", ours.taken_out(frames, stage.list_call(level)(frames)), inner)
        schedule.rewind()
    if not python:
        return
    scapy = Scapy()
    wanted = [scapy.decap(frame) for frame in frames[:SAMPLE]]
    # The generated outer headers are scapy's, too.
    verify.same("profile", [outer.without_port(frame) for frame in frames[:SAMPLE]],
                verify.encapsulated(inner for _, inner in wanted))  # fmt: skip
    for rung in python:
        verify.same(rung.name, [rung.decap(frame) for frame in frames[:SAMPLE]], wanted)
    for level in levels:
        verify.same(level.name, verify.answers(stage.call(level), frames[:SAMPLE]), wanted)
    if schedule.run_anchor(anchor.function(stage.anchor), anchor.state) != len(frames):
        raise verify.WrongAnswerError("C anchor drops packets")
    verify.same(Anchor.name, list(zip(batch.vni[:SAMPLE].tolist(), batch.frames()[:SAMPLE], strict=True)), wanted)
    schedule.rewind()
    bench.verified(f"All: the VNI and the inner frame that scapy takes out of the first {SAMPLE} packets of each "
                   "profile.")  # fmt: skip


STAGE = Stage(
    name="vxlan", anchor="anchor_decap", wrapped=4, check=check,
    rung=lambda rung: rung.decap,
    call=ours.decap_call,
    list_call=ours.decap_list_call,
    batch=ours.decap,
    targets={suite.HOT: 1.2, suite.CACHE_COLD: 1.2, suite.LIST: 20},
)  # fmt: skip


def run(bench: Context) -> None:
    """See `suite.run`."""
    bench.method("IPv4 underlay, UDP checksum zero. nodeplane also checks destination, VNI, sender of the VNI, "
                 "reserved bits, ECN and the inner source MAC, and counts; list gives VNIs and offsets; "
                 "bytes takes any VNI from anywhere.")  # fmt: skip
    suite.run(bench, STAGE)


CASE = Case("decap", "What does it cost to check a VXLAN frame and take it out?", (), run, network=False)

"""What does the five-tuple of a frame cost?"""

from __future__ import annotations

from bench.context import Case, Context
from bench.perpacket import native, suite, verify
from bench.perpacket.levels import PLAIN, Level
from bench.perpacket.native import Anchor
from bench.perpacket.python_rungs import Rung, packed
from bench.perpacket.suite import Stage
from bench.perpacket.verify import SAMPLE
from fastpath.batch import Batch


def check(bench: Context, stage: Stage, batch: Batch, python: list[Rung], anchor: Anchor, levels: list[Level]) -> None:
    """All against scapy; nodeplane's levels also against the plain twin, with every column."""
    frames = batch.frames()
    schedule = native.schedule(batch, batch.count)
    plain = None
    for level in levels:
        level.function("flow", "extract")(batch)
        state = verify.state(batch)
        plain = state if level == PLAIN else plain
        verify.same(f"{level.name}, batch", state, plain or state)
        schedule.rewind()
        single = [PLAIN.function("flow", "five_tuple")(frame) for frame in frames]
        verify.same(f"{level.name}, bytes", verify.answers(level.function("flow", "five_tuple"), frames), single)
        verify.same(f"{level.name}, list", level.function("flow", "five_tuples")(frames), single)
    if not python:
        return
    wanted = verify.tuples(frames[:SAMPLE])
    for rung in python:
        verify.same(rung.name, [packed(rung.five_tuple(frame)) for frame in frames[:SAMPLE]], wanted)
    for level in levels:
        level.function("flow", "keys")(batch)
        verify.same(f"{level.name}, keys", verify.keys(batch, SAMPLE), wanted)
        schedule.rewind()
        single = verify.answers(level.function("flow", "five_tuple"), frames[:SAMPLE])
        verify.same(f"{level.name}, bytes", single, wanted)
    if schedule.run_anchor(anchor.function(stage.anchor), anchor.state) != batch.count:
        raise verify.WrongAnswerError("C anchor: not every frame has a five-tuple")
    verify.same(Anchor.name, verify.keys(batch, SAMPLE), wanted)
    schedule.rewind()
    bench.verified(f"All: the five-tuples that scapy finds in the first {SAMPLE} packets of each profile.")


STAGE = Stage(
    name="flow", anchor="anchor_tuple", wrapped=0, check=check,
    rung=lambda rung: rung.five_tuple,
    call=lambda level: level.function("flow", "five_tuple"),
    list_call=lambda level: level.function("flow", "five_tuples"),
    batch=lambda level: (level.function("flow", "keys"), ()),
    targets={suite.HOT: 1.1, suite.CACHE_COLD: 1.1},
)  # fmt: skip


def run(bench: Context) -> None:
    """See `suite.run`."""
    bench.method("bytes and list give Python objects, a batch gives packed keys of 40 bytes (without the hash).")
    suite.run(bench, STAGE)


CASE = Case("five-tuple", "What does the five-tuple of a frame cost?", (), run, network=False)

"""What does it cost to cut a super-frame into packets, and to join them again?"""

from __future__ import annotations

import random

from bench.context import Case, Context
from bench.perpacket import clock, native, suite, verify
from bench.perpacket.clock import Contender
from bench.perpacket.cutting import MSS, SEGMENTS, StructCutter, by_scapy, super_frame
from bench.perpacket.levels import PLAIN, Level
from bench.perpacket.native import Anchor
from fastpath.batch import Batch

FRAMES = 4
"""Super-frames of a batch: with their segments they fit L2."""
BIG_SLOT = 65536 + native.HEADROOM
KINDS = {"v4-tcp": (4, 6), "v6-tcp": (6, 6), "v4-udp": (4, 17)}
ANCHORED = "v4-tcp"


def run(bench: Context) -> None:
    """Each kind: scapy's segments, then everybody in turns; ns are per segment."""
    bench.method(
        f"{FRAMES} super-frames of {SEGMENTS} segments with {MSS} bytes of payload each, in slots of 64 KiB; the "
        "segments go to slots of 2 KiB. All of it is in L2. With all checksums. ns are per segment, about 1,500 bytes."
    )
    bench.method("C anchor: bench/load/anchor.c, TCP over IPv4 only: memcpy, headers, then sums of what it copied.")
    anchor, cutter, levels = Anchor(), StructCutter(), suite.built(bench, "segment")
    suite.peers(bench)
    rng = random.Random(bench.options.seed)
    for kind, (version, protocol) in KINDS.items():
        bench.step(kind)
        frames = [super_frame(version, protocol, rng) for _ in range(FRAMES)]
        wanted = [segment for frame in frames for segment in by_scapy(frame)]
        contenders = [Contender("scapy", f"cut, {kind}", clock.calls(by_scapy, frames[:1]), SEGMENTS)]
        if protocol == 6:
            verify.same("struct", [segment for frame in frames for segment in cutter.cut(frame)], wanted)
            contenders.append(Contender("struct", f"cut, {kind}", clock.calls(cutter.cut, frames[:1]), SEGMENTS))
        for level in levels:
            contenders += _ours(level, kind, frames, wanted, joins=protocol == 6)
        if kind == ANCHORED:
            contenders.append(_anchor(anchor, kind, frames, wanted))
        clock.race(bench, contenders)
    bench.verified("All: every segment is scapy's, byte for byte. nodeplane: joining gives the super-frame again.")


def _ours(level: Level, kind: str, frames: list[bytes], wanted: list[bytes], joins: bool) -> list[Contender]:
    batch = native.batch_class()
    source, joined = (batch(FRAMES, slot=BIG_SLOT, headroom=native.HEADROOM) for _ in range(2))
    target = batch(FRAMES * SEGMENTS)
    source.fill(frames)
    cut, join = level.function("segment", "segment"), level.function("segment", "coalesce")
    packets = _after(cut, source, target, MSS)
    verify.same(f"{level.name}, cut, {kind}", packets, wanted)
    made = [Contender(level.name, f"cut, {kind}", clock.call(cut, source, target, MSS), len(wanted))]
    if joins:
        verify.same(f"{level.name}, join, {kind}", _after(join, target, joined), frames)
        made.append(Contender(level.name, f"join, {kind}", clock.call(join, target, joined), len(wanted)))
    if level == PLAIN:
        # One super-frame: it is slow.
        few = batch(1, slot=BIG_SLOT, headroom=native.HEADROOM)
        few.fill(frames[:1])
        made[0] = Contender(level.name, f"cut, {kind}", clock.call(cut, few, batch(SEGMENTS), MSS), SEGMENTS)
    return made


def _after(function: object, source: Batch, target: Batch, *arguments: int) -> list[bytes]:
    assert callable(function)
    if function(source, target, *arguments) != len(source):
        raise verify.WrongAnswerError("not everything fits the target")
    return target.frames()


def _anchor(anchor: Anchor, kind: str, frames: list[bytes], wanted: list[bytes]) -> Contender:
    target = bytearray(native.COLD_SLOT * SEGMENTS)
    address = anchor.function("anchor_segment")

    def cut(passes: int, frame: bytes = frames[0]) -> float:
        return float(native.stopwatch().time_segment(address, frame, target, native.COLD_SLOT, MSS, passes))

    found = []
    for number, frame in enumerate(frames):
        cut(1, frame)
        for place, segment in enumerate(wanted[number * SEGMENTS : (number + 1) * SEGMENTS]):
            found.append(bytes(target[place * native.COLD_SLOT :][: len(segment)]))
    verify.same(Anchor.name, found, wanted)
    rate, _ = native.clock()
    return Contender(Anchor.name, f"cut, {kind}", lambda passes: cut(passes) / rate, SEGMENTS)


CASE = Case("segmentation", "What does it cost to cut a super-frame into packets, and to join them again?", (), run,
            network=False)  # fmt: skip

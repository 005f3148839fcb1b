"""Encapsulation of traffic in which few neighbours are alike: every level leaves what the plain twin leaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from fastpath import _vxlan_py
from tests.flow_frames import common, frame, tagged
from tests.twins import stages
from tests.vxlan_frames import TUNNEL, TUNNEL6, Kit

PLAIN: list[dict[str, Any]] = [
    TUNNEL,
    TUNNEL | {"vlan": 2, "mtu": 200},
    TUNNEL6,
    TUNNEL6 | {"vlan": 2, "flow_label": 7},
]
OTHERS: list[dict[str, Any]] = [
    TUNNEL | {"ecn": "compatible"},
    TUNNEL | {"ttl": "inherit"},
    TUNNEL6 | {"checksum": "full"},
]


def sometimes(rare: Callable[[random.Random], bytes]) -> Callable[[random.Random], bytes]:
    """Frames of the usual kinds, one of a rare one in ten."""
    return lambda chance: rare(chance) if chance.random() < 0.1 else common(chance)


MIXES = {
    "both versions": common,
    "tags": tagged,
    "some tags": sometimes(tagged),
    "some of any kind": sometimes(frame),
    "any kind": frame,
}


def outcome(
    stage: ModuleType, frames: list[bytes], tunnels: list[dict[str, Any]], slot: int, moved: bool, seed: int
) -> tuple[object, ...]:
    """Everything that encapsulation leaves, and its answer."""
    kit, chance = Kit.of(stage), random.Random(seed)
    table = kit.tunnels()
    for each in tunnels:
        table.add(**each)
    batch = kit.batch(len(frames), slot=slot, huge=False)
    batch.fill(frames)
    for i in range(len(frames)):
        batch.tunnel[i] = chance.choice((0, 0, 0, len(tunnels) - 1)) if i >= 40 else 0
        batch.flags[i], batch.hash[i], batch.layers[i] = 0, 7, 7
        if moved and chance.random() < 0.1:
            batch.verdict[i] = 9
        if moved and chance.random() < 0.05:
            room = chance.choice((0, 49, 50, 53, 54, 69, 70, 73, 74, slot - len(frames[i])))
            batch.place(i, i * slot + room, len(frames[i]))
    if moved:
        # Packets leave the slots of their own numbers.
        batch.compact()
        batch.verdict[3] = 5
    passed = stage.encap(batch, table)
    columns = (batch.offset, batch.length, batch.hash, batch.layers, batch.verdict, batch.flags)
    return (passed, batch.frames(), [list(each[: len(batch)]) for each in columns], table.counts())


@pytest.mark.parametrize("stage", stages("vxlan")[1:])
@pytest.mark.parametrize("mix", MIXES)
def test_as_the_plain_twin(stage: ModuleType, mix: str) -> None:
    chance = random.Random(mix)
    for tunnel in PLAIN:
        for moved, slot in ((False, 2048), (True, 2048), (True, 320)):
            made = [MIXES[mix](chance)[: slot - 128] for _ in range(77)]
            tunnels = [tunnel, chance.choice(PLAIN + OTHERS)]
            seed = chance.randrange(1 << 30)
            wanted = outcome(_vxlan_py, made, tunnels, slot, moved, seed)
            assert outcome(stage, made, tunnels, slot, moved, seed) == wanted


@pytest.mark.parametrize("stage", stages("vxlan")[1:])
def test_nothing_but_the_headers_is_written(stage: ModuleType) -> None:
    chance = random.Random(4)
    for tunnel in PLAIN:
        for mix in MIXES.values():
            kit = Kit.of(stage)
            table = kit.tunnels()
            table.add(**tunnel)
            batch = kit.filled([mix(chance) for _ in range(40)])
            batch.memory[:] = bytes(each ^ 0x5A for each in batch.memory)
            batch.fill([mix(chance) for _ in range(40)])
            before = bytearray(batch.memory)
            starts = list(batch.offset[:40])
            stage.encap(batch, table)
            for start, now in zip(starts, batch.offset[:40], strict=True):
                before[now:start] = batch.memory[now:start]
            assert bytes(batch.memory) == before

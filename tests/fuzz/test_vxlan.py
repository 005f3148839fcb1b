"""Any bytes give an inner frame or a reason, the same from every level, alone or in a batch; nothing else changes."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

from fastpath import _select, _vxlan_py
from fastpath._checksum_py import internet_checksum
from tests.fuzz.bytes_mutator import mutations
from tests.twins import COMPILED_LEVELS
from tests.vxlan_frames import (
    FAR,
    FAR6,
    INNER,
    NEAR,
    NEAR6,
    TUNNEL,
    TUNNEL6,
    VNI,
    Kit,
    Outer,
    checked,
    ethernet,
    ip4,
    ip6,
    tcp,
    udp,
)  # fmt: skip

LEVELS: list[ModuleType] = [_vxlan_py, *(_select.stage("vxlan", level) for level in COMPILED_LEVELS)]
INNERS = [
    INNER, ethernet(checked(ip4(tcp(), 6, tos=2))), ethernet(checked(ip6(tcp(), 6, tos=1))), ethernet(ip4(udp()), (4,)),
    ethernet(ip6(bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp(), 0)), ethernet(ip4(bytes(9), 1)), INNER[:14],
]  # fmt: skip
SEEDS = [
    Outer(inner, six, checksum=checksum, tos=tos, tags=tags).build()
    for inner in INNERS
    for six, checksum, tos, tags in ((False, 0, 0, ()), (False, None, 3, ()), (True, None, 1, (5,)), (True, 0, 3, ()))
]
POLICIES: list[dict[str, Any]] = [
    {"addresses": [NEAR, NEAR6]},
    {"reserved": "count", "options": True, "gbp": True, "zero_checksum6": True},
    {"reserved": "ignore", "gpe": True, "any_vni": True, "verify_checksum": False, "addresses": [NEAR]},
]
FIELDS: list[dict[str, Any]] = [
    TUNNEL,
    TUNNEL | {"ttl": "inherit", "dscp": "inherit", "df": "inherit", "checksum": "full", "mtu": 1400},
    TUNNEL6 | {"ttl": "inherit", "dscp": "inherit", "vlan": 3, "checksum": "local", "ecn": "compatible"},
    TUNNEL | {"checksum": "local", "df": False, "gbp": 5, "vlan": 2},
    TUNNEL6 | {"dscp": 7, "mtu": 1400},
]
COLUMNS = ("offset", "length", "tunnel", "vni", "hash", "flags", "layers", "verdict")
BATCH = 64


def repaired(frame: bytes) -> bytes:
    """A frame with a right IPv4 header checksum and no UDP checksum, so that a mutant gets past those checks."""
    if len(frame) < 42 or frame[12:15] != b"\x08\x00\x45":
        return frame
    checksum = internet_checksum(frame[14:24] + bytes(2) + frame[26:34])
    return frame[:24] + checksum.to_bytes(2, "big") + frame[26:40] + bytes(2) + frame[42:]


def state(batch: Any) -> tuple[Any, ...]:
    count = len(batch)
    return bytes(batch.memory), *(list(getattr(batch, name)[:count]) for name in COLUMNS)


def agree(frames: list[bytes], seed: int) -> None:
    """Both ways through every level, with and without wild columns."""
    chance = random.Random(seed)
    flags = [chance.choice((0, 1 << 24, 1 << 25, chance.getrandbits(32))) for _ in frames]
    # Runs of equal ones, where blocks of packets are taken together, and mixtures.
    mixed = chance.random()
    number, place = chance.randrange(5), chance.choice((128, 74))
    numbers = [chance.choice((0, 1, 2, 3, 4, 5, 1 << 31)) if chance.random() < mixed else number for _ in frames]
    places = [chance.choice((128, 74, 70, 50, 49, 0)) if chance.random() < mixed else place for _ in frames]
    policy = chance.choice(POLICIES)
    wanted: list[Any] = []
    for stage in LEVELS:
        kit = Kit.of(stage)
        vtep, tunnels = kit.vtep(**policy), kit.tunnels(8)
        vtep.allow(VNI, 9, [FAR, FAR6])
        vtep.allow(0, 3)
        for fields in FIELDS:
            tunnels.add(**fields)
        batch = kit.batch(BATCH, huge=False)
        batch.fill(frames)
        for i, frame in enumerate(frames):
            batch.flags[i], batch.tunnel[i] = flags[i], numbers[i]
            start = i * batch.slot + places[i]
            batch.memory[start : start + len(frame)] = frame
            batch.place(i, start, len(frame))
        got: list[Any] = [stage.encap(batch, tunnels), state(batch), list(tunnels.counters)]
        batch.fill(frames)
        for i in range(len(frames)):
            batch.flags[i] = flags[i]
        got += [stage.decap(batch, vtep), state(batch), list(vtep.counters)]
        got += [[list(each) for each in stage.decap_list(frames, vtep)]]
        wanted = wanted or got
        assert got == wanted, (stage.__name__, seed, [frame.hex() for frame in frames])


def test_vxlan() -> None:
    batch: list[bytes] = []
    seed, chance = 0, random.Random(0)
    for mutant in mutations([*SEEDS, *INNERS]):
        batch += [mutant[:1900], repaired(mutant)[:1900], *batch[-chance.randrange(1, 12) :]]
        del batch[BATCH:]
        if len(batch) == BATCH:
            agree(batch, seed)
            batch, seed = [], seed + 1

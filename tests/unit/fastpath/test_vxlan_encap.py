"""Encapsulation: every byte of the headers against frames built field by field, every choice, every drop."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any

import pytest

from fastpath._checksum_py import internet_checksum
from fastpath._flow_py import hash_frame, hash_key, parse
from fastpath._hasher_py import Hasher
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.twins import stages
from tests.vxlan_frames import (
    INNER,
    MAC_A,
    TUNNEL,
    TUNNEL6,
    VNI,
    Kit,
    Outer,
    checked,
    ethernet,
    ip4,
    ip6,
    layer4,
    tcp,
    udp,
)  # fmt: skip

pytestmark = pytest.mark.parametrize("stage", stages("vxlan"))

ARP = ethernet(bytes(28), kind=0x0806)
INNER6 = ethernet(ip6(udp()))
LATER = ethernet(ip4(b"12345678", fragment=5))
FRAMES = [
    INNER, INNER6, ARP, LATER, ethernet(ip4(tcp(), 6)), ethernet(ip6(tcp(), 6)), ethernet(ip4(udp()), (3, 4)),
    ethernet(ip4(udp(b"", 2222, 1111), source="10.0.0.2", destination="10.0.0.1")),
    ethernet(ip4(b"\x08" + bytes(9), 1)),
    INNER[:14], INNER[:30], INNER6[:50], INNER + bytes(1400), ethernet(ip4(udp(), options=bytes(4))),
]  # fmt: skip


def flow(frame: bytes) -> int:
    key, layers, flags = parse(frame)
    return hash_key(Hasher(), key, flags) if key[37] else hash_frame(Hasher(), frame, layers)


def encap(stage: ModuleType, frames: list[bytes], flags: int = 0, **fields: Any) -> Any:
    """A batch of frames through one tunnel."""
    kit = Kit.of(stage)
    tunnels = kit.tunnels(4)
    tunnels.add(**TUNNEL6)
    number = tunnels.add(**(TUNNEL | fields))
    batch = kit.filled(frames)
    for i in range(len(batch)):
        batch.tunnel[i], batch.flags[i] = number, flags
    passed = stage.encap(batch, tunnels)
    assert passed == sum(not each for each in batch.verdict[: len(batch)])
    assert tunnels.counters[0] == tunnels.counts()[Reason.PASS] == passed
    assert sum(tunnels.counters) == len(batch)
    return batch


def outer(inner: bytes, **changes: Any) -> Outer:
    return Outer(inner, source_port=49152 + flow(inner) % 16384, **changes)


def label(frame: bytes, value: int) -> bytes:
    """An untagged IPv6 frame with a flow label."""
    word: int = struct.unpack_from("!I", frame, 14)[0] | value
    return frame[:14] + word.to_bytes(4, "big") + frame[18:]


@pytest.mark.parametrize("count", [1, 33])
def test_headers_over_ipv4(stage: ModuleType, count: int) -> None:
    for inner in FRAMES:
        batch = encap(stage, [inner] * count)
        assert batch.frames() == [outer(inner).build()] * count
        assert batch.hash[0] == flow(inner)


@pytest.mark.parametrize("count", [1, 33])
def test_headers_over_ipv6(stage: ModuleType, count: int) -> None:
    for inner in FRAMES:
        batch = encap(stage, [inner] * count, **TUNNEL6)
        assert batch.frames() == [label(outer(inner, six=True).build(), flow(inner) >> 12)] * count
        batch = encap(stage, [inner] * count, **TUNNEL6, checksum="full", flow_label=0)
        assert batch.frames() == [outer(inner, six=True, checksum=None).build()] * count


def test_layers_follow_the_inner_headers(stage: ModuleType) -> None:
    for fields, size in (({}, 50), ({"vlan": 9}, 54), (TUNNEL6, 70), (TUNNEL6 | {"vlan": 9}, 74)):
        batch = encap(stage, [INNER, ARP, LATER, INNER6, INNER[:13] + b"\0"], **fields)
        low = 14 + size
        assert list(batch.layers[:4]) == [low | (34 + size) << 16, low, low, low | (54 + size) << 16]
        for i in range(4):
            assert batch.length[i] == len(batch.frame(i))


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_fixed_fields(stage: ModuleType, six: bool) -> None:
    fields = {"vni": 0xABCDEF, "port": 8472, "ttl": 9, "dscp": 46, "vlan": 4094, "gbp": 0x1234, "flow_label": 0}
    batch = encap(stage, [INNER, ARP], **((TUNNEL6 if six else TUNNEL) | fields))
    for i, inner in enumerate((INNER, ARP)):
        expected = outer(inner, six=six, vni=0xABCDEF, port=8472, ttl=9, tos=46 << 2, tags=(4094,),
                         vxlan=b"\x88\0\x12\x34")  # fmt: skip
        assert batch.frame(i) == expected.build()


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_what_is_inherited(stage: ModuleType, six: bool) -> None:
    base = (TUNNEL6 if six else TUNNEL) | {"flow_label": 5}
    for make in (ip4, ip6):
        for tags in ((), (5,)):
            for tos in (0, 1, 2, 3, 0xB8, 0xBB):
                inner = ethernet(make(udp(), tos=tos, ttl=17), tags)
                for fields, got_tos, got_ttl in (
                    ({}, tos & 3, 64),
                    ({"ecn": "compatible"}, 0, 64),
                    ({"dscp": "inherit"}, tos, 64),
                    ({"dscp": "inherit", "ecn": "compatible"}, tos & 0xFC, 64),
                    ({"ttl": "inherit", "dscp": 10}, 40 | tos & 3, 17),
                ):
                    batch = encap(stage, [inner], **(base | fields))
                    wanted = outer(inner, six=six, tos=got_tos, ttl=got_ttl).build()
                    assert batch.frames() == [label(wanted, 5) if six else wanted]
    batch = encap(stage, [ARP], **(base | {"dscp": "inherit", "ttl": "inherit"}))
    wanted = outer(ARP, six=six).build()
    assert batch.frames() == [label(wanted, 5) if six else wanted]


def test_dont_fragment(stage: ModuleType) -> None:
    free = ethernet(ip4(udp(), fragment=0))
    for value, frames in ((True, (INNER, free, INNER6, ARP)), ("inherit", (INNER, INNER6))):
        for inner in frames:
            assert encap(stage, [inner], df=value).frames() == [outer(inner).build()]
    # Without the bit the identification counts packets, over all calls of a table.
    kit = Kit.of(stage)
    for value, free_ones in ((False, [INNER, free, INNER6, ARP]), ("inherit", [free, ARP])):
        tunnels = kit.tunnels()
        tunnels.add(**TUNNEL, df=value)
        for turn in range(2):
            batch = kit.filled(free_ones)
            stage.encap(batch, tunnels)
            for i in range(len(free_ones)):
                sent = batch.frame(i)
                assert struct.unpack_from("!HH", sent, 18) == (turn * len(free_ones) + i, 0)
                assert internet_checksum(sent[14:34]) == 0


def completed(frame: bytes) -> bytes:
    """An untagged frame whose TCP or UDP checksum is right."""
    return frame[:14] + checked(frame[14:])


def with_partial(frame: bytes) -> bytes:
    """As a device with checksum offload is given it: the field holds the pseudo header's sum."""
    _, pseudo, field = layer4(frame[14:])
    return frame[: 14 + field] + (0xFFFF - internet_checksum(pseudo)).to_bytes(2, "big") + frame[16 + field :]


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_the_checksum_of_every_packet_is_right(stage: ModuleType, six: bool) -> None:
    base = (TUNNEL6 if six else TUNNEL) | {"flow_label": 0}
    for inner in [*FRAMES, *(ethernet(ip4(udp(bytes(range(size))))) for size in range(40))]:
        wanted = [outer(inner, six=six, checksum=None).build()]
        assert encap(stage, [inner], **base, checksum="full").frames() == wanted
        assert encap(stage, [inner], **base, checksum="local").frames() == wanted
        # What says nothing about the payload does not count; what is known to be right does.
        if inner[12:14] == b"\x08\x06":
            for flags in (Flags.PARTIAL_CHECKSUM, Flags.VALID_CHECKSUM):
                assert encap(stage, [inner], int(flags), **base, checksum="local").frames() == wanted


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("make", [ip4, ip6])
@pytest.mark.parametrize("size", [0, 1, 5, 200, 1301])
def test_local_checksum_offload(stage: ModuleType, six: bool, make: Any, size: int) -> None:
    base = (TUNNEL6 if six else TUNNEL) | {"flow_label": 0}
    payload = bytes(i * 31 & 0xFF for i in range(size))
    for packet in (make(tcp(payload), 6), make(udp(payload))):
        for padding in (b"", b"\0", b"\1\2\3\4\5"):
            done = completed(ethernet(packet)) + padding
            wanted = outer(done, six=six, checksum=None).build()
            flag = int(Flags.VALID_CHECKSUM)
            assert encap(stage, [done], flag, **base, checksum="local").frames() == [wanted]
            # The outer checksum of a partial packet is that of the packet as it will be.
            partial = with_partial(ethernet(packet)) + padding
            for mode in ("local", "full"):
                sent = encap(stage, [partial], int(Flags.PARTIAL_CHECKSUM), **base, checksum=mode).frame(0)
                assert sent == wanted[: -len(done)] + partial


def test_a_payload_that_is_vouched_for_is_not_read(stage: ModuleType) -> None:
    done = completed(ethernet(ip4(tcp(b"x" * 100), 6)))
    broken = done[:-1] + b"y"
    flag = int(Flags.VALID_CHECKSUM)
    sent, other = (encap(stage, [each], flag, checksum="local").frame(0) for each in (done, broken))
    assert sent[:50] == other[:50]
    # In "full" the flag is not believed.
    sent, other = (encap(stage, [each], flag, checksum="full").frame(0) for each in (done, broken))
    assert sent[40:42] != other[40:42]


def test_an_inner_udp_without_checksum_vouches_for_nothing(stage: ModuleType) -> None:
    inner = ethernet(ip4(udp(b"data")))
    wanted = outer(inner, checksum=None).build()
    assert encap(stage, [inner], int(Flags.VALID_CHECKSUM), checksum="local").frames() == [wanted]


def test_the_port_is_the_flows(stage: ModuleType) -> None:
    there = ethernet(ip4(tcp(b"a", 1111, 80), 6))
    back = ethernet(ip4(tcp(b"bb", 80, 1111), 6, source="10.0.0.2", destination="10.0.0.1"))
    flows = [ethernet(ip4(udp(b"", 1000 + i, 53))) for i in range(400)]
    batch = encap(stage, [there, back, *flows])
    ports = [struct.unpack_from("!H", frame, 34)[0] for frame in batch.frames()]
    assert ports[0] == ports[1]
    assert all(port >= 49152 for port in ports)
    assert len(set(ports[2:])) > 380


def drop(stage: ModuleType, frame: bytes, **fields: Any) -> Reason:
    batch = encap(stage, [INNER] * 20 + [frame] + [INNER] * 20, **fields)
    assert batch.frame(20) == frame or batch.verdict[20] == 0
    return Reason(batch.verdict[20])


def test_drops(stage: ModuleType) -> None:
    assert drop(stage, INNER[:13]) == Reason.INNER_SHORT
    assert drop(stage, INNER[:14]) == Reason.PASS
    assert drop(stage, ethernet(ip4(udp(), ttl=0)), ttl="inherit") == Reason.HOP_LIMIT
    assert drop(stage, ethernet(ip6(udp(), ttl=0)), ttl="inherit") == Reason.HOP_LIMIT
    assert drop(stage, ethernet(ip6(udp(), ttl=0))) == Reason.PASS
    for fields, more in (({}, 36), (TUNNEL6, 56)):
        for size, expected in ((1500 - more, Reason.PASS), (1501 - more, Reason.TOO_LONG)):
            frame = INNER + bytes(size - len(INNER))
            assert drop(stage, frame, **fields, mtu=1500) == expected


def test_the_longest_packet(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    for fields, most in ((TUNNEL, 65535 - 36), (TUNNEL6, 65535 - 16)):
        tunnels = kit.tunnels()
        tunnels.add(**fields)
        batch = kit.batch(2, slot=69632, huge=False)
        batch.fill([INNER + bytes(most - len(INNER)), INNER + bytes(most + 1 - len(INNER))])
        assert stage.encap(batch, tunnels) == 1
        assert list(batch.verdict[:2]) == [0, Reason.TOO_LONG]
        assert struct.unpack_from("!H", batch.frame(0), 38 if most < 65519 else 58)[0] == most + 16


def test_headroom(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    for fields, size in ((TUNNEL, 50), (TUNNEL | {"vlan": 1}, 54), (TUNNEL6, 70), (TUNNEL6 | {"vlan": 1}, 74)):
        tunnels = kit.tunnels()
        tunnels.add(**fields)
        batch = kit.filled([INNER] * 4)
        before = bytes(batch.memory)
        for i, room in enumerate((size, size - 1, 0, 128)):
            batch.place(i, i * batch.slot + room, 200)
        assert stage.encap(batch, tunnels) == 2
        assert list(batch.verdict[:4]) == [0, Reason.NO_HEADROOM, Reason.NO_HEADROOM, 0]
        assert [batch.offset[i] % batch.slot for i in range(4)] == [0, size - 1, 0, 128 - size]
        # Nothing but the headers was written.
        after = bytearray(batch.memory)
        for i in (0, 3):
            at = batch.offset[i]
            after[at : at + size] = before[at : at + size]
        assert bytes(after) == before


def test_room_is_found_after_compaction(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels()
    tunnels.add(**TUNNEL)
    batch = kit.filled([INNER, ARP, INNER6, LATER])
    batch.verdict[0] = batch.verdict[2] = 9
    assert batch.compact() == 2
    assert stage.encap(batch, tunnels) == 2
    assert batch.frames() == [outer(ARP).build(), outer(LATER).build()]
    batch.place(0, batch.offset[0] // batch.slot * batch.slot + 49, 60)
    assert stage.encap(batch, tunnels) == 1
    assert batch.verdict[0] == Reason.NO_HEADROOM


def test_the_slot_before_is_left_alone(stage: ModuleType) -> None:
    """A packet at the very start of its slot, one place up: its room is not that of the slot of its number."""
    kit = Kit.of(stage)
    tunnels = kit.tunnels()
    tunnels.add(**TUNNEL)
    batch = kit.filled([INNER] * 12)
    batch.place(11, 11 * batch.slot, len(INNER))
    batch.verdict[0] = 9
    assert batch.compact() == 11
    assert stage.encap(batch, tunnels) == 10
    assert batch.verdict[10] == Reason.NO_HEADROOM


def test_tunnels_that_are_not_there(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels(8)
    numbers = [tunnels.add(**TUNNEL | {"vni": VNI + i}) for i in range(3)]
    tunnels.remove(numbers[1])
    batch = kit.filled([INNER] * 8)
    for i, number in enumerate((0, 1, 2, 3, 7, 8, 0xFFFFFFFF, 0)):
        batch.tunnel[i] = number
    assert stage.encap(batch, tunnels) == 3
    unknown = Reason.TUNNEL_UNKNOWN
    assert list(batch.verdict[:8]) == [0, unknown, 0, unknown, unknown, unknown, unknown, 0]
    assert tunnels.counts()[unknown] == 5
    assert [batch.frame(i)[46:49] for i in (0, 2)] == [(VNI + i).to_bytes(3, "big") for i in (0, 2)]


def test_mixed_tunnels(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels(300)
    kinds: list[dict[str, Any]] = [{}, {"vlan": 7}, {"ttl": "inherit", "dscp": 3}, {"checksum": "full"}]
    wanted: list[dict[str, Any]] = [{}, {"tags": (7,)}, {"tos": 12}, {"checksum": None}]
    for i in range(256):
        tunnels.add(**TUNNEL | kinds[i % 4] | {"vni": i})
    batch = kit.filled([FRAMES[i % 5] for i in range(256)])
    for i in range(256):
        batch.tunnel[i] = (i * 37) % 256
    assert stage.encap(batch, tunnels) == 256
    for i in range(256):
        number = (i * 37) % 256
        expected = outer(FRAMES[i % 5], vni=number, **wanted[number % 4])
        assert batch.frame(i) == expected.build(), i


def test_a_frame_among_others_gets_what_it_gets_alone(stage: ModuleType) -> None:
    """Every byte of the inner headers, changed in one frame of a run."""
    for good in (ethernet(ip4(tcp(), 6)), INNER6):
        for at in range(12, 58):
            for flip in (1, 0x40, 0x80):
                odd = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
                run = [good] * 9 + [odd] + [good] * 6
                for fields in (TUNNEL, TUNNEL6 | {"vlan": 3}):
                    alone, among = encap(stage, [odd], **fields), encap(stage, run, **fields)
                    assert among.frame(9) == alone.frame(0), (at, flip)
                    for column in ("verdict", "hash", "layers"):
                        assert getattr(among, column)[9] == getattr(alone, column)[0], (at, flip, column)


def test_runs_are_as_single_packets(stage: ModuleType) -> None:
    """All kinds of plain tunnels, in runs and mixed, with congestion marks, of every length of a run."""
    kit = Kit.of(stage)
    kinds: list[dict[str, Any]] = [TUNNEL, TUNNEL | {"ecn": "compatible", "dscp": 9}, TUNNEL | {"mtu": 200}]
    kinds += [TUNNEL6, TUNNEL6 | {"flow_label": 7}, TUNNEL | {"vlan": 2}, TUNNEL6 | {"vlan": 2, "ecn": "compatible"}]
    for group in ((0,), (0, 1), (0, 2), (3,), (3, 4), (5,), (6,), (0, 3), (1, 2, 5)):
        for make in (ip4, ip6):
            tunnels, single = kit.tunnels(), kit.tunnels()
            for kind in kinds:
                tunnels.add(**kind)
                single.add(**kind)
            frames = [ethernet(make(udp(bytes(i)), tos=i % 4)) for i in range(29)]
            batch = kit.filled(frames)
            for i in range(29):
                batch.tunnel[i] = group[i * 7 % 5 % len(group)]
            passed = stage.encap(batch, tunnels)
            for i, frame in enumerate(frames):
                one = kit.filled([frame])
                one.tunnel[0] = batch.tunnel[i]
                passed -= stage.encap(one, single)
                assert one.frames() == [batch.frame(i)]
                assert (one.hash[0], one.layers[0]) == (batch.hash[i], batch.layers[i])
            assert passed == 0


def test_another_seed_gives_other_ports(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels()
    tunnels.add(**TUNNEL)
    batch = kit.filled([INNER])
    stage.encap(batch, tunnels, kit.hasher(7))
    key, _, flags = parse(INNER)
    assert batch.hash[0] == hash_key(Hasher(7), key, flags) != flow(INNER)


def test_dropped_packets_are_passed_over(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    tunnels = kit.tunnels()
    tunnels.add(**TUNNEL)
    batch = kit.filled([INNER] * 40)
    batch.verdict[5] = 9
    assert stage.encap(batch, tunnels) == 39
    assert batch.frame(5) == INNER
    assert batch.frame(6) == outer(INNER).build()
    assert batch.frame(6)[:12] == bytes.fromhex("020000000002") + MAC_A

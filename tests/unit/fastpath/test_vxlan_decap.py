"""Decapsulation: what is taken and what it gives; every reason for which a frame is dropped; RFC 6040."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.twins import stages
from tests.vxlan_frames import (
    FAR,
    FAR6,
    INNER,
    NEAR,
    NEAR6,
    NETWORK,
    VNI,
    Kit,
    Outer,
    changed,
    checked,
    ethernet,
    ip4,
    ip6,
    tcp,
    udp,
)  # fmt: skip

pytestmark = pytest.mark.parametrize("stage", stages("vxlan"))

GOOD, GOOD6 = Outer(), Outer(six=True, checksum=None)
HOP = bytes([17, 0, 1, 4, 0, 0, 0, 0])
"""A hop-by-hop header before UDP."""


def decap(stage: ModuleType, frames: list[bytes], flags: int = 0, **policy: Any) -> tuple[Any, Any]:
    """A batch of frames through an endpoint that knows one VNI."""
    kit = Kit.of(stage)
    vtep = kit.vtep(**({"addresses": [NEAR, NEAR6]} | policy))
    vtep.allow(VNI, NETWORK, [FAR, FAR6])
    batch = kit.filled(frames)
    for i in range(len(batch)):
        batch.flags[i] = flags
    passed = stage.decap(batch, vtep)
    assert passed == sum(not each for each in batch.verdict[: len(batch)])
    assert vtep.counters[0] == vtep.counts()[Reason.PASS] == passed
    return batch, vtep


def reason(stage: ModuleType, frame: bytes, **policy: Any) -> Reason:
    """Why one frame is dropped, the same alone and among good ones; a dropped packet stays as it was."""
    batch, vtep = decap(stage, [frame], **policy)
    found = Reason(batch.verdict[0])
    if found:
        assert batch.frames() == [frame]
        assert vtep.counts() == dict.fromkeys(Reason, 0) | {found: 1}
        assert batch.vni[0] == batch.tunnel[0] == 0
        good = GOOD.build()
        batch, _ = decap(stage, [good] * 20 + [frame] + [good] * 27, **policy)
        assert [i for i in range(48) if batch.verdict[i]] == [20]
        assert batch.verdict[20] == found
        assert batch.frames() == [INNER] * 20 + [frame] + [INNER] * 27
    return found


TAKEN: dict[str, tuple[Outer, dict[str, Any], Flags]] = {
    "plain": (GOOD, {}, Flags(0)),
    "checksum": (GOOD.but(checksum=None), {}, Flags(0)),
    "checksum not verified": (GOOD.but(checksum=7), {"verify_checksum": False}, Flags(0)),
    "any destination": (GOOD.but(destination="198.51.100.9"), {"addresses": ()}, Flags(0)),
    "one address": (GOOD, {"addresses": [NEAR]}, Flags(0)),
    "two addresses": (GOOD, {"addresses": ["192.0.2.99", NEAR]}, Flags(0)),
    "port": (GOOD.but(port=8472), {"port": 8472}, Flags(0)),
    "tag": (GOOD.but(tags=(5,)), {}, Flags(0)),
    "two tags": (GOOD.but(tags=(5, 6)), {}, Flags(0)),
    "padding": (GOOD.but(padding=bytes(9)), {}, Flags(0)),
    "options": (GOOD.but(options=b"\x94\x04\x00\x00"), {"options": True}, Flags(0)),
    "fragmentable": (GOOD.but(fragment=0), {}, Flags(0)),
    "IPv6": (GOOD6, {}, Flags(0)),
    "IPv6, tag, padding": (GOOD6.but(tags=(5,), padding=b"\1"), {}, Flags(0)),
    "IPv6 without checksum": (GOOD6.but(checksum=0), {"zero_checksum6": True}, Flags(0)),
    "IPv6 options": (GOOD6.but(options=HOP, protocol=0), {"options": True}, Flags(0)),
    "IPv6 any destination": (GOOD6.but(destination="ff05::5"), {"addresses": ()}, Flags(0)),
    "ignored bits": (GOOD.but(vxlan=b"\x08\0\0\1", last=9), {"reserved": "ignore"}, Flags(0)),
    "ignored GPE": (GOOD.but(vxlan=b"\x0c\0\0\3"), {"reserved": "ignore"}, Flags(0)),
    "ignored GBP": (GOOD.but(vxlan=b"\x88\0\1\2"), {"reserved": "ignore"}, Flags(0)),
    "GPE": (GOOD.but(vxlan=b"\x0c\0\0\3"), {"gpe": True}, Flags.GPE),
    "GBP": (GOOD.but(vxlan=b"\x88\x48\1\2"), {"gbp": True}, Flags.GBP),
    "both known": (GOOD.but(vxlan=b"\x88\0\1\2"), {"gbp": True, "gpe": True}, Flags.GBP),
    "smallest": (GOOD.but(inner=INNER[:14]), {}, Flags(0)),
    "largest": (GOOD.but(inner=INNER + bytes(1400)), {}, Flags(0)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_takes(stage: ModuleType, name: str) -> None:
    outer, policy, flags = TAKEN[name]
    frame = outer.build()
    # Alone, and enough of them for whatever is done for many at once.
    for count in (1, 40):
        batch, _ = decap(stage, [frame] * count, **policy)
        assert batch.frames() == [outer.inner] * count
        for i in range(count):
            assert (batch.verdict[i], batch.vni[i], batch.tunnel[i]) == (0, VNI, NETWORK)
            assert (Flags(batch.flags[i]), batch.layers[i]) == (flags, 0)


DROPPED: dict[str, tuple[bytes, dict[str, Any], Reason]] = {
    "empty": (b"", {}, Reason.TRUNCATED),
    "half an Ethernet header": (GOOD.build()[:13], {}, Reason.TRUNCATED),
    "half a tag": (GOOD.but(tags=(5,)).build()[:17], {}, Reason.TRUNCATED),
    "half an IPv4 header": (GOOD.build()[:33], {}, Reason.TRUNCATED),
    "half an IPv6 header": (GOOD6.build()[:53], {}, Reason.TRUNCATED),
    "three tags": (GOOD.but(tags=(5, 6, 7)).build(), {}, Reason.NOT_IP),
    "ARP": (ethernet(bytes(60), kind=0x0806), {}, Reason.NOT_IP),
    "version": (changed(GOOD.build(), 14, b"\x65"), {}, Reason.IP_VERSION),
    "version 6": (changed(GOOD6.build(), 14, b"\x45"), {}, Reason.IP_VERSION),
    "short header": (changed(GOOD.build(), 14, b"\x44"), {}, Reason.IP_HEADER_LENGTH),
    "header beyond the frame": (changed(GOOD.build()[:40], 14, b"\x4f"), {}, Reason.IP_HEADER_LENGTH),
    "total below header": (changed(GOOD.build(), 16, b"\0\x13"), {}, Reason.IP_TOTAL_LENGTH),
    "cut": (GOOD.build()[:-1], {}, Reason.IP_TOTAL_LENGTH),
    "cut, IPv6": (GOOD6.build()[:-1], {}, Reason.IP_TOTAL_LENGTH),
    "option cut": (GOOD6.but(options=b"\x11\x14" + bytes(6), protocol=0, inner=INNER[:20]).build(), {"options": True},
                   Reason.IP_TOTAL_LENGTH),
    "option without room": (ethernet(ip6(b"\x11\0\0\0", 60, source=FAR6, destination=NEAR6)), {"options": True},
                            Reason.IP_TOTAL_LENGTH),
    "options": (GOOD.but(options=b"\x94\x04\x00\x00").build(), {}, Reason.IP_OPTIONS),
    "hop by hop": (GOOD6.but(options=HOP, protocol=0).build(), {}, Reason.IP_OPTIONS),
    "five headers": (GOOD6.but(options=(b"\x3c" + HOP[1:]) * 4 + HOP, protocol=60).build(), {"options": True},
                     Reason.IP_OPTIONS),
    "routing": (GOOD6.but(options=HOP, protocol=43).build(), {"options": True}, Reason.IP_OPTIONS),
    "authentication": (GOOD6.but(options=HOP, protocol=51).build(), {"options": True}, Reason.IP_OPTIONS),
    "header checksum": (changed(GOOD.build(), 22, b"\x3f", mend=False), {}, Reason.IP_CHECKSUM),
    "header checksum, options": (changed(GOOD.but(options=bytes(4)).build(), 36, b"\1", mend=False),
                                 {"options": True}, Reason.IP_CHECKSUM),
    "first fragment": (GOOD.but(fragment=0x2000).build(), {}, Reason.IP_FRAGMENT),
    "last fragment": (GOOD.but(fragment=1).build(), {}, Reason.IP_FRAGMENT),
    "fragment 6": (GOOD6.but(options=HOP, protocol=44).build(), {}, Reason.IP_FRAGMENT),
    "TCP": (GOOD.but(protocol=6).build(), {}, Reason.NOT_UDP),
    "TCP 6": (GOOD6.but(protocol=6).build(), {}, Reason.NOT_UDP),
    "no room for VXLAN": (ethernet(ip4(udp(bytes(7)), source=FAR, destination=NEAR)), {}, Reason.UDP_LENGTH),
    "no room for UDP": (ethernet(ip4(bytes(7), source=FAR, destination=NEAR)), {}, Reason.UDP_LENGTH),
    "UDP longer than IP": (GOOD.but(udp_more=1).build(), {}, Reason.UDP_LENGTH),
    "UDP shorter than IP": (GOOD.but(udp_more=-1).build(), {}, Reason.UDP_LENGTH),
    "UDP shorter than IP, 6": (GOOD6.but(udp_more=-1).build(), {}, Reason.UDP_LENGTH),
    "checksum": (GOOD.but(checksum=0x1234).build(), {}, Reason.UDP_CHECKSUM),
    "checksum 6": (GOOD6.but(checksum=0x1234).build(), {}, Reason.UDP_CHECKSUM),
    "no checksum 6": (GOOD6.but(checksum=0).build(), {}, Reason.UDP_ZERO_CHECKSUM),
    "port": (GOOD.but(port=4790).build(), {}, Reason.UDP_PORT),
    "no I flag": (GOOD.but(vxlan=bytes(4)).build(), {"reserved": "ignore"}, Reason.VXLAN_FLAGS),
    "reserved flag": (GOOD.but(vxlan=b"\x48\0\0\0").build(), {}, Reason.VXLAN_RESERVED),
    "reserved byte": (GOOD.but(vxlan=b"\x08\0\0\1").build(), {}, Reason.VXLAN_RESERVED),
    "reserved last": (GOOD.but(last=1).build(), {}, Reason.VXLAN_RESERVED),
    "reserved with GBP": (GOOD.but(vxlan=b"\x88\x80\0\0").build(), {"gbp": True}, Reason.VXLAN_RESERVED),
    "reserved with GPE": (GOOD.but(vxlan=b"\x0c\0\1\3").build(), {"gpe": True}, Reason.VXLAN_RESERVED),
    "GPE unknown": (GOOD.but(vxlan=b"\x0c\0\0\3").build(), {"gbp": True}, Reason.VXLAN_GPE),
    "GPE IPv4": (GOOD.but(vxlan=b"\x0c\0\0\1").build(), {"gpe": True}, Reason.VXLAN_GPE),
    "GPE IPv4 ignored": (GOOD.but(vxlan=b"\x0c\0\0\1").build(), {"reserved": "ignore"}, Reason.VXLAN_GPE),
    "GPE OAM": (GOOD.but(vxlan=b"\x0d\0\0\3").build(), {"gpe": True}, Reason.VXLAN_GPE),
    "GPE version 1": (GOOD.but(vxlan=b"\x1c\0\0\3").build(), {"gpe": True}, Reason.VXLAN_GPE),
    "GBP unknown": (GOOD.but(vxlan=b"\x88\0\0\3").build(), {"gpe": True}, Reason.VXLAN_GBP),
    "VNI": (GOOD.but(vni=VNI + 1).build(), {}, Reason.VNI_UNKNOWN),
    "source": (GOOD.but(source="192.0.2.7").build(), {}, Reason.VTEP_NOT_ALLOWED),
    "source 6": (GOOD6.but(source="2001:db8::7").build(), {}, Reason.VTEP_NOT_ALLOWED),
    "congestion": (GOOD.but(tos=3).build(), {}, Reason.ECN),
    "congestion 6": (GOOD6.but(tos=3).build(), {}, Reason.ECN),
    "inner cut": (GOOD.but(inner=INNER[:13]).build(), {}, Reason.INNER_SHORT),
    "inner absent": (GOOD.but(inner=b"").build(), {}, Reason.INNER_SHORT),
    "inner source zero": (GOOD.but(inner=ethernet(ip4(udp()), source_mac=bytes(6))).build(), {},
                          Reason.INNER_SOURCE_MAC),
    "inner source multicast": (GOOD.but(inner=ethernet(ip4(udp()), source_mac=b"\1\0\0\0\0\1")).build(), {},
                               Reason.INNER_SOURCE_MAC),
    "destination": (GOOD.but(destination="192.0.2.3").build(), {}, Reason.DESTINATION),
    "destination, one": (GOOD.but(destination="192.0.2.3").build(), {"addresses": [NEAR]}, Reason.DESTINATION),
    "destination, 6 only": (GOOD6.but(destination="2001:db8::3").build(), {}, Reason.DESTINATION),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_drops(stage: ModuleType, name: str) -> None:
    frame, policy, expected = DROPPED[name]
    assert reason(stage, frame, **policy) == expected


def test_every_reason_of_decapsulation_is_tried(stage: ModuleType) -> None:
    of_encapsulation = {Reason.TUNNEL_UNKNOWN, Reason.TOO_LONG, Reason.NO_HEADROOM, Reason.HOP_LIMIT}
    tried = {expected for _, _, expected in DROPPED.values()}
    last = max(Reason.DESTINATION, *tried)
    assert tried == {each for each in Reason if 0 < each <= last} - of_encapsulation


def test_an_endpoint_of_one_family_has_no_address_of_the_other(stage: ModuleType) -> None:
    assert reason(stage, GOOD6.build(), addresses=[NEAR]) == Reason.DESTINATION
    batch, _ = decap(stage, [GOOD.build()], addresses=[NEAR6])
    assert batch.verdict[0] == Reason.DESTINATION


def test_reserved_bits_that_are_counted(stage: ModuleType) -> None:
    frames = [GOOD.but(vxlan=b"\x08\0\0\1").build(), GOOD.build()] * 20
    batch, vtep = decap(stage, frames, reserved="count")
    assert batch.frames() == [INNER] * 40
    assert [Flags(each) for each in batch.flags[:2]] == [Flags.RESERVED_BITS, Flags(0)]
    assert vtep.counts() == dict.fromkeys(Reason, 0) | {Reason.PASS: 40, Reason.VXLAN_RESERVED: 20}


def test_a_mac_with_one_byte_is_a_mac(stage: ModuleType) -> None:
    for i in range(6):
        mac = bytes(2 if j == i else 0 for j in range(6))
        frame = GOOD.but(inner=ethernet(ip4(udp()), source_mac=mac)).build()
        batch, _ = decap(stage, [GOOD.build(), frame] * 20)
        assert not any(batch.verdict[:40])


def inner(kind: str, ecn: int) -> bytes:
    """A frame with this ECN field, if it has one."""
    if kind == "arp":
        return ethernet(bytes(28), kind=0x0806)
    packet = checked((ip6 if kind == "ip6" else ip4)(tcp(), 6, tos=0xB8 | ecn))
    return ethernet(packet, (9, 10) if kind == "tagged" else ())


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("inner_kind", ["ip4", "ip6", "tagged", "arp"])
def test_congestion_marks(stage: ModuleType, six: bool, inner_kind: str) -> None:
    """RFC 6040 figure 4."""
    drop = -1
    becomes = {0: (0, 0, 0, drop), 2: (2, 2, 1, 3), 1: (1, 1, 1, 3), 3: (3, 3, 3, 3)}
    for inner_ecn, row in becomes.items():
        for outer_ecn, expected in zip((0, 2, 1, 3), row, strict=True):
            frame = Outer(inner(inner_kind, inner_ecn), six, tos=0x28 | outer_ecn, checksum=None).build()
            batch, _ = decap(stage, [GOOD.build(), frame, GOOD.build()])
            if inner_kind == "arp":
                assert (batch.verdict[1], batch.frame(1)) == (0, inner(inner_kind, 0))
            elif expected == drop:
                assert batch.verdict[1] == Reason.ECN
            else:
                # The IPv4 checksum is what a new packet with this field has.
                assert batch.frame(1) == inner(inner_kind, expected)
                marked = outer_ecn == 3 and inner_ecn != 3
                assert Flags(batch.flags[1]) == (Flags.CE if marked else Flags(0))


def test_a_partial_checksum_is_not_verified_and_stays_partial(stage: ModuleType) -> None:
    batch, _ = decap(stage, [GOOD.but(checksum=1).build()] * 20, flags=int(Flags.PARTIAL_CHECKSUM | Flags.IPV4))
    assert [Flags(each) for each in batch.flags[:20]] == [Flags.PARTIAL_CHECKSUM] * 20
    batch, _ = decap(stage, [GOOD.build()] * 20, flags=int(Flags.PARTIAL_CHECKSUM | Flags.IPV4))
    assert [Flags(each) for each in batch.flags[:20]] == [Flags.PARTIAL_CHECKSUM] * 20


def test_dropped_packets_are_passed_over(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    vtep = kit.vtep(any_vni=True)
    frame = GOOD.build()
    batch = kit.filled([frame] * 40)
    batch.verdict[3] = batch.verdict[39] = 9
    assert stage.decap(batch, vtep) == 38
    assert batch.frames() == [frame if i in (3, 39) else INNER for i in range(40)]
    assert batch.verdict[3] == 9
    assert sum(vtep.counters) == 38


def test_many_networks_and_sources_mixed(stage: ModuleType) -> None:
    """Each frame has the network of its own VNI, whatever came before it."""
    kit = Kit.of(stage)
    vtep = kit.vtep(addresses=[NEAR])
    vnis = [(i * 40503) & 0xFFFFFF for i in range(1, 400)]
    for i, vni in enumerate(vnis):
        vtep.allow(vni, 10_000 + i, None if i % 3 == 0 else [f"192.0.2.{i % 250 + 1}"])
    frames, expected = [], []
    for i, vni in enumerate(vnis):
        for source in (f"192.0.2.{i % 250 + 1}", "192.0.2.254"):
            frames.append(GOOD.but(vni=vni, source=source).build())
            expected.append(10_000 + i if source != "192.0.2.254" or i % 3 == 0 else None)
    frames.append(GOOD.but(vni=1).build())
    expected.append(None)
    batch = kit.filled(frames)
    stage.decap(batch, vtep)
    got = [None if batch.verdict[i] else batch.tunnel[i] for i in range(len(batch))]
    assert got == expected
    assert vtep.counts()[Reason.VNI_UNKNOWN] == 1


def test_a_frame_that_looks_like_the_ones_before_is_still_checked(stage: ModuleType) -> None:
    """Every byte of the outer headers, changed in one frame of a run: the same as alone."""
    good = GOOD.build()
    run = 48
    for at in range(64):
        for flip in (1, 0x40, 0x80):
            odd = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
            alone, _ = decap(stage, [odd])
            among, _ = decap(stage, [good] * 20 + [odd] + [good] * (run - 21))
            for column in ("verdict", "vni", "tunnel", "flags"):
                assert getattr(among, column)[20] == getattr(alone, column)[0], (at, flip, column)
            assert among.frame(20) == alone.frame(0), (at, flip)
            assert not any(among.verdict[i] for i in range(run) if i != 20)


def test_a_frame_among_those_of_other_networks_is_still_checked(stage: ModuleType) -> None:
    """The same where each frame has another VNI and source than the one before."""
    kit = Kit.of(stage)
    vtep = kit.vtep(addresses=[NEAR])
    for vni in range(1, 6):
        vtep.allow(vni, 100 + vni, [f"198.51.100.{vni}", "192.0.2.1"])
    run = [GOOD.but(vni=i % 5 + 1, source=f"198.51.100.{i % 5 + 1}").build() for i in range(24)]
    good = run[11]
    for at in range(64):
        for flip in (1, 0x40):
            odd = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
            alone, among = kit.filled([odd]), kit.filled([*run[:11], odd, *run[12:]])
            stage.decap(alone, vtep)
            stage.decap(among, vtep)
            for column in ("verdict", "vni", "tunnel", "flags", "length"):
                assert getattr(among, column)[11] == getattr(alone, column)[0], (at, flip, column)
            for i in range(24):
                if i != 11:
                    assert (among.verdict[i], among.vni[i], among.tunnel[i]) == (0, i % 5 + 1, 101 + i % 5)
            assert among.frame(0) == INNER


def test_the_checksum_covers_every_byte_and_odd_lengths(stage: ModuleType) -> None:
    for six in (False, True):
        for size in (14, 15, 63, 64, 65, 200, 1001, 1450):
            inner = INNER[:14] + bytes(i * 7 & 0xFF for i in range(size - 14))
            frame = Outer(inner, six, checksum=None).build()
            batch, _ = decap(stage, [frame])
            assert batch.frames() == [inner]
            for at in (len(frame) - 1, len(frame) - size // 2, len(frame) - size):
                broken = frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1 :]
                assert decap(stage, [broken])[0].verdict[0] == Reason.UDP_CHECKSUM


def test_a_closed_batch_is_refused(stage: ModuleType) -> None:
    kit = Kit.of(stage)
    batch = kit.filled([])
    assert stage.decap(batch, kit.vtep()) == 0
    batch.close()
    with pytest.raises(ValueError, match="closed"):
        stage.decap(batch, kit.vtep())

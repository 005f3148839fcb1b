"""DSCP by colour in both twins: against scapy, checksums, ECN, and what is left alone."""

from __future__ import annotations

import random
from array import array
from types import ModuleType

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from fastpath import flow
from fastpath.batch import Batch
from fastpath.checksum import internet_checksum
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.flow_frames import frames
from tests.twins import METERS

pytestmark = pytest.mark.parametrize("twin", METERS)


def batch_of(*frames: bytes) -> Batch:
    batch = Batch(len(frames))
    batch.fill(frames)
    flow.extract(batch)
    return batch


@pytest.mark.parametrize("tag", [False, True])
def test_as_scapy(twin: ModuleType, tag: bool) -> None:
    """From some DSCP to others: header and checksum are what scapy makes of them, the ECN bits stay."""

    def made(dscp: int, ecn: int, version: int) -> bytes:
        field = dscp << 2 | ecn
        ip = IP(src="10.1.2.3", dst="192.0.2.7", tos=field) if version == 4 else IPv6(tc=field, fl=0xABCDE)
        link = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:05")
        return bytes((link / Dot1Q(vlan=7) if tag else link) / ip / UDP(sport=1, dport=2))

    some = [(old, ecn, version) for old, ecn in ((0, 0), (1, 1), (46, 2), (63, 3)) for version in (4, 6)]
    for dscp in (0, 21, 46):
        batch = batch_of(*[made(*each) for each in some])
        assert twin.mark(batch, green=dscp) == 2 * sum(old != dscp for old in (0, 1, 46, 63))
        assert batch.frames() == [made(dscp, ecn, version) for _, ecn, version in some]


def test_checksums_of_all_changes(twin: ModuleType) -> None:
    """Many a DSCP to every other in one header: the checksum stays right, 0 and 0xffff told apart."""
    frame = bytes(Ether() / IP(src="10.1.2.3", dst="192.0.2.7") / UDP())
    for first in range(0, 64, 9):
        batch = batch_of(*[frame] * 64)
        twin.mark(batch, green=first)
        for second in range(64):
            batch.flags[:64] = array("I", [Flags.RED if i == second else 0 for i in range(64)])
            twin.mark(batch, red=second)
        for second, marked in enumerate(batch.frames()):
            assert marked[15] == second << 2
            assert internet_checksum(marked[14:34]) == 0
            assert marked[24:26] != b"\xff\xff"


def test_colours(twin: ModuleType) -> None:
    batch = batch_of(*[bytes(Ether() / IP(tos=4) / UDP())] * 4)
    batch.flags[1] |= Flags.YELLOW
    batch.flags[2] |= Flags.RED
    batch.verdict[3] = Reason.METERED
    assert twin.mark(batch, yellow=12, red=0) == 2
    assert [Ether(frame)[IP].tos >> 2 for frame in batch.frames()] == [1, 12, 0, 1]
    assert twin.mark(batch) == 0


def test_a_wrong_checksum_stays_wrong(twin: ModuleType) -> None:
    frame = bytearray(bytes(Ether() / IP() / UDP()))
    frame[24] ^= 0x40
    batch = batch_of(bytes(frame))
    twin.mark(batch, green=46)
    ip = Ether(batch.frame(0))[IP]
    kept, ip.chksum = ip.chksum, None
    assert kept ^ IP(bytes(ip)).chksum != 0


def test_what_is_left_alone(twin: ModuleType) -> None:
    cut = bytes(Ether() / IP() / UDP())[:30]
    given = [bytes(Ether() / ARP()), cut, b"", bytes(Ether() / IPv6() / UDP())[:50], bytes(60)]
    batch = batch_of(*given)
    for i in range(2, 5):
        # What Python wrote there is not believed.
        batch.layers[i] = 14 if i != 4 else 0xFFFF
    assert twin.mark(batch, green=46) == 0
    assert batch.frames() == given


def test_twins_agree_on_anything(twin: ModuleType) -> None:
    from fastpath import _meter_py

    chance = random.Random(5)
    source = frames(chance)
    given = [next(source)[:1500] for _ in range(200)]
    one, two = batch_of(*given), batch_of(*given)
    for i in range(200):
        one.flags[i] |= chance.choice((0, Flags.YELLOW, Flags.RED))
        two.flags[i] = one.flags[i]
    assert twin.mark(one, green=3, yellow=4, red=5) == _meter_py.mark(two, green=3, yellow=4, red=5)
    assert one.frames() == two.frames()

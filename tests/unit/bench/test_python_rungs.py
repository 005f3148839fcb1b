"""The Python peers do the same work: the same bytes, the same checks."""

from __future__ import annotations

import random

import pytest

from bench.perpacket import outer, verify
from bench.perpacket.python_rungs import RUNGS, Rung, Scapy, packed
from bench.perpacket.templates import packet

FRAMES = [
    packet(version, protocol, size, random.Random(1)).frame
    for version in (4, 6)
    for protocol in (6, 17)
    for size in (64, 512)
]


@pytest.fixture(scope="module", params=RUNGS, ids=lambda rung: rung.name)
def rung(request: pytest.FixtureRequest) -> Rung:
    made: Rung = request.param()
    return made


def test_encap(rung: Rung) -> None:
    assert [outer.without_port(rung.encap(frame)) for frame in FRAMES] == verify.encapsulated(FRAMES)


def test_decap(rung: Rung) -> None:
    scapy = Scapy()
    assert [rung.decap(scapy.encap(frame)) for frame in FRAMES] == [(outer.VNI, frame) for frame in FRAMES]


def test_five_tuple(rung: Rung) -> None:
    assert [packed(rung.five_tuple(frame)) for frame in FRAMES] == verify.tuples(FRAMES)


@pytest.mark.parametrize("size", [0, 1, 20, 511])
def test_checksum(rung: Rung, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert rung.checksum(data) == Scapy().checksum(data)


@pytest.mark.parametrize("at", [24, 37, 42], ids=["checksum", "port", "I flag"])
def test_what_is_wrong_is_refused(rung: Rung, at: int) -> None:
    broken = bytearray(Scapy().encap(FRAMES[0]))
    broken[at] ^= 0x08
    with pytest.raises((ValueError, IndexError)):
        rung.decap(bytes(broken))

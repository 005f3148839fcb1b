"""Segments by scapy and by `struct`: the same, and together the super-frame."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from bench.perpacket import cutting, verify

MSS = 400


@pytest.mark.parametrize("version", [4, 6])
def test_struct_cuts_as_scapy_does(version: int) -> None:
    frame = _small(version)
    segments = cutting.by_scapy(frame, MSS)
    assert cutting.StructCutter().cut(frame, MSS) == segments
    verify.sound(segments)
    assert [len(Ether(segment)[TCP].payload) for segment in segments] == [MSS, MSS, 200]
    assert b"".join(bytes(Ether(segment)[TCP].payload) for segment in segments) == bytes(Ether(frame)[TCP].payload)
    assert [str(Ether(segment)[TCP].flags) for segment in segments] == ["A", "A", "PA"]


def test_identifications_count_up() -> None:
    segments = cutting.by_scapy(_small(4), MSS)
    first = Ether(segments[0])[IP].id
    assert [Ether(segment)[IP].id - first for segment in segments] == [0, 1, 2]


def test_a_super_frame_is_as_large_as_it_may_be() -> None:
    frame = cutting.super_frame(4, 6, random.Random(1))
    assert (cutting.SEGMENTS - 1) * cutting.MSS < len(Ether(frame)[TCP].payload) < cutting.SEGMENTS * cutting.MSS
    verify.sound([frame])


def _small(version: int) -> bytes:
    packet = Ether(cutting.super_frame(version, 6, random.Random(1)))
    payload = bytes(packet[TCP].payload)[:1000]
    packet[TCP].remove_payload()
    for layer in (packet.payload, packet[TCP]):
        for field in ("chksum", "len", "plen"):
            if hasattr(layer, field):
                delattr(layer, field)
    return bytes(packet / Raw(payload))

"""Packets that are not what they say: scapy's, with one thing wrong each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from bench.perpacket import outer

CUTS = (0, 1, 13, 14, 15, 17, 18, 20, 33, 34, 37, 38, 41, 53, 54, 57, 61)
"""Bytes that are left of a frame."""
Fields = dict[str, Any]

ETHERNET = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")


def inner(rng: random.Random) -> list[bytes]:
    """Frames for the five-tuple: cut short, contradictory, rare, or not IP at all."""
    payload = Raw(rng.randbytes(40))
    made = [bytes(packet)[:size] for packet in _plain(payload) for size in CUTS]
    made += map(bytes, _odd(payload))
    made += [rng.randbytes(rng.randrange(100)) for _ in range(40)]
    return made


def encapsulated(rng: random.Random) -> list[bytes]:
    """Frames for decap: each breaks one rule of section 1.1's checklist, or is cut short."""
    inside = bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=49152, dport=20000) / rng.randbytes(40))
    whole = bytes(outer.layers(4, 50000) / Raw(inside))
    made = [whole[:size] for size in range(0, 70, 3)]
    # Byte and value: EtherType, version, IHL, total length, fragment, protocol, checksum, port, UDP length, flags, VNI.
    for at, value in ((12, 9), (14, 0x55), (14, 0x46), (17, 0), (20, 0x20), (21, 1), (23, 6), (24, whole[24] ^ 1),
                      (37, 1), (39, 1), (42, 0), (48, 255)):  # fmt: skip
        broken = bytearray(whole)
        broken[at] = value
        if at in (14, 17, 20, 21, 23):
            # The header's checksum is right, so that the check meant is the one that sees it.
            made.append(bytes(broken))
            ip = IP(bytes(broken[14:34]))
            del ip.chksum
            broken[14:34] = bytes(ip)[:20]
        made.append(bytes(broken))
    return made


def _plain(payload: Packet) -> Iterator[Packet]:
    for ip in (IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")):
        yield ETHERNET / ip / UDP(sport=49152, dport=20000) / payload
        yield ETHERNET / ip / TCP(sport=49152, dport=20000) / payload


def _odd(payload: Packet) -> Iterator[Packet]:
    ports: Fields = {"sport": 49152, "dport": 20000}
    four: Fields = {"src": "10.0.0.1", "dst": "10.0.0.2"}
    six: Fields = {"src": "fd00::1", "dst": "fd00::2"}
    yield from (ETHERNET / IP(**four, **wrong) / UDP(**ports) / payload
                for wrong in ({"version": 5}, {"ihl": 4}, {"ihl": 15}, {"len": 19}, {"len": 9999}, {"frag": 1},
                              {"flags": "MF"}, {"flags": "MF", "frag": 100}))  # fmt: skip
    yield ETHERNET / IP(**four, options=[IPOption(b"\x94\x04\x00\x00")]) / UDP(**ports) / payload
    wrong6: tuple[Fields, ...] = ({"version": 4}, {"plen": 9999}, {"plen": 1}, {"nh": 59}, {"nh": 50})
    yield from (ETHERNET / IPv6(**six, **wrong) / UDP(**ports) / payload for wrong in wrong6)
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    for extensions in (chain, IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(offset=5), chain / IPv6ExtHdrFragment(m=1)):
        frame = bytes(ETHERNET / IPv6(**six) / extensions / UDP(**ports) / payload)
        yield from (Raw(frame[:size]) for size in (len(frame), 70, 63, 55))
    for tags in (Dot1Q(vlan=5), Dot1AD(vlan=5) / Dot1Q(vlan=6), Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q()):
        yield ETHERNET / tags / IP(**four) / UDP(**ports) / payload
    yield ETHERNET / ARP()
    yield Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04", type=60) / payload

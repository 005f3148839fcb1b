"""Five-tuples as scapy, dpkt and tshark see them."""

from __future__ import annotations

import ipaddress
import json
import random
import shutil
import socket
import struct
import subprocess
from itertools import islice
from pathlib import Path

import dpkt
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from fastpath import _flow_py, flow
from fastpath.endpoints import FiveTuple
from fastpath.flags import Flags
from tests.flow_frames import common, frames

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IP4 = IP(src="10.1.2.3", dst="192.0.2.9")
IP6 = IPv6(src="2001:db8::7", dst="fe80::1")
ENDS4 = (ipaddress.ip_address("10.1.2.3").packed, ipaddress.ip_address("192.0.2.9").packed)
ENDS6 = (ipaddress.ip_address("2001:db8::7").packed, ipaddress.ip_address("fe80::1").packed)
HBH, ROUTING, OPTIONS = IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(addresses=["::1"]), IPv6ExtHdrDestOpt()
FRAGMENT, LATER = IPv6ExtHdrFragment(offset=0, m=1, id=9), IPv6ExtHdrFragment(offset=5, m=0, nh=17, id=9)

BUILT = [
    (ETHER / IP4 / TCP(sport=1, dport=65535), (*ENDS4, 6, 1, 65535)),
    (ETHER / IP4 / UDP(sport=4789, dport=53) / Raw(b"x" * 9), (*ENDS4, 17, 4789, 53)),
    (ETHER / IP4 / SCTP(sport=5, dport=6), (*ENDS4, 132, 5, 6)),
    (ETHER / IP4 / ICMP(type=8, id=0x1234), (*ENDS4, 1, 0x0800, 0x1234)),
    (ETHER / IP4 / ICMP(type=3, code=4) / IP4 / UDP(), (*ENDS4, 1, 0x0304, 0)),
    (ETHER / Dot1Q(vlan=5) / IP4 / TCP(sport=7, dport=8), (*ENDS4, 6, 7, 8)),
    (ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=5) / IP6 / UDP(sport=7, dport=8), (*ENDS6, 17, 7, 8)),
    (
        ETHER / IP(src="10.1.2.3", dst="192.0.2.9", options=[IPOption_NOP()] * 4) / TCP(sport=3, dport=4),
        (*ENDS4, 6, 3, 4),
    ),
    (ETHER / IP(src="10.1.2.3", dst="192.0.2.9", frag=3, proto=17) / Raw(bytes(16)), (*ENDS4, 17, 0, 0)),
    (ETHER / IP6 / TCP(sport=9, dport=10), (*ENDS6, 6, 9, 10)),
    (ETHER / IP6 / ICMPv6EchoRequest(id=77), (*ENDS6, 58, 128 << 8, 77)),
    (ETHER / IP6 / HBH / ROUTING / OPTIONS / UDP(sport=1, dport=2), (*ENDS6, 17, 1, 2)),
    (ETHER / IP6 / HBH / FRAGMENT / UDP(sport=1, dport=2), (*ENDS6, 17, 1, 2)),
    (ETHER / IP6 / LATER / Raw(bytes(24)), (*ENDS6, 17, 0, 0)),
]


@pytest.mark.parametrize(("packet", "expected"), BUILT, ids=[packet.summary() for packet, _ in BUILT])
def test_what_scapy_builds(packet: Packet, expected: tuple[bytes, bytes, int, int, int]) -> None:
    assert flow.five_tuple(bytes(packet)) == FiveTuple(*expected)


def test_dpkt() -> None:
    chance = random.Random(11)
    for _ in range(500):
        frame = common(chance)
        ip = dpkt.ethernet.Ethernet(frame).data
        ports = ip.data
        if not isinstance(ports, dpkt.tcp.TCP | dpkt.udp.UDP):
            # The rest of a TCP header is random here, and dpkt wants it right.
            ports = dpkt.udp.UDP(ip.data[:4] + bytes(4))
        assert flow.five_tuple(frame) == FiveTuple(ip.src, ip.dst, ip.p, ports.sport, ports.dport)


FIELDS = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport")


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark(tmp_path: Path) -> None:
    """Random frames of every kind; compared where nothing is broken and ports are TCP's or UDP's."""
    many = list(islice(frames(random.Random(17)), 800))
    file = tmp_path / "frames.pcap"
    records = b"".join(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in many)
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    command = ["tshark", "-r", str(file), "-T", "json", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
    command += ["-e", "frame.number"]
    for field in FIELDS:
        command += ["-e", field]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert len(found) == len(many)
    compared = 0
    for frame, entry in zip(many, found, strict=True):
        fields = entry["_source"]["layers"]
        _, _, flags = _flow_py.parse(frame)
        wanted = flow.five_tuple(frame)
        broken = flags & (Flags.TRUNCATED | Flags.MALFORMED)
        if wanted is None or broken or wanted.protocol not in (6, 17) or not flags & Flags.PORTS:
            continue
        four = bool(flags & Flags.IPV4)
        family = socket.AF_INET if four else socket.AF_INET6
        name, layer = ("ip" if four else "ipv6"), ("tcp" if wanted.protocol == 6 else "udp")
        if f"{layer}.srcport" not in fields:
            # It ends at mobility and HIP, and at routing headers that say nonsense.
            assert flags & Flags.OPTIONS
            assert not four
            continue
        seen = (
            socket.inet_pton(family, fields[f"{name}.src"][0]),
            socket.inet_pton(family, fields[f"{name}.dst"][0]),
            wanted.protocol,
            int(fields[f"{layer}.srcport"][0]),
            int(fields[f"{layer}.dstport"][0]),
        )
        assert wanted == FiveTuple(*seen), frame.hex()
        compared += 1
    assert compared > 200

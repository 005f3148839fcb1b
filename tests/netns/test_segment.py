"""Our segmentation beside the kernel's: super-frames sent through a device without offloads arrive as our segments."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fastpath import checksum
from fastpath.batch import Batch
from scripts import lab
from tests.frames import ACK, CWR, ECE, FIN, HOP_BY_HOP, PSH, frame, tcp, udp
from tests.twins import stages

SOL_PACKET, PACKET_VNET_HDR = 263, 15
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
TCP4, TCP6, UDP_L4, ECN = 1, 4, 5, 0x80
DATA = bytes(range(256)) * 200
OPTIONS = bytes.fromhex("0101080a0000000100000002")

SUPERS = {
    "tcp4": (TCP4, 1448, frame(4, 6, tcp(4, DATA[:40000], seq=0xFFFFF000, flags=ACK | PSH, options=OPTIONS), ident=9)),
    "tcp4 wraps": (TCP4, 999, frame(4, 6, tcp(4, DATA[:30001], flags=ACK | PSH | FIN), ident=0xFFF0, df=False)),
    "tcp4 ecn": (TCP4 | ECN, 1000, frame(4, 6, tcp(4, DATA[:5000], flags=ACK | ECE | CWR), tos=2)),
    "tcp4 ip options": (TCP4, 700, frame(4, 6, tcp(4, DATA[:5000]), options=bytes([1] * 8), tos=0x20)),
    "tcp6": (TCP6, 1428, frame(6, 6, tcp(6, DATA[:50000], flags=ACK | PSH, options=OPTIONS), label=0x12345)),
    "tcp6 headers": (TCP6, 900, frame(6, 6, tcp(6, DATA[:9999]), options=bytes([6]) + HOP_BY_HOP[1:])),
    "udp4": (UDP_L4, 1400, frame(4, 17, udp(4, DATA[: 1400 * 20 + 77]), ident=0xFFFC)),
    "udp6": (UDP_L4, 1200, frame(6, 17, udp(6, DATA[: 1200 * 9]))),
    "udp4 odd": (UDP_L4, 333, frame(4, 17, udp(4, DATA[:3331]), df=False)),
}


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that sends with virtio_net headers, and one that receives what came out of the kernel's own GSO."""
    with ExitStack() as stack:
        lab.run("ip", "link", "add", "gso-a", "type", "veth", "peer", "name", "gso-b")
        stack.callback(lab.run, "ip", "link", "del", "gso-a")
        for name in ("gso-a", "gso-b"):
            lab.run("ip", "link", "set", name, "addrgenmode", "none")
            lab.run("ip", "link", "set", name, "up", "mtu", "1500")
        with socket.socket() as control:
            off = bytearray(struct.pack("II", ETHTOOL_STXCSUM, 0))
            held = (memoryview(off), off)
            address = _address(off)
            fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP16x", b"gso-a", address))
            del held
        sender = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind(("gso-a", 0))
        receiver = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind(("gso-b", 0))
        yield sender, receiver


def _address(data: bytearray) -> int:
    """Where a bytearray lies; it may not change its size while that is used."""
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(data))


@pytest.mark.parametrize("name", SUPERS)
def test_same_segments_as_the_kernel(wire: tuple[socket.socket, socket.socket], name: str) -> None:
    kind, size, whole = SUPERS[name]
    sender, receiver = wire
    source, target = Batch(1, slot=69632), Batch(64)
    source.fill([whole])
    checksum.fill(source, partial=True)
    version, field = (4 if whole[12:14] == b"\x08\x00" else 6), (6 if kind == UDP_L4 else 16)
    start = 34 if version == 4 else 54
    if "options" in name or "headers" in name:
        start += 8
    header = struct.pack("=BBHHHH", 1, kind, start + (8 if kind == UDP_L4 else 20), size, start, field)
    sender.send(header + source.frame(0))

    mine: list[list[bytes]] = []
    for parameter in stages("segment"):
        (twin,) = parameter.values  # type: ignore[attr-defined]
        assert twin.segment(source, target, size) == 1
        mine.append(target.frames())
    arrived: list[bytes] = []
    while len(arrived) < len(mine[0]):
        assert select.select([receiver], [], [], 10)[0], f"{len(arrived)} of {len(mine[0])} segments arrived"
        arrived.append(receiver.recv(65536))
    assert arrived == mine[0]
    assert all(each == mine[0] for each in mine[1:])

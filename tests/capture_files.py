"""Capture files of every kind, built with struct: sound ones, and blocks to make unsound ones of."""

from __future__ import annotations

import struct

PACKETS = [bytes(range(size)) for size in (60, 61, 62, 63, 14, 0, 200)]
TIMES = [1_700_000_000_123_456_789 + 1_000_000_001 * k for k in range(len(PACKETS))]


def pcap(order: str = "<", *, nano: bool = True, link: int = 1, packets: list[bytes] | None = None) -> bytes:
    """A pcap file of `PACKETS`."""
    made = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for time, data in zip(TIMES, PACKETS if packets is None else packets, strict=False):
        seconds, rest = divmod(time, 10**9)
        made += struct.pack(f"{order}IIII", seconds, rest if nano else rest // 1000, len(data), len(data)) + data
    return made


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block; the body is padded."""
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def section(order: str = "<", *, version: int = 1) -> bytes:
    """A section header."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, version, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """An option."""
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str = "<", *, link: int = 1, snap: int = 0, options: bytes = b"") -> bytes:
    """An interface description."""
    return block(1, struct.pack(f"{order}HHI", link, 0, snap) + options, order)


def packet(data: bytes, time: int = 0, order: str = "<", *, number: int = 0, length: int | None = None) -> bytes:
    """An enhanced packet block; `time` in the interface's unit."""
    size = len(data) if length is None else length
    return block(6, struct.pack(f"{order}IIIII", number, time >> 32, time & 0xFFFFFFFF, size, size) + data, order)


def pcapng(order: str = "<") -> bytes:
    """A pcapng file of `PACKETS`, with one interface in nanoseconds."""
    nano = option(2, b"name", order) + option(9, b"\x09", order) + option(0, b"", order)
    body = b"".join(packet(data, time, order) for data, time in zip(PACKETS, TIMES, strict=True))
    return section(order) + interface(order, options=nano) + body


def everything() -> bytes:
    """Two sections in both byte orders, interfaces of several units and kinds, every packet block, other blocks."""
    old = struct.pack("<HHIIII", 0, 7, 0, 2_000_000, 4, 4) + b"old!"
    later = option(14, struct.pack(">q", -3600), ">") + option(9, b"\x8a", ">")
    return b"".join([
        section(), interface(snap=64), interface(link=101), interface(options=option(9, b"\x0c")),
        packet(b"micro", 1_500_000), packet(b"raw ip", 1, number=1), packet(b"pico", 7_999, number=2),
        block(4, bytes(20)), block(3, struct.pack("<I", 70) + bytes(64)), block(2, old),
        section(">"), block(5, bytes(12), ">"), interface(">", options=later),
        packet(b"binary", 5 << 10 | 512, ">"), block(0xBAD, b"custom", ">"),
    ])  # fmt: skip

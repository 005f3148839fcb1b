"""Ethernet frames of any shape, built with struct: for tests that need many of them, wrong ones included."""

from __future__ import annotations

import random
import struct

from fastpath._checksum_py import internet_checksum

MACS = bytes.fromhex("020000000001020000000005")
SOURCE4, DESTINATION4 = bytes([10, 0, 0, 5]), bytes([192, 0, 2, 9])
SOURCE6, DESTINATION6 = bytes.fromhex("fd00" + "00" * 13 + "05"), bytes.fromhex("20010db8" + "00" * 11 + "09")
TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


def ethernet(kind: int, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """The Ethernet header for an EtherType; each tag is its EtherType and its 16 bits."""
    return MACS + b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", kind)


def pseudo(version: int, protocol: int, size: int) -> bytes:
    """The pseudo header of a datagram with `size` bytes of layer 4."""
    if version == 4:
        return SOURCE4 + DESTINATION4 + struct.pack("!HH", protocol, size)
    return SOURCE6 + DESTINATION6 + struct.pack("!II", size, protocol)


def ip(
    version: int,
    protocol: int,
    layer4: bytes,
    *,
    options: bytes = b"",
    ident: int = 0,
    df: bool = True,
    tos: int = 0,
    ttl: int = 64,
    label: int = 0,
) -> bytes:
    """An IP datagram; `options` are IPv4 options, or IPv6 headers whose last names the protocol itself."""
    if version == 4:
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x40 | 5 + len(options) // 4, tos, 20 + len(options) + len(layer4), ident,
            0x4000 if df else 0, ttl, protocol, 0, SOURCE4, DESTINATION4,
        ) + options  # fmt: skip
        return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + layer4
    first = 60 if options else protocol
    head = struct.pack("!IHBB", 6 << 28 | tos << 20 | label, len(options) + len(layer4), first, ttl)
    return head + SOURCE6 + DESTINATION6 + options + layer4


def tcp(
    version: int,
    payload: bytes,
    *,
    seq: int = 1000,
    ack: int = 77,
    flags: int = ACK,
    window: int = 512,
    options: bytes = b"",
    ports: tuple[int, int] = (40000, 80),
) -> bytes:
    """A TCP segment with its checksum."""
    head = struct.pack("!HHIIBBHHH", *ports, seq, ack, 5 + len(options) // 4 << 4, flags, window, 0, 0) + options
    total = internet_checksum(pseudo(version, TCP, len(head) + len(payload)) + head + payload)
    return head[:16] + total.to_bytes(2, "big") + head[18:] + payload


def udp(version: int, payload: bytes, *, ports: tuple[int, int] = (40000, 53), checksum: bool = True) -> bytes:
    """A UDP datagram, with its checksum or with 0."""
    head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    total = internet_checksum(pseudo(version, UDP, len(head) + len(payload)) + head + payload) or 0xFFFF
    return head[:6] + (total if checksum else 0).to_bytes(2, "big") + payload


def frame(version: int, protocol: int, layer4: bytes, *, tags: tuple[tuple[int, int], ...] = (), **fields: int | bytes
          ) -> bytes:  # fmt: skip
    """A whole frame; `fields` are those of `ip`."""
    kind = 0x0800 if version == 4 else 0x86DD
    return ethernet(kind, tags) + ip(version, protocol, layer4, **fields)  # type: ignore[arg-type]


HOP_BY_HOP = bytes([0, 0, 1, 4, 0, 0, 0, 0])
"""An IPv6 header of padding; its first byte, the next header, is to be set."""


def samples(seed: int = 1) -> list[bytes]:
    """Sound frames of every kind that the parsers know, and some that they do not."""
    chance = random.Random(seed)
    found = []
    for version in (4, 6):
        for size in (0, 1, 18, 100, 1001):
            data = chance.randbytes(size)
            found.append(frame(version, TCP, tcp(version, data, options=bytes([1] * 12))))
            found.append(frame(version, UDP, udp(version, data), tags=((0x8100, 5),)))
        echo = bytes([8 if version == 4 else 128, 0, 0, 0, 0, 1, 0, 2]) + b"ping"
        head = b"" if version == 4 else pseudo(6, 58, len(echo))
        sum_ = internet_checksum(head + echo).to_bytes(2, "big")
        found.append(frame(version, 1 if version == 4 else 58, echo[:2] + sum_ + echo[4:]))
        found.append(frame(version, 132, bytes(32), tags=((0x88A8, 7), (0x8100, 5))))
    found.append(frame(4, UDP, udp(4, b"no sum", checksum=False)))
    found.append(frame(6, UDP, udp(6, b"no sum", checksum=False)))
    found.append(frame(4, TCP, tcp(4, b"options"), options=bytes([1] * 8)))
    found.append(frame(6, TCP, tcp(6, b"headers"), options=bytes([0]) + HOP_BY_HOP[1:] + bytes([TCP]) + HOP_BY_HOP[1:]))
    for kind, fourth in ((44, 0), (44, 1), (43, 0), (43, 1)):
        # An atomic fragment, a first fragment, a routing header at its end, one with a segment left.
        header = bytes([UDP, 0, 0, fourth, 0, 0, 0, 0])
        found.append(frame(6, UDP, udp(6, b"behind"), options=bytes([kind]) + HOP_BY_HOP[1:] + header))
    fragment = bytearray(frame(4, UDP, udp(4, b"fragment")))
    fragment[20] |= 0x20
    fragment[24:26] = internet_checksum(fragment[14:24] + bytes(2) + fragment[26:34]).to_bytes(2, "big")
    found.append(bytes(fragment))
    found.append(frame(4, UDP, udp(4, b"padded")) + bytes(9))
    found += [frame(4, UDP, udp(4, b"tags"), tags=((0x8100, 5),) * count) for count in (4, 5)]
    found.append(ethernet(0x0806) + bytes(28))
    return found

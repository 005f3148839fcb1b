"""Packets by hand, for the tests of five-tuples: two hosts, and what the tests know of their flow."""

from __future__ import annotations

import socket

MACS = bytes.fromhex("020000000001020000000002")
IP4 = MACS + bytes.fromhex("0800")
IP6 = MACS + bytes.fromhex("86dd")
ONE, TWO = bytes([10, 0, 0, 1]), bytes([192, 0, 2, 77])
ONE6, TWO6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "fe80::a9fe:a9fe")
PORTS = bytes.fromhex("303901bb")
HASH4, HASH6, HASH_ARP = 0x77ABFD05, 0x47EA3125, 0x56609827


def ip4(protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0, total: int | None = None) -> bytes:
    header = 20 + len(options)
    size = header + len(payload) if total is None else total
    return (
        bytes([0x40 | header // 4, 0])
        + size.to_bytes(2, "big")
        + b"\x12\x34"
        + fragment.to_bytes(2, "big")
        + bytes([64, protocol, 0, 0])
        + ONE
        + TWO
        + options
        + payload
    )


def ip6(protocol: int, payload: bytes, *, size: int | None = None) -> bytes:
    length = len(payload) if size is None else size
    return b"\x60\x00\x00\x00" + length.to_bytes(2, "big") + bytes([protocol, 64]) + ONE6 + TWO6 + payload


def udp() -> bytes:
    return PORTS + bytes.fromhex("00080000")

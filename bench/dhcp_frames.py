"""DHCPv4 frames of the measuring clients: just enough to ask and to know the answer, independent of the product."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
COOKIE = b"\x63\x82\x53\x63"
HEADERS = 14 + 20 + 8
BROADCAST = b"\xff" * 6
WANTED = bytes((55, 6, 1, 3, 6, 15, 26, 121))


class Reply(NamedTuple):
    """A server's message."""

    kind: int
    xid: int
    address: str
    """yiaddr"""
    mac: str
    """chaddr"""
    server: str
    """Option 54."""
    source: str
    """MAC that the frame came from; empty for a relayed datagram."""


def message(kind: int, mac: str, xid: int, giaddr: str = "0.0.0.0", address: str = "", server: str = "") -> bytes:
    """A client's BOOTP payload; `address` (option 50) and `server` (option 54) for a REQUEST."""
    head = struct.pack("!BBBBIHH4s4s4s4s", 1, 1, 6, int(giaddr != "0.0.0.0"), xid, 0, 0, b"", b"", b"",
                       socket.inet_aton(giaddr))  # fmt: skip
    options = bytes((53, 1, kind))
    if address:
        options += b"\x32\x04" + socket.inet_aton(address) + b"\x36\x04" + socket.inet_aton(server)
    body = (
        head + bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0") + bytes(192) + COOKIE + options + WANTED + b"\xff"
    )
    return body.ljust(300, b"\0")


def broadcast(payload: bytes, mac: str) -> bytes:
    """A guest's frame: from 0.0.0.0:68 to 255.255.255.255:67, without UDP checksum (RFC 768 allows it)."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0)
    return BROADCAST + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + ip + udp + payload


def reply(payload: bytes, source: str = "") -> Reply | None:
    """Take a server's payload apart; None if it is none."""
    if len(payload) < 240 or payload[0] != 2 or payload[236:240] != COOKIE:
        return None
    kind, server, position = 0, "", 240
    while position + 1 < len(payload) and payload[position] != 255:
        code = payload[position]
        if code == 0:
            position += 1
            continue
        length = payload[position + 1]
        value = payload[position + 2 : position + 2 + length]
        if code == 53:
            kind = value[0]
        elif code == 54:
            server = socket.inet_ntoa(value)
        position += 2 + length
    xid = int.from_bytes(payload[4:8], "big")
    return Reply(kind, xid, socket.inet_ntoa(payload[16:20]), payload[28:34].hex(":"), server, source)


def reply_frame(frame: bytes) -> Reply | None:
    """The same for an Ethernet frame with IPv4 and UDP to port 68; None if it is something else."""
    if len(frame) < HEADERS or frame[12:15] != b"\x08\x00\x45" or frame[23] != 17 or frame[36:38] != b"\x00\x44":
        return None
    return reply(frame[HEADERS:], frame[6:12].hex(":"))

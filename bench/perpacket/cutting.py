"""TCP segmentation as a Python programmer does it: scapy, or `struct` alone. The super-frames, too."""

from __future__ import annotations

import random
import struct
from typing import Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from bench.perpacket.python_rungs import Struct

MSS: Final = 1448
SEGMENTS: Final = 44
"""As many as fit an IP length of 16 bits."""
_LAST_ONLY: Final = 0x09
"""FIN and PSH."""


def super_frame(version: int, protocol: int, rng: random.Random) -> bytes:
    """An Ethernet frame of SEGMENTS times MSS bytes of payload, the last one shorter."""
    addresses = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    ip = (IP if version == 4 else IPv6)(src=addresses[0], dst=addresses[1])
    if version == 4:
        ip.id, ip.flags = rng.getrandbits(15), "DF"
    layer4 = TCP(sport=49152, dport=20000, seq=rng.getrandbits(32), ack=1, flags="PA") if protocol == 6 else UDP(
        sport=49152, dport=20000
    )  # fmt: skip
    ethernet = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")
    return bytes(ethernet / ip / layer4 / Raw(rng.randbytes(SEGMENTS * MSS - 100)))


def by_scapy(frame: bytes, size: int = MSS) -> list[bytes]:
    """The segments of a frame, everything calculated by scapy."""
    packet = Ether(frame)
    protocol = TCP if TCP in packet else UDP
    payload = bytes(packet[protocol].payload)
    packet[protocol].remove_payload()
    made: list[bytes] = []
    for number, start in enumerate(range(0, len(payload), size)):
        segment = packet.copy()
        for layer in (segment.payload, segment.payload.payload):
            for field in ("chksum", "len", "plen"):
                if hasattr(layer, field):
                    delattr(layer, field)
        if IP in segment:
            segment[IP].id = packet[IP].id + number & 0xFFFF
        if protocol is TCP:
            segment[TCP].seq = packet[TCP].seq + start & 0xFFFFFFFF
            if start + size < len(payload):
                segment[TCP].flags = int(packet[TCP].flags) & ~_LAST_ONLY
        made.append(bytes(segment / Raw(payload[start : start + size])))
    return made


class StructCutter:
    """TCP over IPv4 or IPv6 without options, by slices and `struct`."""

    def __init__(self) -> None:
        self._checksum = Struct().checksum

    def cut(self, frame: bytes, size: int = MSS) -> list[bytes]:
        """The segments of a frame."""
        four = frame[14] >> 4 == 4
        at = 34 if four else 54
        body = at + (frame[at + 12] >> 4) * 4
        (sequence,) = struct.unpack_from("!I", frame, at + 4)
        (number,) = struct.unpack_from("!H", frame, 18)
        addresses = frame[26:34] if four else frame[22:54]
        made: list[bytes] = []
        for start in range(body, len(frame), size):
            data = frame[start : start + size]
            tcp = bytearray(frame[at:body])
            struct.pack_into("!I", tcp, 4, sequence + start - body & 0xFFFFFFFF)
            if start + size < len(frame):
                tcp[13] &= ~_LAST_ONLY & 0xFF
            tcp[16:18] = b"\0\0"
            length = len(tcp) + len(data)
            checksum = self._checksum(addresses + struct.pack("!HH", 6, length) + tcp + data)
            struct.pack_into("!H", tcp, 16, checksum)
            head = bytearray(frame[:at])
            if four:
                struct.pack_into("!HH", head, 16, length + 20, number + (start - body) // size & 0xFFFF)
                head[24:26] = b"\0\0"
                struct.pack_into("!H", head, 24, self._checksum(bytes(head[14:34])))
            else:
                struct.pack_into("!H", head, 18, length)
            made.append(bytes(head + tcp + data))
        return made

"""The tunnel of the per-packet cases, and its outer headers by scapy."""

from __future__ import annotations

from typing import Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

VNI: Final = 5001
NETWORK: Final = 7
"""What the VNI stands for on this node."""
PORT: Final = 4789
TTL: Final = 64
SOURCE_MAC: Final = "02:00:00:00:00:01"
DESTINATION_MAC: Final = "02:00:00:00:00:02"
SOURCE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
DESTINATION: Final = {4: "192.0.2.2", 6: "2001:db8::2"}
ENTROPY: Final = range(49152, 65536)
PORT_BYTES: Final = {4: slice(34, 36), 6: slice(54, 56)}
"""Where the source port lies: each rung has its own hash."""
LENGTH: Final = {4: 50, 6: 70}


def layers(version: int, source_port: int = 0) -> Packet:
    """The outer layers, with DF and a UDP checksum of zero; lengths and the header's checksum are left to scapy."""
    source, destination = SOURCE[version], DESTINATION[version]
    ip = (
        IP(src=source, dst=destination, flags="DF", id=0, ttl=TTL)
        if version == 4
        else IPv6(src=source, dst=destination, hlim=TTL)
    )
    ethernet = Ether(src=SOURCE_MAC, dst=DESTINATION_MAC)
    return ethernet / ip / UDP(sport=source_port, dport=PORT, chksum=0) / VXLAN(flags=8, vni=VNI)


def header(version: int = 4) -> bytes:
    """The outer header with source port, lengths and the header's checksum still zero."""
    made = layers(version)
    made[UDP].len = 0
    if version == 4:
        made[IP].len, made[IP].chksum = 0, 0
    else:
        made[IPv6].plen = 0
    return bytes(made)


def without_port(frame: bytes, version: int = 4) -> bytes:
    """An encapsulated frame without the source port. Raises ValueError if that is not one of RFC 7348's."""
    at = PORT_BYTES[version]
    if int.from_bytes(frame[at], "big") not in ENTROPY:
        raise ValueError(f"source port {int.from_bytes(frame[at], 'big')}")
    return frame[: at.start] + frame[at.stop :]

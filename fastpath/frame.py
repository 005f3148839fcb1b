"""What both framing twins share: the parsed record, the error and the table of drop reasons."""

from __future__ import annotations

from typing import Final, NamedTuple

DROP_REASONS: Final[dict[str, str]] = {
    "frame_short": "the frame ends inside its Ethernet or IPv4 header",
    "not_ipv4": "the EtherType is not IPv4 or the version field is not 4",
    "ipv4_header_length": "the IPv4 header length is below 20 bytes or runs past the frame",
    "ipv4_total_length": "the IPv4 total length is below the header length or runs past the frame",
    "ipv4_checksum": "the IPv4 header checksum is wrong",
    "ipv4_fragment": "the datagram is a fragment",
    "not_udp": "the IPv4 protocol is not UDP",
    "udp_length": "the UDP length is below 8 bytes or runs past the datagram",
    "udp_checksum": "the UDP checksum is wrong",
}
"""Stable drop reason to its one-line meaning, in the order in which the checks are made."""


class FrameError(Exception):
    """A frame is not a whole, unfragmented IPv4 UDP datagram; `reason` is a key of `DROP_REASONS`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Udp4(NamedTuple):
    """An IPv4 UDP datagram in an Ethernet II frame, taken apart.

    Addresses are raw bytes in network order (MAC 6, IPv4 4); ports are integers.
    """

    dst_mac: bytes
    src_mac: bytes
    src_ip: bytes
    dst_ip: bytes
    src_port: int
    dst_port: int
    payload: bytes
    """Exactly what the UDP length covers: Ethernet padding is cut off."""

"""Ethernet, IPv4 and UDP framing in plain Python: specification, fall-back and oracle of `_framing_c`."""

from __future__ import annotations

import struct

from fastpath._checksum_py import internet_checksum, udp4_checksum
from fastpath.frame import FrameError, Udp4

_ETHERNET = 14
_ETHERTYPE_IPV4 = b"\x08\x00"
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV4_HEADER = 20
_IPV4_VERSION_AND_LENGTH = 0x45
_IPV4_DONT_FRAGMENT = 0x4000
_IPV4_FRAGMENT_BITS = 0x3FFF
"""More-fragments flag and fragment offset: both zero in a whole datagram."""
_PROTOCOL_UDP = 17
_UDP = struct.Struct("!HHHH")
_UDP_HEADER = 8
PAYLOAD_MAX = 0xFFFF - _IPV4_HEADER - _UDP_HEADER


def udp4_frame(
    dst_mac: bytes,
    src_mac: bytes,
    src_ip: bytes,
    dst_ip: bytes,
    src_port: int,
    dst_port: int,
    payload: bytes,
    ttl: int = 64,
    ident: int = 0,
) -> bytes:
    """Return an Ethernet II frame with an IPv4 UDP datagram, both checksums filled in (RFC 791, RFC 768).

    MACs are 6 bytes, addresses 4 bytes in network order. The header has no options and says "don't fragment", so
    `ident` may stay 0 (RFC 6864 section 4.1). The frame is not padded to Ethernet's minimum: the device does that.

    Raises ValueError for an address of the wrong length, a number out of its field's range, or a payload above
    65507 bytes.
    """
    if len(dst_mac) != 6 or len(src_mac) != 6:
        raise ValueError("a MAC address has 6 bytes")
    if not 0 <= ttl <= 0xFF:
        raise ValueError("a time to live is 0 to 255")
    if not 0 <= ident <= 0xFFFF:
        raise ValueError("an identification is 0 to 65535")
    if len(payload) > PAYLOAD_MAX:
        raise ValueError("the payload does not fit an IPv4 datagram")
    udp_checksum = udp4_checksum(src_ip, dst_ip, src_port, dst_port, payload)
    udp_length = _UDP_HEADER + len(payload)
    fields = (
        _IPV4_VERSION_AND_LENGTH,
        0,
        _IPV4_HEADER + udp_length,
        ident,
        _IPV4_DONT_FRAGMENT,
        ttl,
        _PROTOCOL_UDP,
    )
    header_checksum = internet_checksum(_IPV4.pack(*fields, 0, src_ip, dst_ip))
    return b"".join(
        (
            dst_mac,
            src_mac,
            _ETHERTYPE_IPV4,
            _IPV4.pack(*fields, header_checksum, src_ip, dst_ip),
            _UDP.pack(src_port, dst_port, udp_length, udp_checksum),
            payload,
        )
    )


def parse_udp4(frame: bytes, check_udp: bool = True) -> Udp4:
    """Take an Ethernet II frame with an IPv4 UDP datagram apart, checking every length and checksum.

    Bytes after the datagram (Ethernet padding) are ignored, as are bytes between the end of UDP and the end of
    IPv4; IPv4 options are skipped. A UDP checksum of 0 means "none" (RFC 768) and is accepted.
    `check_udp=False` leaves the UDP checksum unread: a frame from a device of this machine may carry a partial
    one, which the kernel tells by TP_STATUS_CSUMNOTREADY. A VLAN tag is refused as `not_ipv4`.

    Raises FrameError with the drop reason; nothing else, whatever the bytes are.
    """
    if len(frame) < _ETHERNET:
        raise FrameError("frame_short")
    if frame[12:14] != _ETHERTYPE_IPV4:
        raise FrameError("not_ipv4")
    if len(frame) < _ETHERNET + _IPV4_HEADER:
        raise FrameError("frame_short")
    version, _, total, _, fragment, _, protocol, _, src_ip, dst_ip = _IPV4.unpack_from(frame, _ETHERNET)
    if version >> 4 != 4:
        raise FrameError("not_ipv4")
    header = (version & 0x0F) * 4
    if header < _IPV4_HEADER or _ETHERNET + header > len(frame):
        raise FrameError("ipv4_header_length")
    if total < header or _ETHERNET + total > len(frame):
        raise FrameError("ipv4_total_length")
    if internet_checksum(frame[_ETHERNET : _ETHERNET + header]):
        raise FrameError("ipv4_checksum")
    if fragment & _IPV4_FRAGMENT_BITS:
        raise FrameError("ipv4_fragment")
    if protocol != _PROTOCOL_UDP:
        raise FrameError("not_udp")
    if total < header + _UDP_HEADER:
        raise FrameError("udp_length")
    src_port, dst_port, length, checksum = _UDP.unpack_from(frame, _ETHERNET + header)
    if length < _UDP_HEADER or header + length > total:
        raise FrameError("udp_length")
    start = _ETHERNET + header + _UDP_HEADER
    payload = frame[start : start + length - _UDP_HEADER]
    if check_udp and checksum and checksum != udp4_checksum(src_ip, dst_ip, src_port, dst_port, payload):
        raise FrameError("udp_checksum")
    return Udp4(frame[0:6], frame[6:12], src_ip, dst_ip, src_port, dst_port, payload)

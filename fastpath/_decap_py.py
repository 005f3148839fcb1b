"""One VXLAN frame from the underlay, in plain Python: specification and oracle of `_decap.pxd`.

Checked in this order; the first that fails is the reason:

1. Ethernet, up to two VLAN tags; IPv4 or IPv6
2. IPv4: version, header length, total length, options (unless taken), header checksum, fragment. IPv6: version, payload
   length, extension headers (hop-by-hop and destination options unless taken; others are never), fragment
3. UDP; its length is exactly the IP payload's, and has room for VXLAN
4. the outer destination address; the UDP port; a zero checksum over IPv6; the checksum
5. the VXLAN I flag; GPE; GBP; reserved bits
6. the VNI; whether the outer source may send for it
7. the inner frame's length and source MAC; congestion marks (RFC 6040 section 4.2)

Bytes behind the outer IP packet (Ethernet's padding) are cut off.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from fastpath._checksum_py import internet_checksum
from fastpath._vtep_py import Vtep
from fastpath.flags import Flags
from fastpath.reasons import Reason

TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
OUTER_TAGS: Final = 2
INNER_TAGS: Final = 4
EXTENSIONS: Final = 4
_TAKEN_OPTIONS: Final = frozenset({0, 60})
_OTHER_EXTENSIONS: Final = frozenset({43, 51, 135, 139, 140})
_UDP: Final = 17
_FRAGMENT6: Final = 44
_ETHERNET: Final = 14
_GPE_ETHERNET: Final = 3


class Drop(Exception):  # noqa: N818 - no error, only the way out
    """The frame goes no further."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class Arrival(NamedTuple):
    """What is inside a good frame."""

    start: int
    """Of the inner frame, bytes from the outer one's first."""
    length: int
    vni: int
    network: int
    flags: Flags
    ecn: int | None
    """What the inner header's ECN field has to become; None: it stays."""


class _Outer(NamedTuple):
    source: bytes
    destination: bytes
    traffic: int
    udp: int
    """Where the UDP header begins."""
    size: int
    """Of the IP payload from there, bytes."""


def decode(vtep: Vtep, frame: bytes, local: bool = False) -> Arrival:
    """Return what is inside; raise Drop. `local`: the checksum is not complete yet, so it is not verified."""
    outer = _ip(vtep, frame)
    if outer.size < 16:
        raise Drop(Reason.UDP_LENGTH)
    _, port, length, checksum = struct.unpack_from("!HHHH", frame, outer.udp)
    if length != outer.size:
        raise Drop(Reason.UDP_LENGTH)
    if vtep._addresses and outer.destination not in vtep._addresses:
        raise Drop(Reason.DESTINATION)
    if port != vtep._port:
        raise Drop(Reason.UDP_PORT)
    if not checksum:
        if len(outer.source) == 16 and not vtep._zero6:
            raise Drop(Reason.UDP_ZERO_CHECKSUM)
    elif vtep._verify and not local:
        pseudo = outer.source + outer.destination + struct.pack("!II", length, _UDP)
        if internet_checksum(pseudo + frame[outer.udp : outer.udp + length]):
            raise Drop(Reason.UDP_CHECKSUM)
    flags = _flags(vtep, frame[outer.udp + 8 : outer.udp + 16])
    vni = int.from_bytes(frame[outer.udp + 12 : outer.udp + 15], "big")
    reason, network = vtep._network(vni, outer.source)
    if reason:
        raise Drop(reason)
    inner = frame[outer.udp + 16 : outer.udp + length]
    if len(inner) < _ETHERNET:
        raise Drop(Reason.INNER_SHORT)
    if inner[6] & 1 or not any(inner[6:12]):
        raise Drop(Reason.INNER_SOURCE_MAC)
    ecn = _decide_ecn(inner, outer.traffic & 3)
    if ecn == 3:
        flags |= Flags.CE
    return Arrival(outer.udp + 16, len(inner), vni, network, flags, ecn)


def _ip(vtep: Vtep, frame: bytes) -> _Outer:
    if len(frame) < _ETHERNET:
        raise Drop(Reason.TRUNCATED)
    start, tags = _ETHERNET, 0
    kind = int.from_bytes(frame[12:14], "big")
    while kind in TAGS and tags < OUTER_TAGS:
        if len(frame) < start + 4:
            raise Drop(Reason.TRUNCATED)
        kind = int.from_bytes(frame[start + 2 : start + 4], "big")
        start += 4
        tags += 1
    if kind == 0x0800:
        return _ip4(vtep, frame, start)
    if kind == 0x86DD:
        return _ip6(vtep, frame, start)
    raise Drop(Reason.NOT_IP)


def _ip4(vtep: Vtep, frame: bytes, start: int) -> _Outer:
    ip = frame[start:]
    if len(ip) < 20:
        raise Drop(Reason.TRUNCATED)
    if ip[0] >> 4 != 4:
        raise Drop(Reason.IP_VERSION)
    header = (ip[0] & 15) * 4
    if not 20 <= header <= len(ip):
        raise Drop(Reason.IP_HEADER_LENGTH)
    total = int.from_bytes(ip[2:4], "big")
    if not header <= total <= len(ip):
        raise Drop(Reason.IP_TOTAL_LENGTH)
    if header > 20 and not vtep._options:
        raise Drop(Reason.IP_OPTIONS)
    if internet_checksum(ip[:header]):
        raise Drop(Reason.IP_CHECKSUM)
    if int.from_bytes(ip[6:8], "big") & 0x3FFF:
        raise Drop(Reason.IP_FRAGMENT)
    if ip[9] != _UDP:
        raise Drop(Reason.NOT_UDP)
    return _Outer(ip[12:16], ip[16:20], ip[1], start + header, total - header)


def _ip6(vtep: Vtep, frame: bytes, start: int) -> _Outer:
    ip = frame[start:]
    if len(ip) < 40:
        raise Drop(Reason.TRUNCATED)
    if ip[0] >> 4 != 6:
        raise Drop(Reason.IP_VERSION)
    size = int.from_bytes(ip[4:6], "big")
    if size > len(ip) - 40:
        raise Drop(Reason.IP_TOTAL_LENGTH)
    protocol, at, headers = ip[6], 40, 0
    while protocol in _TAKEN_OPTIONS:
        if not vtep._options or headers == EXTENSIONS:
            raise Drop(Reason.IP_OPTIONS)
        headers += 1
        if size < 8 or (ip[at + 1] + 1) * 8 > size:
            raise Drop(Reason.IP_TOTAL_LENGTH)
        protocol, step = ip[at], (ip[at + 1] + 1) * 8
        at += step
        size -= step
    if protocol == _FRAGMENT6:
        raise Drop(Reason.IP_FRAGMENT)
    if protocol in _OTHER_EXTENSIONS:
        raise Drop(Reason.IP_OPTIONS)
    if protocol != _UDP:
        raise Drop(Reason.NOT_UDP)
    return _Outer(ip[8:24], ip[24:40], int.from_bytes(ip[:2], "big") >> 4 & 0xFF, start + at, size)


def _flags(vtep: Vtep, header: bytes) -> Flags:
    first, found = header[0], Flags(0)
    known = 0x08000000_00000000
    strict = vtep._reserved == "strict"
    if not first & 0x08:
        raise Drop(Reason.VXLAN_FLAGS)
    if first & 0x04:
        # Whatever the policy: a payload that is no Ethernet frame, or is for the endpoint itself, must not go on.
        if first & 0x31 or header[3] != _GPE_ETHERNET or (strict and not vtep._gpe):
            raise Drop(Reason.VXLAN_GPE)
        if vtep._gpe:
            known = 0x0C0000FF_00000000
            found |= Flags.GPE
    elif first & 0x80:
        if strict and not vtep._gbp:
            raise Drop(Reason.VXLAN_GBP)
        if vtep._gbp:
            known = 0x8848FFFF_00000000
            found |= Flags.GBP
    if int.from_bytes(header, "big") & ~(known | 0xFFFFFF00):
        if strict:
            raise Drop(Reason.VXLAN_RESERVED)
        if vtep._reserved == "count":
            found |= Flags.RESERVED_BITS
    return found


def inner_ip(frame: bytes) -> tuple[int, int]:
    """4 or 6 and where the IP header begins, if all of it is there; else 0."""
    start, tags = _ETHERNET, 0
    kind = int.from_bytes(frame[12:14], "big")
    while kind in TAGS and tags < INNER_TAGS and len(frame) >= start + 4:
        kind = int.from_bytes(frame[start + 2 : start + 4], "big")
        start += 4
        tags += 1
    if kind == 0x0800 and len(frame) >= start + 20 and frame[start] >> 4 == 4:
        return 4, start
    if kind == 0x86DD and len(frame) >= start + 40 and frame[start] >> 4 == 6:
        return 6, start
    return 0, 0


def _decide_ecn(inner: bytes, outer: int) -> int | None:
    version, start = inner_ip(inner)
    if not version:
        return None
    own = inner[start + 1] & 3 if version == 4 else inner[start + 1] >> 4 & 3
    if outer == 3:
        if own == 0:
            raise Drop(Reason.ECN)
        return 3 if own != 3 else None
    return 1 if outer == 1 and own == 2 else None


def with_ecn(frame: bytes, ecn: int) -> bytes:
    """The frame with another ECN field in its IP header, and IPv4's checksum changed with it (RFC 1624)."""
    changed = bytearray(frame)
    version, start = inner_ip(frame)
    if version == 6:
        changed[start + 1] = changed[start + 1] & 0xCF | ecn << 4
    elif version == 4:
        (was,) = struct.unpack_from("!H", frame, start)
        (checksum,) = struct.unpack_from("!H", frame, start + 10)
        now = was & 0xFFFC | ecn
        changed[start + 1] = now & 0xFF
        total = (0xFFFF - checksum) + (0xFFFF - was) + now
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", changed, start + 10, 0xFFFF - total)
    return bytes(changed)

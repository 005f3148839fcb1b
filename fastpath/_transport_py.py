"""Where the layers of a frame lie and what its layer 4 checksum covers: specification of `_transport.pxd`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fastpath.reasons import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMP6: Final = 58
_TAG_TYPES: Final = (0x8100, 0x88A8)
_TAGS: Final = 4
"""VLAN tags that are followed."""
_EXTENSIONS: Final = 8
"""IPv6 headers that are followed."""


class Transport(NamedTuple):
    """What `locate` found. Offsets are bytes from the frame's start; `reason` PASS says that all of it is set."""

    reason: Reason
    ip: int = 0
    at: int = 0
    """Of layer 4."""
    end: int = 0
    """Of the IP datagram; a frame may be padded behind it."""
    header: int = 0
    """Bytes of a whole IPv4 header that lies in the frame; 0 of others."""
    version: int = 0
    protocol: int = 0
    size: int = 0
    """Bytes that the layer 4 checksum covers."""
    field: int = 0
    """Of the checksum, from `at`; 0: a protocol that we know no checksum of."""


def locate(frame: Buffer) -> Transport:
    """Return where the layers of an Ethernet frame lie: up to four VLAN tags, IPv4, IPv6 with up to 8 headers.

    The reason is PASS if layer 4 is reached and its header is sound, else the first contradiction: TRUNCATED,
    NOT_IP, IP_VERSION, IP_HEADER_LENGTH, IP_TOTAL_LENGTH, IP_FRAGMENT, IP_OPTIONS (a routing header with segments
    left, more headers than are followed), UDP_LENGTH, TCP_HEADER_LENGTH.
    """
    data = memoryview(frame)
    if len(data) < 14:
        return Transport(Reason.TRUNCATED)
    at, kind = 14, _word(data, 12)
    for _ in range(_TAGS):
        if kind not in _TAG_TYPES:
            break
        if len(data) < at + 4:
            return Transport(Reason.TRUNCATED)
        kind = _word(data, at + 2)
        at += 4
    if kind == 0x0800:
        return _ipv4(data, at)
    if kind == 0x86DD:
        return _ipv6(data, at)
    return Transport(Reason.NOT_IP, at)


def folded(total: int) -> int:
    """Return a sum with its carries added back: 0 only if it was 0."""
    # 2^16 is 1 modulo 2^16 - 1; else a remainder of 0 stands for 0xffff.
    return total and (total % 0xFFFF or 0xFFFF)


def pseudo_sum(data: memoryview, found: Transport, size: int) -> int:
    """Return the sum of the pseudo header's words (RFC 9293, 3.1; RFC 8200, 8.1) for `size` bytes of layer 4."""
    if found.protocol == ICMP:
        return 0
    start, length = (found.ip + 12, 8) if found.version == 4 else (found.ip + 8, 32)
    return int.from_bytes(data[start : start + length], "big") % 0xFFFF + found.protocol + size


def stored(total: int, protocol: int = 0) -> bytes:
    """Return the checksum field for the sum of everything else; UDP's never is 0."""
    word = 0xFFFF - folded(total)
    return (word if word or protocol != UDP else 0xFFFF).to_bytes(2, "big")


def words(data: memoryview) -> int:
    """Return a number that folds as the sum of the words of `data` does; an odd last byte is a high byte."""
    number = int.from_bytes(data, "big")
    return number << 8 if len(data) % 2 else number


def header_checksum(data: memoryview, found: Transport) -> None:
    """Write the checksum of the IPv4 header."""
    ip = data[found.ip : found.ip + found.header]
    ip[10:12] = bytes(2)
    ip[10:12] = stored(words(ip))


def complete(data: memoryview, found: Transport) -> None:
    """Write the layer 4 checksum of a located packet with a checksum field."""
    segment = data[found.at : found.at + found.size]
    segment[found.field : found.field + 2] = bytes(2)
    total = pseudo_sum(data, found, found.size) + words(segment)
    segment[found.field : found.field + 2] = stored(total, found.protocol)


def _word(data: memoryview, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _ipv4(data: memoryview, ip: int) -> Transport:
    if len(data) < ip + 20:
        return Transport(Reason.TRUNCATED, ip)
    if data[ip] >> 4 != 4:
        return Transport(Reason.IP_VERSION, ip)
    header = (data[ip] & 15) * 4
    if header < 20 or len(data) < ip + header:
        return Transport(Reason.IP_HEADER_LENGTH, ip)
    total = _word(data, ip + 2)
    if total < header or len(data) < ip + total:
        return Transport(Reason.IP_TOTAL_LENGTH, ip, header=header, version=4)
    end = ip + total
    if _word(data, ip + 6) & 0x3FFF:
        return Transport(Reason.IP_FRAGMENT, ip, end=end, header=header, version=4)
    return _layer4(data, Transport(Reason.PASS, ip, ip + header, end, header, 4, data[ip + 9]))


def _ipv6(data: memoryview, ip: int) -> Transport:
    if len(data) < ip + 40:
        return Transport(Reason.TRUNCATED, ip)
    if data[ip] >> 4 != 6:
        return Transport(Reason.IP_VERSION, ip)
    total = 40 + _word(data, ip + 4)
    if len(data) < ip + total:
        return Transport(Reason.IP_TOTAL_LENGTH, ip, version=6)
    at, end, protocol = ip + 40, ip + total, data[ip + 6]

    def stop(reason: Reason) -> Transport:
        return Transport(reason, ip, end=end, version=6, protocol=protocol)

    for _ in range(_EXTENSIONS):
        if protocol not in (0, 60, 43, 44):
            break
        if end < at + 8:
            return stop(Reason.TRUNCATED)
        if protocol == 44:
            if _word(data, at + 2) & 0xFFF9:
                return stop(Reason.IP_FRAGMENT)
            size = 8
        else:
            # With segments left, the checksum is over another destination than the header's (RFC 8200, 8.1).
            if protocol == 43 and data[at + 3]:
                return stop(Reason.IP_OPTIONS)
            size = (data[at + 1] + 1) * 8
        if end < at + size:
            return stop(Reason.TRUNCATED)
        protocol = data[at]
        at += size
    else:
        return stop(Reason.IP_OPTIONS)
    return _layer4(data, Transport(Reason.PASS, ip, at, end, 0, 6, protocol))


def _layer4(data: memoryview, found: Transport) -> Transport:
    at, size, field = found.at, found.end - found.at, 0
    reason = Reason.PASS
    if found.protocol == TCP:
        field = 16
        if size < 20:
            reason = Reason.TRUNCATED
        elif not 20 <= (data[at + 12] >> 4) * 4 <= size:
            reason = Reason.TCP_HEADER_LENGTH
    elif found.protocol == UDP:
        field = 6
        if size < 8:
            reason = Reason.TRUNCATED
        elif not 8 <= _word(data, at + 4) <= size:
            reason = Reason.UDP_LENGTH
        else:
            size = _word(data, at + 4)
    elif found.protocol == (ICMP if found.version == 4 else ICMP6):
        field = 2
        if size < 4:
            reason = Reason.TRUNCATED
    return found._replace(reason=reason, size=size, field=0 if reason else field)

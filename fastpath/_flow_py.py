"""Five-tuples of frames and their hash in plain Python: specification, fall-back and oracle of `_flow_c`.

What a frame gives:

- Ethernet II, with up to MAX_TAGS tags of 802.1Q or 802.1ad. Anything but IPv4 and IPv6 (ARP, LLC lengths, more tags)
  is NOT_IP: no key, a hash over MAC addresses and EtherType.
- A wrong version, an IPv4 header length below 20, a total length below the header's, more than MAX_EXTENSIONS IPv6
  extension headers: MALFORMED, no key.
- A frame that ends inside a header, or before its IP length says: TRUNCATED. The key holds what was there: nothing if
  the IP header is cut, else addresses, protocol (the first header that is cut), and ports if those were there.
- Bytes behind the end that the IP length states (Ethernet's padding) are never read, except behind an IPv6 payload
  length of 0 followed by hop-by-hop options, a jumbogram.
- Ports come from TCP, UDP, SCTP, DCCP, UDP-Lite (first four bytes); ICMP and ICMPv6 (first eight) give type and code
  as the source port and a query's identifier as the destination port.
- A fragment with offset 0 has its ports in the key; a later one has not, and no layer 4. An IPv6 fragment header that
  says offset 0 and nothing more to come is no fragment (RFC 6946).
- IPv6 extension headers are passed over until ESP, "no next header" or a transport; IPv4's AH and ESP are not.

The hash is the same in both directions, keyed, and 32 bits. Endpoints (address, port) are put in order, lower and
higher; words are multiplied in pairs after adding keys (NH of RFC 4418, section 5.2), the sum is mixed by one
multiplication. Fragments hash over addresses alone, so that all of a datagram agree; queries and replies of ICMP agree.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from fastpath._batch_py import KEY_BYTES
from fastpath._hasher_py import Hasher
from fastpath.batch import Batch
from fastpath.endpoints import FiveTuple
from fastpath.flags import OTHERS, Flags

MAX_TAGS: Final = 4
MAX_EXTENSIONS: Final = 8

_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
_WITH_PORTS: Final = {6: Flags.PORTS | Flags.TCP, 17: Flags.PORTS | Flags.UDP} | dict.fromkeys(
    (33, 132, 136), Flags.PORTS
)
_EXTENSIONS: Final = frozenset({0, 43, 44, 51, 60, 135, 139, 140})
_QUERIES: Final = {
    1: frozenset({0, 8, *range(13, 19), 42, 43}),
    58: frozenset({128, 129, 160, 161}),
}
_ICMP: Final = {(4, 1), (6, 58)}
_KEY: Final = struct.Struct("<16s16s2s2sBBH")
_NONE: Final = bytes(KEY_BYTES)
_MASK32: Final = 0xFFFFFFFF
_DEFAULT: Final = Hasher()

Parsed = tuple[bytes, int, int]
"""Key, layers, flags."""


def parse(frame: bytes) -> Parsed:
    """Return the key (40 bytes), layers and flags of a frame; see the module."""
    if len(frame) < 14:
        return _NONE, 0, int(Flags.NOT_IP | Flags.TRUNCATED)
    start, flags, tags = 14, Flags(0), 0
    kind = int.from_bytes(frame[12:14], "big")
    while kind in _TAGS and tags < MAX_TAGS:
        flags |= Flags.VLAN | Flags.QINQ if tags else Flags.VLAN
        if len(frame) < start + 4:
            return _NONE, 0, int(flags | Flags.NOT_IP | Flags.TRUNCATED)
        kind = int.from_bytes(frame[start + 2 : start + 4], "big")
        start, tags = start + 4, tags + 1
    if kind == 0x0800:
        key, layers, found = _parse_ip4(frame, start, len(frame), False)
    elif kind == 0x86DD:
        key, layers, found = _parse_ip6(frame, start, len(frame), False)
    else:
        return _NONE, start, int(flags | Flags.NOT_IP)
    return key, layers, int(flags | found)


def parse_embedded(frame: bytes) -> Parsed | None:
    """The same of the packet that an ICMP error quotes, as it was sent, or None if the frame is no ICMP error.

    The quoted packet may be cut short without being TRUNCATED, as long as its headers are whole.
    """
    _, layers, flags = parse(frame)
    start, ip = layers >> 16, layers & 0xFFFF
    if not start or not flags & Flags.ICMP:
        return None
    six = bool(flags & Flags.IPV6)
    if frame[start] not in ((1, 2, 3, 4) if six else (3, 4, 5, 11, 12)):
        return None
    at = ip + 4 if six else ip + 2
    end = min(len(frame), ip + (40 if six else 0) + int.from_bytes(frame[at : at + 2], "big"))
    return (_parse_ip6 if six else _parse_ip4)(frame, start + 8, end, True)


def reverse(key: bytes) -> bytes:
    """Return the key of the answer to `key`: endpoints swapped, of ICMP the query's type and the reply's."""
    source, destination, source_port, destination_port, protocol, version, zone = _KEY.unpack(key)
    if (version, protocol) not in _ICMP:
        return _KEY.pack(destination, source, destination_port, source_port, protocol, version, zone)
    kind = _REPLIES[protocol].get(source_port[0], source_port[0])
    return _KEY.pack(destination, source, bytes([kind, source_port[1]]), destination_port, protocol, version, zone)


_PAIRS4: Final = ((8, 0), (13, 14), (15, 16), (17, 18), (42, 43))
_PAIRS6: Final = ((128, 129), (160, 161))
_REPLIES: Final = {
    1: {a: b for pair in _PAIRS4 for a, b in (pair, pair[::-1])},
    58: {a: b for pair in _PAIRS6 for a, b in (pair, pair[::-1])},
}


def _parse_ip4(frame: bytes, start: int, length: int, embedded: bool) -> tuple[bytes, int, Flags]:
    flags = Flags.IPV4
    if length < start + 20:
        return _NONE, start, flags | Flags.TRUNCATED
    header = (frame[start] & 15) * 4
    total, fragment = struct.unpack_from(">H2xH", frame, start + 2)
    if frame[start] >> 4 != 4 or header < 20 or total < header:
        return _NONE, start, flags | Flags.MALFORMED
    source, destination = frame[start + 12 : start + 16], frame[start + 16 : start + 20]
    protocol = frame[start + 9]
    end = start + total
    if end > length:
        end = length
        if not embedded:
            flags |= Flags.TRUNCATED
    if header > 20:
        flags |= Flags.OPTIONS
    layers, ports = start, (b"", b"")
    if fragment & 0x3FFF:
        flags |= Flags.FRAGMENT
    at = start + header
    if fragment & 0x1FFF:
        flags |= Flags.LATER_FRAGMENT
    elif at > end:
        flags |= Flags.TRUNCATED
    else:
        layers |= at << 16
        ports, found = _ports(frame, at, end, 4, protocol)
        flags |= found
    return _KEY.pack(source, destination, *ports, protocol, 4, 0), layers, flags


def _parse_ip6(frame: bytes, start: int, length: int, embedded: bool) -> tuple[bytes, int, Flags]:
    flags = Flags.IPV6
    if length < start + 40:
        return _NONE, start, flags | Flags.TRUNCATED
    if frame[start] >> 4 != 6:
        return _NONE, start, flags | Flags.MALFORMED
    source, destination = frame[start + 8 : start + 24], frame[start + 24 : start + 40]
    protocol = frame[start + 6]
    at = start + 40
    end = at + int.from_bytes(frame[start + 4 : start + 6], "big")
    if end == at and protocol == 0:
        end = length
    elif end > length:
        end = length
        if not embedded:
            flags |= Flags.TRUNCATED
    headers = 0
    while protocol in _EXTENSIONS:
        flags |= Flags.OPTIONS
        if headers == MAX_EXTENSIONS:
            return _NONE, start, Flags.IPV6 | Flags.OPTIONS | Flags.MALFORMED
        headers += 1
        size = 8
        if end - at >= 8:
            if protocol == 51:
                size = (frame[at + 1] + 2) * 4
            elif protocol != 44:
                size = (frame[at + 1] + 1) * 8
        if end - at < size:
            key = _KEY.pack(source, destination, b"", b"", protocol, 6, 0)
            return key, start, flags | Flags.TRUNCATED
        if protocol == 44:
            fragment = int.from_bytes(frame[at + 2 : at + 4], "big")
            if fragment & 0xFFF9:
                flags |= Flags.FRAGMENT
            if fragment & 0xFFF8:
                key = _KEY.pack(source, destination, b"", b"", frame[at], 6, 0)
                return key, start, flags | Flags.LATER_FRAGMENT
        protocol = frame[at]
        at += size
    ports, found = _ports(frame, at, end, 6, protocol)
    return _KEY.pack(source, destination, *ports, protocol, 6, 0), start | at << 16, flags | found


def _ports(frame: bytes, at: int, end: int, version: int, protocol: int) -> tuple[tuple[bytes, bytes], Flags]:
    if protocol in _WITH_PORTS:
        if end - at < 4:
            return (b"", b""), Flags.TRUNCATED
        return (frame[at : at + 2], frame[at + 2 : at + 4]), _WITH_PORTS[protocol]
    if (version, protocol) in _ICMP:
        if end - at < 8:
            return (b"", b""), Flags.TRUNCATED
        identifier = frame[at + 4 : at + 6] if frame[at] in _QUERIES[protocol] else b""
        return (frame[at : at + 2], identifier), Flags.ICMP
    return (b"", b""), Flags(0)


def hash_key(hasher: Hasher, key: bytes, flags: int = 0) -> int:
    """The hash (32 bits) of a key with a version, for its packet's flags; see the module."""
    source, destination, source_port, destination_port, protocol, version, zone = _KEY.unpack(key)
    k = hasher.keys
    size = 4 if version == 4 else 16
    one, other = int.from_bytes(source[:size], "little"), int.from_bytes(destination[:size], "little")
    one_port, other_port = int.from_bytes(source_port, "little"), int.from_bytes(destination_port, "little")
    rest = version << 8 | zone << 16
    if flags & Flags.FRAGMENT:
        one_port = other_port = 0
    else:
        rest |= protocol
        if (version, protocol) in _ICMP:
            one_port = other_port
    if version == 4:
        # The port is the higher part, so that both fit one 64-bit comparison.
        (low_port, low), (high_port, high) = sorted([(one_port, one), (other_port, other)])
        total = _times(low, k[0], high, k[1]) + _times(low_port | high_port << 16, k[2], rest, k[3])
        return _finish(hasher, total)
    (low, low_port), (high, high_port) = sorted([(one, one_port), (other, other_port)])
    total = _times(low_port | high_port << 16, k[12], rest, k[13])
    for i in range(4):
        total += _times(low >> 32 * i, k[4 + 2 * i], high >> 32 * i, k[5 + 2 * i])
    return _finish(hasher, total)


def hash_frame(hasher: Hasher, frame: bytes, layers: int) -> int:
    """The hash of a frame without a key, over MAC addresses and EtherType; 0 if it is cut before layer 3."""
    if not layers:
        return 0
    at = (layers & 0xFFFF) - 2
    kind = int.from_bytes(frame[at : at + 2], "little")
    low, high = sorted([int.from_bytes(frame[:6], "little"), int.from_bytes(frame[6:12], "little")])
    k = hasher.keys
    total = _times(low, k[14], high, k[15]) + _times(low >> 32 | high >> 32 << 16, k[16], kind, k[17])
    return _finish(hasher, total)


def _times(one: int, key: int, other: int, other_key: int) -> int:
    return ((one + key) & _MASK32) * ((other + other_key) & _MASK32)


def _finish(hasher: Hasher, total: int) -> int:
    total &= (1 << 64) - 1
    return ((total ^ total >> 32) * hasher.odd & (1 << 64) - 1) >> 32


def extract(batch: Batch, hasher: Hasher | None = None) -> int:
    """Fill in the columns key, layers, flags and hash of every packet that is not dropped.

    Of `flags`, the bits above the lower 16 stay: they say what others know of the packet. Returns how
    many have a key. Without a `hasher`, the one of the default seed is used. Raises ValueError for a closed batch,
    BatchInUseError if another thread works on it.
    """
    return _extract(batch, _DEFAULT if hasher is None else hasher)


def keys(batch: Batch) -> int:
    """As `extract`, without the hash: that column stays as it is."""
    return _extract(batch, None)


def _extract(batch: Batch, hasher: Hasher | None) -> int:
    memory, offset, length, verdict = batch.memory, batch.offset, batch.length, batch.verdict
    column, layer, flag, hashes = batch.key.cast("B"), batch.layers, batch.flags, batch.hash
    found = 0
    for i in range(batch.count):
        if verdict[i]:
            continue
        frame = bytes(memory[offset[i] : offset[i] + length[i]])
        key, layer[i], flags = parse(frame)
        flag[i] = flag[i] & OTHERS | flags
        column[i * KEY_BYTES : (i + 1) * KEY_BYTES] = key
        if key != _NONE:
            found += 1
        if hasher is not None:
            hashes[i] = hash_frame(hasher, frame, layer[i]) if key == _NONE else hash_key(hasher, key, flag[i])
    return found


def five_tuple(frame: bytes) -> FiveTuple | None:
    """Return the five-tuple of an Ethernet frame, or None if there is none: no IP, cut or broken IP header.

    Raises TypeError unless `frame` is bytes.
    """
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    key, _, _ = parse(frame)
    if key == _NONE:
        return None
    source, destination, source_port, destination_port, protocol, version, _ = _KEY.unpack(key)
    size = 4 if version == 4 else 16
    source_number, destination_number = int.from_bytes(source_port, "big"), int.from_bytes(destination_port, "big")
    return FiveTuple(source[:size], destination[:size], protocol, source_number, destination_number)


def five_tuples(frames: Sequence[bytes]) -> list[FiveTuple | None]:
    """`five_tuple` of each frame."""
    return [five_tuple(frame) for frame in frames]

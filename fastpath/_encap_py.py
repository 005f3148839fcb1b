"""The outer headers of one VXLAN frame in plain Python: specification and oracle of `_encap.pxd`."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from fastpath import _template as t
from fastpath._checksum_py import internet_checksum
from fastpath._flow_py import hash_frame, hash_key, parse
from fastpath._hasher_py import Hasher
from fastpath._template import Template
from fastpath.flags import Flags
from fastpath.reasons import Reason

_TCP: Final = 6
_UDP: Final = 17
_PORTS: Final = 49152


class Departure(NamedTuple):
    """What encapsulation gives."""

    header: bytes
    hash: int
    layers: int
    """Of the inner frame, counted from its own first byte."""


def refuse(tunnel: Template, length: int, room: int) -> Reason:
    """Why a frame of `length` bytes with `room` bytes before it cannot go through the tunnel; PASS if it can."""
    if length < 14:
        return Reason.INNER_SHORT
    if length > tunnel.most:
        return Reason.TOO_LONG
    if room < len(tunnel.header):
        return Reason.NO_HEADROOM
    return Reason.PASS


def encode(tunnel: Template, hasher: Hasher, frame: bytes, state: Flags, identification: int) -> Departure | Reason:
    """Return the headers for `frame`, or HOP_LIMIT. Of `state`, PARTIAL_CHECKSUM and VALID_CHECKSUM count."""
    key, layers, flags = parse(frame)
    version = key[37]
    flow = hash_key(hasher, key, flags) if version else hash_frame(hasher, frame, layers)
    ip = frame[layers & 0xFFFF :]
    mode = tunnel.mode
    traffic, hops, fragment = 0, t.TTL_WITHOUT_IP, 0
    if version == 4:
        traffic, hops, fragment = ip[1], ip[8], int.from_bytes(ip[6:8], "big") & t.DONT_FRAGMENT
    elif version == 6:
        traffic, hops, fragment = int.from_bytes(ip[:2], "big") >> 4 & 0xFF, ip[7], t.DONT_FRAGMENT
    if not mode & t.INHERIT_TTL:
        hops = 0
    elif not hops:
        return Reason.HOP_LIMIT
    traffic &= (0xFC if mode & t.INHERIT_DSCP else 0) | (3 if mode & t.COPY_ECN else 0)
    header = bytearray(tunnel.header)
    port, size = _PORTS + (flow & 0x3FFF), len(frame) + 16
    checksum = 0
    if mode & t.CHECKSUM:
        if not mode & t.TRUST_INNER:
            state &= Flags.PARTIAL_CHECKSUM
        total = tunnel.udp_sum + 2 * size + port + _inner_sum(frame, key, layers, Flags(flags), state)
        checksum = 0xFFFF - _fold(total) or 0xFFFF
    struct.pack_into("!H", header, len(header) - 16, port)
    struct.pack_into("!HH", header, len(header) - 12, size, checksum)
    at = tunnel.ip_at
    if mode & t.IP6:
        (first,) = struct.unpack_from("!I", header, at)
        label = flow >> 12 if mode & t.HASH_LABEL else 0
        struct.pack_into("!IH", header, at, first | traffic << 20 | label, size)
        header[at + 7] |= hops
        return Departure(bytes(header), flow, layers)
    if mode & t.INHERIT_DF:
        struct.pack_into("!H", header, at + 6, fragment)
    if mode & t.IDENTIFY or (mode & t.INHERIT_DF and not fragment):
        struct.pack_into("!H", header, at + 4, identification & 0xFFFF)
    header[at + 1] |= traffic
    header[at + 8] |= hops
    struct.pack_into("!H", header, at + 2, size + 20)
    struct.pack_into("!H", header, at + 10, internet_checksum(header[at : at + 20]))
    return Departure(bytes(header), flow, layers)


def _inner_sum(frame: bytes, key: bytes, layers: int, flags: Flags, state: Flags) -> int:
    """The sum of the inner frame's words as they will be once its own checksum is complete."""
    ip, start = layers & 0xFFFF, layers >> 16
    protocol, version = key[36], key[37]
    state &= Flags.PARTIAL_CHECKSUM | Flags.VALID_CHECKSUM
    if not state or not version or not start or flags & Flags.FRAGMENT or protocol not in (_TCP, _UDP):
        return _sum(frame)
    end = ip + (0 if version == 4 else 40) + int.from_bytes(frame[ip + (2 if version == 4 else 4) :][:2], "big")
    if end > len(frame) or end < start + (20 if protocol == _TCP else 8):
        return _sum(frame)
    field = start + (16 if protocol == _TCP else 6)
    (written,) = struct.unpack_from("!H", frame, field)
    if state & Flags.PARTIAL_CHECKSUM:
        finished = 0xFFFF - written
    else:
        (length,) = struct.unpack_from("!H", frame, start + 4)
        # What covers something else than the segment, or nothing, says nothing about it.
        if flags & Flags.OPTIONS or (protocol == _UDP and (not written or length != end - start)):
            return _sum(frame)
        addresses = frame[ip + 12 : ip + 20] if version == 4 else frame[ip + 8 : ip + 40]
        finished = 0xFFFF - _fold(_sum(addresses) + protocol + end - start)
    tail = _sum(frame[end:])
    if end % 2:
        tail = (tail << 8 | tail >> 8) & 0xFFFF
    return _fold(_sum(frame[:start]) + finished + tail)


def _sum(data: bytes) -> int:
    return 0xFFFF - internet_checksum(data)


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total

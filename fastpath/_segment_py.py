"""Segmentation and coalescing of super-frames in plain Python: specification and oracle of `_segment_c`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastpath._transport_py import (
    TCP,
    UDP,
    Transport,
    complete,
    folded,
    header_checksum,
    locate,
    pseudo_sum,
    stored,
    words,
)
from fastpath.flags import Flags
from fastpath.reasons import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath.batch import Batch

_COLUMNS: Final = ("tunnel", "vni", "hash", "flags", "layers", "ct", "rule")
_NO_BITS: Final = 0xFFFFFFFF
_FIN, _SYN, _RST, _PSH, _URG, _CWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x80
_BUCKETS: Final = 64
_UDP_SEGMENTS: Final = 64
"""Datagrams of one train, as many as every kernel takes (UDP_MAX_SEGMENTS)."""


def segment(source: Batch, target: Batch, size: int | Buffer, first: int = 0) -> int:
    """Cut the TCP and UDP super-frames of `source` into segments in `target`, whose packets they replace.

    `size` is the payload of a segment in bytes, 1 to 65535: one number, or a buffer of uint32 with one for each packet
    of `source`, where 0 leaves a packet whole. Everything is as Linux' GSO makes it: the last segment is shorter,
    IPv4's identification counts up, FIN and PSH are the last one's, CWR the first one's, all checksums are made in the
    pass of the copy (a UDP checksum of 0 stays 0). Every other packet is copied as it is, and a partial checksum
    completed. Columns are inherited. A super-frame's own checksum is not looked at: `verify` what comes from outside.

    Begins with packet `first`, ends where `target` has no room for all segments of a packet, and returns that
    packet's index: len(source) when all is done. Dropped packets are passed over. What can never fit is dropped with
    TOO_LONG: a frame longer than a slot, a super-frame of more segments than `target` has slots.

    Raises ValueError for a size or `first` out of range, sizes for fewer packets, one batch as both.
    """
    sizes = _sizes(source, size)
    _check(source, target, first)
    room = target.slot - target.headroom
    made: list[tuple[bytes | bytearray, int]] = []
    following = len(source)
    for i in range(first, len(source)):
        if source.verdict[i]:
            continue
        data = memoryview(source.frame(i))
        found = locate(data)
        mss = sizes[i]
        partial = bool(source.flags[i] & Flags.PARTIAL_CHECKSUM)
        body = _body(data, found)
        if mss and body and len(data[body : found.at + found.size]) > mss:
            payload = found.at + found.size - body
            count = -(-payload // mss)
            if body + mss > room or count > target.capacity:
                source.verdict[i] = Reason.TOO_LONG
                continue
            if len(made) + count > target.capacity:
                following = i
                break
            made += [(each, i) for each in _segments(data, found, body, mss, partial)]
            continue
        if len(data) > room:
            source.verdict[i] = Reason.TOO_LONG
            continue
        if len(made) == target.capacity:
            following = i
            break
        whole = bytearray(data)
        if partial and not found.reason and found.protocol in (TCP, UDP):
            complete(memoryview(whole), found)
        elif partial:
            made.append((whole, ~i))
            continue
        made.append((whole, i))
    _hand_out(source, target, made)
    return following


def coalesce(
    source: Batch,
    target: Batch,
    sizes: Buffer | None = None,
    first: int = 0,
    udp: bool = False,
    partial: bool = False,
) -> int:
    """Join segments of `source` that follow each other to super-frames in `target`, whose packets they replace.

    The inverse of `segment`, by the rules of Linux' GRO: TCP of one flow of one VNI and tunnel, next in sequence, with
    the same headers and options (addresses, tags, TTL, TOS, DF, acknowledgement, window), IPv4 identifications that
    count up, equal payloads but a shorter last one, right checksums; FIN and PSH end a super-frame, CWR begins one,
    SYN, RST and URG are never joined. `udp` joins datagrams likewise, up to 64, for who cuts them again: a receiver
    must not get them joined. The order within a flow is kept. A frame whose checksum is wrong goes on as it came,
    alone.

    `sizes`, a writable buffer of uint32 with an entry for each slot of `target`, gets the payload of the segments, or
    0 for a packet that was not joined. `partial` leaves a super-frame's checksum to who gets it: the field holds the
    pseudo header's sum, and PARTIAL_CHECKSUM is set, VALID_CHECKSUM not. Columns are those of the first segment.

    `first`, the returned index and TOO_LONG are as in `segment`; so are errors.
    """
    entries = None if sizes is None else _writable(sizes, target)
    _check(source, target, first)
    room = target.slot - target.headroom
    trains: dict[int, _Train] = {}
    made: list[tuple[bytearray, int]] = []
    joined: list[_Train] = []
    following = len(source)
    for i in range(first, len(source)):
        if source.verdict[i]:
            continue
        data = memoryview(source.frame(i))
        found = locate(data)
        known = not found.reason and found.protocol in (TCP, UDP)
        bucket = _bucket(data, found) if known else 0
        body = _body(data, found)
        sound = (
            known
            and (udp or found.protocol == TCP)
            and _joinable(data, found, body, bool(source.flags[i] & Flags.PARTIAL_CHECKSUM))
        )
        train = trains.get(bucket) if known else None
        network = source.vni[i], source.tunnel[i]
        if train and sound and train.network == network and train.takes(data, found, body, room):
            if train.append(data, found, body):
                del trains[bucket]
            continue
        if len(data) > room:
            if train:
                del trains[bucket]
            source.verdict[i] = Reason.TOO_LONG
            continue
        if len(made) == target.capacity:
            following = i
            break
        if train:
            del trains[bucket]
        whole = bytearray(data)
        if sound and not (found.protocol == TCP and data[found.at + 13] & (_FIN | _PSH)):
            trains[bucket] = _Train(whole, found, body, len(data) - body, len(made), network)
            joined.append(trains[bucket])
        made.append((whole, i))
    several = [train for train in joined if train.segments > 1]
    for train in several:
        train.finish(partial)
    _hand_out(source, target, made, keep=True)
    for slot in range(len(made)):
        if entries is not None:
            entries[slot] = 0
    for train in several:
        if entries is not None:
            entries[train.slot] = train.size
        target.flags[train.slot] &= _NO_BITS ^ Flags.PARTIAL_CHECKSUM
        if partial:
            target.flags[train.slot] &= _NO_BITS ^ Flags.VALID_CHECKSUM
            target.flags[train.slot] |= Flags.PARTIAL_CHECKSUM
    return following


@dataclass
class _Train:
    """A super-frame that is being made."""

    frame: bytearray
    found: Transport
    body: int
    size: int
    slot: int
    network: tuple[int, int]
    segments: int = 1

    def takes(self, data: memoryview, found: Transport, body: int, room: int) -> bool:
        """Whether a sound segment comes next."""
        mine, ip, at = memoryview(self.frame), found.ip, found.at
        chunk = len(data) - body
        if body != self.body or data[:ip] != mine[:ip] or chunk > self.size:
            return False
        if len(mine) + chunk > room or len(mine) + chunk - ip - (0 if found.version == 4 else 40) > 0xFFFF:
            return False
        if found.version == 4:
            ident = int.from_bytes(mine[ip + 4 : ip + 6], "big") + self.segments & 0xFFFF
            if (
                data[ip : ip + 2] != mine[ip : ip + 2]
                or int.from_bytes(data[ip + 4 : ip + 6], "big") != ident
                or data[ip + 6 : ip + 10] != mine[ip + 6 : ip + 10]
                or data[ip + 12 : at] != mine[ip + 12 : at]
            ):
                return False
        elif data[ip : ip + 4] != mine[ip : ip + 4] or data[ip + 6 : at] != mine[ip + 6 : at]:
            return False
        if data[at : at + 4] != mine[at : at + 4]:
            return False
        if found.protocol == UDP:
            return self.segments < _UDP_SEGMENTS
        seq = int.from_bytes(mine[at + 4 : at + 8], "big") + len(mine) - body & 0xFFFFFFFF
        return (
            int.from_bytes(data[at + 4 : at + 8], "big") == seq
            and data[at + 8 : at + 13] == mine[at + 8 : at + 13]
            and not data[at + 13] & _CWR
            and not (data[at + 13] ^ mine[at + 13]) & ~(_CWR | _FIN | _PSH)
            and data[at + 14 : at + 16] == mine[at + 14 : at + 16]
            and data[at + 18 : body] == mine[at + 18 : body]
        )

    def append(self, data: memoryview, found: Transport, body: int) -> bool:
        """Take the segment's payload; return whether the train ends with it."""
        self.frame += data[body:]
        self.segments += 1
        ends = 0
        if found.protocol == TCP:
            ends = data[found.at + 13] & (_FIN | _PSH)
            self.frame[found.at + 13] |= ends
        return bool(ends) or len(data) - body < self.size

    def finish(self, partial: bool) -> None:
        """Write the lengths and checksums of the whole."""
        data, ip, at = memoryview(self.frame), self.found.ip, self.found.at
        size = len(data) - at
        if self.found.version == 4:
            data[ip + 2 : ip + 4] = (len(data) - ip).to_bytes(2, "big")
            header_checksum(data, self.found)
        else:
            data[ip + 4 : ip + 6] = (len(data) - ip - 40).to_bytes(2, "big")
        if self.found.protocol == UDP:
            data[at + 4 : at + 6] = size.to_bytes(2, "big")
        whole = self.found._replace(size=size)
        if partial:
            field = at + whole.field
            data[field : field + 2] = folded(pseudo_sum(data, whole, size)).to_bytes(2, "big")
        else:
            complete(data, whole)


def _segments(data: memoryview, found: Transport, body: int, mss: int, partial: bool) -> list[bytearray]:
    ip, at = found.ip, found.at
    ident = int.from_bytes(data[ip + 4 : ip + 6], "big")
    seq = int.from_bytes(data[at + 4 : at + 8], "big")
    made = []
    payload = data[body : at + found.size]
    for start in range(0, len(payload), mss):
        frame = bytearray(data[:body]) + payload[start : start + mss]
        view, size = memoryview(frame), len(frame) - at
        if found.version == 4:
            frame[ip + 2 : ip + 4] = (len(frame) - ip).to_bytes(2, "big")
            frame[ip + 4 : ip + 6] = (ident + start // mss & 0xFFFF).to_bytes(2, "big")
            header_checksum(view, found)
        else:
            frame[ip + 4 : ip + 6] = (len(frame) - ip - 40).to_bytes(2, "big")
        if found.protocol == TCP:
            frame[at + 4 : at + 8] = (seq + start & 0xFFFFFFFF).to_bytes(4, "big")
            if start + mss < len(payload):
                frame[at + 13] &= ~(_FIN | _PSH)
            if start:
                frame[at + 13] &= ~_CWR
        else:
            frame[at + 4 : at + 6] = size.to_bytes(2, "big")
        if found.protocol == TCP or partial or any(frame[at + 6 : at + 8]):
            field = at + found.field
            frame[field : field + 2] = bytes(2)
            total = pseudo_sum(view, found, size) + words(view[at:])
            frame[field : field + 2] = stored(total, found.protocol)
        made.append(frame)
    return made


def _body(data: memoryview, found: Transport) -> int:
    """Where the payload of a packet that can be cut or joined begins; else 0."""
    if found.reason or found.at + found.size != found.end:
        return 0
    if found.protocol == TCP:
        return found.at + (data[found.at + 12] >> 4) * 4
    return found.at + 8 if found.protocol == UDP else 0


def _joinable(data: memoryview, found: Transport, body: int, partial: bool) -> bool:
    """Whether a TCP or UDP packet may be part of a super-frame, as far as it alone tells."""
    if not body or found.end != len(data) or body == len(data):
        return False
    segment = data[found.at :]
    if found.header and folded(words(data[found.ip : found.at])) != 0xFFFF:
        return False
    if found.protocol == TCP:
        if segment[13] & (_SYN | _RST | _URG):
            return False
    elif not partial and not any(segment[6:8]):
        return False
    return partial or folded(pseudo_sum(data, found, found.size) + words(segment)) == 0xFFFF


def _bucket(data: memoryview, found: Transport) -> int:
    """Which open super-frame a packet may belong to."""
    start, end = (found.ip + 12, found.ip + 20) if found.version == 4 else (found.ip + 8, found.ip + 40)
    mixed = int.from_bytes(data[found.at : found.at + 4], "little")
    for at in range(start, end, 4):
        mixed ^= int.from_bytes(data[at : at + 4], "little")
    return (mixed * 0x9E3779B1 & 0xFFFFFFFF) >> 26


def _hand_out(source: Batch, target: Batch, made: Sequence[tuple[bytes | bytearray, int]], keep: bool = False) -> None:
    """Replace the packets of `target`; a complement of an index, and `keep`, leave PARTIAL_CHECKSUM as it is."""
    target.fill([frame for frame, _ in made])
    for slot, (_, which) in enumerate(made):
        i = which if which >= 0 else ~which
        for name in _COLUMNS:
            getattr(target, name)[slot] = getattr(source, name)[i]
        if not keep and which >= 0:
            target.flags[slot] &= _NO_BITS ^ Flags.PARTIAL_CHECKSUM
        # Rows of a view with two dimensions cannot be assigned; its bytes can.
        mine, theirs = target.key.cast("B"), source.key.cast("B")
        mine[slot * 40 : slot * 40 + 40] = theirs[i * 40 : i * 40 + 40]


def _check(source: Batch, target: Batch, first: int) -> None:
    if source is target:
        raise ValueError("source and target are one batch")
    if not 0 <= first <= len(source):
        raise ValueError("first is 0 to the number of packets in source")


def _sizes(source: Batch, size: int | Buffer) -> Sequence[int]:
    if isinstance(size, int):
        if not 1 <= size <= 0xFFFF:
            raise ValueError("size is 1 to 65535 bytes")
        return [size] * len(source)
    view = memoryview(size)
    if view.format != "I" or view.ndim != 1 or not view.c_contiguous:
        raise ValueError("sizes are a contiguous buffer of uint32")
    if len(view) < len(source):
        raise ValueError(f"sizes for {len(view)} of {len(source)} packets")
    return view


def _writable(sizes: Buffer, target: Batch) -> memoryview:
    view = memoryview(sizes)
    if view.format != "I" or view.ndim != 1 or not view.c_contiguous or view.readonly:
        raise ValueError("sizes are a contiguous, writable buffer of uint32")
    if len(view) < target.capacity:
        raise ValueError(f"sizes for {len(view)} of {target.capacity} packets")
    return view

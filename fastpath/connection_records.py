"""Connections as bytes: their keys, and the format in which a table is handed over."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from fastpath.connections import LONGEST_TICKS, TICK_BITS, Connection, ConntrackError, Mark, State

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC: Final = b"NPCT"
FORMAT: Final = 1
HEADER: Final = struct.Struct("<4sHHIQ")
"""Of an export: magic, version of the format, bytes of a record, records, 0."""
RECORD: Final = struct.Struct("<40sIIIBBBB IIIIBBxx IIIIBBxx IIHBBBxxx QQQQ")
"""Of a connection:

- key (as `fastpath.batch` has it; lower endpoint first), policy, ticks left
- last end (TCP: where the remembered segment ends; UDP: ticks until it is a stream), state, marks, last (TCP: kind of
  the remembered segment, and 8 if it was an answer), 0
- TCP's windows, of who began and of who answers: end, most end, most window, most acknowledged, scale, bits
- of the remembered segment: sequence, acknowledgement, window, scale, bits; retransmissions
- packets of both, bytes of both

Droppable connections come first, oldest first."""
KEY: Final = struct.Struct("<16s16s2s2sBBH")
WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
QUERIES: Final = {4: {8: 0, 13: 14, 15: 16, 17: 18, 42: 43}, 6: {128: 129, 160: 161}}
"""Types of ICMP that ask, and the answer to each, by IP version."""
INVERSE: Final = {v: pairs | {reply: query for query, reply in pairs.items()} for v, pairs in QUERIES.items()}


def is_icmp(version: int, protocol: int) -> bool:
    """Whether it is the ICMP of its family."""
    return protocol == (1 if version == 4 else 58)


def normal(key: bytes, zone: int | None = None) -> tuple[bytes, bool]:
    """The key of a connection: the lower endpoint first; whether the packet came from the higher one.

    Endpoints are compared as little-endian numbers; of IPv4 the port is the more significant part, of IPv6 the address.
    ICMP has an endpoint without port, and the type as the lower one would send it.
    """
    source, destination, source_port, destination_port, protocol, version, own = KEY.unpack(key)
    size = 4 if version == 4 else 16
    source, destination = source[:size], destination[:size]
    one, other = int.from_bytes(source, "little"), int.from_bytes(destination, "little")
    own = own if zone is None else zone
    if is_icmp(version, protocol):
        high = one > other
        if high:
            source, destination = destination, source
            kind = INVERSE[version].get(source_port[0], source_port[0])
            source_port = bytes([kind, source_port[1]])
        return KEY.pack(source, destination, source_port, destination_port, protocol, version, own), high
    if protocol not in WITH_PORTS:
        source_port = destination_port = b""
    one_port, other_port = int.from_bytes(source_port, "little"), int.from_bytes(destination_port, "little")
    high = (one_port, one) > (other_port, other) if version == 4 else (one, one_port) > (other, other_port)
    if high:
        source, destination, source_port, destination_port = destination, source, destination_port, source_port
    return KEY.pack(source, destination, source_port, destination_port, protocol, version, own), high


def headed(data: Buffer) -> int:
    """How many records an export has. Raises ConntrackError if it has another length, or is none."""
    view = memoryview(data)
    if view.nbytes < HEADER.size:
        raise ConntrackError("the export is cut")
    magic, version, size, count, _ = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise ConntrackError("this is no export of connections")
    if version != FORMAT or size != RECORD.size:
        raise ConntrackError(f"the export has format {version}, {FORMAT} is known")
    if view.nbytes != HEADER.size + count * size:
        raise ConntrackError("the export is cut or has bytes behind its end")
    return int(count)


def impossible(number: int) -> ConntrackError:
    """The error for a record that no table has written."""
    return ConntrackError(f"record {number} of the export cannot be of a table")


def checked(data: Buffer) -> list[tuple[Any, ...]]:
    """The records of an export. Raises ConntrackError if one cannot be of any table."""
    headed(data)
    records = list(RECORD.iter_unpack(memoryview(data)[HEADER.size :]))
    for number, fields in enumerate(records):
        if not _possible(fields):
            raise impossible(number)
    return records


def _possible(fields: tuple[Any, ...]) -> bool:
    key, _, left, _, state, marks, last, _ = fields[:8]
    if key[37] not in (4, 6) or key != normal(key)[0]:
        return False
    if is_icmp(key[37], key[36]) and key[32] not in INVERSE[key[37]]:
        return False
    if not 1 <= left <= LONGEST_TICKS or marks >= 64 or last & 7 > 5 or last > 13:
        return False
    if not (1 <= state <= State.SYN_SENT2 if key[36] == 6 else state == 0):
        return False
    scales, bits = (fields[12], fields[18], fields[23]), (fields[13], fields[19], fields[24])
    return all(scale <= 14 for scale in scales) and all(each < 32 for each in bits)


def described(fields: tuple[Any, ...]) -> Connection:
    """A record of an export, for people."""
    key, policy, left, _, state, marks = fields[:6]
    low, high, low_port, high_port, protocol, version, zone = KEY.unpack(key)
    size = 4 if version == 4 else 16
    source, destination = low[:size], high[:size]
    source_port, destination_port = int.from_bytes(low_port, "big"), int.from_bytes(high_port, "big")
    if is_icmp(version, protocol):
        if marks & Mark.FROM_HIGH:
            source_port = INVERSE[version][low_port[0]] << 8 | low_port[1]
    elif marks & Mark.FROM_HIGH:
        source_port, destination_port = destination_port, source_port
    if marks & Mark.FROM_HIGH:
        source, destination = destination, source
    return Connection(
        zone, version, protocol, source, destination, source_port, destination_port, State(state),
        bool(marks & Mark.REPLIED), bool(marks & Mark.ASSURED), policy, left << TICK_BITS,
        (fields[26], fields[27]), (fields[28], fields[29]),
    )  # fmt: skip

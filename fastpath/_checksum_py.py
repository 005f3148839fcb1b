"""The Internet checksum in plain Python: specification, fall-back and oracle of `_checksum_c`."""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING, Final

from fastpath._transport_py import (
    TCP,
    UDP,
    complete,
    folded,
    header_checksum,
    locate,
    pseudo_sum,
    words,
)
from fastpath.flags import Flags
from fastpath.reasons import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath.batch import Batch

_PSEUDO_AND_HEADER = struct.Struct("!4s4sHHHHH")
_PROTOCOL_UDP = 17
_UDP_HEADER = 8
_UDP_PAYLOAD_MAX = 0xFFFF - _UDP_HEADER
_NOT_JUDGED: Final = (Reason.NOT_IP, Reason.IP_FRAGMENT, Reason.IP_OPTIONS)
_NO_BITS: Final = 0xFFFFFFFF


def internet_checksum(data: Buffer, initial: int = 0) -> int:
    """Return the RFC 1071 checksum of `data` as a host integer, to be stored in network order.

    `data` is any contiguous buffer, read as big-endian 16-bit words; an odd last byte is padded with zero on the
    right. `initial` (0 to 2^32 - 1) is added to the sum first, to chain a pseudo header or an earlier part. Over
    data that contains a right checksum the result is 0.

    Raises TypeError if `data` is no buffer, BufferError if it is not contiguous, OverflowError if `initial` does
    not fit 32 bits.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the buffer is not contiguous")
    start = operator.index(initial)
    if not 0 <= start <= 0xFFFFFFFF:
        raise OverflowError("initial does not fit 32 bits")
    return 0xFFFF - folded(words(view.cast("B")) + start)


def udp4_checksum(src_ip: bytes, dst_ip: bytes, src_port: int, dst_port: int, payload: bytes) -> int:
    """Return the UDP checksum over IPv4 (RFC 768) of a datagram, as if its checksum field were still zero.

    Addresses are 4 bytes in network order. A sum of 0 is returned as 0xffff, because 0 on the wire says that there
    is no checksum; so a received non-zero checksum is right exactly if it equals the result.

    Raises ValueError for an address that is not 4 bytes, a port outside 0 to 65535, or a payload above 65527 bytes.
    """
    if len(src_ip) != 4 or len(dst_ip) != 4:
        raise ValueError("an IPv4 address has 4 bytes")
    if not (0 <= src_port <= 0xFFFF and 0 <= dst_port <= 0xFFFF):
        raise ValueError("a port is 0 to 65535")
    if len(payload) > _UDP_PAYLOAD_MAX:
        raise ValueError("the payload does not fit a UDP datagram")
    length = _UDP_HEADER + len(payload)
    head = _PSEUDO_AND_HEADER.pack(src_ip, dst_ip, _PROTOCOL_UDP, length, src_port, dst_port, length)
    # The head is 18 bytes: even, so its sum may be chained.
    return internet_checksum(payload, 0xFFFF - internet_checksum(head)) or 0xFFFF


def update(checksum: int, old: bytes, new: bytes) -> int:
    """Return what `checksum` becomes when `old` in the data is replaced by `new` (RFC 1624, equation 3).

    Both are whole 16-bit words that lie at an even distance from where the sum begins, of any number; either may be
    empty, for words that come or go. The result is the checksum of the changed data, 0x0000 and 0xffff told
    apart as in a sum anew, unless all of that data is zero, which no packet with its pseudo header is. For UDP,
    the caller knows that a checksum of 0 stands for none and that a result of 0 is sent as 0xffff.

    Raises ValueError for a checksum outside 0 to 65535 or an odd number of bytes.
    """
    if not 0 <= checksum <= 0xFFFF:
        raise ValueError("a checksum is 0 to 65535")
    if len(old) % 2 or len(new) % 2:
        raise ValueError("what is replaced is whole 16-bit words")
    total = 0xFFFF - checksum + words(memoryview(new))
    for at in range(0, len(old), 2):
        total += 0xFFFF - int.from_bytes(old[at : at + 2], "big")
    return 0xFFFF - folded(total)


def fill(batch: Batch, partial: bool = False) -> int:
    """Write the checksums of all packets that go on; return of how many the layer 4 checksum was written.

    The header checksum of IPv4, and the checksums of TCP, UDP, ICMP and ICMPv6, under up to four VLAN tags and behind
    IPv6 extension headers; UDP's is never 0. `partial` writes into TCP and UDP only the pseudo header's sum, as a
    device with checksum offload or virtio takes it, and sets PARTIAL_CHECKSUM in place of VALID_CHECKSUM; else that
    flag is cleared.

    Left as they are: layer 4 of fragments, of IPv6 with a routing header that has segments left, of a packet whose
    lengths contradict each other, of other protocols (SCTP's CRC32c and UDP-Lite among them). Nothing is dropped.
    """
    memory, offset, length, flags = batch.memory, batch.offset, batch.length, batch.flags
    filled = 0
    for i in range(len(batch)):
        if batch.verdict[i]:
            continue
        data = memory[offset[i] : offset[i] + length[i]]
        found = locate(data)
        if found.header:
            header_checksum(data, found)
        if found.reason or not found.field:
            continue
        filled += 1
        if partial and found.protocol in (TCP, UDP):
            at = found.at + found.field
            data[at : at + 2] = folded(pseudo_sum(data, found, found.size)).to_bytes(2, "big")
            flags[i] = flags[i] & (_NO_BITS ^ Flags.VALID_CHECKSUM) | Flags.PARTIAL_CHECKSUM
        else:
            complete(data, found)
            flags[i] &= _NO_BITS ^ Flags.PARTIAL_CHECKSUM
    return filled


def verify(batch: Batch) -> int:
    """Drop the packets whose checksums are wrong or whose lengths hide what they cover; return how many go on.

    Those whose layer 4 checksum is there and right get VALID_CHECKSUM, all others lose it.

    Checked is what `fill` writes. Verdicts: IP_CHECKSUM, LAYER4_CHECKSUM, UDP_ZERO_CHECKSUM (over IPv6, RFC 8200
    section 8.1; over IPv4, zero says that there is none), TRUNCATED and the other reasons of a header that is not
    sound. TCP and UDP with PARTIAL_CHECKSUM go on unread: nothing is known of them yet. What `fill` leaves as it is
    goes on, except packets whose lengths contradict each other.
    """
    memory, offset, length, verdict = batch.memory, batch.offset, batch.length, batch.verdict
    kept = 0
    for i in range(len(batch)):
        if verdict[i]:
            continue
        data = memory[offset[i] : offset[i] + length[i]]
        state = _judge(data, bool(batch.flags[i] & Flags.PARTIAL_CHECKSUM))
        if state is None:
            batch.flags[i] |= Flags.VALID_CHECKSUM
        else:
            batch.flags[i] &= _NO_BITS ^ Flags.VALID_CHECKSUM
            verdict[i] = state
        kept += not verdict[i]
    return kept


def _judge(data: memoryview, partial: bool) -> Reason | None:
    """Why the packet is dropped, or PASS; None if its layer 4 checksum is right."""
    found = locate(data)
    if found.reason and found.reason not in _NOT_JUDGED:
        return found.reason
    if found.header and folded(words(data[found.ip : found.ip + found.header])) != 0xFFFF:
        return Reason.IP_CHECKSUM
    if found.reason or not found.field or (partial and found.protocol in (TCP, UDP)):
        return Reason.PASS
    segment = data[found.at : found.at + found.size]
    if found.protocol == UDP and not any(segment[6:8]):
        return Reason.PASS if found.version == 4 else Reason.UDP_ZERO_CHECKSUM
    if folded(pseudo_sum(data, found, found.size) + words(segment)) != 0xFFFF:
        return Reason.LAYER4_CHECKSUM
    return None

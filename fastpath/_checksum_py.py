"""The Internet checksum in plain Python: specification, fall-back and oracle of `_checksum_c`."""

from __future__ import annotations

import operator
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PSEUDO_AND_HEADER = struct.Struct("!4s4sHHHHH")
_PROTOCOL_UDP = 17
_UDP_HEADER = 8
_UDP_PAYLOAD_MAX = 0xFFFF - _UDP_HEADER


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
    # 2^16 is 1 modulo 2^16 - 1, so the whole buffer as one number has the same remainder as the sum of its words.
    number = int.from_bytes(view, "big")
    if view.nbytes % 2:
        number <<= 8
    total = number + start
    # Folding carries turns a sum into 0 only if every word was 0; else a remainder of 0 stands for 0xffff.
    folded = total and (total % 0xFFFF or 0xFFFF)
    return 0xFFFF - folded


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

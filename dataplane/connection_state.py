"""What connection tracking says of the first packet that it sees of a connection: asks `fastpath.conntrack` itself."""

from __future__ import annotations

import struct
from typing import Final, Literal

from dataplane import protocols
from fastpath import flow
from fastpath.batch import Batch
from fastpath.conntrack import Conntrack, Ct
from fastpath.rules import Header

ConnectionState = Literal["new", "invalid", "untracked"]

_STATES: Final[dict[int, ConnectionState]] = {Ct.NEW: "new", Ct.INVALID: "invalid", Ct.NONE: "untracked"}
_MACS: Final = bytes(12)
_LATER: Final = 185
"""Of a fragment but the first: where it begins, in eights of bytes."""
_FRAGMENT6: Final = 44
"""Next header, RFC 8200 section 4.5."""
_SYN: Final = struct.Struct("!IIBBHHH").pack(1, 0, 5 << 4, 2, 65535, 0, 0)


def state_of(header: Header) -> ConnectionState:
    """Whether a packet with this header begins a connection, cannot, or is none that is tracked; TCP's is a SYN."""
    batch = Batch(1, huge=False)
    batch.fill([_frame(header)])
    flow.extract(batch)
    Conntrack(1).track(batch, 0)
    return _STATES[batch.ct[0] & Ct.KIND]


def _frame(header: Header) -> bytes:
    layer4, place, fragment6 = b"", 0, b""
    if not header.ports_known:
        layer4, place = bytes(64), _LATER
        fragment6 = struct.pack("!BBHI", header.protocol, 0, place << 3, 0)
    elif header.protocol in protocols.WITH_PORTS:
        layer4 = struct.pack("!HH", header.source_port, header.destination_port)
        layer4 += _SYN if header.protocol == protocols.TCP else struct.pack("!HHQ", 16, 0, 0)
    elif header.protocol in protocols.ICMPS:
        layer4 = struct.pack("!HHI", header.source_port, 0, 0) + bytes(32)
    if header.version == 4:
        ends = struct.pack("!II", header.source, header.destination)
        ip = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(layer4), place, 64, header.protocol, 0) + ends
        return _MACS + b"\x08\x00" + ip + layer4
    ends = header.source.to_bytes(16, "big") + header.destination.to_bytes(16, "big")
    first, layer4 = (_FRAGMENT6 if fragment6 else header.protocol), fragment6 + layer4
    return _MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(layer4), first, 255) + ends + layer4

"""VXLAN over batches in plain Python: specification and oracle of `_vxlan_c`."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final

from fastpath._decap_py import Arrival, Drop, decode, with_ecn
from fastpath._encap_py import Departure, encode, refuse
from fastpath._hasher_py import Hasher
from fastpath._tables import column
from fastpath._template import template
from fastpath._tunnels_py import Tunnels
from fastpath._vtep_py import Vtep
from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.reasons import Reason
from fastpath.vxlan_errors import DroppedError

_DEFAULT: Final = Hasher()
_EASY: Final[dict[str, Any]] = {
    "reserved": "ignore", "zero_checksum6": True, "gbp": True, "gpe": True, "options": True, "any_vni": True,
}  # fmt: skip
"""What `decapsulate` and `decap_list` take without a `vtep`."""


def decap(batch: Batch, vtep: Vtep) -> int:
    """Take the outer headers off every packet that is not dropped; return how many go on.

    A packet that does not pass every check gets a verdict (see `fastpath.reasons`). Of the others, offset and length
    become the inner frame's, `vni` and `tunnel` (the network's number) are filled in, `flags` has GBP, GPE, CE and
    RESERVED_BITS as found, and keeps PARTIAL_CHECKSUM: such a packet has not left the machine, and its outer checksum
    is not verified. `layers` becomes 0. Congestion marks go into the inner IP header (RFC 6040).

    The GIL is released. Raises ValueError for a closed batch, BatchInUseError if another thread works on it.
    """
    passed = 0
    memory = batch.memory
    for i in range(batch.count):
        if batch.verdict[i]:
            continue
        start, length = batch.offset[i], batch.length[i]
        partial = batch.flags[i] & Flags.PARTIAL_CHECKSUM
        try:
            found = decode(vtep, bytes(memory[start : start + length]), bool(partial))
        except Drop as drop:
            batch.verdict[i] = drop.reason
            vtep._count(drop.reason)
            continue
        vtep._count(Reason.PASS)
        if found.flags & Flags.RESERVED_BITS:
            vtep._count(Reason.VXLAN_RESERVED)
        start += found.start
        inner = memory[start : start + found.length]
        if found.ecn is not None:
            inner[:] = with_ecn(bytes(inner), found.ecn)
        batch.place(i, start, found.length)
        batch.vni[i], batch.tunnel[i], batch.flags[i] = found.vni, found.network, partial | found.flags
        batch.layers[i] = 0
        passed += 1
    return passed


def encap(batch: Batch, tunnels: Tunnels, hasher: Hasher | None = None) -> int:
    """Write the outer headers of its `tunnel` before every packet that is not dropped; return how many go on.

    The headers go into the room before the packet, which does not move; offset and length become the outer frame's.
    `hash` is filled in, and `layers` with the inner frame's, counted from the new first byte. Of `flags`,
    PARTIAL_CHECKSUM and VALID_CHECKSUM count for the UDP checksum; none is changed. Drops: TUNNEL_UNKNOWN, INNER_SHORT
    (below 14 bytes), TOO_LONG, NO_HEADROOM, HOP_LIMIT, in this order.

    Without a `hasher`, the one of the default seed is used: then two nodes choose the same source port for a flow.
    The GIL is released. Raises ValueError for a closed batch, BatchInUseError if another thread works on it.
    """
    passed = 0
    memory = batch.memory
    identification = tunnels._begin(batch.count)
    for i in range(batch.count):
        if batch.verdict[i]:
            continue
        start, length = batch.offset[i], batch.length[i]
        tunnel = tunnels._get(batch.tunnel[i])
        reason = Reason.TUNNEL_UNKNOWN if tunnel is None else refuse(tunnel, length, start % batch.slot)
        if tunnel is not None and not reason:
            frame = bytes(memory[start : start + length])
            state = Flags(batch.flags[i] & (Flags.PARTIAL_CHECKSUM | Flags.VALID_CHECKSUM))
            done = encode(tunnel, hasher or _DEFAULT, frame, state, identification + i)
            if isinstance(done, Departure):
                size = len(done.header)
                memory[start - size : start] = done.header
                batch.place(i, start - size, length + size)
                batch.hash[i] = done.hash
                # Each half that is known moves; 0 stays unknown.
                low, high = done.layers & 0xFFFF, done.layers >> 16
                batch.layers[i] = (low + size if low else 0) | (high + size & 0xFFFF if high else 0) << 16
                tunnels._count(Reason.PASS)
                passed += 1
                continue
            reason = done
        batch.verdict[i] = reason
        tunnels._count(reason)
    return passed


class Tunnel:
    """One tunnel for single frames; the arguments are those of `Tunnels.add`."""

    def __init__(self, *, hasher: Hasher | None = None, **fields: Any) -> None:
        self._template = template(**fields)
        self._hasher = hasher or _DEFAULT
        self._identification = 0

    def encap(self, frame: bytes) -> bytes:
        """Return the encapsulated frame. Raises DroppedError where `encap` of a batch would drop it."""
        if type(frame) is not bytes:
            raise TypeError("a frame is bytes")
        reason = refuse(self._template, len(frame), 1 << 16)
        if reason:
            raise DroppedError(reason)
        done = encode(self._template, self._hasher, frame, Flags(0), self._identification)
        if not isinstance(done, Departure):
            raise DroppedError(done)
        self._identification += 1
        return done.header + frame

    def encap_list(self, frames: Sequence[bytes]) -> list[bytes]:
        """`encap` of each frame."""
        return [self.encap(frame) for frame in frames]


def encapsulate(frame: bytes, tunnel: Tunnel) -> bytes:
    """Return the encapsulated frame; see `Tunnel.encap`."""
    return tunnel.encap(frame)


def decapsulate(frame: bytes, vtep: Vtep | None = None) -> tuple[int, bytes]:
    """Return the VNI and the inner frame, with congestion marks. Raises DroppedError where `decap` would drop it.

    Without a `vtep`: any VNI on port 4789 from anywhere, GBP and GPE, options, no checksum over IPv6, and reserved bits
    are ignored as RFC 7348 says. A given vtep's counters stay as they are.
    """
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    try:
        found = decode(_ANY if vtep is None else vtep, frame)
    except Drop as drop:
        raise DroppedError(drop.reason) from None
    inner = frame[found.start : found.start + found.length]
    return found.vni, inner if found.ecn is None else with_ecn(inner, found.ecn)


def decap_list(frames: Sequence[bytes], vtep: Vtep | None = None) -> tuple[array[int], array[int], array[int]]:
    """Return three uint32 arrays: the VNI of each frame, and where in it the inner frame begins and how long it is.

    Nothing is copied, so congestion marks are not written. Of a frame that `decap` would drop, the length is 0 and
    the offset is the reason. Without a `vtep`, see `decapsulate`.
    """
    vnis, offsets, lengths = (column(len(frames)) for _ in range(3))
    for i, frame in enumerate(frames):
        if type(frame) is not bytes:
            raise TypeError("a frame is bytes")
        try:
            found: Arrival = decode(_ANY if vtep is None else vtep, frame)
        except Drop as drop:
            offsets[i] = drop.reason
        else:
            vnis[i], offsets[i], lengths[i] = found.vni, found.start, found.length
    return vnis, offsets, lengths


_ANY: Final = Vtep(**_EASY)

"""Packets in one contiguous memory with columns beside it, in plain Python: specification and oracle of `_batch_c`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fastpath.batch_errors import BatchInUseError, FrameTooLongError

if TYPE_CHECKING:
    from typing_extensions import Buffer

SLOT: Final = 2048
"""Bytes of a slot for packets up to an Ethernet MTU."""
HEADROOM: Final = 128
"""Bytes before a packet, for outer headers."""
KEY_BYTES: Final = 40
LANES: Final = 64
"""Columns have room for a multiple of this many packets."""
_WRITABLE: Final = ("tunnel", "vni", "hash", "flags", "layers", "verdict", "ct")


class Batch:
    """Up to `capacity` packets, each in a slot of its own, and one column for everything known about them.

    Packet i lies in `memory` from `offset[i]`, `length[i]` bytes long; its slot leaves `headroom` bytes before it as
    it is filled in. Columns have one entry a packet, padded to a multiple of 64; only the first `count` mean
    something. All are read and written in place through the buffer protocol (numpy.asarray copies nothing), except
    that `offset` and `length` are read-only: `place` checks what it writes there.

    - offset, length (uint32): bytes; offset counts from the start of `memory`
    - tunnel (uint32): the tunnel to encapsulate with; after decapsulation the network's number
    - vni (uint32): VXLAN network identifier
    - hash (uint32): of the five-tuple, see `fastpath.flow`
    - flags (uint32): what parsing found, bits of `fastpath.flags.Flags`
    - layers (uint32): offset of layer 3, and of layer 4 times 65536, from the packet's first byte; 0 unknown
    - verdict (uint32): 0, or why the packet was dropped, a `fastpath.reasons.Reason`; stages pass dropped packets over
    - ct (uint32): what connection tracking said, bits of `fastpath.connections.Ct`; 0 nothing
    - rule (int32): index of the rule that matched; -1 none
    - key (uint8, 40 a packet): source, destination (16 bytes each; IPv4 in the first 4), source and destination port
      (network order), protocol, IP version, zone (0)

    One thread at a time: a stage that runs without the GIL holds the batch, and whatever else would change it
    meanwhile raises BatchInUseError. Memory never moves; `close` gives it back and refuses while views exist.

    `slot` and `headroom` are bytes, multiples of 64; a slot of 69632 bytes holds 64 KiB super-frames. `huge` asks the
    kernel for huge pages. Raises ValueError for a size out of range, MemoryError when there is no memory.
    """

    def __init__(self, capacity: int, *, slot: int = SLOT, headroom: int = HEADROOM, huge: bool = True) -> None:
        if not 1 <= capacity <= 1 << 22:
            raise ValueError("capacity is 1 to 4194304 packets")
        if not 256 <= slot <= 1 << 20 or slot % 64:
            raise ValueError("slot is 256 to 1048576 bytes, a multiple of 64")
        if not 0 <= headroom <= slot - 64 or headroom % 64:
            raise ValueError("headroom is a multiple of 64 that leaves at least 64 bytes of the slot")
        if capacity * slot > 0xFFFF0000:
            raise ValueError("capacity times slot exceeds 4 GiB")
        self._capacity, self._slot, self._headroom = capacity, slot, headroom
        self._padded = -(-capacity // LANES) * LANES
        self._memory = bytearray(capacity * slot)
        self._columns: dict[str, array[int]] = {}
        self._key = bytearray(self._padded * KEY_BYTES)
        self._closed = False
        self.clear()

    def __len__(self) -> int:
        return self._count

    @property
    def count(self) -> int:
        """Packets in use."""
        return self._count

    @property
    def capacity(self) -> int:
        """Packets there is room for."""
        return self._capacity

    @property
    def slot(self) -> int:
        """Bytes of a slot."""
        return self._slot

    @property
    def headroom(self) -> int:
        """Bytes before a packet as it is filled in."""
        return self._headroom

    @property
    def memory(self) -> memoryview:
        """All slots, writable, `capacity * slot` bytes."""
        self._open()
        return memoryview(self._memory)

    @property
    def offset(self) -> memoryview:
        """See the class; read-only."""
        return self._column("offset").toreadonly()

    @property
    def length(self) -> memoryview:
        """See the class; read-only."""
        return self._column("length").toreadonly()

    @property
    def tunnel(self) -> memoryview:
        """See the class."""
        return self._column("tunnel")

    @property
    def vni(self) -> memoryview:
        """See the class."""
        return self._column("vni")

    @property
    def hash(self) -> memoryview:
        """See the class."""
        return self._column("hash")

    @property
    def flags(self) -> memoryview:
        """See the class."""
        return self._column("flags")

    @property
    def layers(self) -> memoryview:
        """See the class."""
        return self._column("layers")

    @property
    def verdict(self) -> memoryview:
        """See the class."""
        return self._column("verdict")

    @property
    def ct(self) -> memoryview:
        """See the class."""
        return self._column("ct")

    @property
    def rule(self) -> memoryview:
        """See the class."""
        return self._column("rule")

    @property
    def key(self) -> memoryview:
        """See the class; two dimensions, packets and 40 bytes."""
        self._open()
        return memoryview(self._key).cast("B", (self._padded, KEY_BYTES))

    def clear(self) -> None:
        """Forget all packets: every column back to its first value."""
        self._open()
        self._count = 0
        starts = [min(i, self._capacity - 1) * self._slot + self._headroom for i in range(self._padded)]
        self._set("offset", starts)
        for name in ("length", *_WRITABLE):
            self._set(name, [0] * self._padded)
        self._set("rule", [-1] * self._padded)
        self._key[:] = bytes(len(self._key))

    def fill(self, frames: Iterable[Buffer]) -> int:
        """Replace the packets by `frames`, whole Ethernet frames, and return how many were taken: what fits.

        Raises FrameTooLongError for a frame longer than a slot without its headroom; the batch is empty then.
        """
        self._open()
        self._count = taken = 0
        room = self._slot - self._headroom
        lengths = self._columns["length"]
        for index, frame in enumerate(frames):
            if index == self._capacity:
                break
            data = memoryview(frame).cast("B")
            if data.nbytes > room:
                raise FrameTooLongError(index, data.nbytes, room)
            start = index * self._slot + self._headroom
            self._memory[start : start + data.nbytes] = data
            lengths[index] = data.nbytes
            taken = index + 1
        for index in range(taken):
            self._columns["offset"][index] = index * self._slot + self._headroom
            self._columns["rule"][index] = -1
            for name in _WRITABLE:
                self._columns[name][index] = 0
        self._count = taken
        return taken

    def place(self, index: int, offset: int, length: int) -> None:
        """Say where packet `index` begins (bytes from `memory`) and how long it is; it must stay within its slot.

        Raises IndexError for a packet that is not there, ValueError for a place outside its slot.
        """
        self._open()
        if not 0 <= index < self._count:
            raise IndexError(f"packet {index} of {self._count}")
        slot = self._columns["offset"][index] // self._slot * self._slot
        if not (slot <= offset < slot + self._slot and length >= 0 and offset + length <= slot + self._slot):
            raise ValueError(f"offset {offset} and length {length} leave the slot of packet {index}")
        self._columns["offset"][index] = offset
        self._columns["length"][index] = length

    def frame(self, index: int) -> bytes:
        """Packet `index`, copied. Raises IndexError if it is not there."""
        self._open()
        if not 0 <= index < self._count:
            raise IndexError(f"packet {index} of {self._count}")
        start = self._columns["offset"][index]
        return bytes(self._memory[start : start + self._columns["length"][index]])

    def frames(self) -> list[bytes]:
        """All packets, copied."""
        self._open()
        return [self.frame(index) for index in range(self._count)]

    def views(self) -> list[memoryview]:
        """All packets in place, writable; the batch cannot be closed while one is held."""
        memory = self.memory
        offset, length = self._columns["offset"], self._columns["length"]
        return [memory[offset[i] : offset[i] + length[i]] for i in range(self._count)]

    def compact(self) -> int:
        """Remove the dropped packets (verdict not 0), keep the order of the others; return how many are left."""
        self._open()
        kept = 0
        offset = self._columns["offset"]
        for i in range(self._count):
            if self._columns["verdict"][i]:
                continue
            if i != kept:
                offset[kept], offset[i] = offset[i], offset[kept]
                for name in ("length", "rule", *_WRITABLE):
                    self._columns[name][kept] = self._columns[name][i]
                to, start = kept * KEY_BYTES, i * KEY_BYTES
                self._key[to : to + KEY_BYTES] = self._key[start : start + KEY_BYTES]
            kept += 1
        self._count = kept
        return kept

    def close(self) -> None:
        """Give the memory back; once closed, everything else raises ValueError.

        Raises BatchInUseError while somebody holds a view: of memory, of a column, of a packet.
        """
        try:
            # Neither changes size while a buffer of it is exported.
            for part in (self._memory, self._key, *self._columns.values()):
                part.append(0)
                part.pop()
        except BufferError as error:
            raise BatchInUseError("views of this batch are still held") from error
        self._closed = True
        self._count = 0

    def _open(self) -> None:
        if self._closed:
            raise ValueError("the batch is closed")

    def _column(self, name: str) -> memoryview:
        self._open()
        return memoryview(self._columns[name])

    def _set(self, name: str, values: list[int]) -> None:
        column = self._columns.get(name)
        if column is None:
            self._columns[name] = array("i" if name == "rule" else "I", values)
        else:
            memoryview(column)[:] = array(column.typecode, values)

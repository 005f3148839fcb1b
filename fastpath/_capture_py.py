"""The formats pcap and pcapng in plain Python: specification and oracle of `_capture_c`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fastpath.capture_errors import INTERFACES, LONGEST, PCAP_HEADER, PCAPNG_HEADER, CaptureError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath.batch import Batch

__all__ = ["PCAPNG_HEADER", "PCAP_HEADER", "Records", "records"]

_NANOSECONDS: Final = 10**9
_U64: Final = 0xFFFFFFFFFFFFFFFF
_ETHERNET: Final = 1
_SECTION: Final = 0x0A0D0D0A
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6

_PCAP: Final[dict[bytes, tuple[Literal["little", "big"], int]]] = {
    bytes.fromhex("d4c3b2a1"): ("little", 1000),
    bytes.fromhex("a1b2c3d4"): ("big", 1000),
    bytes.fromhex("4d3cb2a1"): ("little", 1),
    bytes.fromhex("a1b23c4d"): ("big", 1),
}
"""A file's first bytes: byte order, and nanoseconds of a time's unit."""


class _Interface(NamedTuple):
    link: int
    snap: int
    resolution: int
    offset: int


class Records:
    """The records of a pcap or pcapng file that lies in memory as `data`, read in order into batches.

    pcap in both byte orders with microseconds or nanoseconds; pcapng with any number of sections and interfaces,
    enhanced, simple and obsolete packet blocks; every other block is passed over. Memory is bounded: only a section's
    interfaces are kept, at most 4096.

    Raises CaptureError if it begins as no capture of Ethernet frames.
    """

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).cast("B")
        self._order: Literal["little", "big"] = "little"
        self._position = 0
        self._unit = 0
        self._interfaces: list[_Interface] = []
        self._closed = False
        self.skipped = 0
        self.too_long = 0
        try:
            self._begin(bytes(self._data[:4]))
        except CaptureError:
            self._data.release()
            raise

    @property
    def pcapng(self) -> bool:
        """Whether the format is pcapng."""
        return not self._unit

    @property
    def position(self) -> int:
        """Bytes that have been read."""
        return self._position

    def fill(self, batch: Batch, times: Buffer | None = None) -> int:
        """Replace the packets of `batch` by the next ones and return their number; 0 at the end.

        `times`, a writable buffer of uint64 with an entry for each slot, gets nanoseconds since 1970 modulo 2^64, 0
        where a record has no time. Frames longer than a slot without its headroom are passed over and counted in
        `too_long`, packets of interfaces that are not Ethernet in `skipped`.

        Raises CaptureError at a record that is not sound, when those before it have been handed out; ValueError for
        a `times` that does not fit, or after `close`.
        """
        if self._closed:
            raise ValueError("the capture is closed")
        stamps = None if times is None else _stamps(times, batch.capacity, writable=True)
        frames: list[memoryview] = []
        room = batch.slot - batch.headroom
        while len(frames) < batch.capacity:
            try:
                found = self._next()
            except CaptureError:
                if not frames:
                    batch.fill([])
                    raise
                break
            if found is None:
                break
            frame, time = found
            if len(frame) > room:
                self.too_long += 1
                continue
            if stamps is not None:
                stamps[len(frames)] = time
            frames.append(frame)
        count = batch.fill(frames)
        for frame in frames:
            frame.release()
        return count

    def close(self) -> None:
        """Let the data go."""
        self._closed = True
        self._data.release()

    def _word(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self._data[at : at + size], self._order)

    def _begin(self, magic: bytes) -> None:
        if magic == _SECTION.to_bytes(4, "big"):
            return
        if magic not in _PCAP:
            raise CaptureError("header_short" if len(magic) < 4 else "not_a_capture", 0)
        self._order, self._unit = _PCAP[magic]
        if len(self._data) < 24:
            raise CaptureError("header_short", 0)
        if self._word(4, 2) != 2:
            raise CaptureError("version", 0)
        if self._word(20) & 0xFFFF != _ETHERNET:
            raise CaptureError("link_type", 0)
        self._position = 24

    def _next(self) -> tuple[memoryview, int] | None:
        """The next Ethernet frame and its time; None at the end. The position stays at a record that is not sound."""
        if self._unit:
            return self._next_record()
        while self._position < len(self._data):
            start, left = self._position, len(self._data) - self._position
            if left < 12:
                raise CaptureError("record_short", start)
            kind = self._word(start)
            if kind == _SECTION:
                if left < 28:
                    raise CaptureError("record_short", start)
                mark = bytes(self._data[start + 8 : start + 12])
                if mark not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    raise CaptureError("byte_order", start)
                self._order = "little" if mark[0] == 0x4D else "big"
            size = self._word(start + 4)
            if size < (28 if kind == _SECTION else 12) or size % 4:
                raise CaptureError("block_length", start)
            if size > left:
                raise CaptureError("record_short", start)
            if self._word(start + size - 4) != size:
                raise CaptureError("block_length", start)
            found = self._block(kind, start, size)
            self._position += size
            if found is not None:
                return found
        return None

    def _next_record(self) -> tuple[memoryview, int] | None:
        start, left = self._position, len(self._data) - self._position
        if not left:
            return None
        if left < 16:
            raise CaptureError("record_short", start)
        size = self._word(start + 8)
        if size > LONGEST:
            raise CaptureError("record_length", start)
        if left - 16 < size:
            raise CaptureError("record_short", start)
        time = self._word(start) * _NANOSECONDS + self._word(start + 4) * self._unit
        self._position += 16 + size
        return self._data[start + 16 : start + 16 + size], time & _U64

    def _block(self, kind: int, start: int, size: int) -> tuple[memoryview, int] | None:
        if kind == _SECTION:
            if self._word(start + 12, 2) != 1:
                raise CaptureError("version", start)
            self._interfaces.clear()
        elif kind == _INTERFACE:
            self._describe(start, size)
        elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
            return self._packet(kind, start, size)
        return None

    def _describe(self, start: int, size: int) -> None:
        """Keep an interface: its link type, snap length, and the options if_tsresol and if_tsoffset."""
        if size < 20:
            raise CaptureError("block_length", start)
        if len(self._interfaces) == INTERFACES:
            raise CaptureError("interfaces", start)
        resolution, offset = 6, 0
        at, end = start + 16, start + size - 4
        while end - at >= 4:
            code, length = self._word(at, 2), self._word(at + 2, 2)
            if not code:
                break
            if length > end - at - 4 or (code == 9 and length != 1) or (code == 14 and length != 8):
                raise CaptureError("option_length", start)
            if code == 9:
                resolution = self._data[at + 4]
                if (resolution & 0x7F) > (63 if resolution & 0x80 else 19):
                    raise CaptureError("time_resolution", start)
            elif code == 14:
                offset = self._word(at + 4, 8)
            at += 4 + -(-length // 4) * 4
        link = self._word(start + 8, 2)
        self._interfaces.append(_Interface(link, self._word(start + 12), resolution, offset))

    def _packet(self, kind: int, start: int, size: int) -> tuple[memoryview, int] | None:
        head = 12 if kind == _SIMPLE_PACKET else 28
        if size < head + 4:
            raise CaptureError("block_length", start)
        number = self._word(start + 8, 2 if kind == _OLD_PACKET else 4) if kind != _SIMPLE_PACKET else 0
        if number >= len(self._interfaces):
            raise CaptureError("interface_unknown", start)
        interface = self._interfaces[number]
        if kind == _SIMPLE_PACKET:
            length, time = self._word(start + 8), 0
            if interface.snap:
                length = min(length, interface.snap)
        else:
            length = self._word(start + 20)
            time = _nanoseconds(self._word(start + 12) << 32 | self._word(start + 16), interface)
        if length > LONGEST:
            raise CaptureError("record_length", start)
        if length > size - head - 4:
            raise CaptureError("packet_length", start)
        if interface.link != _ETHERNET:
            self.skipped += 1
            return None
        return self._data[start + head : start + head + length], time


def records(batch: Batch, times: Buffer | None = None, pcapng: bool = True) -> bytes:
    """Return the packets of `batch` that go on (verdict 0) as records that follow PCAPNG_HEADER or PCAP_HEADER.

    `times` are nanoseconds since 1970, a buffer of uint64 with an entry for each packet; without it, times are 0.
    pcap keeps 32 bits of seconds.
    """
    stamps = None if times is None else _stamps(times, len(batch))
    made = []
    for i in range(len(batch)):
        if batch.verdict[i]:
            continue
        frame, time = batch.frame(i), 0 if stamps is None else stamps[i]
        size = len(frame).to_bytes(4, "little")
        if pcapng:
            padding = bytes(-len(frame) % 4)
            whole = (32 + len(frame) + len(padding)).to_bytes(4, "little")
            stamp = (time >> 32).to_bytes(4, "little") + (time & 0xFFFFFFFF).to_bytes(4, "little")
            made += [b"\x06\0\0\0", whole, bytes(4), stamp, size, size, frame, padding, whole]
        else:
            seconds, rest = divmod(time, _NANOSECONDS)
            made += [(seconds & 0xFFFFFFFF).to_bytes(4, "little"), rest.to_bytes(4, "little"), size, size, frame]
    return b"".join(made)


def _nanoseconds(time: int, interface: _Interface) -> int:
    digits = interface.resolution & 0x7F
    if interface.resolution & 0x80:
        whole = (time >> digits) * _NANOSECONDS + ((time & (1 << digits) - 1) * _NANOSECONDS >> digits)
    elif digits <= 9:
        whole = time * 10 ** (9 - digits)
    else:
        whole = time // 10 ** (digits - 9)
    return (whole + interface.offset * _NANOSECONDS) & _U64


def _stamps(times: Buffer, count: int, *, writable: bool = False) -> memoryview:
    view = memoryview(times)
    if view.format not in ("Q", "L") or view.itemsize != 8 or view.ndim != 1 or not view.c_contiguous:
        raise ValueError("times are a contiguous buffer of uint64")
    if writable and view.readonly:
        raise ValueError("times are a writable buffer of uint64")
    if len(view) < count:
        raise ValueError(f"times for {len(view)} of {count} packets")
    return view

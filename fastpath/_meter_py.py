"""Token buckets and marking in plain Python: specification and oracle of `_meter_c`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fastpath.flags import Flags
from fastpath.meters import BILLION, CAPACITY, Counts, Meter, MeterError, Tokens
from fastpath.reasons import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath._batch_py import Batch

COLUMNS: Final = ("tunnel", "vni", "rule")
_GREEN, _YELLOW, _RED = range(3)
_COLOURS: Final = Flags.YELLOW | Flags.RED
_BITS: Final = (0, Flags.YELLOW, Flags.RED)


@dataclass(slots=True)
class _State:
    meter: Meter
    committed: int
    other: int
    last: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * 6)


def _most(meter: Meter) -> tuple[int, int]:
    """What fits both buckets, in billionths."""
    other = meter.excess if meter.peak_burst is None else meter.peak_burst
    return meter.burst * BILLION, other * BILLION


class Meters:
    """Meters by number, 64 bytes each beside their counters; buckets begin full.

    All arithmetic is on whole billionths of a byte or packet: nothing is rounded, at any rate, however often a meter is
    asked. Threads may share a table: a call of `meter` has it for itself.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if not 1 <= capacity <= 1 << 20:
            raise MeterError("capacity", f"{capacity} is not 1 to {1 << 20}")
        self._capacity = capacity
        self._states: dict[int, _State] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, index: object) -> bool:
        return index in self._states

    @property
    def capacity(self) -> int:
        """As given."""
        return self._capacity

    def add(self, meter: Meter) -> int:
        """Add a meter and return its number. Raises MeterError if there is no room."""
        if len(self._states) == self._capacity:
            raise MeterError("capacity", f"the table takes {self._capacity} meters")
        index = self._free.pop() if self._free else len(self._states)
        self._states[index] = _State(meter, *_most(meter))
        return index

    def replace(self, index: int, meter: Meter) -> None:
        """Put another meter in the place of one: what is in its buckets stays, as far as it fits; so do counters.

        Raises KeyError if there is none.
        """
        state = self._states[index]
        committed, other = _most(meter)
        state.meter = meter
        state.committed, state.other = min(state.committed, committed), min(state.other, other)

    def remove(self, index: int) -> None:
        """Remove a meter; packets with its number are not metered then. Raises KeyError if there is none."""
        del self._states[index]
        self._free.append(index)

    def meter(self, index: int) -> Meter:
        """Return a meter. Raises KeyError if there is none."""
        return self._states[index].meter

    def counts(self, index: int) -> Counts:
        """Return what a meter coloured. Raises KeyError if there is none."""
        return Counts(*self._states[index].counts)

    def tokens(self, index: int) -> Tokens:
        """Return what is in a meter's buckets. Raises KeyError if there is none."""
        state = self._states[index]
        return Tokens(state.last, state.committed, state.other)

    def _take(self, index: int, now: int, length: int, before: int) -> int:
        """The colour of a packet, with its flags before; its tokens are taken and it is counted."""
        state = self._states[index]
        meter = state.meter
        if now > state.last:
            _refill(state, now - state.last)
            state.last = now
        size = max(0, length + meter.overhead)
        cost = BILLION * (size if meter.unit == "bytes" else 1)
        floor = _GREEN
        if meter.aware:
            floor = _RED if before & Flags.RED else _YELLOW if before & Flags.YELLOW else _GREEN
        colour = _RED
        if meter.peak is None:
            if floor == _GREEN and state.committed >= cost:
                state.committed -= cost
                colour = _GREEN
            elif floor <= _YELLOW and state.other >= cost:
                state.other -= cost
                colour = _YELLOW
        elif floor < _RED and state.other >= cost:
            state.other -= cost
            colour = _YELLOW
            if floor == _GREEN and state.committed >= cost:
                state.committed -= cost
                colour = _GREEN
        state.counts[colour] += 1
        state.counts[3 + colour] += size
        return colour


def _refill(state: _State, elapsed: int) -> None:
    """Both buckets after so many nanoseconds. RFC 2697 section 3: what the first cannot hold goes into the second."""
    meter = state.meter
    committed, other = _most(meter)
    state.committed += meter.rate * elapsed
    over = max(0, state.committed - committed)
    state.committed -= over
    state.other = min(other, state.other + (over if meter.peak is None else meter.peak * elapsed))


def meter(batch: Batch, meters: Meters, now: int, *, by: str | Buffer = "tunnel", mapping: Buffer | None = None) -> int:
    """Colour the packets of a batch in order, drop those that their meter drops, and return how many go on.

    `now` is in nanoseconds, of any clock that is the same in all calls; one that is earlier than before adds nothing.
    A packet's meter has the number in a column (`by`: `tunnel`, `vni` or `rule`), or in a buffer of 32-bit integers,
    one a packet; `mapping`, a buffer of int32, says which meter stands for such a number. Packets whose number no meter
    has, a rule of -1 among them, go on without a colour. The colour is in `flags` (YELLOW, RED), the verdict of dropped
    packets METERED.

    Raises ValueError for a negative `now`, an unknown column, a buffer that is too short or not of 32-bit integers.
    """
    if not 0 <= now < 1 << 64:
        raise ValueError("now is nanoseconds, 64 bits")
    if isinstance(by, str):
        if by not in COLUMNS:
            raise ValueError(f"by: {by!r} is not {', '.join(COLUMNS)} or a buffer")
        numbers: Any = getattr(batch, by)
    else:
        numbers = _words("by", by)
        if len(numbers) < batch.count:
            raise ValueError(f"by: {batch.count} packets need as many numbers")
    table = None if mapping is None else _words("mapping", mapping)
    verdict, flags, length = batch.verdict, batch.flags, batch.length
    passed = 0
    for i in range(batch.count):
        if verdict[i]:
            continue
        index = numbers[i]
        if table is not None:
            index = table[index] if 0 <= index < len(table) else -1
        if index in meters:
            colour = meters._take(index, now, length[i], flags[i])
            flags[i] = flags[i] & ~int(_COLOURS) | _BITS[colour]
            drop = meters.meter(index).drop
            if (drop == "red" and colour == _RED) or (drop == "yellow" and colour >= _YELLOW):
                verdict[i] = Reason.METERED
                continue
        passed += 1
    return passed


def _words(field: str, buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if view.itemsize != 4 or not view.c_contiguous:
        raise ValueError(f"{field}: is not a buffer of 32-bit integers")
    return view.cast("B").cast("i")


def mark(batch: Batch, *, green: int | None = None, yellow: int | None = None, red: int | None = None) -> int:
    """Set the DSCP (0 to 63) of packets by their colour, None leaves it; return how many packets were changed.

    Layers must be known (`fastpath.flow.extract`); packets without IP, dropped ones, and headers that are cut are left
    alone. The ECN bits stay. An IPv4 header's checksum is updated (RFC 1624, equation 3): a wrong one stays wrong.
    Raises ValueError for a DSCP that does not exist.
    """
    wanted = (green, yellow, red)
    for name, value in zip(("green", "yellow", "red"), wanted, strict=True):
        if value is not None and not 0 <= value <= 63:
            raise ValueError(f"{name}: a DSCP is 0 to 63")
    memory, offset, length = batch.memory, batch.offset, batch.length
    changed = 0
    for i in range(batch.count):
        flags = batch.flags[i]
        dscp = wanted[_RED if flags & Flags.RED else _YELLOW if flags & Flags.YELLOW else _GREEN]
        start = batch.layers[i] & 0xFFFF
        if batch.verdict[i] or dscp is None or not start or start >= length[i]:
            continue
        at = offset[i] + start
        version = memory[at] >> 4
        if version not in (4, 6) or start + (20 if version == 4 else 40) > length[i]:
            continue
        # The field is bits 8 to 13 of the first word, or 4 to 9 of it.
        shift = 2 if version == 4 else 6
        before = memory[at] << 8 | memory[at + 1]
        after = before & ~(0x3F << shift) | dscp << shift
        if after == before:
            continue
        memory[at], memory[at + 1] = after >> 8, after & 0xFF
        if version == 4:
            total = (~(memory[at + 10] << 8 | memory[at + 11]) & 0xFFFF) + (~before & 0xFFFF) + after
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            memory[at + 10], memory[at + 11] = (~total & 0xFFFF) >> 8, ~total & 0xFF
        changed += 1
    return changed

"""What a meter is asked for, and what it counted: both twins of `fastpath.meter` share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

MOST_RATE: Final = 10**12
"""Bytes or packets per second."""
MOST_BURST: Final = (1 << 32) - 1
"""Bytes or packets: as a bucket counts them, in billionths, it stays below 2^63."""
MOST_OVERHEAD: Final = 512
CAPACITY: Final = 1024
BILLION: Final = 10**9
"""A bucket's unit: a billionth of a byte or packet, so that a rate per second adds a whole number each nanosecond."""


class MeterError(ValueError):
    """A meter cannot be as it is asked for; `field` names why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A meter: RFC 2697 without `peak`, RFC 2698 with it. Raises MeterError."""

    rate: int
    """Committed, bytes per second (or packets), 0 to 10^12."""
    burst: int
    """Committed, bytes (or packets), 0 to 2^32 - 1."""
    excess: int = 0
    """RFC 2697: the excess burst."""
    peak: int | None = None
    """RFC 2698: the peak rate, at least `rate`."""
    peak_burst: int | None = None
    """RFC 2698: with `peak`, and not without."""
    unit: Literal["bytes", "packets"] = "bytes"
    aware: bool = False
    """Colour-aware: a packet keeps the colour that it has, or gets a worse one."""
    drop: Literal["red", "yellow"] | None = "red"
    """Which packets are dropped: red ones, red and yellow ones, or none."""
    overhead: int = 0
    """Bytes that a frame counts more than it has, -512 to 512: -14 for IP packets, 24 for what is on the wire."""

    def __post_init__(self) -> None:
        """Check every field."""
        for field, value, low, top in (
            ("rate", self.rate, 0, MOST_RATE),
            ("burst", self.burst, 0, MOST_BURST),
            ("excess", self.excess, 0, MOST_BURST),
            ("peak", self.peak, self.rate, MOST_RATE),
            ("peak_burst", self.peak_burst, 1, MOST_BURST),
            ("overhead", self.overhead, -MOST_OVERHEAD, MOST_OVERHEAD),
        ):
            if value is not None and not low <= value <= top:
                raise MeterError(field, f"{value} is not {low} to {top}")
        if (self.peak is None) != (self.peak_burst is None):
            raise MeterError("peak_burst", "goes with peak, and peak with it")
        if self.peak is not None and self.excess:
            raise MeterError("excess", "is for meters without peak")
        if self.burst == 0 and (self.excess == 0 or self.peak is not None):
            raise MeterError("burst", "is 0: nothing could ever pass")
        if self.unit not in ("bytes", "packets"):
            raise MeterError("unit", f"{self.unit!r} is not bytes or packets")
        if self.drop not in ("red", "yellow", None):
            raise MeterError("drop", f"{self.drop!r} is not red, yellow or None")


class Counts(NamedTuple):
    """What a meter coloured; bytes with its overhead, dropped packets among them."""

    green: int
    yellow: int
    red: int
    green_bytes: int
    yellow_bytes: int
    red_bytes: int


class Tokens(NamedTuple):
    """What is in a meter's buckets, in billionths of a byte or packet, as of the time (ns) of its last packet."""

    now: int
    committed: int
    other: int
    """The excess burst's, or the peak rate's."""

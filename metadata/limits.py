"""How many requests a port may make: a token bucket, or the two windows of Neutron's metadata proxies.

Pure: who calls says what time it is (any clock that does not go back). A port is one whatever address or family it
uses. State is one entry for each port that asked lately; entries that say nothing any more go when there are many.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

KEPT_PORTS = 1024
"""Entries that are kept without looking whether they still say something."""


class Limiter(Protocol):
    """Decides about each request of a known port."""

    def take(self, port_id: str, now: float) -> float:
        """0: the request may pass, and counts. Else the seconds until one may."""

    def __len__(self) -> int:
        """Ports of which something is remembered."""


class TokenBucket:
    """`burst` requests at once, and `rate` a second in the long run. A refused request does not count."""

    __slots__ = ("_full_at", "_gap", "_room", "_span")

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` above 0, `burst` at least 1."""
        self._gap = 1 / rate
        self._span = (burst - 1) / rate
        # When the port's bucket will be full again: that one number is the bucket (ITU-T I.371's virtual scheduling).
        self._full_at: dict[str, float] = {}
        self._room = KEPT_PORTS

    def take(self, port_id: str, now: float) -> float:
        """See `Limiter`."""
        full_at = self._full_at.get(port_id)
        if full_at is None:
            if len(self._full_at) >= self._room:
                self._tidy(now)
            full_at = now
        elif full_at <= now:
            full_at = now
        elif (wait := full_at - now - self._span) > 1e-9:
            return wait
        self._full_at[port_id] = full_at + self._gap
        return 0.0

    def __len__(self) -> int:
        return len(self._full_at)

    def _tidy(self, now: float) -> None:
        """A full bucket is as good as none. Room doubles, so that each entry is looked at a few times at most."""
        self._full_at = {port: full_at for port, full_at in self._full_at.items() if full_at > now}
        self._room = max(KEPT_PORTS, 2 * len(self._full_at))


class Window(msgspec.Struct, frozen=True):
    """At most `limit` requests in `seconds`."""

    seconds: int
    limit: int


class _Counter:
    """haproxy's rate of a period (freq_ctr): this period's count, and the part of the last one's that is not past."""

    __slots__ = ("before", "began", "count")

    def __init__(self, now: float) -> None:
        self.began = now
        self.count = 0
        self.before = 0

    def add(self, window: Window, now: float) -> float:
        """Count one; returns the rate, this one included."""
        past = now - self.began
        if past >= window.seconds:
            self.before = self.count if past < 2 * window.seconds else 0
            self.count = 0
            self.began = now if past >= 2 * window.seconds else self.began + window.seconds
            past = now - self.began
        self.count += 1
        return self.count + math.floor(self.before * (1 - past / window.seconds))

    def wait(self, window: Window, now: float) -> float:
        """Seconds without a request after which one more is within the limit."""
        past = now - self.began
        room = window.limit - 1 - self.count
        if room >= 0:
            # The last period's part has to shrink below what room there is.
            return max(0.0, window.seconds * (1 - (room + 1) / self.before) - past) if self.before else 0.0
        # After this period its count is the one that shrinks.
        return window.seconds * (2 - min(1.0, window.limit / self.count)) - past


class Windows:
    """Neutron's `[metadata_rate_limiting]`: two windows, a request has to be within both; refused ones count, too.

    Unlike there, both families of a port count together.
    """

    __slots__ = ("_counters", "_longest", "_room", "_windows")

    def __init__(self, base: Window, burst: Window) -> None:
        self._windows = (base, burst)
        self._longest = max(base.seconds, burst.seconds)
        self._counters: dict[str, tuple[_Counter, _Counter]] = {}
        self._room = KEPT_PORTS

    def take(self, port_id: str, now: float) -> float:
        """See `Limiter`."""
        counters = self._counters.get(port_id)
        if counters is None:
            counters = self._counters[port_id] = (_Counter(now), _Counter(now))
            if len(self._counters) > self._room:
                self._tidy(now)
        wait = 0.0
        for counter, window in zip(counters, self._windows, strict=True):
            if counter.add(window, now) > window.limit:
                wait = max(wait, counter.wait(window, now), 1e-3)
        return wait

    def __len__(self) -> int:
        return len(self._counters)

    def _tidy(self, now: float) -> None:
        oldest = now - 2 * self._longest
        self._counters = {
            port: counters
            for port, counters in self._counters.items()
            if max(counter.began for counter in counters) > oldest
        }
        self._room = max(KEPT_PORTS, 2 * len(self._counters))


def limiter(rate: float, burst: int, windows: tuple[Window, Window] | None = None) -> Limiter | None:
    """What limits the requests of ports; None: nothing does. `rate` 0 is no token bucket; `windows` replace it."""
    if windows is not None:
        return Windows(*windows)
    return TokenBucket(rate, burst) if rate else None

"""Packets of MACs that have no port yet: kept for some seconds, and answered the moment the port appears.

A VM often boots before its port's data arrives. Its client waits 4, 8, 16 seconds between attempts (RFC 2131 section
4.1), so answering the attempt that is already here saves that time.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.dhcp.counters import Counters
from dataplane.dhcp.packet import Packet


class Hold:
    """The last packet of each MAC, in order of arrival, at most `limit` (the oldest gives way)."""

    def __init__(self, seconds: float, limit: int, counters: Counters) -> None:
        self._seconds = seconds
        self._limit = limit
        self._counters = counters
        self._held: dict[bytes, tuple[float, Packet, str]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._held))

    def configure(self, seconds: float, limit: int) -> None:
        """Use other limits from now on; what is held already stays."""
        self._seconds = seconds
        self._limit = limit

    def put(self, mac: bytes, packet: Packet, reason: str, now: float) -> None:
        """Keep a packet; `reason` is what it is counted under if it is never answered."""
        if self._seconds <= 0:
            self._counters.drop(reason)
            return
        self._counters.note("held")
        if self._held.pop(mac, None) is None and len(self._held) >= self._limit:
            del self._held[next(iter(self._held))]
            self._counters.drop("hold_overflow")
        self._held[mac] = (now, packet, reason)

    def take(self, mac: bytes, now: float) -> Packet | None:
        """Remove and return the packet of a MAC, or None if none is held or it is too old."""
        entry = self._held.pop(mac, None)
        if entry is None:
            return None
        since, packet, reason = entry
        if self._is_over(since, now):
            self._counters.drop(reason)
            return None
        return packet

    def expire(self, now: float) -> None:
        """Drop and count what has waited too long."""
        while self._held:
            mac = next(iter(self._held))
            since, _, reason = self._held[mac]
            if not self._is_over(since, now):
                return
            del self._held[mac]
            self._counters.drop(reason)

    def _is_over(self, since: float, now: float) -> bool:
        """Also true after a clock that stepped back: the packet's age is then unknown."""
        return not 0 <= now - since < self._seconds

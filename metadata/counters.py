"""Counters of the guest-facing server; label values come from fixed sets, never from a guest."""

from __future__ import annotations

from collections import defaultdict

DROP_REASONS: dict[str, str] = {
    "syntax": "The request is not HTTP as RFC 9112 writes it (also bare CR or LF, folded headers, NUL).",
    "version": "An HTTP version other than 1.0 and 1.1.",
    "target": "The request target is not in origin form, or has a fragment.",
    "target_too_long": "The request target is longer than 2048 bytes.",
    "headers_too_large": "Request line and headers exceed the limit, or there are more than 64 headers.",
    "body_too_large": "The request body exceeds the limit.",
    "transfer_encoding": "A transfer coding other than chunked, or one in HTTP/1.0.",
    "connect": "The CONNECT method.",
    "expect": "An Expect header.",
    "hosts": "More than one Host header.",
    "pipelined": "Too many requests were sent ahead of their answers.",
    "slow_request": "The request did not arrive in time.",
    "slow_reader": "The guest did not take its answer in time.",
    "idle": "A kept connection was not used in time.",
    "too_many_connections": "The network has as many open connections as it may.",
    "too_many_connections_of_port": "The port has as many open connections as it may.",
    "not_watched": "The kernel had no memory or descriptor for reading from one more kept connection.",
    "rate_limited": "The port makes more requests than its rate limit allows: 429.",
    "too_many_held": "The network has as many waiting requests as it may.",
    "slow_backend": "The backend did not answer in time: 504.",
    "broken_backend": "The backend's answer ended in the middle, and so does the guest's: the connection is reset.",
    "forwarded_network": "A proxy's request names no network or router, or several of them.",
    "forwarded_address": "A proxy's request names no address of its guest.",
    "disconnected": "The guest closed or reset the connection in the middle of a request or answer.",
}
"""Why a connection ended without its request being answered from a tree; each has a counter."""

Labels = tuple[str, str]


class Counters:
    """Of one network, or the sum of several."""

    __slots__ = ("dropped", "lookups", "requests")

    def __init__(self) -> None:
        self.requests: defaultdict[Labels, int] = defaultdict(int)
        """Answered requests by (api, status)."""
        self.lookups: dict[str, int] = {}
        """Callers that were no known port, by reason."""
        self.dropped: dict[str, int] = {}
        """By reason, of DROP_REASONS."""

    def request(self, label: Labels) -> None:
        """Count an answered request."""
        self.requests[label] += 1

    def lookup_failed(self, reason: str) -> None:
        """Count a caller that is no known port."""
        self.lookups[reason] = self.lookups.get(reason, 0) + 1

    def drop(self, reason: str) -> None:
        """Count a refused request or connection."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def add(self, other: Counters) -> None:
        """Add all counts of `other`."""
        for label, count in other.requests.items():
            self.requests[label] += count
        for reason, count in other.lookups.items():
            self.lookups[reason] = self.lookups.get(reason, 0) + count
        for reason, count in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count

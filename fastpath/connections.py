"""The words of connection tracking: bits of a batch's `ct` column, states, timeouts, what a connection looks like."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple


class Ct(IntFlag):
    """Bits of one packet. The lowest three are a number: what the packet is to the table."""

    NONE = 0
    """Not tracked: no IP, or IPv6's neighbour and multicast listener discovery."""
    NEW = 1
    """Of a connection that has no answer yet, or of none and may begin one."""
    ESTABLISHED = 2
    RELATED = 3
    """An ICMP error about a known connection."""
    INVALID = 4
    """Belongs to no connection and may not begin one, or contradicts the one it belongs to."""
    KIND = 7
    """Mask of the number."""
    REPLY = 1 << 3
    """It goes from the one who answers to the one who began."""
    LOOKUP = 1 << 4
    """The rules have to be asked: nothing is known, or the connection was made under another policy version."""
    KNOWN = 1 << 5
    """The table has the connection."""


UNTRACKED: Final = 2
"""What a rule may say to `fastpath.verdicts.permit`: pass, but make no connection; answers need a rule of their own."""


class State(IntEnum):
    """Of a connection; other protocols than TCP have NONE."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    """Both have sent a SYN (simultaneous open, RFC 9293 section 3.5)."""


class Mark(IntFlag):
    """Bits of a connection."""

    REPLIED = 1
    ASSURED = 2
    """Has proven that both ends are there; it is not dropped to make room, unless it is closing."""
    FROM_HIGH = 4
    """The higher endpoint began."""
    CLOSING = 8
    """An end has sent its FIN."""
    CHALLENGE = 16
    """A SYN came in LAST_ACK: the next ACK may be a challenge (RFC 5961)."""
    SIMULTANEOUS = 32


TIMEOUTS: Final[Mapping[str, int]] = {
    "tcp_syn_sent": 120,
    "tcp_syn_recv": 60,
    "tcp_established": 432_000,
    "tcp_fin_wait": 120,
    "tcp_close_wait": 60,
    "tcp_last_ack": 30,
    "tcp_time_wait": 120,
    "tcp_close": 10,
    "tcp_syn_sent2": 120,
    "tcp_retransmitted": 300,
    "tcp_unacknowledged": 300,
    "udp": 30,
    "udp_stream": 120,
    "icmp": 30,
    "icmp6": 30,
    "other": 600,
}
"""Seconds, as Linux's nf_conntrack has them. `tcp_*` in the order of `State`, then two caps on TCP's."""
RETRANSMITTED, UNACKNOWLEDGED, UDP, UDP_STREAM, ICMP, ICMP6, OTHER = range(10, 17)
"""Indexes of what `ticks_of` returns, behind the states of TCP."""

MOST: Final = 1 << 26
"""Connections of a table."""
ZONES: Final = 1 << 16
TICK_BITS: Final = 26
"""Times are kept in ticks of 2^26 ns (67 ms)."""
LAST_TICK: Final = 0xF0000000
LONGEST: Final = 30 * 86400
"""Seconds of a timeout."""
LONGEST_TICKS: Final = (LONGEST * 1_000_000_000 >> TICK_BITS) + 2
STREAM_TICKS: Final = (2_000_000_000 >> TICK_BITS) + 1
"""A UDP exchange that is older is a stream."""


class ConntrackError(Exception):
    """A table cannot be restored."""


class TableInUseError(ConntrackError):
    """Another thread works on the table."""


class Connection(NamedTuple):
    """A connection as people see it, from the side of the one who began."""

    zone: int
    version: int
    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    """Of ICMP: type * 256 + code of the query."""
    destination_port: int
    """Of ICMP: the identifier."""
    state: State
    replied: bool
    assured: bool
    policy: int
    expires_ns: int
    """From the latest `now` that the table saw."""
    packets: tuple[int, int]
    """Of who began, of who answers; 0 unless they are counted."""
    octets: tuple[int, int]


def seconds_of(given: Mapping[str, int] | None) -> list[int]:
    """The timeouts in order, with the defaults for those not given.

    Raises ValueError for an unknown name, or one that is not 1 to 2592000 seconds.
    """
    timeouts = dict(TIMEOUTS)
    for name, seconds in (given or {}).items():
        if name not in timeouts:
            raise ValueError(f"timeouts: {name!r} is unknown, known are {', '.join(timeouts)}")
        if not 1 <= seconds <= LONGEST:
            raise ValueError(f"timeouts: {name} is 1 to {LONGEST} seconds")
        timeouts[name] = seconds
    return list(timeouts.values())


def ticks_of(given: Mapping[str, int] | None) -> list[int]:
    """The same in ticks, index 0 unused, so that a `State` is its own index; never shorter than asked for."""
    return [0, *(-(-(seconds * 1_000_000_000) >> TICK_BITS) + 1 for seconds in seconds_of(given))]

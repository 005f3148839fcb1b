"""TCP as somebody in the middle sees it, in plain Python: specification of `conntrack_tcp.h`.

States and what each segment does to them follow RFC 9293 and, where a middle has to guess, Linux's nf_conntrack, whose
answers a test compares. A segment that the table cannot place, but that may be right because the table has missed
something, is ignored: it passes and changes nothing but what is remembered of it.

With windows, sequence numbers are checked as in "Real Stateful TCP Packet Filtering in IP Filter" (van Rooij).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastpath.connections import RETRANSMITTED, UNACKNOWLEDGED, Mark, State

SYN, SYNACK, FIN, ACK, RST, NOTHING = range(6)
"""Kinds of segments."""
INVALID, REMOVE, REOPEN = -1, -2, -3
"""What `receive` says besides the ticks until the connection expires, and 0: as they were."""
SCALED, SACKED, LIBERAL, UNACKED, ACKED = (1 << bit for bit in range(5))
"""Bits of an end: it said its window scale; it may send SACK; its numbers are not checked; it has sent what nobody has
acknowledged; `acked` is set."""
MAX_SCALE: Final = 14
LEAST_ACK_WINDOW: Final = 66000
RETRANSMISSIONS: Final = 3

_IG, _IV = 10, 11
_NO, _SS, _SR, _ES, _FW, _CW, _LA, _TW, _CL, _S2 = range(10)
_ALWAYS_INVALID: Final = (_IV,) * 10
# Columns: the state before. A row for each kind of segment, from who began, then from who answers.
NEXT: Final = (
    (
        (_SS, _SS, _IG, _IG, _IG, _IG, _IG, _SS, _SS, _S2),
        (_IV, _IV, _SR, _IV, _IV, _IV, _IV, _IV, _IV, _SR),
        (_IV, _IV, _FW, _FW, _LA, _LA, _LA, _TW, _CL, _IV),
        (_ES, _IV, _ES, _ES, _CW, _CW, _TW, _TW, _CL, _IV),
        (_IV, *(_CL,) * 9),
    ),
    (
        (_IV, _S2, _IV, _IV, _IV, _IV, _IV, _SS, _IV, _S2),
        (_IV, _SR, *(_IG,) * 7, _SR),
        (_IV, _IV, _FW, _FW, _LA, _LA, _LA, _TW, _CL, _IV),
        (_IV, _IG, _SR, _ES, _CW, _CW, _TW, _TW, _CL, _IG),
        (_IV, *(_CL,) * 9),
    ),
)
CLOSING: Final = frozenset({State.FIN_WAIT, State.CLOSE_WAIT, State.LAST_ACK, State.TIME_WAIT, State.CLOSE})
# FIN, SYN, RST, ACK and URG together; the other bits are always allowed.
_ALLOWED: Final = frozenset({0x02, 0x22, 0x12, 0x04, 0x14, 0x11, 0x31, 0x10, 0x30})
_MASK: Final = 0xFFFFFFFF


class Segment(NamedTuple):
    """A TCP header."""

    kind: int
    flags: int
    seq: int
    ack: int
    window: int
    end: int
    """The sequence number behind it."""
    options: bytes


class End:
    """What is known of the numbers that one end uses."""

    __slots__ = ("acked", "bits", "end", "most_end", "scale", "window")

    def __init__(self) -> None:
        self.end = self.most_end = self.window = self.acked = self.scale = self.bits = 0

    def fields(self) -> tuple[int, ...]:
        """In the order of an export."""
        return self.end, self.most_end, self.window, self.acked, self.scale, self.bits


class Entry:
    """A connection."""

    __slots__ = ("expires", "key", "last", "last_ack", "last_bits", "last_end", "last_scale", "last_seq", "last_window",
                 "marks", "octets", "packets", "policy", "retransmissions", "sides", "state")  # fmt: skip

    def __init__(self, key: bytes, marks: int, policy: int) -> None:
        self.key, self.marks, self.policy = key, marks, policy
        self.expires = self.last_end = self.state = 0
        self.last = NOTHING
        self.sides = (End(), End())
        self.last_seq = self.last_ack = self.last_window = self.last_scale = self.last_bits = self.retransmissions = 0
        self.packets, self.octets = [0, 0], [0, 0]


def segment(data: bytes, size: int) -> Segment | None:
    """The TCP header at the start of `data`; `size` is what the IP header says is there. None: it is not sound."""
    if min(len(data), size) < 20:
        return None
    header = (data[12] >> 4) * 4
    flags = data[13]
    if header < 20 or header > min(len(data), size) or flags & 0x37 not in _ALLOWED:
        return None
    if flags & 4:
        kind = RST
    elif flags & 2:
        kind = SYNACK if flags & 16 else SYN
    else:
        kind = FIN if flags & 1 else ACK
    seq, ack = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    end = (seq + size - header + (flags >> 1 & 1) + (flags & 1)) & _MASK
    return Segment(kind, flags, seq, ack, int.from_bytes(data[14:16], "big"), end, data[20:header])


def begins(found: Segment, pick_up: bool) -> bool:
    """Whether a segment of no connection may begin one."""
    return found.kind == SYN or (pick_up and found.kind == ACK)


def begin(entry: Entry, found: Segment, windows: bool, ticks: list[int]) -> int:
    """Make the state of a new connection from its first segment; ticks until it expires."""
    entry.state = NEXT[0][found.kind][State.NONE]
    if windows:
        side = entry.sides[0]
        side.end = side.most_end = found.end
        side.window = found.window or 1
        if found.kind == SYN:
            _options(side, found.options)
        else:
            # Scale and SACK were said in segments that nobody saw.
            side.most_end = (found.end + side.window) & _MASK
            for each in entry.sides:
                each.bits = SACKED | LIBERAL
        _in_window(entry, found, 0)
    entry.last = found.kind
    return _lasts(entry, found.kind, windows, ticks, entry.state)


def receive(entry: Entry, found: Segment, reply: int, windows: bool, ticks: list[int]) -> int:
    """Let a segment change its connection; INVALID, REMOVE, REOPEN, 0, or the ticks until it expires."""
    before = entry.state
    after = NEXT[reply][found.kind][before]
    last, last_reply = entry.last & 7, entry.last >> 3
    if after == _IV:
        return INVALID
    if after == State.SYN_SENT and before >= State.TIME_WAIT:
        if entry.marks & Mark.CLOSING or (last_reply == reply and last == RST):
            return REOPEN
        after = _IG
    if after == _IG:
        if not (found.kind == SYNACK and last == SYN and last_reply != reply and found.ack == entry.last_end):
            _remember(entry, found, reply, before, windows)
            return 0
        # It acknowledges a SYN that was ignored: both ends agree, and the table was wrong.
        before, after = State.SYN_SENT, State.SYN_RECV
        entry.marks &= ~(Mark.CHALLENGE | Mark.CLOSING | Mark.SIMULTANEOUS)
        if windows:
            other, side = entry.sides[last_reply], entry.sides[reply]
            other.end = other.most_end = entry.last_end
            other.window, other.scale = entry.last_window or 1, entry.last_scale
            other.bits = entry.last_bits
            side.end = side.most_end = side.window = side.acked = side.scale = 0
            side.bits &= LIBERAL
    elif after == State.TIME_WAIT:
        if (before == State.LAST_ACK and found.kind == ACK and last_reply != reply and last == SYN
                and entry.marks & Mark.CHALLENGE):  # fmt: skip
            entry.marks &= ~Mark.CHALLENGE
            return 0
    elif after == State.SYN_SENT2:
        entry.marks |= Mark.SIMULTANEOUS
    elif after == State.SYN_RECV and reply and found.kind == ACK and entry.marks & Mark.SIMULTANEOUS:
        after = State.ESTABLISHED
    checked = windows
    if windows and after == State.CLOSE and found.kind == RST:
        after, checked = _reset(entry, found, reply)
        if after == _IV:
            return INVALID
    if checked:
        said = _in_window(entry, found, reply)
        if said == INVALID:
            if (entry.marks & Mark.ASSURED and found.kind in (RST, FIN)
                    and not (last_reply != reply and last in (FIN, RST))):  # fmt: skip
                entry.last = found.kind | reply << 3
            return INVALID
        if not said:
            return 0
    entry.last = found.kind | reply << 3
    entry.state = after
    if after != before and after == State.FIN_WAIT:
        entry.marks |= Mark.CLOSING
    lasts = _lasts(entry, found.kind, windows, ticks, after)
    if not entry.marks & Mark.REPLIED:
        if found.kind == RST:
            return REMOVE
        if found.kind == SYN and before == State.SYN_SENT:
            return 0  # or who begins again and again keeps the connection for ever
    elif after == State.ESTABLISHED and before in (State.SYN_RECV, State.ESTABLISHED):
        entry.marks |= Mark.ASSURED
    return lasts


def _lasts(entry: Entry, kind: int, windows: bool, ticks: list[int], state: int) -> int:
    lasts = ticks[state]
    if kind == RST:
        lasts = ticks[State.CLOSE]
    elif windows:
        if entry.retransmissions >= RETRANSMISSIONS:
            lasts = min(lasts, ticks[RETRANSMITTED])
        elif (entry.sides[0].bits | entry.sides[1].bits) & UNACKED:
            lasts = min(lasts, ticks[UNACKNOWLEDGED])
        elif not entry.last_window:
            lasts = min(lasts, ticks[RETRANSMITTED])
    if state == State.ESTABLISHED and not entry.marks & Mark.REPLIED:
        lasts = min(lasts, ticks[UNACKNOWLEDGED])
    return lasts


def _remember(entry: Entry, found: Segment, reply: int, state: int, windows: bool) -> None:
    """Keep what an ignored segment said: an answer to it shows that both ends agree."""
    entry.last = found.kind | reply << 3
    entry.last_end = found.end
    if found.kind == SYN and not reply:
        entry.marks &= ~(Mark.CHALLENGE | Mark.SIMULTANEOUS)
        if state == State.LAST_ACK:
            entry.marks |= Mark.CHALLENGE
    if windows:
        entry.last_seq, entry.last_window = found.seq, found.window
        if found.kind == SYN and not reply:
            seen = End()
            _options(seen, found.options)
            entry.last_bits = seen.bits
            entry.last_scale = seen.scale if seen.bits & SCALED else 0
        if state == State.SYN_SENT and found.kind == ACK and reply:
            entry.last_ack = found.ack


def _reset(entry: Entry, found: Segment, reply: int) -> tuple[int, bool]:
    """The state behind a RST, and whether its numbers are to be checked."""
    if entry.state in CLOSING:
        return State.CLOSE, False
    last, last_reply = entry.last & 7, entry.last >> 3
    other = entry.sides[not reply]
    # Picked up and not assured yet: no loss.
    established = entry.state == State.ESTABLISHED and entry.marks & Mark.ASSURED
    after = int(State.CLOSE)
    if other.bits & ACKED and last != SYN:
        if found.seq == 0 and not established:
            return after, True
        if _before(found.seq, other.acked):
            return _IV, False
        if not established or found.seq == other.acked:
            return after, True
        if last == ACK and last_reply == reply and found.seq == entry.last_end:
            return after, True
        # Not exactly the next number: the receiver may answer with a challenge (RFC 5961) and go on.
        after = entry.state
    # Only who received a SYN answers it.
    answers = entry.marks & Mark.REPLIED and last == SYN and last_reply != reply
    answers = answers or (not entry.marks & Mark.ASSURED and last == ACK)
    if answers and found.ack == entry.last_end:
        return after, False
    if entry.state == State.SYN_SENT and last == ACK and last_reply and found.seq == entry.last_ack:
        return after, False
    return after, True


def _before(one: int, other: int) -> bool:
    return (one - other) & 0x80000000 != 0


def _after(one: int, other: int) -> bool:
    return _before(other, one)


def _in_window(entry: Entry, found: Segment, reply: int) -> int:
    """Check and keep the numbers of a segment: INVALID, 0 (passes, but changes nothing more), or 1."""
    side, other = entry.sides[reply], entry.sides[not reply]
    seq, ack, end, window = found.seq, found.ack, found.end, found.window
    wrong = 1 if side.bits & LIBERAL else INVALID
    ignored = 1 if side.bits & LIBERAL else 0
    sack = _sack(found.options, ack) if other.bits & SACKED else ack
    if side.window == 0:
        if found.flags & 2:
            _start(side, other, found, reply)
            if not found.flags & 16:
                return 1
        else:
            side.end = end
            side.window = (window << side.scale & _MASK) or 1
            side.most_end = (end + side.window) & _MASK
            if other.window == 0:
                other.end = other.most_end = sack
            elif sack == (other.end + 1) & _MASK:
                other.end = sack
    elif found.flags & 2 and _after(end, side.end) and entry.state in (State.SYN_SENT, State.SYN_RECV):
        _start(side, other, found, reply)
        if reply and not found.flags & 16:
            return 1
    if not found.flags & 16 or (found.flags & 4 and ack == 0):
        ack = sack = other.end
    if found.flags & 4 and seq == 0 and entry.state == State.SYN_SENT:
        seq = end = side.end
    # What is sent has to lie in the window that the receiver said, what is acknowledged in what the other one sent.
    oldest = (other.end - max(side.window, LEAST_ACK_WINDOW) - 1) & _MASK
    lowest = (side.end - other.window - 1) & _MASK
    highest = (other.end + 1) & _MASK
    if not _before(seq, (side.most_end + 1) & _MASK):
        over = (end - side.most_end + 1) & _MASK
        if (other.window and _after(end, lowest) and _after(sack, oldest) and over <= other.window
                and _before(sack, highest)):  # fmt: skip
            side.end = end
            side.bits |= UNACKED
            return ignored
        return wrong
    if not _before(sack, highest):
        return wrong
    if (other.window and not _after(end, lowest)) or not _after(sack, oldest):
        return ignored
    if not found.flags & 2:
        window = window << side.scale & _MASK
    side.window = max(side.window, (window + sack - ack) & _MASK)
    if _after(end, side.end):
        side.end = end
        side.bits |= UNACKED
    if found.flags & 16 and (not side.bits & ACKED or _after(ack, side.acked)):
        side.acked = ack
        side.bits |= ACKED
    if other.window and _after(end, side.most_end):
        other.window = (other.window + end - side.most_end) & _MASK
    if _after((sack + window) & _MASK, (other.most_end - 1) & _MASK):
        other.most_end = (sack + (window or 1)) & _MASK
    if ack == other.end:
        other.bits &= ~UNACKED
    if found.kind == ACK:
        now = (reply, seq, ack, end, found.window)
        if now == (entry.last >> 3, entry.last_seq, entry.last_ack, entry.last_end, entry.last_window):
            entry.retransmissions = min(entry.retransmissions + 1, 255)
        else:
            entry.last_seq, entry.last_ack, entry.last_end, entry.last_window = now[1:]
            entry.retransmissions = 0
    return 1


def _start(side: End, other: End, found: Segment, reply: int) -> None:
    side.end = side.most_end = found.end
    side.window = found.window or 1
    _options(side, found.options)
    # Both have to say a scale, or none has one (RFC 7323 section 2.2).
    if reply and not side.bits & other.bits & SCALED:
        side.scale = other.scale = 0


def _options(side: End, options: bytes) -> None:
    if not options:
        return
    side.scale = 0
    side.bits &= LIBERAL
    for kind, value in _each(options):
        if kind == 4 and not value:
            side.bits |= SACKED
        elif kind == 3 and len(value) == 1:
            side.scale = min(value[0], MAX_SCALE)
            side.bits |= SCALED


def _sack(options: bytes, ack: int) -> int:
    """The highest number that the segment acknowledges, in blocks too (RFC 2018)."""
    for kind, value in _each(options):
        if kind == 5 and value and not len(value) % 8:
            for at in range(4, len(value), 8):
                right = int.from_bytes(value[at : at + 4], "big")
                if _after(right, ack):
                    ack = right
            break
    return ack


def _each(options: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break
        found.append((options[at], options[at + 2 : at + size]))
        at += size
    return found

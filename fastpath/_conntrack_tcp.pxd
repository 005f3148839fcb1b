# TCP as somebody in the middle sees it, per segment; `_conntrack_tcp_py` says what every case gives, and why.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from fastpath._conntrack_types cimport entry_t, side_t, window_t

cdef extern from "conntrack.h" nogil:
    const uint8_t conntrack_next[2][5][10]
    const uint8_t conntrack_kind[64]

cdef extern from "endian.h" nogil:
    uint32_t be32toh(uint32_t word)
    uint16_t be16toh(uint16_t word)

cdef enum:
    # Kinds of segments.
    SYN = 0
    SYNACK = 1
    FIN = 2
    ACK = 3
    RST = 4
    NOTHING = 5

cdef enum:
    # `fastpath.connections.State`
    NO_STATE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    IGNORE = 10
    NEVER = 11

cdef enum:
    # `fastpath.connections.Mark`
    REPLIED = 1
    ASSURED = 2
    FROM_HIGH = 4
    CLOSING = 8
    CHALLENGE = 16
    SIMULTANEOUS = 32

cdef enum:
    # Bits of an end.
    SCALED = 1
    SACKED = 2
    LIBERAL = 4
    UNACKED = 8
    ACKED = 16

cdef enum:
    INVALID_SEGMENT = -1
    REMOVE = -2
    REOPEN = -3

cdef enum:
    TICKS_RETRANSMITTED = 10
    TICKS_UNACKNOWLEDGED = 11
    MAX_SCALE = 14
    LEAST_ACK_WINDOW = 66000
    RETRANSMISSIONS = 3

ctypedef struct segment_t:
    const uint8_t *at
    uint32_t length             # bytes, with the header
    uint8_t kind
    # Written by `complete`.
    uint8_t flags
    uint16_t window
    uint32_t seq
    uint32_t ack
    uint32_t end
    uint32_t size               # bytes of options, which begin at 20

cdef inline uint32_t load32(const uint8_t *at) noexcept nogil:
    cdef uint32_t word = 0
    memcpy(&word, at, 4)
    return be32toh(word)

cdef inline bint before(uint32_t one, uint32_t other) noexcept nogil:
    return <int32_t> (one - other) < 0

cdef inline bint after(uint32_t one, uint32_t other) noexcept nogil:
    return <int32_t> (other - one) < 0

cdef inline bint segment_of(const uint8_t *at, uint32_t size, segment_t *s) noexcept nogil:
    # What kind of segment the header at `at` is of, of which `size` bytes are there.
    cdef uint32_t header
    if size < 20:
        return False
    header = (at[12] >> 4) * 4
    s.kind = conntrack_kind[at[13] & 63]
    s.at, s.length = at, size
    return header >= 20 and header <= size and s.kind != NOTHING

cdef inline void complete(segment_t *s) noexcept nogil:
    # What most packets need not say.
    cdef uint32_t header = (s.at[12] >> 4) * 4, flags = s.at[13]
    cdef uint16_t window = 0
    s.flags = <uint8_t> flags
    s.seq = load32(s.at + 4)
    s.ack = load32(s.at + 8)
    memcpy(&window, s.at + 14, 2)
    s.window = be16toh(window)
    s.end = s.seq + s.length - header + (flags >> 1 & 1) + (flags & 1)
    s.size = header - 20

cdef inline uint32_t option(const uint8_t *options, uint32_t size, uint32_t at) noexcept nogil:
    # Where the next option with a length begins, at or behind `at`; `size` if there is none.
    while at < size:
        if options[at] == 0:
            return size
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= size or options[at + 1] < 2 or at + options[at + 1] > size:
            return size
        return at
    return size

cdef inline void read_options(side_t *side, const segment_t *s) noexcept nogil:
    cdef uint32_t at
    cdef const uint8_t *o
    if not s.size:
        return
    side.scale = 0
    side.bits &= LIBERAL
    at = option(s.at + 20, s.size, 0)
    while at < s.size:
        o = s.at + 20 + at
        if o[0] == 4 and o[1] == 2:
            side.bits |= SACKED
        elif o[0] == 3 and o[1] == 3:
            side.scale = o[2] if o[2] < MAX_SCALE else MAX_SCALE
            side.bits |= SCALED
        at = option(s.at + 20, s.size, at + o[1])

cdef inline uint32_t read_sack(const segment_t *s, uint32_t ack) noexcept nogil:
    cdef uint32_t at, i
    cdef const uint8_t *o
    at = option(s.at + 20, s.size, 0)
    while at < s.size:
        o = s.at + 20 + at
        if o[0] == 5 and o[1] > 2 and not (o[1] - 2) % 8:
            i = 6
            while i < o[1]:
                if after(load32(o + i), ack):
                    ack = load32(o + i)
                i += 8
            break
        at = option(s.at + 20, s.size, at + o[1])
    return ack

cdef inline void start(side_t *side, side_t *other, const segment_t *s, int reply) noexcept nogil:
    side.end = side.most_end = s.end
    side.window = s.window if s.window else 1
    read_options(side, s)
    if reply and not side.bits & other.bits & SCALED:
        side.scale = other.scale = 0

cdef inline int in_window(entry_t *e, window_t *w, const segment_t *s, int reply) noexcept nogil:
    cdef side_t *side = &w.sides[reply]
    cdef side_t *other = &w.sides[1 - reply]
    cdef uint32_t seq = s.seq, ack = s.ack, end = s.end, window = s.window, sack = s.ack
    cdef uint32_t oldest, lowest, highest, over
    cdef int wrong = 1 if side.bits & LIBERAL else INVALID_SEGMENT
    cdef int ignored = 1 if side.bits & LIBERAL else 0
    if other.bits & SACKED:
        sack = read_sack(s, ack)
    if side.window == 0:
        if s.flags & 2:
            start(side, other, s, reply)
            if not s.flags & 16:
                return 1
        else:
            side.end = end
            side.window = window << side.scale
            if not side.window:
                side.window = 1
            side.most_end = end + side.window
            if other.window == 0:
                other.end = other.most_end = sack
            elif sack == other.end + 1:
                other.end = sack
    elif s.flags & 2 and after(end, side.end) and (e.state == SYN_SENT or e.state == SYN_RECV):
        start(side, other, s, reply)
        if reply and not s.flags & 16:
            return 1
    if not s.flags & 16 or (s.flags & 4 and ack == 0):
        ack = sack = other.end
    if s.flags & 4 and seq == 0 and e.state == SYN_SENT:
        seq = end = side.end
    oldest = other.end - (side.window if side.window > LEAST_ACK_WINDOW else <uint32_t> LEAST_ACK_WINDOW) - 1
    lowest = side.end - other.window - 1
    highest = other.end + 1
    if not before(seq, side.most_end + 1):
        over = end - side.most_end + 1
        if other.window and after(end, lowest) and after(sack, oldest) and over <= other.window \
                and before(sack, highest):
            side.end = end
            side.bits |= UNACKED
            return ignored
        return wrong
    if not before(sack, highest):
        return wrong
    if (other.window and not after(end, lowest)) or not after(sack, oldest):
        return ignored
    if not s.flags & 2:
        window <<= side.scale
    if side.window < window + sack - ack:
        side.window = window + sack - ack
    if after(end, side.end):
        side.end = end
        side.bits |= UNACKED
    if s.flags & 16 and (not side.bits & ACKED or after(ack, side.acked)):
        side.acked = ack
        side.bits |= ACKED
    if other.window and after(end, side.most_end):
        other.window += end - side.most_end
    if after(sack + window, other.most_end - 1):
        other.most_end = sack + (window if window else 1)
    if ack == other.end:
        other.bits &= ~<uint32_t> UNACKED
    if s.kind == ACK:
        if e.last >> 3 == reply and w.last_seq == seq and w.last_ack == ack and e.last_end == end \
                and w.last_window == s.window:
            if w.retransmissions < 255:
                w.retransmissions += 1
        else:
            w.last_seq = seq
            w.last_ack = ack
            e.last_end = end
            w.last_window = s.window
            w.retransmissions = 0
    return 1

cdef inline int32_t least(int32_t one, int32_t other) noexcept nogil:
    return one if one < other else other

cdef inline int32_t lasts(
    const entry_t *e, const window_t *w, uint32_t kind, const int32_t *ticks, uint32_t state
) noexcept nogil:
    cdef int32_t time = ticks[state]
    if kind == RST:
        time = ticks[CLOSE]
    elif w != NULL:
        if w.retransmissions >= RETRANSMISSIONS:
            time = least(time, ticks[TICKS_RETRANSMITTED])
        elif (w.sides[0].bits | w.sides[1].bits) & UNACKED:
            time = least(time, ticks[TICKS_UNACKNOWLEDGED])
        elif not w.last_window:
            time = least(time, ticks[TICKS_RETRANSMITTED])
    if state == ESTABLISHED and not e.marks & REPLIED:
        time = least(time, ticks[TICKS_UNACKNOWLEDGED])
    return time

cdef inline int32_t begin(entry_t *e, window_t *w, const segment_t *s, const int32_t *ticks) noexcept nogil:
    # `w` is NULL without windows, else all zero.
    cdef side_t *side
    e.state = conntrack_next[0][s.kind][NO_STATE]
    e.last = NOTHING
    if w != NULL:
        side = &w.sides[0]
        side.end = side.most_end = s.end
        side.window = s.window if s.window else 1
        if s.kind == SYN:
            read_options(side, s)
        else:
            side.most_end = s.end + side.window
            w.sides[0].bits = w.sides[1].bits = SACKED | LIBERAL
        in_window(e, w, s, 0)
    e.last = s.kind
    return lasts(e, w, s.kind, ticks, e.state)

cdef inline void remember(entry_t *e, window_t *w, const segment_t *s, int reply) noexcept nogil:
    cdef side_t seen
    e.last = <uint8_t> (s.kind | reply << 3)
    e.last_end = s.end
    if s.kind == SYN and not reply:
        e.marks &= ~<uint32_t> (CHALLENGE | SIMULTANEOUS)
        if e.state == LAST_ACK:
            e.marks |= CHALLENGE
    if w != NULL:
        w.last_seq = s.seq
        w.last_window = s.window
        if s.kind == SYN and not reply:
            memset(&seen, 0, sizeof(seen))
            read_options(&seen, s)
            w.last_bits = seen.bits
            w.last_scale = seen.scale if seen.bits & SCALED else 0
        if e.state == SYN_SENT and s.kind == ACK and reply:
            w.last_ack = s.ack

cdef inline uint32_t reset(entry_t *e, window_t *w, const segment_t *s, int reply, bint *checked) noexcept nogil:
    # The state behind a RST, and whether its numbers are to be checked.
    cdef side_t *other = &w.sides[1 - reply]
    cdef uint32_t last = e.last & 7, last_reply = e.last >> 3
    cdef uint32_t next = CLOSE
    # Picked up and not assured yet: no loss.
    cdef bint established = e.state == ESTABLISHED and e.marks & ASSURED != 0
    checked[0] = False
    if FIN_WAIT <= e.state <= CLOSE:
        return CLOSE
    if other.bits & ACKED and last != SYN:
        checked[0] = True
        if s.seq == 0 and not established:
            return CLOSE
        if before(s.seq, other.acked):
            return NEVER
        if not established or s.seq == other.acked:
            return CLOSE
        if last == ACK and last_reply == <uint32_t> reply and s.seq == e.last_end:
            return CLOSE
        next = e.state
    checked[0] = False
    # Only who received a SYN answers it.
    if ((e.marks & REPLIED and last == SYN and last_reply != <uint32_t> reply)
            or (not e.marks & ASSURED and last == ACK)) and s.ack == e.last_end:
        return next
    if e.state == SYN_SENT and last == ACK and last_reply and s.seq == w.last_ack:
        return next
    checked[0] = True
    return next

cdef inline int32_t receive(
    entry_t *e, window_t *w, const segment_t *s, int reply, const int32_t *ticks
) noexcept nogil:
    # `w` is NULL without windows.
    cdef uint32_t old = e.state
    cdef uint32_t next = conntrack_next[reply][s.kind][old]
    cdef uint32_t last = e.last & 7, last_reply = e.last >> 3
    cdef bint checked = w != NULL
    cdef int said
    cdef int32_t time
    if next == NEVER:
        return INVALID_SEGMENT
    if next != old or next == SYN_SENT2:
        if next == SYN_SENT and old >= TIME_WAIT:
            if e.marks & CLOSING or (last_reply == <uint32_t> reply and last == RST):
                return REOPEN
            next = IGNORE
        if next == IGNORE:
            if not (s.kind == SYNACK and last == SYN and last_reply != <uint32_t> reply and s.ack == e.last_end):
                remember(e, w, s, reply)
                return 0
            old = SYN_SENT
            next = SYN_RECV
            e.marks &= ~<uint32_t> (CHALLENGE | CLOSING | SIMULTANEOUS)
            if w != NULL:
                w.sides[last_reply].end = w.sides[last_reply].most_end = e.last_end
                w.sides[last_reply].window = w.last_window if w.last_window else 1
                w.sides[last_reply].scale = w.last_scale
                w.sides[last_reply].bits = w.last_bits
                w.sides[reply].end = w.sides[reply].most_end = w.sides[reply].window = w.sides[reply].acked = 0
                w.sides[reply].scale = 0
                w.sides[reply].bits &= LIBERAL
        elif next == TIME_WAIT:
            if old == LAST_ACK and s.kind == ACK and last_reply != <uint32_t> reply and last == SYN \
                    and e.marks & CHALLENGE:
                e.marks &= ~<uint32_t> CHALLENGE
                return 0
        elif next == SYN_SENT2:
            e.marks |= SIMULTANEOUS
    if next == SYN_RECV and reply and s.kind == ACK and e.marks & SIMULTANEOUS:
        next = ESTABLISHED
    if w != NULL:
        if next == CLOSE and s.kind == RST:
            next = reset(e, w, s, reply, &checked)
            if next == NEVER:
                return INVALID_SEGMENT
        if checked:
            said = in_window(e, w, s, reply)
            if said < 0:
                if e.marks & ASSURED and (s.kind == RST or s.kind == FIN) \
                        and not (last_reply != <uint32_t> reply and (last == FIN or last == RST)):
                    e.last = <uint8_t> (s.kind | reply << 3)
                return INVALID_SEGMENT
            if not said:
                return 0
    e.last = <uint8_t> (s.kind | reply << 3)
    e.state = <uint8_t> next
    if next != old and next == FIN_WAIT:
        e.marks |= CLOSING
    time = lasts(e, w, s.kind, ticks, next)
    if not e.marks & REPLIED:
        if s.kind == RST:
            return REMOVE
        if s.kind == SYN and old == SYN_SENT:
            return 0
    elif next == ESTABLISHED and (old == SYN_RECV or old == ESTABLISHED):
        e.marks |= ASSURED
    return time

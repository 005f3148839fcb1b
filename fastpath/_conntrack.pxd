# Connection tracking per packet; `_conntrack_py` says what every case gives.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastpath._batch_c cimport batch_t, flow_key
from fastpath._conntrack_table cimport (
    arm, disarm, find, hash_of, is_droppable, join, leave, prepare_entry, prefetch, remove, room, settle,
)
from fastpath._conntrack_table cimport bucket_t, checked, conntrack_match, conntrack_same, ctz, tag_of
from fastpath._conntrack_tcp cimport (
    ACK, ASSURED, ESTABLISHED, FROM_HIGH, INVALID_SEGMENT, REMOVE, REOPEN, REPLIED, SYN, begin, complete, receive,
    segment_of, segment_t,
)
from fastpath._conntrack_types cimport entry_t, table_t, window_t
from fastpath._hasher_c cimport hash_keys
from fastpath._icmp cimport inverse
from fastpath._flow cimport (
    ICMP, IPV4, IPV6, LATER_FRAGMENT, MALFORMED, PORTS, TRUNCATED, finish, hash_key, le16toh, less16, load16,
    parse_embedded, times, word32,
)

cdef extern from "conntrack.h" nogil:
    void conntrack_put(void *key, int i, uint64_t word)
    void conntrack_ask(
        const uint8_t *memory, const uint32_t *offset, const uint32_t *layers, const uint32_t *flags, uint32_t first, uint32_t end
    )
    const uint32_t NOT_YET "CONNTRACK_NOT_YET"
    const uint32_t RELATED_LATER "CONNTRACK_RELATED_LATER"

cdef enum:
    # `fastpath.connections.Ct`
    CT_NONE = 0
    CT_NEW = 1
    CT_ESTABLISHED = 2
    CT_RELATED = 3
    CT_INVALID = 4
    CT_KIND = 7
    CT_REPLY = 8
    CT_LOOKUP = 16
    CT_KNOWN = 32

cdef enum:
    # Indexes of timeouts.
    TICKS_UDP = 12
    TICKS_UDP_STREAM = 13
    TICKS_ICMP = 14
    TICKS_ICMP6 = 15
    TICKS_OTHER = 16
    STREAM_TICKS = 30

cdef enum:
    RUN = 64            # packets whose memory is asked for together

ctypedef struct packet_t:
    flow_key key        # normal
    uint32_t hash
    uint32_t ct         # final, or NOT_YET, or RELATED_LATER
    uint32_t octets
    uint32_t candidate  # what the tags let expect
    bint high
    bint begins
    segment_t segment

cdef inline bint is_icmp_key(const flow_key *key) noexcept nogil:
    return (key.version == 4 and key.protocol == 1) or (key.version == 6 and key.protocol == 58)

cdef inline bint with_ports(uint32_t protocol) noexcept nogil:
    return protocol == 6 or protocol == 17 or protocol == 132 or protocol == 136 or protocol == 33

cdef inline bint is_query(uint32_t version, uint32_t kind) noexcept nogil:
    if version == 4:
        return kind == 8 or kind == 13 or kind == 15 or kind == 17 or kind == 42
    return kind == 128 or kind == 160

cdef inline bint is_error(uint32_t version, uint32_t kind) noexcept nogil:
    if version == 4:
        return kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12
    return 1 <= kind <= 4

cdef inline bint normal_hash(
    const hash_keys *h, const flow_key *key, uint32_t zone, flow_key *to, uint32_t *hash
) noexcept nogil:
    # See `fastpath.connection_records.normal`; a zone over 65535: the key's. The hash is `hash_key`'s, out of registers
    # where that is worth while; NULL: not wanted.
    cdef uint64_t low, high, swapped, tail
    cdef uint16_t source_port = 0, destination_port = 0, own
    cdef bint swap
    cdef int kind
    cdef uint8_t *type
    cdef const uint8_t *lower
    cdef const uint8_t *higher
    own = key.zone if zone > 0xFFFF else <uint16_t> zone
    if with_ports(key.protocol):
        source_port, destination_port = key.source_port, key.destination_port
    if key.version == 4 and key.protocol != 1:
        low = word32(key.source) | <uint64_t> le16toh(source_port) << 32
        high = word32(key.destination) | <uint64_t> le16toh(destination_port) << 32
        swap = low > high
        swapped = (low ^ high) & (0 - <uint64_t> swap)
        low ^= swapped
        high ^= swapped
        tail = low >> 32 | high >> 32 << 16 | <uint64_t> key.protocol << 32 | <uint64_t> 4 << 40 \
            | <uint64_t> le16toh(own) << 48
        conntrack_put(to, 0, <uint32_t> low)
        conntrack_put(to, 1, 0)
        conntrack_put(to, 2, <uint32_t> high)
        conntrack_put(to, 3, 0)
        conntrack_put(to, 4, tail)
        if hash != NULL:
            hash[0] = finish(h, times(<uint32_t> low + h.k[0], <uint32_t> high + h.k[1])
                             + times(<uint32_t> tail + h.k[2], <uint32_t> (tail >> 32) + h.k[3]))
        return swap
    memset(to, 0, sizeof(flow_key))
    if key.version == 4:
        swap = word32(key.source) > word32(key.destination)
        lower = <const uint8_t *> key.destination if swap else <const uint8_t *> key.source
        higher = <const uint8_t *> key.source if swap else <const uint8_t *> key.destination
        memcpy(to.source, lower, 4)
        memcpy(to.destination, higher, 4)
    else:
        swap = less16(key.destination, key.source)
        if not swap and le16toh(source_port) > le16toh(destination_port):
            swap = not less16(key.source, key.destination)
        lower = <const uint8_t *> key.destination if swap else <const uint8_t *> key.source
        higher = <const uint8_t *> key.source if swap else <const uint8_t *> key.destination
        memcpy(to.source, lower, 16)
        memcpy(to.destination, higher, 16)
    to.source_port = destination_port if swap else source_port
    to.destination_port = source_port if swap else destination_port
    if is_icmp_key(key):
        to.source_port = key.source_port
        to.destination_port = key.destination_port
        if swap:
            type = <uint8_t *> &to.source_port
            kind = inverse(key.version, type[0])
            if kind >= 0:
                type[0] = <uint8_t> kind
    to.protocol = key.protocol
    to.version = key.version
    to.zone = own
    if hash != NULL:
        hash[0] = hash_key(h, to, 0)
    return swap

cdef inline bint normal(const flow_key *key, uint32_t zone, flow_key *to) noexcept nogil:
    return normal_hash(NULL, key, zone, to, NULL)

cdef inline uint32_t layer4(const batch_t *b, uint32_t i, uint32_t version, uint32_t *size) noexcept nogil:
    # Where layer 4 of packet i begins, from the packet's start, and how long the IP header says it is.
    cdef const uint8_t *at = b.memory + b.offset[i]
    cdef uint32_t ip = b.layers[i] & 0xFFFF, start = b.layers[i] >> 16, length = b.length[i], end
    size[0] = 0
    if ip + (20 if version == 4 else 40) > start or start > length:
        return 0
    if version == 4:
        end = ip + load16(at + ip + 2)
    else:
        end = load16(at + ip + 4)
        end = ip + 40 + end if end else length
    if end > length:
        end = length
    if end > start:
        size[0] = end - start
    return start

cdef inline void look(table_t *t, const batch_t *b, uint32_t i, uint32_t zone, packet_t *p) noexcept nogil:
    # What is known of packet i without the table. Asks for its bucket.
    cdef const flow_key *key = &b.key[i]
    cdef uint32_t flags = b.flags[i], protocol = key.protocol, start, size = 0, kind
    cdef const uint8_t *at
    p.ct = CT_INVALID
    p.begins = True
    if key.version != 4 and key.version != 6:
        if not flags & (IPV4 | IPV6):
            p.ct = CT_LOOKUP
        return
    if flags & (TRUNCATED | MALFORMED):
        return
    if with_ports(protocol):
        if not flags & PORTS:
            return
        if protocol == 6:
            start = layer4(b, i, key.version, &size)
            if not segment_of(b.memory + b.offset[i] + start, size, &p.segment):
                return
            p.begins = p.segment.kind == SYN or (t.pick_up and p.segment.kind == ACK)
        elif protocol == 17:
            start = layer4(b, i, key.version, &size)
            if size < 8:
                return
            at = b.memory + b.offset[i] + start
            if not 8 <= load16(at + 4) <= size:
                return
    elif is_icmp_key(key):
        if not flags & ICMP:
            return
        kind = (<const uint8_t *> &key.source_port)[0]
        if is_error(key.version, kind):
            p.ct = RELATED_LATER
            return
        if inverse(key.version, kind) < 0:
            if key.version == 6 and (130 <= kind <= 136 or kind == 143):
                p.ct = CT_LOOKUP
            return
        p.begins = is_query(key.version, kind)
    p.high = normal_hash(&t.h, key, zone, &p.key, &p.hash)
    prefetch(&t.buckets[p.hash & t.mask])
    start = b.layers[i] & 0xFFFF
    p.octets = b.length[i] - start if b.length[i] > start else 0
    p.ct = NOT_YET

cdef inline void expect(table_t *t, packet_t *p) noexcept nogil:
    # Ask for the line of the connection that has the same tag.
    cdef bucket_t *b
    cdef uint32_t match
    p.candidate = 0
    if p.ct != NOT_YET:
        return
    b = &t.buckets[p.hash & t.mask]
    match = conntrack_match(b.tags, tag_of(p.hash))
    if match:
        p.candidate = b.entries[ctz(match) >> 1]
        prefetch(&t.entries[p.candidate])
        if t.windows != NULL:
            prefetch(&t.windows[p.candidate])
        if t.counts != NULL:
            prefetch(&t.counts[p.candidate])

cdef inline int32_t timeout(const table_t *t, const flow_key *key) noexcept nogil:
    if key.protocol == 17:
        return t.ticks[TICKS_UDP]
    if is_icmp_key(key):
        return t.ticks[TICKS_ICMP if key.version == 4 else TICKS_ICMP6]
    return t.ticks[TICKS_OTHER]

cdef inline uint32_t change(table_t *t, uint32_t n, packet_t *p, uint32_t policy) noexcept nogil:
    # Let a packet change its connection; what the packet is.
    cdef entry_t *e = &t.entries[n]
    cdef int reply = p.high != (e.marks & FROM_HIGH != 0)
    cdef uint32_t ct, old
    cdef int32_t time
    cdef bint was = is_droppable(e)
    if reply:
        ct = CT_ESTABLISHED | CT_REPLY
    else:
        ct = CT_ESTABLISHED if e.marks & REPLIED else CT_NEW
    if e.key.protocol == 6:
        complete(&p.segment)
        time = receive(e, &t.windows[n] if t.windows != NULL else NULL, &p.segment, reply, t.ticks)
        if time == INVALID_SEGMENT:
            return CT_INVALID
        if time == REOPEN:
            t.closed += 1
            remove(t, n)
            return CT_NEW | CT_LOOKUP
    else:
        time = timeout(t, &e.key)
        if e.key.protocol == 17 and e.marks & REPLIED and t.tick >= e.last_end:
            e.marks |= ASSURED
            time = t.ticks[TICKS_UDP_STREAM]
    ct |= CT_KNOWN
    if e.policy != policy:
        ct |= CT_LOOKUP
    if time == REMOVE:
        t.closed += 1
        remove(t, n)
        return ct
    if time:
        old = e.expires
        e.expires = t.tick + <uint32_t> time
        if e.expires < old and e.expires < t.links[n].armed:
            disarm(t, n)
            arm(t, n)
    if reply:
        e.marks |= REPLIED
    if t.counts != NULL:
        t.counts[n].packets[reply] += 1
        t.counts[n].octets[reply] += p.octets
    if was != is_droppable(e):
        leave(t, n)
        join(t, n)
    return ct

cdef inline uint32_t related(table_t *t, const batch_t *b, uint32_t i, uint32_t zone, uint32_t policy) noexcept nogil:
    cdef const flow_key *key = &b.key[i]
    cdef const uint8_t *at = b.memory + b.offset[i]
    cdef uint32_t layers = b.layers[i], inner_layers = 0, flags, n, ct
    cdef flow_key inner, wanted
    cdef bint high
    if (layers & 0xFFFF) + (20 if key.version == 4 else 40) > b.length[i]:
        return CT_INVALID
    flags = parse_embedded(at, b.length[i], key, layers, &inner, &inner_layers)
    if not inner.version or flags & (TRUNCATED | MALFORMED | LATER_FRAGMENT):
        return CT_INVALID
    if memcmp(inner.source, key.destination, 16):
        return CT_INVALID
    if is_icmp_key(&inner) and inverse(inner.version, (<uint8_t *> &inner.source_port)[0]) < 0:
        return CT_INVALID
    if with_ports(inner.protocol) and not flags & PORTS:
        return CT_INVALID
    high = normal(&inner, key.zone if zone > 0xFFFF else zone, &wanted)
    n = find(t, &wanted, hash_of(t, &wanted))
    if not n:
        return CT_INVALID
    ct = CT_RELATED | CT_KNOWN
    if high == (t.entries[n].marks & FROM_HIGH != 0):
        ct |= CT_REPLY
    if t.entries[n].policy != policy:
        ct |= CT_LOOKUP
    return ct

cdef inline uint32_t decide(
    table_t *t, const batch_t *b, uint32_t i, uint32_t zone, uint32_t policy, packet_t *p
) noexcept nogil:
    cdef uint32_t n, reply, tcp, udp
    cdef int32_t time
    cdef entry_t *e
    if p.ct != NOT_YET:
        return related(t, b, i, zone, policy) if p.ct == RELATED_LATER else p.ct
    # Not what the tags said, if an earlier packet of the run has changed the bucket, or another flow has this tag.
    n = p.candidate
    if n and conntrack_same(&t.entries[n].key, &p.key):
        n = checked(t, n)
    else:
        n = find(t, &p.key, p.hash)
    if not n:
        return CT_NEW | CT_LOOKUP if p.begins else CT_INVALID
    e = &t.entries[n]
    # What `change` would do, for what most packets are; without a branch between TCP and UDP, of which it would often be
    # the wrong one.
    tcp = (p.key.protocol == 6) & (p.segment.kind == ACK) & (t.windows == NULL)
    time = t.ticks[TICKS_UDP_STREAM - tcp * (TICKS_UDP_STREAM - ESTABLISHED)]
    udp = (p.key.protocol == 17) & (t.tick >= e.last_end) & (e.expires <= t.tick + <uint32_t> time)
    if (tcp & (e.state == ESTABLISHED) | udp) & (e.marks & (REPLIED | ASSURED) == REPLIED | ASSURED):
        reply = p.high != (e.marks & FROM_HIGH != 0)
        # Into `last`, or for UDP into the unused byte behind it.
        (&e.last)[1 - tcp] = <uint8_t> (ACK | reply << 3)
        e.expires = t.tick + <uint32_t> time
        if t.counts != NULL:
            t.counts[n].packets[reply] += 1
            t.counts[n].octets[reply] += p.octets
        return CT_ESTABLISHED | CT_KNOWN | reply << 3 | <uint32_t> (e.policy != policy) << 4
    return change(t, n, p, policy)

cdef inline uint32_t track_run(
    table_t *t, batch_t *b, uint32_t first, uint32_t end, uint32_t zone, uint32_t policy
) noexcept nogil:
    # Packets `first` to `end`, at most RUN; how many need the rules.
    cdef packet_t packets[RUN]
    cdef uint8_t order[4][RUN]
    cdef uint32_t sizes[4]
    cdef uint32_t i, j, kind, ct, asked = 0
    # For the run behind this one.
    conntrack_ask(b.memory, b.offset, b.layers, b.flags, end, min(end + RUN, b.count))
    # Packets of a kind together: the processor then knows the way that each takes.
    sizes[0] = sizes[1] = sizes[2] = sizes[3] = 0
    for i in range(first, end):
        kind = (b.key[i].protocol == 6) << 1 | (b.key[i].version >> 1 & 1)
        order[kind][sizes[kind]] = <uint8_t> (i - first)
        sizes[kind] += b.verdict[i] == 0
        # Into the first cache, and again if it was not fetched.
        prefetch(b.memory + b.offset[i] + (b.layers[i] >> 16) + 12 * (kind >> 1))
    for kind in range(4):
        for j in range(sizes[kind]):
            i = order[kind][j]
            look(t, b, first + i, zone, &packets[i])
    for i in range(first, end):
        if not b.verdict[i]:
            expect(t, &packets[i - first])
    for i in range(first, end):
        if not b.verdict[i]:
            ct = decide(t, b, i, zone, policy, &packets[i - first])
            b.ct[i] = ct
            asked += ct >> 4 & 1
            t.invalid += ct & CT_KIND == CT_INVALID
    return asked

cdef inline uint32_t make(table_t *t, packet_t *p, uint32_t policy) noexcept nogil:
    # Make the connection of a packet; 0 or the reason why there is no room.
    cdef uint32_t reason = room(t, p.key.zone), n
    cdef int32_t time
    cdef entry_t *e
    if reason:
        return reason
    n = prepare_entry(t, &p.key, policy)
    e = &t.entries[n]
    e.marks = FROM_HIGH if p.high else 0
    if e.key.protocol == 6:
        complete(&p.segment)
        time = begin(e, &t.windows[n] if t.windows != NULL else NULL, &p.segment, t.ticks)
    else:
        time = timeout(t, &e.key)
        e.last = 5
        if e.key.protocol == 17:
            e.last_end = t.tick + STREAM_TICKS
    e.expires = t.tick + <uint32_t> time
    settle(t, n, p.hash)
    if t.counts != NULL:
        t.counts[n].packets[0] = 1
        t.counts[n].octets[0] = p.octets
    t.created += 1
    return 0

cdef inline uint32_t commit_one(
    table_t *t, batch_t *b, uint32_t i, uint32_t zone, uint32_t policy, uint32_t denied
) noexcept nogil:
    # 1 if a connection was made.
    cdef packet_t p
    cdef uint32_t ct = b.ct[i], verdict = b.verdict[i], n
    if not ct & CT_LOOKUP or not CT_NEW <= ct & CT_KIND <= CT_ESTABLISHED or (verdict and verdict != denied):
        return 0
    look(t, b, i, zone, &p)
    if p.ct != NOT_YET:
        return 0
    n = find(t, &p.key, p.hash)
    if verdict:
        if n and ct & CT_KNOWN:
            t.denied += 1
            remove(t, n)
    elif ct & CT_KNOWN:
        if n:
            t.entries[n].policy = policy
        b.ct[i] = ct & ~<uint32_t> CT_LOOKUP
    elif n:
        b.ct[i] = change(t, n, &p, policy)
    elif p.begins:
        verdict = make(t, &p, policy)
        if not verdict:
            b.ct[i] = (ct & ~<uint32_t> CT_LOOKUP) | CT_KNOWN
            return 1
        b.verdict[i] = verdict
    return 0

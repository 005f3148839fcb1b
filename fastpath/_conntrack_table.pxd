# Connections in buckets, lists and the timer wheel.
#
# A bucket is one cache line of eight tags and numbers, with a chain for the few that find no place: half of the places
# are free when the table is full. The wheel has four levels of 256 slots; a packet only writes `expires`, and who is
# found in the wheel before its time is put back in.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath._batch_c cimport flow_key
from fastpath._conntrack_tcp cimport ASSURED, CLOSE, FIN_WAIT
from fastpath._conntrack_types cimport bucket_t, entry_t, link_t, list_t, table_t, zone_t
from fastpath._flow cimport hash_key

cdef extern from "conntrack.h" nogil:
    uint32_t conntrack_match(const uint16_t *tags, uint16_t tag)
    bint conntrack_same(const void *one, const void *other)
    const uint32_t HEAD "CONNTRACK_HEAD"
    const uint32_t NO_LIMIT "CONNTRACK_NO_LIMIT"
    const uint32_t ANY_ZONE "CONNTRACK_ANY_ZONE"
    const uint64_t LAST_TICK "CONNTRACK_LAST_TICK"

cdef extern from *:
    uint32_t ctz "__builtin_ctz"(uint32_t word) nogil
    void prefetch "__builtin_prefetch"(const void *at) nogil

cdef enum:
    FULL = 31           # `fastpath.reasons.Reason`
    ZONE_FULL = 32
    FAR = 1 << 16       # ticks; a longer jump of the clock looks at every connection instead

cdef inline uint32_t hash_of(const table_t *t, const flow_key *key) noexcept nogil:
    return hash_key(&t.h, key, 0)

cdef inline uint16_t tag_of(uint32_t hash) noexcept nogil:
    return <uint16_t> (hash >> 16)

cdef inline bint alive(const table_t *t, const entry_t *e) noexcept nogil:
    # Not of a zone that was flushed since.
    return e.generation == t.zones[e.key.zone].generation

cdef inline bint is_droppable(const entry_t *e) noexcept nogil:
    return not e.marks & ASSURED or FIN_WAIT <= e.state <= CLOSE

# Lists: of a zone, and of all droppable ones.

cdef inline void zone_join(table_t *t, list_t *ends, uint32_t n) noexcept nogil:
    t.links[n].zone_next = 0
    t.links[n].zone_before = ends.last
    if ends.last:
        t.links[ends.last].zone_next = n
    else:
        ends.first = n
    ends.last = n

cdef inline void zone_leave(table_t *t, list_t *ends, uint32_t n) noexcept nogil:
    cdef link_t *l = &t.links[n]
    if l.zone_before:
        t.links[l.zone_before].zone_next = l.zone_next
    else:
        ends.first = l.zone_next
    if l.zone_next:
        t.links[l.zone_next].zone_before = l.zone_before
    else:
        ends.last = l.zone_before

cdef inline void order_join(table_t *t, uint32_t n) noexcept nogil:
    t.links[n].order_next = 0
    t.links[n].order_before = t.order.last
    if t.order.last:
        t.links[t.order.last].order_next = n
    else:
        t.order.first = n
    t.order.last = n

cdef inline void order_leave(table_t *t, uint32_t n) noexcept nogil:
    cdef link_t *l = &t.links[n]
    if l.order_before:
        t.links[l.order_before].order_next = l.order_next
    else:
        t.order.first = l.order_next
    if l.order_next:
        t.links[l.order_next].order_before = l.order_before
    else:
        t.order.last = l.order_before

cdef inline void join(table_t *t, uint32_t n) noexcept nogil:
    # Put a live connection into the lists it belongs to.
    cdef zone_t *z = &t.zones[t.entries[n].key.zone]
    cdef uint32_t droppable = is_droppable(&t.entries[n])
    t.links[n].droppable = droppable
    zone_join(t, &z.lists[droppable], n)
    if droppable:
        order_join(t, n)
        z.droppable += 1
        t.droppable += 1

cdef inline void leave(table_t *t, uint32_t n) noexcept nogil:
    cdef zone_t *z = &t.zones[t.entries[n].key.zone]
    zone_leave(t, &z.lists[t.links[n].droppable], n)
    if t.links[n].droppable:
        order_leave(t, n)
        z.droppable -= 1
        t.droppable -= 1

# Wheel.

cdef inline void arm(table_t *t, uint32_t n) noexcept nogil:
    # `expires` lies behind `turned`.
    cdef link_t *l = &t.links[n]
    cdef uint32_t at = t.entries[n].expires, ahead = at - t.turned, slot
    if ahead < 256:
        slot = at & 255
    elif ahead < 1 << 16:
        slot = 256 + (at >> 8 & 255)
    elif ahead < 1 << 24:
        slot = 512 + (at >> 16 & 255)
    else:
        slot = 768 + (at >> 24)
    l.armed = at
    l.wheel_next = t.wheel[slot]
    l.wheel_before = HEAD | slot
    if l.wheel_next:
        t.links[l.wheel_next].wheel_before = n
    t.wheel[slot] = n

cdef inline void disarm(table_t *t, uint32_t n) noexcept nogil:
    cdef link_t *l = &t.links[n]
    if l.wheel_before & HEAD:
        t.wheel[l.wheel_before & (HEAD - 1)] = l.wheel_next
    else:
        t.links[l.wheel_before].wheel_next = l.wheel_next
    if l.wheel_next:
        t.links[l.wheel_next].wheel_before = l.wheel_before

# Buckets.

cdef inline void bucket_join(table_t *t, uint32_t n, uint32_t hash) noexcept nogil:
    cdef bucket_t *b = &t.buckets[hash & t.mask]
    cdef int i
    for i in range(8):
        if not b.entries[i]:
            b.entries[i] = n
            b.tags[i] = tag_of(hash)
            return
    t.entries[n].next = b.chain
    b.chain = n

cdef inline void bucket_leave(table_t *t, uint32_t n) noexcept nogil:
    cdef bucket_t *b = &t.buckets[hash_of(t, &t.entries[n].key) & t.mask]
    cdef uint32_t *at = &b.chain
    cdef uint32_t moved
    cdef int i
    for i in range(8):
        if b.entries[i] == n:
            moved = b.chain
            b.entries[i] = moved
            if moved:
                b.chain = t.entries[moved].next
                b.tags[i] = tag_of(hash_of(t, &t.entries[moved].key))
            return
    while at[0] != n:
        at = &t.entries[at[0]].next
    at[0] = t.entries[n].next

cdef inline void remove(table_t *t, uint32_t n) noexcept nogil:
    cdef entry_t *e = &t.entries[n]
    cdef list_t dead
    bucket_leave(t, n)
    disarm(t, n)
    if alive(t, e):
        leave(t, n)
        t.zones[e.key.zone].count -= 1
        t.live -= 1
    else:
        dead.first = t.dead
        dead.last = 0
        zone_leave(t, &dead, n)
        t.dead = dead.first
        if t.links[n].droppable:
            order_leave(t, n)
    e.key.version = 0
    e.next = t.free
    t.free = n

cdef inline uint32_t expire_one(table_t *t, uint32_t n) noexcept nogil:
    cdef uint32_t counts = alive(t, &t.entries[n])
    t.expired += counts
    remove(t, n)
    return counts

cdef inline uint32_t turn_slot(table_t *t, uint32_t slot) noexcept nogil:
    # Take all out of a slot: what has expired goes, the rest is put back in.
    cdef uint32_t n = t.wheel[slot], next, gone = 0
    while n:
        next = t.links[n].wheel_next
        if t.entries[n].expires <= t.turned:
            gone += expire_one(t, n)
        else:
            disarm(t, n)
            arm(t, n)
        n = next
    return gone

cdef inline uint32_t turn(table_t *t) noexcept nogil:
    # Remove what has expired; how many.
    cdef uint32_t gone = 0, n
    if t.tick - t.turned > FAR:
        t.turned = t.tick
        for n in range(1, t.used + 1):
            if not t.entries[n].key.version:
                continue
            if t.entries[n].expires <= t.tick:
                gone += expire_one(t, n)
            else:
                disarm(t, n)
                arm(t, n)
        return gone
    while t.turned != t.tick:
        t.turned += 1
        if not t.turned & 0xFF:
            if not t.turned & 0xFFFF:
                if not t.turned & 0xFFFFFF:
                    gone += turn_slot(t, 768 + (t.turned >> 24))
                gone += turn_slot(t, 512 + (t.turned >> 16 & 255))
            gone += turn_slot(t, 256 + (t.turned >> 8 & 255))
        gone += turn_slot(t, t.turned & 255)
    return gone

# Looking up and making.

cdef inline uint32_t checked(table_t *t, uint32_t n) noexcept nogil:
    # The connection found, unless it has expired or its zone was flushed; then it goes.
    cdef entry_t *e = &t.entries[n]
    if alive(t, e) and e.expires > t.tick:
        return n
    expire_one(t, n)
    return 0

cdef inline uint32_t find(table_t *t, const flow_key *key, uint32_t hash) noexcept nogil:
    cdef bucket_t *b = &t.buckets[hash & t.mask]
    cdef uint32_t match = conntrack_match(b.tags, tag_of(hash)), n
    while match:
        n = b.entries[ctz(match) >> 1]
        if n and conntrack_same(&t.entries[n].key, key):
            return checked(t, n)
        match &= match - 1
        match &= match - 1
    n = b.chain
    while n:
        if conntrack_same(&t.entries[n].key, key):
            return checked(t, n)
        n = t.entries[n].next
    return 0

cdef inline bint evict(table_t *t, uint32_t n) noexcept nogil:
    if not n:
        return False
    t.evicted += 1
    remove(t, n)
    return True

cdef inline uint32_t room(table_t *t, uint32_t zone) noexcept nogil:
    # Make sure that one more fits; 0 or the reason why not.
    cdef zone_t *z = &t.zones[zone]
    cdef uint32_t limit = t.zone_limit if z.limit == NO_LIMIT else z.limit
    if limit and z.count >= limit:
        turn(t)
        if z.count >= limit and not evict(t, z.lists[1].first):
            t.limited += 1
            return ZONE_FULL
    if t.live >= t.capacity:
        turn(t)
        # Those of flushed zones are none of the live ones, so nothing in `order` is dead while all are live.
        if t.live >= t.capacity and not evict(t, z.lists[1].first) and not evict(t, t.order.first):
            t.full += 1
            return FULL
    return 0

cdef inline uint32_t take(table_t *t) noexcept nogil:
    # A number for a connection, when there is room.
    cdef uint32_t n
    if not t.free:
        if t.used < t.capacity:
            t.used += 1
            return t.used
        remove(t, t.dead)
    n = t.free
    t.free = t.entries[n].next
    return n

cdef inline uint32_t prepare_entry(table_t *t, const flow_key *key, uint32_t policy) noexcept nogil:
    # A connection with this key and nothing else; `settle` puts it in.
    cdef uint32_t n = take(t)
    cdef entry_t *e = &t.entries[n]
    memset(e, 0, sizeof(entry_t))
    e.key = key[0]
    e.policy = policy
    e.generation = t.zones[key.zone].generation
    if t.windows != NULL:
        memset(&t.windows[n], 0, sizeof(t.windows[n]))
    if t.counts != NULL:
        memset(&t.counts[n], 0, sizeof(t.counts[n]))
    return n

cdef inline void settle(table_t *t, uint32_t n, uint32_t hash) noexcept nogil:
    bucket_join(t, n, hash)
    arm(t, n)
    join(t, n)
    t.zones[t.entries[n].key.zone].count += 1
    t.live += 1

cdef inline uint32_t flush_zone(table_t *t, uint32_t zone) noexcept nogil:
    cdef zone_t *z = &t.zones[zone]
    cdef uint32_t gone = z.count
    cdef int i
    for i in range(2):
        if z.lists[i].first:
            t.links[z.lists[i].last].zone_next = t.dead
            if t.dead:
                t.links[t.dead].zone_before = z.lists[i].last
            t.dead = z.lists[i].first
        z.lists[i].first = z.lists[i].last = 0
    z.generation += 1
    t.live -= gone
    t.droppable -= z.droppable
    z.count = z.droppable = 0
    t.flushed += gone
    return gone

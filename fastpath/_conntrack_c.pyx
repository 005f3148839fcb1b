"""Connection tracking, compiled; `_conntrack_py` is the specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy, memset

import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath._batch_c cimport Batch, batch_t, flow_key
from fastpath._conntrack cimport CT_LOOKUP, RUN, commit_one, conntrack_ask, is_icmp_key, normal, track_run
from fastpath._conntrack_table cimport ANY_ZONE, LAST_TICK, NO_LIMIT, alive, find, flush_zone, hash_of, prepare_entry, settle, turn
from fastpath._conntrack_types cimport (
    TICKS, ZONES, bucket_t, count_t, entry_t, link_t, record_t, table_t, window_t, zone_t,
)
from fastpath._hasher_c cimport Hasher
from fastpath._icmp cimport inverse
from fastpath.connection_records import FORMAT, HEADER, MAGIC, RECORD, described, headed, impossible
from fastpath.connections import LAST_TICK as _LAST_TICK, LONGEST_TICKS, MOST, TICK_BITS as _TICK_BITS, ticks_of
from fastpath.connections import TableInUseError


cdef extern from "sys/mman.h" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void *at, size_t size)
    int madvise(void *at, size_t size, int advice)
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MAP_FAILED
        MADV_HUGEPAGE

cdef enum:
    TICK_BITS = 26
    HUGE = 1 << 21

assert TICK_BITS == _TICK_BITS and LAST_TICK == _LAST_TICK and RECORD.size == sizeof(record_t)
assert sizeof(entry_t) == 64 and sizeof(window_t) == 64 and sizeof(bucket_t) == 64 and sizeof(link_t) == 32

cdef uint32_t LONGEST = LONGEST_TICKS


cdef size_t padded(size_t size) noexcept:
    return (size + 4095) & ~<size_t> 4095


cdef void describe(const table_t *t, uint32_t n, record_t *r) noexcept nogil:
    cdef const entry_t *e = &t.entries[n]
    memset(r, 0, sizeof(record_t))
    r.key = e.key
    r.policy, r.left, r.last_end = e.policy, e.expires - t.tick, e.last_end
    if e.key.protocol == 17:
        r.last_end = e.last_end - t.tick if e.last_end > t.tick else 0
    r.state, r.marks, r.last = e.state, e.marks, e.last
    if t.windows != NULL:
        memcpy(&r.sides[0], &t.windows[n].sides[0], sizeof(r.sides))
        r.last_seq, r.last_ack = t.windows[n].last_seq, t.windows[n].last_ack
        r.last_window, r.last_scale = t.windows[n].last_window, t.windows[n].last_scale
        r.last_bits, r.retransmissions = t.windows[n].last_bits, t.windows[n].retransmissions
    if t.counts != NULL:
        memcpy(&r.packets[0], &t.counts[n].packets[0], sizeof(count_t))


cdef uint32_t describe_all(const table_t *t, char *to) noexcept nogil:
    # Droppable ones first, oldest first; how many. There is room for all live ones, at any address.
    cdef uint32_t n = t.order.first, written = 0
    cdef const entry_t *e
    cdef record_t r
    while n:
        e = &t.entries[n]
        if alive(t, e) and e.expires > t.tick:
            describe(t, n, &r)
            memcpy(to + written * sizeof(record_t), &r, sizeof(record_t))
            written += 1
        n = t.links[n].order_next
    for n in range(1, t.used + 1):
        e = &t.entries[n]
        if e.key.version and not t.links[n].droppable and alive(t, e) and e.expires > t.tick:
            describe(t, n, &r)
            memcpy(to + written * sizeof(record_t), &r, sizeof(record_t))
            written += 1
    return written


cdef bint possible(const record_t *r) noexcept nogil:
    # `fastpath.connection_records.impossible`, the other way round
    cdef flow_key key
    if r.key.version != 4 and r.key.version != 6:
        return False
    normal(&r.key, ANY_ZONE, &key)
    if memcmp(&key, &r.key, sizeof(flow_key)):
        return False
    if is_icmp_key(&r.key) and inverse(r.key.version, (<const uint8_t *> &r.key.source_port)[0]) < 0:
        return False
    if not 1 <= r.left <= LONGEST or r.marks >= 64 or r.last & 7 > 5 or r.last > 13:
        return False
    if not 1 <= r.state <= 9 if r.key.protocol == 6 else r.state != 0:
        return False
    if r.sides[0].scale > 14 or r.sides[1].scale > 14 or r.last_scale > 14:
        return False
    return r.sides[0].bits < 32 and r.sides[1].bits < 32 and r.last_bits < 32


cdef uint32_t restore_all(table_t *t, const uint8_t *records, uint32_t count) noexcept nogil:
    cdef uint32_t i, n, hash, made = 0
    cdef record_t r
    cdef entry_t *e
    for i in range(count):
        memcpy(&r, records + i * sizeof(record_t), sizeof(record_t))
        # Again, of this copy: who holds the bytes may have written into them since.
        if not possible(&r):
            continue
        hash = hash_of(t, &r.key)
        if t.live >= t.capacity:
            break
        if find_any(t, &r.key, hash):
            continue
        n = prepare_entry(t, &r.key, r.policy)
        e = &t.entries[n]
        e.expires, e.last_end = t.tick + r.left, r.last_end
        if e.key.protocol == 17:
            e.last_end += t.tick
        e.state, e.marks, e.last = r.state, r.marks, r.last
        if t.windows != NULL:
            memcpy(&t.windows[n].sides[0], &r.sides[0], sizeof(r.sides))
            t.windows[n].last_seq, t.windows[n].last_ack = r.last_seq, r.last_ack
            t.windows[n].last_window, t.windows[n].last_scale = r.last_window, r.last_scale
            t.windows[n].last_bits, t.windows[n].retransmissions = r.last_bits, r.retransmissions
        if t.counts != NULL:
            memcpy(&t.counts[n].packets[0], &r.packets[0], sizeof(count_t))
        settle(t, n, hash)
        made += 1
    return made


cdef uint32_t find_any(table_t *t, const flow_key *key, uint32_t hash) noexcept nogil:
    return find(t, key, hash)


cdef class Conntrack:
    """See `fastpath._conntrack_py.Conntrack`."""

    cdef table_t t
    cdef size_t mapped
    cdef bint started           # a first `now` came
    cdef uint64_t base          # the first `now`
    cdef int busy

    def __cinit__(self, capacity, *, seed=None, timeouts=None, zone_limit=0, window_check=False, pick_up=True,
                  count=False):
        cdef size_t entries, windows, counts, links, buckets, zones
        cdef uint8_t *at
        cdef uint32_t i
        if not 1 <= capacity <= MOST:
            raise ValueError(f"capacity is 1 to {MOST} connections")
        if seed is not None and not 0 <= seed < 1 << 64:
            raise ValueError("seed is 64 bits")
        for i, ticks in enumerate(ticks_of(timeouts)):
            self.t.ticks[i] = ticks
        self.t.zone_limit = <uint32_t> self.limited(zone_limit)
        self.t.pick_up = bool(pick_up)
        self.t.capacity = capacity
        self.t.h = (<Hasher> Hasher(int.from_bytes(os.urandom(8), "little") if seed is None else seed)).h
        # Room for twice as many in the buckets' eight places.
        buckets = 1
        while buckets * 4 < self.t.capacity:
            buckets *= 2
        self.t.mask = <uint32_t> (buckets - 1)
        entries = padded((<size_t> self.t.capacity + 1) * sizeof(entry_t))
        windows = entries if window_check else 0
        counts = padded((<size_t> self.t.capacity + 1) * sizeof(count_t)) if count else 0
        links = padded((<size_t> self.t.capacity + 1) * sizeof(link_t))
        buckets = padded(buckets * sizeof(bucket_t))
        zones = padded(ZONES * sizeof(zone_t))
        self.mapped = entries + windows + counts + links + buckets + zones
        at = <uint8_t *> mmap(NULL, self.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if at == <uint8_t *> MAP_FAILED:
            self.mapped = 0
            raise MemoryError(f"{entries + windows + counts + links + buckets + zones} bytes for {capacity} connections")
        if self.mapped - zones >= HUGE:
            madvise(at, self.mapped - zones, MADV_HUGEPAGE)
        self.t.buckets = <bucket_t *> at
        at += buckets
        self.t.entries = <entry_t *> at
        at += entries
        if window_check:
            self.t.windows = <window_t *> at
            at += windows
        if count:
            self.t.counts = <count_t *> at
            at += counts
        self.t.links = <link_t *> at
        at += links
        self.t.zones = <zone_t *> at
        for i in range(<uint32_t> ZONES):
            self.t.zones[i].limit = NO_LIMIT

    def __dealloc__(self):
        if self.mapped:
            munmap(self.t.buckets, self.mapped)

    cdef int64_t limited(self, connections) except -1:
        if not 0 <= connections < 0xFFFFFFFF:
            raise ValueError("zone_limit is 0 (none) or a number of connections, 32 bits")
        return connections

    cdef int enter(self) except -1:
        if self.busy:
            raise TableInUseError("another thread works on this table")
        self.busy = 1
        return 0

    cdef int at(self, now) except -1:
        # The latest time, in ticks.
        cdef uint64_t time, tick = 0
        if not 0 <= now < 1 << 64:
            raise ValueError("now is nanoseconds, 64 bits")
        time = now
        if not self.started:
            self.base, self.started = time, True
        if time > self.base:
            tick = (time - self.base) >> TICK_BITS
        if tick > LAST_TICK:
            raise ValueError("now is more than eight years after the first one")
        if tick > self.t.tick:
            self.t.tick = <uint32_t> tick
        return 0

    cdef int64_t zone(self, zone) except -1:
        if zone is None:
            return ANY_ZONE
        if not 0 <= zone < ZONES:
            raise ValueError("zone is 0 to 65535")
        return zone

    def __len__(self):
        return self.t.live

    @property
    def capacity(self):
        return self.t.capacity

    @property
    def stats(self):
        return {
            "connections": self.t.live, "droppable": self.t.droppable, "capacity": self.t.capacity,
            "created": self.t.created, "expired": self.t.expired, "evicted": self.t.evicted, "closed": self.t.closed,
            "flushed": self.t.flushed, "denied": self.t.denied, "invalid": self.t.invalid, "full": self.t.full,
            "limited": self.t.limited,
        }

    def track(self, Batch batch not None, now, *, zone=None, policy=0):
        cdef uint32_t of = <uint32_t> self.zone(zone), version, start = 0, asked = 0
        if not 0 <= policy < 1 << 32:
            raise ValueError("policy is 32 bits")
        version = policy
        self.enter()
        try:
            self.at(now)
            batch.enter()
            try:
                with nogil:
                    conntrack_ask(
                        batch.b.memory, batch.b.offset, batch.b.layers, batch.b.flags, 0, min(RUN, batch.b.count)
                    )
                    while start < batch.b.count:
                        asked += track_run(&self.t, &batch.b, start, min(start + RUN, batch.b.count), of, version)
                        start += RUN
            finally:
                batch.leave()
        finally:
            self.busy = 0
        return asked

    def commit(self, Batch batch not None, now, *, zone=None, policy=0, denied=0):
        cdef uint32_t of = <uint32_t> self.zone(zone), version, verdict, i, made = 0, asked = 0
        if not 0 <= policy < 1 << 32:
            raise ValueError("policy is 32 bits")
        if not 0 <= denied < 1 << 32:
            raise ValueError("denied is a verdict")
        version, verdict = policy, denied
        self.enter()
        try:
            self.at(now)
            batch.enter()
            try:
                with nogil:
                    for i in range(batch.b.count):
                        asked |= batch.b.ct[i]
                    # Of known connections there is nothing to do, mostly for all packets.
                    for i in range(batch.b.count if asked & CT_LOOKUP else 0):
                        made += commit_one(&self.t, &batch.b, i, of, version, verdict)
            finally:
                batch.leave()
        finally:
            self.busy = 0
        return made

    def expire(self, now):
        cdef uint32_t gone
        self.enter()
        try:
            self.at(now)
            with nogil:
                gone = turn(&self.t)
        finally:
            self.busy = 0
        return gone

    def flush(self, zone):
        cdef uint32_t of = <uint32_t> self.zone(int(zone)), gone
        self.enter()
        gone = flush_zone(&self.t, of)
        self.busy = 0
        return gone

    def limit(self, zone, connections):
        cdef uint32_t of = <uint32_t> self.zone(int(zone))
        self.t.zones[of].limit = NO_LIMIT if connections is None else <uint32_t> self.limited(connections)

    def zone_count(self, zone):
        return self.t.zones[<uint32_t> self.zone(int(zone))].count

    def connections(self):
        for fields in RECORD.iter_unpack(memoryview(self.export())[HEADER.size:]):
            yield described(fields)

    def export(self):
        cdef bytes made
        cdef char *at
        cdef uint32_t written
        cdef size_t start = HEADER.size
        self.enter()
        try:
            made = PyBytes_FromStringAndSize(NULL, start + <size_t> self.t.live * sizeof(record_t))
            at = PyBytes_AS_STRING(made)
            with nogil:
                written = describe_all(&self.t, at + start)
            header = HEADER.pack(MAGIC, FORMAT, RECORD.size, written, 0)
            memcpy(at, <const char *> header, start)
        finally:
            self.busy = 0
        return made if written == self.t.live else made[: start + written * sizeof(record_t)]

    def restore(self, data):
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef uint32_t count = headed(view), i, made
        cdef record_t r
        cdef const uint8_t *records = NULL
        if not count:
            return 0
        records = &view[<Py_ssize_t> HEADER.size]
        for i in range(count):
            memcpy(&r, records + i * sizeof(record_t), sizeof(record_t))
            if not possible(&r):
                raise impossible(i)
        self.enter()
        try:
            with nogil:
                made = restore_all(&self.t, records, count)
        finally:
            self.busy = 0
        return made

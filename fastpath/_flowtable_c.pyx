"""The memory of a flow cache and what decides about it, compiled; `_flowtable_py` is the specification."""

import os

from libc.string cimport memcpy, memset

from fastpath._hasher_c cimport Hasher

from fastpath.batch_errors import BatchInUseError
from fastpath.flows import MOST_FLOWS, CachedFlow

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
        MADV_DONTNEED

cdef enum:
    LOAD = 14           # flows a bucket is meant for: of 28, one in some 30,000 finds its own full
    HUGE = 1 << 21

STATES = ("trying", "serving", "resting")


cdef class Governor:
    """See `_flowtable_py.Governor`."""

    cdef governor_t g

    def __cinit__(self):
        governor_begin(&self.g)

    @property
    def state(self):
        return STATES[self.g.state]

    @property
    def costs(self):
        return self.g.cached, self.g.direct

    def direct(self):
        return governor_direct(&self.g) != 0

    def record(self, bint direct, uint32_t packets, uint32_t hits, double cost):
        governor_record(&self.g, direct, packets, hits, cost)


cdef class FlowCache:
    """See `_flowtable_py.FlowCache`."""

    def __cinit__(self, capacity, *, seed=None, always=False):
        cdef size_t tags, entries
        cdef uint8_t *at
        cdef Hasher random
        if not 1 <= capacity <= MOST_FLOWS:
            raise ValueError(f"capacity is 1 to {MOST_FLOWS} flows")
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        random = Hasher(seed)
        self._capacity = capacity
        self.t.buckets = (self._capacity + LOAD - 1) // LOAD
        memcpy(self.t.k, random.h.k, sizeof(self.t.k))
        self.t.odd = random.h.odd
        self.t.random = random.h.odd ^ <uint64_t> random.h.k[17] << 20 | 1
        tags = <size_t> self.t.buckets * sizeof(flow_bucket)
        # One more entry, which no key finds.
        entries = (<size_t> self.t.buckets * FLOW_WAYS + 1) * sizeof(flow_entry)
        at = <uint8_t *> mmap(NULL, tags + entries, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if at == <uint8_t *> MAP_FAILED:
            raise MemoryError(f"{tags + entries} bytes for {capacity} flows")
        self.mapped = tags + entries
        if self.mapped >= HUGE:
            madvise(at, self.mapped, MADV_HUGEPAGE)
        self.t.bucket = <flow_bucket *> at
        self.t.entry = <flow_entry *> (at + tags)
        self.always = always
        self._kept = [None] * FLOW_SETS
        governor_begin(&self.g)

    def __dealloc__(self):
        if self.t.bucket != NULL:
            munmap(self.t.bucket, self.mapped)

    cdef int enter(self) except -1:
        if self.busy:
            raise BatchInUseError("another thread looks up in this cache")
        self.busy = 1
        return 0

    cdef void leave(self) noexcept:
        self.busy = 0

    cdef int view(self, object rules, uint64_t version, flow_view *v) except -1:
        cdef uint32_t i
        cdef known_t *k
        for i in range(FLOW_SETS):
            if self.known[i].rules == <void *> rules:
                break
        else:
            i = self.oldest
            self.oldest = (i + 1) % FLOW_SETS
            self._kept[i] = rules
            self.known[i].rules = <void *> rules
            self.known[i].stamp = 0
        k = &self.known[i]
        if k.stamp == 0 or k.version != version:
            if self.stamps >= FLOW_LAST_STAMP // 2:
                # Every number was given: only with nothing in the cache can they begin anew.
                self._forget()
                for j in range(FLOW_SETS):
                    self.known[j].stamp = 0
                self.stamps = 0
            self.stamps += 1
            k.stamp, k.version = self.stamps, version
        v.salt = (i + 1) * self.t.odd
        # The lowest bit is for the IP version.
        v.stamp = k.stamp << 1
        return 0

    cdef void _forget(self) noexcept:
        # The pages come back as zeros when they are touched.
        if self.mapped < HUGE or madvise(self.t.bucket, self.mapped, MADV_DONTNEED):
            memset(self.t.bucket, 0, self.mapped)
        self.t.used = 0

    def __len__(self):
        return self.t.used

    @property
    def capacity(self):
        return self._capacity

    @property
    def slots(self):
        return self.t.buckets * FLOW_WAYS

    @property
    def memory(self):
        return self.mapped

    @property
    def serving(self):
        return self.always or self.g.state == 1

    def clear(self):
        self.enter()
        self._forget()
        memset(self.known, 0, sizeof(self.known))
        self._kept = [None] * FLOW_SETS
        governor_begin(&self.g)
        self.leave()

    def stats(self):
        return {
            "hits": self.t.hits, "misses": self.t.misses, "direct": self.t.direct, "inserted": self.t.inserted,
            "renewed": self.t.renewed, "evicted": self.t.evicted, "refused": self.t.refused, "flows": self.t.used,
            "state": "serving" if self.always else STATES[self.g.state], "cached_cost": self.g.cached,
            "direct_cost": self.g.direct,
        }

    def flows(self):
        cdef uint32_t i
        cdef flow_entry *e
        found = []
        self.enter()
        try:
            for i in range(self.t.buckets * FLOW_WAYS):
                e = &self.t.entry[i]
                if e.stamp:
                    found.append(_flow(e))
        finally:
            self.leave()
        return found


cdef object _flow(const flow_entry *e):
    cdef int version = 6 if e.stamp & 1 else 4, half = 4 if e.stamp & 1 else 1, i
    cdef uint32_t ports = e.key[2 * half], rest = e.key[2 * half + 1]
    source = destination = 0
    for i in range(half):
        source = source << 32 | e.key[i]
        destination = destination << 32 | e.key[half + i]
    return CachedFlow(
        version, source, destination, rest >> 1 & 0xFF, ports & 0xFFFF, ports >> 16, rest >> 16 & 0x7FFF, rest >> 31,
        e.rule, e.packets >> FLOW_MARK_BITS, e.bytes,
    )

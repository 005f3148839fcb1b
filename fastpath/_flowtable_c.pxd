# The cache that the lookups of every level work on: the structures of flowcache.h.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "flowcache.h" nogil:
    enum:
        FLOW_WAYS
        FLOW_CHUNK
        FLOW_KEYS
        FLOW_SETS
        FLOW_MISSES
        FLOW_MARK_BITS
    const uint32_t FLOW_LAST_STAMP
    ctypedef struct governor_t:
        uint32_t state
        double cached
        double direct
    ctypedef struct flow_bucket:
        uint16_t tag[28]
        uint32_t seen
        uint32_t hand
    ctypedef struct flow_entry:
        uint32_t key[10]
        int32_t rule
        uint32_t stamp
        uint64_t packets
        uint64_t bytes
    ctypedef struct flow_table:
        flow_bucket *bucket
        flow_entry *entry
        uint32_t buckets
        uint32_t used
        uint32_t k[14]
        uint64_t odd
        uint64_t random
        uint64_t hits
        uint64_t misses
        uint64_t inserted
        uint64_t renewed
        uint64_t evicted
        uint64_t refused
        uint64_t direct
    ctypedef struct flow_view:
        uint64_t salt
        uint32_t stamp
    ctypedef struct flow_misses:
        uint32_t count
        uint32_t where[256]
        uint16_t more[256]
        int32_t rule[256]
        uint8_t key[16384]
    void governor_begin(governor_t *g)
    bint governor_direct(const governor_t *g)
    void governor_record(governor_t *g, int direct, uint32_t packets, uint32_t hits, double cost)
    uint64_t governor_ticks()

ctypedef struct known_t:        # a rule set whose answers are here
    void *rules                 # kept alive by `_kept`
    uint64_t version
    uint32_t stamp

cdef class FlowCache:
    cdef flow_table t
    cdef governor_t g
    cdef bint always
    cdef size_t mapped
    cdef uint32_t _capacity
    cdef int busy
    cdef known_t[8] known
    cdef list _kept
    cdef uint32_t oldest        # which of them is replaced next
    cdef uint32_t stamps        # given

    cdef int enter(self) except -1          # BatchInUseError if another thread is in
    cdef void leave(self) noexcept
    # What answers of these rules, as they are now, are marked with; the cache must have been entered.
    cdef int view(self, object rules, uint64_t version, flow_view *v) except -1
    cdef void _forget(self) noexcept

# What the lookups read of a rule set: the published engines, and how a reader says that it reads.

from cpython.array cimport array
from libc.stdint cimport uint32_t, uint64_t

from fastpath._atomic cimport np_load_engine, np_load_epoch, np_store_epoch
from fastpath._classify cimport engine_t

cdef enum:
    READERS = 64

cdef class RuleSet:
    cdef engine_t *engine4              # never NULL; the writer's
    cdef engine_t *engine6
    cdef engine_t *latest               # of both, the one published last; read atomically
    cdef uint64_t epoch                 # advanced by every publication
    # The epoch that a reader began in << 1, or the version that it has fixed << 1 | 1; 0: nobody.
    cdef uint64_t[READERS] reading
    cdef object writing                 # lock: one writer at a time
    cdef void *state                    # the writer's half, see _ruleset_c.pyx
    cdef object compacting              # lock: one builds anew beside the changes
    cdef bint background                # it is built anew by itself
    cdef double rest_until              # but not before
    cdef uint64_t changes

    cdef int enter(self) except -1      # a reader begins: its place
    cdef inline void leave(self, int place) noexcept nogil:
        np_store_epoch(&self.reading[place], 0)

    # Between the two, the version that the reader fixes and what it looks up in. One pointer leads to both: read one by one,
    # they might be of before and after a transaction. What is published just before its version is, is of that version.
    cdef inline uint64_t read(self, engine_t **four, engine_t **six) noexcept nogil:
        cdef uint64_t seen = np_load_epoch(&self.epoch)
        cdef engine_t *e = np_load_engine(&self.latest)
        four[0] = e.mate if e.six else e
        six[0] = e if e.six else e.mate
        return e.version if e.version > seen else seen

    # It looks up in this version. Not needed, but changes of buckets that it needs again and again are then fewer steps away.
    cdef inline void fix(self, int place, uint64_t version) noexcept nogil:
        np_store_epoch(&self.reading[place], version << 1 | 1)

    cdef bint has(self, id)
    cdef array transact(self, bytes added, array removed, bytes replacement, array changed)
    cdef int build(self) except -1
    cdef int exchange(self, RuleSet other) except -1
    cdef void tend(self)
    cdef RuleSet twin(self, bint noting)
    cdef bytes record(self, uint32_t id)

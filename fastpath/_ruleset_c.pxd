# What the lookups read of a rule set: the published engines, and how a reader says that it reads.

from cpython.array cimport array
from libc.stdint cimport uint32_t, uint64_t

from fastpath._classify cimport engine_t

cdef enum:
    READERS = 64

cdef class RuleSet:
    cdef engine_t *engine4              # never NULL; published and read atomically
    cdef engine_t *engine6
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
    cdef void leave(self, int place) noexcept nogil
    cdef uint64_t seen(self) noexcept nogil         # between the two: the version that the reader fixes, first of all
    # The version that it looks up in, if all of its lookups are in one family's engine. Not needed, but changes of
    # buckets that it needs again and again are then fewer steps away.
    cdef void fix(self, int place, uint64_t version) noexcept nogil
    cdef engine_t *read4(self) noexcept nogil
    cdef engine_t *read6(self) noexcept nogil
    cdef bint has(self, id)
    cdef array transact(self, bytes added, array removed, bytes replacement, array changed)
    cdef int build(self) except -1
    cdef int exchange(self, RuleSet other) except -1
    cdef void tend(self)
    cdef RuleSet twin(self, bint noting)
    cdef bytes record(self, uint32_t id)

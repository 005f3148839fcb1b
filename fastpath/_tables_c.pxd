# Hash tables of a classifier and the pool that their leaves lie in: see classify.h.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath._entries cimport family_t
from fastpath._classify cimport table_t

cdef enum:
    CAP4 = 8            # rules in a bucket as it is built
    CAP6 = 4
    CAP4_MORE = 16      # and as rules are added to it
    CAP6_MORE = 8
    MOST_UNITS = 15

# Leaf units, handed out in runs. A run that is given back is used again for one of the same length.
ctypedef struct pool_t:
    uint8_t *leaves
    uint64_t *ranks
    uint32_t *owner     # the entry in each place
    uint32_t *came      # of a run's first unit: see engine_t
    uint32_t *before
    uint32_t per_unit
    uint32_t capacity   # units mapped; memory is used as it is touched
    uint32_t top
    uint64_t since      # the version that it came into use with
    uint32_t *spare[16] # by length: stacks of first units
    uint32_t spares[16]
    uint32_t rooms[16]

# `rules`: how many are to be expected.
cdef int pool_open(pool_t *p, uint32_t per_unit, uint32_t units, uint32_t rules) noexcept nogil
cdef void pool_close(pool_t *p) noexcept nogil
cdef uint32_t pool_take(pool_t *p, uint32_t units) noexcept nogil       # NONE: full
cdef void pool_give(pool_t *p, uint32_t first, uint32_t units) noexcept nogil
cdef size_t pool_bytes(const pool_t *p) noexcept nogil

cdef uint32_t bucket(const family_t *f, const table_t *t, uint32_t entry) noexcept nogil
cdef bint lives_in(const family_t *f, const table_t *t, uint32_t entry) noexcept nogil
# The word of a bucket that has a run: its level is that of its best rule, 255 of none.
cdef uint32_t word_of(const pool_t *p, uint32_t first, uint32_t units) noexcept nogil
# Write `n` entries, sorted by order, to new units; the directory word, EMPTY_WORD for none, 0 when the pool is full.
cdef uint32_t leaf_write(const family_t *f, pool_t *p, const uint32_t *entries, uint32_t n) noexcept nogil
# A run of `n` entries with one more in a place of it or, for NONE, without the one there, written to new units; the word
# (with a run also for a bucket that became empty), 0 when the pool is full.
cdef uint32_t leaf_change(
    const family_t *f, pool_t *p, uint32_t word, uint32_t n, uint32_t slot, uint32_t entry
) noexcept nogil
# Let a bucket's run lead past older ones that none of the readers (as RuleSet.reading) needs: a bucket that changes a
# thousand times while somebody looks up stays few steps from what that one has to see. `now` is being made.
cdef void shorten(pool_t *p, const uint64_t *reader, uint32_t readers, uint64_t now, uint64_t base,
                  uint32_t word) noexcept nogil
# The least level of all versions of a bucket that are looked up in when its word is about to change; `oldest` is the oldest
# of those versions.
cdef uint32_t level_before(const pool_t *p, uint64_t oldest, uint64_t base, uint32_t word) noexcept nogil
# Choose masks for `rest` (n entries, sorted) until at most `enough` are left, or `rows`, when only tables with
# long runs would take more; returns how many are left, -1 without memory.
cdef long tables_build(family_t *f, table_t *tables, uint32_t *used, pool_t *p, uint32_t *rest, uint32_t n,
                       uint32_t enough, uint32_t rows, uint64_t *random) noexcept nogil
# An empty table for rules that are added where there was none.
cdef int table_empty(const family_t *f, table_t *t, uint32_t bits, uint8_t source, uint8_t destination, uint8_t exact,
                     uint64_t *random) noexcept nogil

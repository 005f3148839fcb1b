# Memory that is going to be needed, asked for early. What a transaction touches lies wide apart: most of the time that a
# change takes would be waits, one after the other.

from libc.stdint cimport uint32_t

from fastpath._classify cimport EMPTY_WORD, UNIT
from fastpath._entries cimport entry_t, family_t, low_of
from fastpath._tables_c cimport pool_t

cdef extern from *:
    # `write` has to be a number in the source, hence both cases below.
    void __builtin_prefetch(const void *at, int write) noexcept nogil

cdef inline void fetch_entry(const family_t *f, uint32_t i) noexcept nogil:
    cdef uint32_t at
    for at in range(0, 2 * f.key_words, 16):
        __builtin_prefetch(low_of(f, i) + at, 0)
    __builtin_prefetch(&f.order[i], 0)
    __builtin_prefetch(&f.entry[i], 1)

cdef inline void fetch_unit(const pool_t *p, uint32_t unit, bint write) noexcept nogil:
    if write:
        __builtin_prefetch(p.leaves + <size_t> unit * UNIT, 1)
        __builtin_prefetch(p.leaves + <size_t> unit * UNIT + 64, 1)
        __builtin_prefetch(&p.ranks[<size_t> unit * p.per_unit], 1)
        __builtin_prefetch(&p.owner[<size_t> unit * p.per_unit], 1)
        __builtin_prefetch(&p.came[unit], 1)
        __builtin_prefetch(&p.before[unit], 1)
    else:
        __builtin_prefetch(p.leaves + <size_t> unit * UNIT, 0)
        __builtin_prefetch(p.leaves + <size_t> unit * UNIT + 64, 0)
        __builtin_prefetch(&p.ranks[<size_t> unit * p.per_unit], 0)
        __builtin_prefetch(&p.owner[<size_t> unit * p.per_unit], 0)
        __builtin_prefetch(&p.came[unit], 0)
        __builtin_prefetch(&p.before[unit], 0)

cdef inline void fetch_run(const pool_t *p, uint32_t word) noexcept nogil:
    if word != EMPTY_WORD:
        fetch_unit(p, word & 0xFFFFF, 0)
        if (word >> 20 & 0xF) > 1:
            fetch_unit(p, (word & 0xFFFFF) + 1, 0)

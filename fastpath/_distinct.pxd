# Distinct rows of bits, numbered as they come: equal ones are one class of values.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

# Found again by their hash.
ctypedef struct rows_t:
    uint32_t words
    uint32_t n
    uint32_t capacity
    uint64_t *row
    uint32_t *slot          # open addressing; row + 1, 0 empty
    uint32_t slots


cdef inline int rows_init(rows_t *r, uint32_t words, uint32_t expected) noexcept nogil:
    memset(r, 0, sizeof(rows_t))
    r.words = words
    r.capacity = expected + 16
    r.slots = 64
    while r.slots < 2 * r.capacity:
        r.slots *= 2
    r.row = <uint64_t *> malloc(<size_t> r.capacity * words * 8)
    r.slot = <uint32_t *> calloc(r.slots, 4)
    return 0 if r.row != NULL and r.slot != NULL else -1


cdef inline uint32_t rows_class(rows_t *r, const uint64_t *row) noexcept nogil:
    # The number of this row, new or known; NONE-like UINT32_MAX without memory.
    cdef uint64_t h = 0
    cdef uint32_t i, at, known
    for i in range(r.words):
        h = (h ^ row[i]) * <uint64_t> 0x9E3779B97F4A7C15
        h ^= h >> 29
    at = <uint32_t> (h >> 20) & (r.slots - 1)
    while r.slot[at]:
        known = r.slot[at] - 1
        if memcmp(r.row + <size_t> known * r.words, row, r.words * 8) == 0:
            return known
        at = (at + 1) & (r.slots - 1)
    if r.n == r.capacity:
        # The slots were made for this many; what is expected is an upper bound.
        return 0xFFFFFFFF
    memcpy(r.row + <size_t> r.n * r.words, row, r.words * 8)
    r.n += 1
    r.slot[at] = r.n
    return r.n - 1


cdef inline void rows_forget(rows_t *r) noexcept nogil:
    free(r.slot)
    free(r.row)
    r.slot = NULL
    r.row = NULL

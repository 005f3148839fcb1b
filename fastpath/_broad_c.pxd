# The broad rules of a version: how they leave the bit rows and return to them.

from libc.stdint cimport uint32_t, uint64_t

from fastpath._classify cimport block_t, broad_t, engine_t
from fastpath._engine_c cimport draft_t, store_t
from fastpath._entries cimport family_t

# Make sure that a draft has a version of its own. -1: no memory.
cdef int draft_copy(draft_t *d) noexcept nogil
# Remove one of the broad rules. -1: no memory.
cdef int take_bit(store_t *s, family_t *f, draft_t *d, uint32_t i) noexcept nogil
# Let a rule take the place among the broad ones that its like has left. False: there is none, or no memory.
cdef bint give_bit(store_t *s, family_t *f, draft_t *d, uint32_t i) noexcept nogil
# The bit rows of `chosen` with their ranks and `alive` bits, in the version `epoch`. -1: no memory, `e` is as it was.
cdef int rows_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e, uint64_t epoch) noexcept nogil
# Blocks of bit rows of `chosen`, which fit nowhere else. -1: no memory, `e` is as it was.
cdef int tail_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e) noexcept nogil
# Remove one of those. -1: no memory.
cdef int take_tail(family_t *f, draft_t *d, uint32_t i) noexcept nogil
# Free what a draft does not share of them with what is published; retire what its version no longer has.
cdef void tail_drop(draft_t *d) noexcept nogil
cdef void tail_retire(store_t *s, int k, draft_t *d) noexcept nogil
cdef void tail_free(block_t *tail, uint32_t blocks) noexcept nogil
# What the blocks take, but for what one of them takes in any case.
cdef size_t tail_bytes(const engine_t *e) noexcept nogil
# How many ranks a version keeps for its rows.
cdef size_t ranks_of(const broad_t *rows) noexcept nogil

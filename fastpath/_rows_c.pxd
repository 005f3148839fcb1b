# Broad rules as bit rows: see classify.h.

from libc.stdint cimport uint32_t

from fastpath._entries cimport family_t
from fastpath._classify cimport broad_t

# Build from `n` entries, sorted by order; sets each one's bit. NULL: no memory.
cdef broad_t *rows_build(family_t *f, const uint32_t *chosen, uint32_t n) noexcept nogil
cdef void rows_free(broad_t *b) noexcept nogil
cdef size_t rows_bytes(const broad_t *b) noexcept nogil
# Whether the rows of `n` entries surely take at most so many bytes.
cdef bint rows_fit(const family_t *f, const uint32_t *chosen, uint32_t n, size_t most) noexcept nogil

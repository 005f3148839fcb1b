# The store of a rule set's entries.

from libc.stdint cimport uint32_t

from fastpath._classify cimport wide_rule
from fastpath._entries cimport family_t, packed_t

cdef enum:
    # Which entries: all, those that live in the rows or wait for them; or those of one place.
    ALL = -1
    ROWS = -2

# Make sure that `n` more entries can be made. -1: no memory.
cdef int entries_reserve(family_t *f, size_t n) noexcept nogil
# An entry for one direction (0, 1, or 2: the zone does not count or the direction is in its range). There must be room.
cdef uint32_t entry_make(
    family_t *f, const packed_t *r, uint32_t rule, uint32_t number, int direction
) noexcept nogil
cdef void entry_free(family_t *f, uint32_t i) noexcept nogil
cdef int entries_copy(family_t *f, const family_t *of) noexcept nogil
cdef void entries_close(family_t *f) noexcept nogil
cdef void wide(const family_t *f, uint32_t i, wide_rule *w) noexcept nogil
# The live entries that are asked for, by order; how many. NONE: no memory.
cdef uint32_t sort_entries(family_t *f, uint32_t *chosen, int which) noexcept nogil
# Each level is an equal share of the rules there are.
cdef void set_levels(family_t *f, const uint32_t *chosen, uint32_t n) noexcept nogil
# The record that an entry and its sibling were made of; versions are added by each family.
cdef void entry_record(const family_t *f, uint32_t e, packed_t *r) noexcept nogil

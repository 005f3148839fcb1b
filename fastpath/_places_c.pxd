# Places of the bit rows that rules have left, so that their like can take them again.

from libc.stdint cimport uint32_t, uint64_t

from fastpath._entries cimport family_t, places_t

# All rows are new in the version `epoch`: no rule has left them yet.
cdef void places_forget(places_t *p, uint64_t epoch) noexcept nogil
# An entry leaves its place, one of `count`, in the version `epoch`. Without memory nobody will find the place.
cdef void places_leave(family_t *f, uint32_t count, uint32_t entry, uint64_t epoch) noexcept nogil
# A place that a rule has left which matched the same, if the entry's rank fits between those of its neighbours; it is
# what the answer points to, for `places_take`. NULL: there is none.
cdef uint32_t *places_find(family_t *f, const uint64_t *alive, const uint64_t *rank, uint32_t words,
                           uint32_t entry) noexcept nogil
cdef void places_take(places_t *p, uint32_t *link) noexcept nogil
# Versions are counted in another way from `epoch` on, and nobody looks up in earlier ones.
cdef void places_settle(places_t *p, uint64_t epoch) noexcept nogil
cdef size_t places_bytes(const family_t *f) noexcept nogil

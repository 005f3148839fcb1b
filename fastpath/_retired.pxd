# What a rule set no longer has, and readers may still look at: a ring, the oldest first.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastpath._engine_c cimport retired_t, store_t


cdef inline int retired_room(store_t *s, size_t n) noexcept nogil:
    # Make sure that `n` things can be retired. -1: no memory.
    cdef retired_t *more
    cdef size_t i, room = s.retired_room if s.retired_room else 64
    if s.retirees - s.first_retired + n <= s.retired_room:
        return 0
    while s.retirees - s.first_retired + n > room:
        room *= 2
    more = <retired_t *> malloc(room * sizeof(retired_t))
    if more == NULL:
        return -1
    for i in range(s.first_retired, s.retirees):
        more[i & (room - 1)] = s.retired[i & (s.retired_room - 1)]
    free(s.retired)
    s.retired, s.retired_room = more, room
    return 0


cdef inline void retire(store_t *s, int what, int k, void *at, uint32_t first, uint32_t units,
                        uint64_t epoch) noexcept nogil:
    # Something that the version `epoch` no longer has; there is room for it.
    cdef retired_t *r = &s.retired[s.retirees & (s.retired_room - 1)]
    s.retirees += 1
    r.epoch, r.what, r.six, r.at, r.first, r.units, r.pool = epoch, <short> what, <short> k, at, first, units, s.pools[k]

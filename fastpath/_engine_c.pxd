# Versions of what a rule set looks up in: how one becomes the next.

from libc.stdint cimport uint32_t, uint64_t

from fastpath._classify cimport engine_t
from fastpath._entries cimport family_t
from fastpath._tables_c cimport pool_t

cdef enum:
    # What has to be done once nobody reads the old version any more.
    FREE_MEMORY = 0
    FREE_ROWS = 1
    FREE_POOL = 2
    GIVE_RUN4 = 4
    GIVE_RUN6 = 6

ctypedef struct retired_t:
    uint64_t epoch
    void *at
    uint32_t first
    uint32_t units
    uint32_t pool           # which one a run belongs to
    int what

# The writer's half of a rule set, without the rules' ids.
ctypedef struct store_t:
    family_t four
    family_t six
    pool_t pool4
    pool_t pool6
    uint32_t pools          # how many there have been
    uint32_t *ids           # by number; NULL while a rule's number is its id
    uint64_t random
    retired_t *retired
    size_t retirees
    size_t retired_room
    uint64_t next_epoch     # of the version that is being made

# A version of one family being made.
ctypedef struct draft_t:
    engine_t *now           # what is published
    engine_t *next          # NULL: nothing but single words has changed
    bint single             # one entry at most: its word is written in place
    uint32_t copied         # tables whose directory is already a copy
    bint alive_copied
    bint rows               # the bit rows must be built anew
    bint full               # everything must be

cdef void retire(store_t *s, int what, void *at, uint32_t first, uint32_t units) noexcept nogil
# Free what nobody reads any more; `oldest` is the epoch of the oldest reader, or the present one.
cdef void reclaim(store_t *s, uint64_t oldest) noexcept nogil
# Remove an entry from wherever it lives; let one live somewhere. -1: no memory.
cdef int take_out(store_t *s, family_t *f, pool_t *p, draft_t *d, uint32_t i) noexcept nogil
cdef int put_in(store_t *s, family_t *f, pool_t *p, draft_t *d, uint32_t i) noexcept nogil
# What the changes made necessary, and what both versions share. -1: no memory.
cdef int finish(store_t *s, draft_t *d) noexcept nogil
cdef void engine_free(engine_t *e) noexcept nogil

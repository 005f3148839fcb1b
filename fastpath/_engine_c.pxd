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
    GIVE_RUN = 3
    SETTLE = 4              # a word's level says what its run is, no longer what the bucket was before; without rules, it goes

ctypedef struct retired_t:
    uint64_t epoch          # the first version without it
    void *at                # SETTLE: the bucket's word
    uint32_t first
    uint32_t units
    uint32_t pool           # which one of its family a run belongs to
    short what
    short six

# The writer's half of a rule set, without the rules' ids.
ctypedef struct store_t:
    family_t[2] family      # IPv4, IPv6; so are all pairs here
    pool_t[2] pool
    uint32_t[2] pools       # how many there have been
    uint32_t *ids           # by number; NULL while a rule's number is its id
    uint32_t[2] tails       # blocks of rules that fit nowhere else, in what is published
    uint64_t random
    retired_t *retired      # a ring of 2^n, by epoch
    size_t first_retired    # number of the first, of the next; they only grow
    size_t retirees
    size_t retired_room
    uint64_t next_epoch     # of the version that is being made
    uint64_t pending        # the same, for readers: stored before anything of it is
    uint64_t[64] reader     # who looked up when this version was begun: as RuleSet.reading, without gaps
    uint32_t readers
    uint64_t oldest         # no older version is looked up in from then on
    size_t returned         # rules that took the places or the room of such as left, in the version that is being made

# A version of one family being made.
ctypedef struct draft_t:
    engine_t *now           # what is published
    engine_t *next          # NULL: nothing but words has changed
    pool_t *old             # of `now`, if `next` has a new one
    bint rows               # the bit rows must be built anew
    bint extras             # those that ask for flags or DSCP
    bint full               # everything must be

# Who looks up now (places as RuleSet.reading); whoever comes later reads what is published now, or later.
cdef void note_readers(store_t *s, uint64_t *reading) noexcept nogil
# Remove an entry from wherever it lives; let one live somewhere. Without memory, everything is to be built anew.
cdef void take_out(store_t *s, int k, draft_t *d, uint32_t i) noexcept nogil
cdef void put_in(store_t *s, int k, draft_t *d, uint32_t i) noexcept nogil
# The word of the bucket that an entry lives in, or is likely to be put in; NULL: none. To be fetched before those are called.
cdef const uint32_t *word_for(const store_t *s, int k, const draft_t *d, uint32_t i) noexcept nogil
# What the changes made necessary. -1: no memory; the drafts must then be dropped.
cdef int finish(store_t *s, draft_t *d) noexcept nogil
# Room for what `succeed` retires. -1: no memory.
cdef int make_room(store_t *s) noexcept nogil
# Forget what was made for two drafts, and what was retired since there were `retirees`.
cdef void drop(store_t *s, draft_t *d, size_t retirees) noexcept nogil
# Retire what the published drafts replace.
cdef void succeed(store_t *s, draft_t *d) noexcept nogil
# Free what nobody reads any more; `oldest` is the version of the oldest reader, or the present one.
cdef void reclaim(store_t *s, uint64_t oldest) noexcept nogil
cdef void engine_free(engine_t *e) noexcept nogil

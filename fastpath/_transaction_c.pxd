# A rule set's rules by id, and what one transaction does to them.

from libc.stdint cimport uint32_t, uint64_t

from fastpath._classify cimport engine_t
from fastpath._engine_c cimport draft_t, store_t
from fastpath._entries cimport packed_t

cdef enum:
    RECORD = 56             # bytes of a packed rule
    MOST_RULES = 1 << 20
    MOST_ENTRIES = 1 << 20  # of an IP version: what a directory word can name
    NO_MEMORY = -1
    TOO_MANY = -2

ctypedef struct rule_t:
    uint32_t number         # in order of insertion; of a free one the next free one
    uint32_t first[2]       # its IPv4 and IPv6 entries, NONE
    uint32_t live

# What a transaction takes out, until it is certain.
ctypedef struct taken_t:
    packed_t record
    uint32_t number

ctypedef struct state_t:
    store_t store
    rule_t *rule
    uint32_t rules          # ever used
    uint32_t room
    uint32_t free_rule
    uint32_t live
    uint32_t next_number
    uint32_t ids_room
    uint64_t since_build    # changes, but for rules that took their places again
    bint broken             # an update ended without memory: the next one builds everything

# One transaction.
ctypedef struct change_t:
    const uint32_t *removed
    size_t removals
    const uint32_t *replaced
    const packed_t *replacements
    size_t replacing
    const packed_t *added
    size_t additions
    uint32_t *ids

# Make room for everything that a transaction may need: NO_MEMORY or TOO_MANY, and then nothing has changed.
cdef int reserve(state_t *s, const engine_t *published, const change_t *c, bint full) noexcept nogil
cdef void apply(state_t *s, draft_t *d, const change_t *c, taken_t *taken) noexcept nogil
cdef void revert(state_t *s, const change_t *c, const taken_t *taken, uint32_t rules) noexcept nogil
cdef void record_of(const state_t *s, uint32_t id, packed_t *r) noexcept nogil
cdef int copy_rules(const state_t *s, state_t *o) noexcept nogil
cdef bytes packed_rules(rules)
cdef object ids_of(ids)

# A rule set's rules by id, and what one transaction does to them.

from cpython.array cimport array
from libc.stdint cimport uint16_t, uint32_t, uint64_t

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
    uint16_t live
    uint16_t noted          # in `state_t.noted`

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
    uint32_t *noted         # ids of rules that were changed since `note_changes`, each once; NULL: nobody asks
    uint32_t notes
    bint renumbered         # since then

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

# What another set has under an id.
ctypedef struct news_t:
    packed_t record
    uint32_t id
    uint32_t number         # as that of rule_t
    uint32_t live

# What changed in another set, and its rule numbers after it.
ctypedef struct report_t:
    news_t *news
    uint32_t n
    uint32_t rules
    uint32_t free_rule
    uint32_t next_number

# Make room for everything that a transaction may need: NO_MEMORY or TOO_MANY, and then nothing has changed.
cdef int reserve(state_t *s, const engine_t *published, const change_t *c, bint full) noexcept nogil
# Returns how many changes it was: a rule that is replaced by one in the same place counts for both, as it does when it
# returns.
cdef size_t apply(state_t *s, draft_t *d, const change_t *c, taken_t *taken) noexcept nogil
cdef void revert(state_t *s, const change_t *c, const taken_t *taken, uint32_t rules) noexcept nogil
# Whether changes made the set slower, or numbers are running out.
cdef bint build_pays(const state_t *s) noexcept nogil
cdef void record_of(const state_t *s, uint32_t id, packed_t *r) noexcept nogil
cdef int copy_rules(const state_t *s, state_t *o) noexcept nogil
# From now on, note which rules change. -1: no memory.
cdef int note_changes(state_t *s) noexcept nogil
cdef void forget_changes(state_t *s) noexcept nogil
# What has become of those that changed, and begin with new notes. -1: no memory, nothing has changed.
cdef int report(state_t *s, report_t *r) noexcept nogil
# Make room for what another set reports. It has given out the numbers from `since` on meanwhile, which are less by `less`
# here; the news have them like this then. NO_MEMORY: nothing has changed.
cdef int reserve_news(
    state_t *s, const engine_t *published, report_t *r, uint32_t since, uint32_t less
) noexcept nogil
# Let the rules of this set that are in the news go; let those come that the other one has.
cdef void news_out(state_t *s, draft_t *d, const news_t *news, size_t n) noexcept nogil
cdef void news_in(state_t *s, draft_t *d, const news_t *news, size_t n) noexcept nogil
cdef bytes packed_rules(rules)
cdef array NO_IDS           # whom nobody changes
cdef array ids_of(ids)

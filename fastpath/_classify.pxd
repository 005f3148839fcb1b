# What a rule set publishes and lookups read: the structures of classify.h.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "classify.h" nogil:
    enum:
        CHUNK
        TABLES
        BROAD
        DELTA
        UNIT
        WORDS4
        WORDS6
    const uint32_t EMPTY_WORD
    const uint64_t NO_RANK
    ctypedef struct table_t:
        uint32_t *directory
        uint32_t shift
        uint32_t mask[10]
        uint32_t factor[10]
        uint32_t rules
        uint8_t source
        uint8_t destination
        uint8_t exact
    ctypedef struct steps6:
        uint32_t n
        uint64_t *hi
        uint32_t *cls
        uint32_t *sub
        uint64_t *lo
        uint32_t *lo_cls
    ctypedef struct broad_t:
        uint32_t words
        uint32_t rules
        uint16_t *source
        uint16_t *destination
        steps6 source6
        steps6 destination6
        uint16_t *sport
        uint16_t *dport
        uint16_t *zone
        uint16_t protocol[512]
        uint32_t sports
        uint32_t dports
        uint32_t *small
        uint64_t *source_rows
        uint64_t *destination_rows
        uint64_t *small_rows
        uint64_t *sport_rows
        uint64_t *dport_rows
        uint64_t *zone_rows
        uint64_t *ones
        uint64_t *rank
    ctypedef union key6:
        uint32_t w[16]
        uint16_t lane[32]
    ctypedef struct wide_rule:
        key6 low
        key6 width
        uint64_t rank
    ctypedef struct engine_t:
        uint32_t tables
        uint32_t deltas
        uint32_t tails
        uint32_t extras
        table_t table[16]
        broad_t *broad
        uint64_t *alive
        wide_rule delta[16]
        uint32_t delta_entry[16]
        wide_rule *tail
        wide_rule *extra
        uint32_t *extra_more
        uint8_t *leaves
        uint64_t *ranks
        uint64_t *past
        const uint64_t *pending
        uint64_t base
        uint64_t version
        uint32_t *ids
    ctypedef struct chunk_t:
        uint32_t count
        uint64_t version
        const uint8_t *key
        uint32_t word[10][256]
        uint64_t best[256]

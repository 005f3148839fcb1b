# What a rule set publishes and lookups read: the structures of classify.h; and what lookups take from a batch's packets.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath._batch_c cimport batch_t, flow_key
from fastpath._icmp cimport inverse

cdef extern from "classify.h" nogil:
    enum:
        CHUNK
        TABLES
        BROAD
        TAIL_BLOCK
        DELTA
        UNIT
        WORDS4
        WORDS6
        HEIGHTS4
        HEIGHTS6
        BLOCK4
        FORK6
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
        uint8_t cap
    ctypedef struct steps4:
        uint32_t heights
        uint32_t shift
        uint16_t *first
        int32_t *step[5]
        uint16_t *cls
    ctypedef struct steps6:
        uint32_t heights
        int64_t *node[6]
        uint32_t *cls
        uint32_t *sub
        uint64_t *lo
        uint32_t *lo_cls
    ctypedef struct broad_t:
        uint32_t words
        uint32_t rules
        steps4 source
        steps4 destination
        steps6 source6
        steps6 destination6
        uint8_t *sport
        uint8_t *dport
        uint16_t *sport_wide
        uint16_t *dport_wide
        uint16_t *zone
        uint16_t protocol[512]
        uint32_t sports
        uint32_t dports
        uint16_t *small
        uint64_t *source_rows
        uint64_t *destination_rows
        uint64_t *small_rows
        uint64_t *sport_rows
        uint64_t *dport_rows
        uint64_t *zone_rows
        uint64_t *ones
        uint32_t pieces
        void *piece[48]
        uint64_t bytes
    ctypedef union key6:
        uint32_t w[16]
        uint16_t lane[32]
    ctypedef struct wide_rule:
        key6 low
        key6 width
        uint64_t rank
    ctypedef struct block_t:
        broad_t *broad
        uint64_t *alive
        uint64_t *rank
        uint32_t removed
    ctypedef struct engine_t:
        uint32_t tables
        uint32_t deltas
        uint32_t tails
        uint32_t extras
        uint32_t removed
        table_t table[16]
        broad_t *broad
        uint64_t *alive
        uint64_t *rank
        wide_rule delta[16]
        uint32_t delta_entry[16]
        block_t *tail
        wide_rule *extra
        uint32_t *extra_more
        uint8_t *leaves
        uint64_t *ranks
        uint32_t *came
        uint32_t *before
        const uint64_t *pending
        uint64_t base
        uint64_t version
        uint32_t *ids
        int six
        engine_t *mate
    ctypedef struct chunk_t:
        uint32_t count
        uint64_t version
        const uint8_t *key
        uint32_t word[10][256]
        uint64_t best[256]

cdef enum:
    FROM_KEY = -1           # the zone is that of each packet's key
    TCP = 6
    # `fastpath.connections.Ct`
    CT_NEW = 1
    CT_ESTABLISHED = 2
    CT_KIND = 7
    CT_REPLY = 8

cdef inline uint32_t zone_bits(int direction, int zone) noexcept nogil:
    # What `rest_of` ORs: the direction, and the zone if it is one for all.
    return <uint32_t> direction << 31 | (0 if zone == FROM_KEY else <uint32_t> zone << 16)

cdef inline uint32_t zone_mask(int zone) noexcept nogil:
    # What `rest_of` ANDs the key's zone with.
    return 0x7FFF0000 if zone == FROM_KEY else 0

cdef inline uint32_t rest_of(const flow_key *k, bint later, uint32_t bits, uint32_t mask) noexcept nogil:
    # The last word of a classifier's key.
    return <uint32_t> k.protocol << 1 | later | bits | (<uint32_t> k.zone << 16 & mask)

cdef inline uint16_t more_of(const batch_t *b, uint32_t i, bint later) noexcept nogil:
    # DSCP << 8 | TCP flags, from the packet itself.
    cdef const uint8_t *at = b.memory + b.offset[i]
    cdef uint32_t l3 = b.layers[i] & 0xFFFF, l4 = b.layers[i] >> 16, length = b.length[i]
    cdef uint16_t more = 0
    if l3 + 2 <= length:
        if b.key[i].version == 4:
            more = <uint16_t> (at[l3 + 1] >> 2) << 8
        else:
            more = <uint16_t> ((at[l3] & 0x0F) << 2 | at[l3 + 1] >> 6) << 8
    if b.key[i].protocol == TCP and l4 and l4 + 14 <= length and not later:
        more |= at[l4 + 13]
    return more

cdef inline bint answers_somebody(uint32_t ct) noexcept nogil:
    # Whether the rules are to be asked about the packet's reverse.
    return ct & CT_REPLY != 0 and (ct & CT_KIND == CT_NEW or ct & CT_KIND == CT_ESTABLISHED)

cdef inline void turn_key(uint32_t *w, int version) noexcept nogil:
    # A classifier's key becomes that of the reverse: the other way, in the other direction.
    cdef uint32_t half = 1 if version == 4 else 4, i, word
    cdef int kind
    for i in range(half):
        word = w[i]
        w[i] = w[half + i]
        w[half + i] = word
    word = w[2 * half]
    w[2 * half + 1] ^= <uint32_t> 1 << 31
    if w[2 * half + 1] >> 1 & 0xFF == <uint32_t> (1 if version == 4 else 58):
        kind = inverse(version, word >> 8 & 0xFF)
        w[2 * half] = word & ~<uint32_t> 0xFF00 | <uint32_t> kind << 8 if kind >= 0 else word
    else:
        w[2 * half] = word << 16 | word >> 16

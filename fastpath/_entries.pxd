# The rules of one IP version as a rule set keeps them: the source that everything that is looked up is built from.
#
# An entry is a rule, or one of two parts of one (a zone without a direction is two ranges of 16-bit values).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    EXACT_SPORT = 1
    EXACT_DPORT = 2
    EXACT_PROTOCOL = 4
    EXACT_ZONE = 8
    # Where an entry lives: 0 to TABLES - 1 a table, or:
    IN_BROAD = 250
    IN_DELTA = 251
    IN_TAIL = 252
    IN_EXTRA = 253
    NOWHERE = 254
    FREE = 255
    NONE = 0xFFFFFFFF

ctypedef struct entry_t:
    uint32_t rule           # id
    uint32_t sibling        # another entry of the rule, NONE; of a free entry the next free one
    uint32_t at             # bit of a broad rule, else meaningless
    uint32_t more           # TCP flags and DSCP that it asks for: value | mask << 16; 0 none
    uint8_t source          # prefix lengths
    uint8_t destination
    uint8_t exact
    uint8_t place

# Places of the bit rows that rules have left: see _places_c.
ctypedef struct places_t:
    void *memory            # that everything here lies in; NULL: no rule has left yet
    uint64_t *left          # by place: the first version without its rule
    uint32_t *sides         # by place: what that matched, as in family_t
    uint32_t *next          # by place: another one of its hash, NONE
    uint32_t *first         # by hash: a place, NONE
    uint32_t mask
    uint32_t places
    uint64_t since          # the first version whose ranks lie where they lie now

ctypedef struct family_t:
    int version
    uint32_t words          # 4 or 10 that are hashed
    uint32_t key_words      # 4 or 16 in a side
    uint32_t per_unit       # 4 or 1
    uint32_t count          # entries ever used
    uint32_t live
    uint32_t capacity
    uint32_t free
    uint32_t rows_built     # broad rules after the last full build
    bint rows_again         # the rows have been built anew since then
    uint32_t *sides         # low, then width, 2 * key_words an entry
    uint64_t *order         # rank without its level
    entry_t *entry
    uint64_t bound[255]     # where each level begins
    uint32_t left[16]       # by table: rules that have left it since it was built, less those that came instead
    places_t places

ctypedef struct packed_t:
    uint8_t address[2][16]
    uint32_t priority
    uint16_t port[2][2]
    uint16_t zone
    uint8_t length[2]
    uint8_t versions
    uint8_t direction
    uint8_t protocol
    uint8_t protocol_counts
    uint8_t flags_value
    uint8_t flags_mask
    uint8_t dscp
    uint8_t dscp_counts

cdef inline uint32_t *low_of(const family_t *f, uint32_t i) noexcept nogil:
    return f.sides + <size_t> i * 2 * f.key_words

cdef inline uint32_t *width_of(const family_t *f, uint32_t i) noexcept nogil:
    return f.sides + <size_t> i * 2 * f.key_words + f.key_words

cdef inline uint64_t rank_of(const family_t *f, uint64_t order) noexcept nogil:
    # The rank of an entry: its level on top.
    cdef uint32_t low = 0, high = 255, middle
    while high - low > 1:
        middle = (low + high) >> 1
        if f.bound[middle] <= order:
            low = middle
        else:
            high = middle
    return <uint64_t> low << 56 | order

"""The rules of a rule set as entries: ranges that are compared, and the order in which they win."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from fastpath._classify cimport wide_rule
from fastpath._entries cimport (
    EXACT_DPORT, EXACT_PROTOCOL, EXACT_SPORT, EXACT_ZONE, FREE, IN_BROAD, IN_DELTA, NONE, NOWHERE, entry_t, family_t,
    low_of, packed_t, rank_of, width_of,
)


cdef int entries_reserve(family_t *f, size_t n) noexcept nogil:
    cdef size_t spare = f.capacity - f.live, more
    cdef void *at
    if n <= spare:
        return 0
    # A set that grows one by one is copied now and then; one that is loaded at once takes no more than it needs.
    more = <size_t> f.capacity + (n - spare)
    if more < f.capacity + f.capacity // 4 + 16:
        more = f.capacity + f.capacity // 4 + 16
    at = realloc(f.sides, more * 2 * f.key_words * 4)
    if at == NULL:
        return -1
    f.sides = <uint32_t *> at
    at = realloc(f.order, more * 8)
    if at == NULL:
        return -1
    f.order = <uint64_t *> at
    at = realloc(f.entry, more * sizeof(entry_t))
    if at == NULL:
        return -1
    f.entry = <entry_t *> at
    f.capacity = <uint32_t> more
    return 0


cdef int entries_copy(family_t *f, const family_t *of) noexcept nogil:
    # Into an empty family of the same version. -1: no memory.
    if entries_reserve(f, of.count):
        return -1
    if of.count:  # a family without rules may have no memory, and memcpy takes no NULL
        memcpy(f.sides, of.sides, <size_t> of.count * 2 * of.key_words * 4)
        memcpy(f.order, of.order, <size_t> of.count * 8)
        memcpy(f.entry, of.entry, <size_t> of.count * sizeof(entry_t))
    f.count, f.live, f.free = of.count, of.live, of.free
    return 0


cdef uint32_t entry_take(family_t *f) noexcept nogil:
    cdef uint32_t i = f.free
    if i != NONE:
        f.free = f.entry[i].sibling
    else:
        i = f.count
        f.count += 1
    f.live += 1
    memset(low_of(f, i), 0, 2 * <size_t> f.key_words * 4)
    return i


cdef void entry_free(family_t *f, uint32_t i) noexcept nogil:
    f.entry[i].place = FREE
    f.entry[i].sibling = f.free
    f.free = i
    f.live -= 1


cdef void put_prefix(uint32_t *low, uint32_t *width, const uint8_t *address, int words, int length) noexcept nogil:
    cdef int i, left
    cdef uint32_t word, mask
    for i in range(words):
        word = <uint32_t> address[4 * i] << 24 | <uint32_t> address[4 * i + 1] << 16 \
            | <uint32_t> address[4 * i + 2] << 8 | address[4 * i + 3]
        left = length - 32 * i
        if left <= 0:
            mask = 0
        elif left >= 32:
            mask = <uint32_t> 0xFFFFFFFF
        else:
            mask = <uint32_t> 0xFFFFFFFF << (32 - left)
        low[i] = word & mask
        width[i] = ~mask


cdef uint32_t entry_make(family_t *f, const packed_t *r, uint32_t rule, uint32_t number, int direction) noexcept nogil:
    cdef uint32_t i = entry_take(f)
    cdef uint32_t *low
    cdef uint32_t *width
    cdef uint32_t first, last, zone, zones
    cdef int words = (<int> f.words - 2) // 2
    cdef entry_t *e
    low = low_of(f, i)
    width = width_of(f, i)
    put_prefix(low, width, r.address[0], words, r.length[0])
    put_prefix(low + words, width + words, r.address[1], words, r.length[1])
    low[2 * words] = r.port[0][0] | <uint32_t> r.port[1][0] << 16
    width[2 * words] = <uint32_t> (r.port[0][1] - r.port[0][0]) | <uint32_t> (r.port[1][1] - r.port[1][0]) << 16
    if r.protocol_counts:
        first = <uint32_t> r.protocol << 1
        # Whoever asks for ports does not get a packet whose ports are not known.
        last = first if width[2 * words] != <uint32_t> 0xFFFFFFFF else first | 1
    else:
        first, last = 0, 0x1FF
    if r.zone == 0xFFFF:
        zone = 0 if direction == 2 else <uint32_t> direction << 15
        zones = 0xFFFF if direction == 2 else 0x7FFF
    else:
        zone, zones = <uint32_t> direction << 15 | r.zone, 0
    low[2 * words + 1] = first | zone << 16
    width[2 * words + 1] = (last - first) | zones << 16
    e = &f.entry[i]
    e.rule, e.sibling, e.at, e.place = rule, NONE, 0, NOWHERE
    e.source, e.destination = r.length[0], r.length[1]
    e.exact = (EXACT_SPORT if r.port[0][0] == r.port[0][1] else 0) | (EXACT_DPORT if r.port[1][0] == r.port[1][1] else 0) \
        | (EXACT_PROTOCOL if r.protocol_counts else 0) | (EXACT_ZONE if zones == 0 else 0)
    e.more = <uint32_t> r.flags_value | <uint32_t> r.flags_mask << 16
    if r.dscp_counts:
        e.more |= <uint32_t> r.dscp << 8 | <uint32_t> 0x3F << 24
    f.order[i] = <uint64_t> (0xFFFFFF - r.priority) << 32 | number
    return i


cdef void wide(const family_t *f, uint32_t i, wide_rule *w) noexcept nogil:
    memset(w, 0, sizeof(wide_rule))
    memcpy(w.low.w, low_of(f, i), f.key_words * 4)
    memcpy(w.width.w, width_of(f, i), f.key_words * 4)
    w.rank = rank_of(f, f.order[i])


ctypedef struct sort_t:
    uint64_t order
    uint32_t entry


cdef int by_order(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const sort_t *> a).order
    cdef uint64_t y = (<const sort_t *> b).order
    return 1 if x > y else -1 if x < y else 0


cdef uint32_t sort_entries(family_t *f, uint32_t *chosen, int which) noexcept nogil:
    cdef sort_t *all = <sort_t *> malloc(<size_t> (f.count + 1) * sizeof(sort_t))
    cdef uint32_t i, n = 0
    cdef int place
    cdef bint ordered = True
    if all == NULL:
        return NONE
    for i in range(f.count):
        place = f.entry[i].place
        if place == FREE or (which == ROWS and place != IN_BROAD and place != IN_DELTA):
            continue
        if which != ALL and which != ROWS and place != which:
            continue
        all[n].order, all[n].entry = f.order[i], i
        if n and all[n - 1].order > all[n].order:
            ordered = False
        n += 1
    if not ordered:
        qsort(all, n, sizeof(sort_t), by_order)
    for i in range(n):
        chosen[i] = all[i].entry
    free(all)
    return n


cdef void set_levels(family_t *f, const uint32_t *chosen, uint32_t n) noexcept nogil:
    cdef uint32_t i, levels = n if n < 255 else 255
    f.bound[0] = 0
    for i in range(1, 255):
        if i < levels:
            f.bound[i] = f.order[chosen[<uint64_t> i * n // levels]]
        else:
            f.bound[i] = <uint64_t> 0xFFFFFFFFFFFFFFFF

cdef void entries_close(family_t *f) noexcept nogil:
    free(f.places.memory)
    free(f.sides)
    free(f.order)
    free(f.entry)


cdef void entry_record(const family_t *f, uint32_t e, packed_t *r) noexcept nogil:
    cdef const uint32_t *low = low_of(f, e)
    cdef const uint32_t *width = width_of(f, e)
    cdef int words = (<int> f.words - 2) // 2, w, byte
    cdef uint32_t word
    for w in range(2 * words):
        for byte in range(4):
            r.address[w // words][4 * (w % words) + byte] = <uint8_t> (low[w] >> (24 - 8 * byte))
    r.versions |= 1 if f.version == 4 else 2
    r.priority = 0xFFFFFF - <uint32_t> (f.order[e] >> 32)
    word = low[2 * words]
    r.port[0][0], r.port[1][0] = word & 0xFFFF, word >> 16
    r.port[0][1] = r.port[0][0] + (width[2 * words] & 0xFFFF)
    r.port[1][1] = r.port[1][0] + (width[2 * words] >> 16)
    word = low[2 * words + 1]
    r.protocol_counts = f.entry[e].exact & EXACT_PROTOCOL != 0
    r.protocol = <uint8_t> (word >> 1) if r.protocol_counts else 0
    r.direction = 2 if f.entry[e].sibling != NONE else <uint8_t> (word >> 31)
    r.zone = (word >> 16) & 0x7FFF
    if width[2 * words + 1] >> 16:
        r.zone = 0xFFFF
        if width[2 * words + 1] >> 16 == 0xFFFF:
            r.direction = 2
    r.length[0], r.length[1] = f.entry[e].source, f.entry[e].destination
    r.flags_value, r.flags_mask = f.entry[e].more & 0xFF, f.entry[e].more >> 16 & 0xFF
    r.dscp_counts = f.entry[e].more >> 24 != 0
    r.dscp = f.entry[e].more >> 8 & 0x3F

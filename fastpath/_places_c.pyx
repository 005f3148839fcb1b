"""Remembers which places of the bit rows rules have left, and finds one for a rule that matches the same."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastpath._entries cimport NONE, family_t, low_of, places_t, rank_of

cdef extern from * nogil:
    int np_lowest "__builtin_ctzll"(uint64_t word)
    int np_leading "__builtin_clzll"(uint64_t word)

cdef enum:
    TRIES = 32              # places of one hash that are looked at: what many equal rules can cost


cdef size_t side_bytes(const family_t *f) noexcept nogil:
    return 2 * <size_t> f.key_words * 4


cdef uint32_t slot_of(const family_t *f, uint32_t entry) noexcept nogil:
    cdef const uint32_t *word = low_of(f, entry)
    cdef uint64_t h = 0
    cdef uint32_t i
    for i in range(2 * f.key_words):
        h = (h ^ word[i]) * <uint64_t> 0x9E3779B97F4A7C15
        h ^= h >> 29
    return <uint32_t> (h >> 20) & f.places.mask


cdef size_t places_bytes(const family_t *f) noexcept nogil:
    if f.places.memory == NULL:
        return 0
    return (side_bytes(f) + 12) * f.places.places + (<size_t> f.places.mask + 1) * 4


cdef bint places_open(family_t *f, uint32_t count) noexcept nogil:
    # Only sets whose rules leave pay for it.
    cdef places_t *p = &f.places
    p.mask, p.places = 63, count
    while p.mask < count:
        p.mask = 2 * p.mask + 1
    p.memory = malloc((side_bytes(f) + 12) * count + (<size_t> p.mask + 1) * 4)
    if p.memory == NULL:
        return False
    p.left = <uint64_t *> p.memory
    p.sides = <uint32_t *> (p.left + count)
    p.next = p.sides + <size_t> 2 * f.key_words * count
    p.first = p.next + count
    memset(p.first, 0xFF, (<size_t> p.mask + 1) * 4)
    return True


cdef void places_forget(places_t *p, uint64_t epoch) noexcept nogil:
    free(p.memory)
    memset(p, 0, sizeof(places_t))
    p.since = epoch


cdef void places_leave(family_t *f, uint32_t count, uint32_t entry, uint64_t epoch) noexcept nogil:
    cdef places_t *p = &f.places
    cdef uint32_t place = f.entry[entry].at, slot
    if p.memory == NULL and not places_open(f, count):
        return
    memcpy(p.sides + <size_t> 2 * f.key_words * place, low_of(f, entry), side_bytes(f))
    slot = slot_of(f, entry)
    p.left[place], p.next[place] = epoch, p.first[slot]
    p.first[slot] = place


cdef bint fits(const uint64_t *alive, const uint64_t *rank, uint32_t words, uint32_t place,
               uint64_t mine) noexcept nogil:
    # Whether the nearest rules before and after a place win and lose against this rank.
    cdef uint32_t w = place >> 6
    cdef uint64_t word = alive[w] & ((<uint64_t> 1 << (place & 63)) - 1)
    while word == 0 and w:
        w -= 1
        word = alive[w]
    if word and rank[w * 64 + 63 - np_leading(word)] > mine:
        return False
    w = place >> 6
    word = alive[w] & ~<uint64_t> 1 << (place & 63)
    while word == 0 and w + 1 < words:
        w += 1
        word = alive[w]
    return word == 0 or rank[w * 64 + np_lowest(word)] > mine


cdef uint32_t *places_find(family_t *f, const uint64_t *alive, const uint64_t *rank, uint32_t words,
                           uint32_t entry) noexcept nogil:
    cdef places_t *p = &f.places
    cdef uint32_t *link
    cdef uint32_t tries
    cdef uint64_t mine
    if p.memory == NULL:
        return NULL
    link = &p.first[slot_of(f, entry)]
    if link[0] == NONE:
        return NULL
    mine = rank_of(f, f.order[entry])
    for tries in range(TRIES):
        if (memcmp(p.sides + <size_t> 2 * f.key_words * link[0], low_of(f, entry), side_bytes(f)) == 0
                and fits(alive, rank, words, link[0], mine)):
            return link
        link = &p.next[link[0]]
        if link[0] == NONE:
            return NULL
    return NULL


cdef void places_take(places_t *p, uint32_t *link) noexcept nogil:
    link[0] = p.next[link[0]]


cdef void places_settle(places_t *p, uint64_t epoch) noexcept nogil:
    p.since = epoch
    if p.memory != NULL:
        memset(p.left, 0, <size_t> p.places * 8)

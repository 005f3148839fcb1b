"""Chooses the masks of a classifier's hash tables and fills them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from fastpath._atomic cimport np_store_word
from fastpath._entries cimport (
    EXACT_DPORT, EXACT_PROTOCOL, EXACT_SPORT, EXACT_ZONE, NONE, family_t, low_of, rank_of, width_of,
)
from fastpath._classify cimport EMPTY_WORD, NO_RANK, TABLES, UNIT, table_t
from fastpath._fetch cimport fetch_unit

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void *at, size_t size)
    int madvise(void *at, size_t size, int advice)
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MAP_NORESERVE
        MAP_FAILED
        MADV_HUGEPAGE

cdef enum:
    SOON = 6                # runs taken after which one will be written to
    STEPS = 64              # that a run is shortened by at once
    LENGTHS = 24            # candidate prefix lengths
    MOST_SHORT = 8          # tables with short runs; if they do not suffice, the others have long ones
    MANY = 1 << 15          # rules whose leaves are worth large pages
    FEW = 8                 # share of the rules that a table must take if the rest could be rows
    WORK = 24000000         # rules looked at while masks are compared: bounds the time of a build

cdef uint8_t[24] LENGTHS4 = [0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 30, 31, 32]
cdef uint8_t[24] LENGTHS6 = [
    0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 104, 112, 120, 128,
]

ctypedef struct mask_t:
    uint32_t may            # rules that are at least as specific
    uint8_t source
    uint8_t destination
    uint8_t exact


cdef int pool_open(pool_t *p, uint32_t per_unit, uint32_t units, uint32_t rules) noexcept nogil:
    memset(p, 0, sizeof(pool_t))
    p.per_unit = per_unit
    p.capacity = units
    p.leaves = <uint8_t *> mmap(NULL, <size_t> units * UNIT, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if p.leaves == <uint8_t *> MAP_FAILED:
        p.leaves = NULL
        return -1
    if rules >= MANY:
        madvise(p.leaves, <size_t> units * UNIT, MADV_HUGEPAGE)    # where it is not to be had, it is slower
    p.ranks = <uint64_t *> mmap(NULL, <size_t> units * per_unit * 8, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    p.owner = <uint32_t *> mmap(NULL, <size_t> units * per_unit * 4, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    # Untouched pages are zero: what is built has no past.
    p.came = <uint32_t *> mmap(NULL, <size_t> units * 8, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if (p.ranks == <uint64_t *> MAP_FAILED or p.owner == <uint32_t *> MAP_FAILED
            or p.came == <uint32_t *> MAP_FAILED):
        p.ranks = NULL if p.ranks == <uint64_t *> MAP_FAILED else p.ranks
        p.came = NULL if p.came == <uint32_t *> MAP_FAILED else p.came
        p.owner = NULL if p.owner == <uint32_t *> MAP_FAILED else p.owner
        pool_close(p)
        return -1
    p.before = p.came + units
    # Where an empty bucket's word leads, if it is followed nevertheless.
    blank_unit(p, pool_take(p, 1))
    return 0


cdef void pool_close(pool_t *p) noexcept nogil:
    cdef int i
    if p.leaves != NULL:
        munmap(p.leaves, <size_t> p.capacity * UNIT)
    if p.ranks != NULL:
        munmap(p.ranks, <size_t> p.capacity * p.per_unit * 8)
    if p.owner != NULL:
        munmap(p.owner, <size_t> p.capacity * p.per_unit * 4)
    if p.came != NULL:
        munmap(p.came, <size_t> p.capacity * 8)
    for i in range(16):
        free(p.spare[i])
    memset(p, 0, sizeof(pool_t))


cdef uint32_t pool_take(pool_t *p, uint32_t units) noexcept nogil:
    cdef uint32_t first
    if p.spares[units]:
        p.spares[units] -= 1
        if p.spares[units] >= SOON:
            fetch_unit(p, p.spare[units][p.spares[units] - SOON], 1)
        return p.spare[units][p.spares[units]]
    if p.top + units > p.capacity:
        return NONE
    first = p.top
    p.top += units
    return first


cdef void pool_give(pool_t *p, uint32_t first, uint32_t units) noexcept nogil:
    cdef uint32_t *more
    if p.spares[units] == p.rooms[units]:
        more = <uint32_t *> realloc(p.spare[units], (2 * <size_t> p.rooms[units] + 64) * 4)
        if more == NULL:
            return      # the run is not used again before the next rebuild
        p.spare[units] = more
        p.rooms[units] = 2 * p.rooms[units] + 64
    p.spare[units][p.spares[units]] = first
    p.spares[units] += 1


cdef size_t pool_bytes(const pool_t *p) noexcept nogil:
    cdef size_t total = <size_t> p.top * (UNIT + p.per_unit * 12)
    cdef int i
    for i in range(16):
        total += <size_t> p.rooms[i] * 4
    return total


cdef inline uint32_t bucket_for(const uint32_t *w, const table_t *t, uint32_t words) noexcept nogil:
    # As bucket_of in classify.h.
    cdef uint32_t h = 0, i
    for i in range(words):
        h += (w[i] & t.mask[i]) * t.factor[i]
    h ^= h >> 15
    return (h * <uint32_t> 0x9E3779B1) >> t.shift


cdef uint32_t bucket(const family_t *f, const table_t *t, uint32_t entry) noexcept nogil:
    return bucket_for(low_of(f, entry), t, f.words)


cdef bint lives_in(const family_t *f, const table_t *t, uint32_t entry) noexcept nogil:
    return (f.entry[entry].source >= t.source and f.entry[entry].destination >= t.destination
            and f.entry[entry].exact & t.exact == t.exact)


cdef void blank_unit(pool_t *p, uint32_t unit) noexcept nogil:
    cdef size_t i
    for i in range(p.per_unit):
        blank_place(p, 64 // p.per_unit, <size_t> unit * p.per_unit + i)


cdef inline uint8_t *place_at(const pool_t *p, uint32_t size, size_t place) noexcept nogil:
    return p.leaves + place // p.per_unit * UNIT + place % p.per_unit * size


cdef inline void copy_place(pool_t *p, uint32_t size, size_t place, size_t of) noexcept nogil:
    cdef uint8_t *at = place_at(p, size, place)
    cdef const uint8_t *source = place_at(p, size, of)
    memcpy(at, source, size)
    memcpy(at + 64, source + 64, size)
    p.ranks[place], p.owner[place] = p.ranks[of], p.owner[of]


cdef inline void write_place(const family_t *f, pool_t *p, size_t place, uint32_t entry) noexcept nogil:
    cdef uint32_t size = f.key_words * 4
    cdef uint8_t *at = place_at(p, size, place)
    memcpy(at, low_of(f, entry), size)
    memcpy(at + 64, width_of(f, entry), size)
    p.ranks[place], p.owner[place] = rank_of(f, f.order[entry]), entry


cdef inline void blank_place(pool_t *p, uint32_t size, size_t place) noexcept nogil:
    # Whoever matches what lies here gets an answer that never wins.
    cdef uint8_t *at = place_at(p, size, place)
    memset(at, 0, size)
    memset(at + 64, 0, size)
    p.ranks[place], p.owner[place] = NO_RANK, NONE


cdef uint32_t word_of(const pool_t *p, uint32_t first, uint32_t units) noexcept nogil:
    return first | units << 20 | <uint32_t> (p.ranks[<size_t> first * p.per_unit] >> 56) << 24


cdef uint32_t leaf_write(const family_t *f, pool_t *p, const uint32_t *entries, uint32_t n) noexcept nogil:
    cdef uint32_t units = (n + p.per_unit - 1) // p.per_unit, i, first
    if n == 0:
        return EMPTY_WORD
    first = pool_take(p, units)
    if first == NONE:
        return 0
    for i in range(units * p.per_unit):
        if i < n:
            write_place(f, p, <size_t> first * p.per_unit + i, entries[i])
        else:
            blank_place(p, f.key_words * 4, <size_t> first * p.per_unit + i)
    return word_of(p, first, units)


cdef uint32_t leaf_change(const family_t *f, pool_t *p, uint32_t word, uint32_t n, uint32_t slot,
                          uint32_t entry) noexcept nogil:
    cdef uint32_t more = n + 1 if entry != NONE else n - 1
    cdef uint32_t units = (more + p.per_unit - 1) // p.per_unit if more else 1
    cdef uint32_t size = f.key_words * 4, i, first = pool_take(p, units)
    cdef size_t of = <size_t> (word & 0xFFFFF) * p.per_unit, place
    if first == NONE:
        return 0
    # From the run that was there: the entries themselves lie wide apart.
    for i in range(units * p.per_unit):
        place = <size_t> first * p.per_unit + i
        if i >= more:
            blank_place(p, size, place)
        elif i == slot and entry != NONE:
            write_place(f, p, place, entry)
        else:
            if i == slot:
                of += 1
            copy_place(p, size, place, of)
            of += 1
    return word_of(p, first, units)


cdef void shorten(pool_t *p, const uint64_t *reader, uint32_t readers, uint64_t now, uint64_t base,
                  uint32_t word) noexcept nogil:
    cdef uint32_t since, before, step, r
    cdef uint64_t version
    cdef bint older
    if word == EMPTY_WORD:
        return
    for step in range(STEPS):
        since, before = p.came[word & 0xFFFFF], p.before[word & 0xFFFFF]
        # Who comes now sees what is published, so what this very version replaced is needed.
        if since == 0 or base + since >= now or before == EMPTY_WORD:
            return
        older = False
        for r in range(readers):
            version = reader[r] >> 1
            if version >= base + since:
                continue
            if not reader[r] & 1:
                return
            if version < p.since:
                continue        # it looks up elsewhere
            older = True
            if version >= base + p.came[before & 0xFFFFF]:
                return
        if not older:
            return          # nobody goes there any more, and what is there may be in use again
        np_store_word(&p.before[word & 0xFFFFF], p.before[before & 0xFFFFF])


cdef uint32_t level_before(const pool_t *p, uint64_t oldest, uint64_t base, uint32_t word) noexcept nogil:
    if word == EMPTY_WORD or base + p.came[word & 0xFFFFF] > oldest:
        return word >> 24
    return word_of(p, word & 0xFFFFF, 0) >> 24


cdef uint64_t next_random(uint64_t *state) noexcept nogil:
    # splitmix64
    cdef uint64_t z
    state[0] += <uint64_t> 0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ z >> 30) * <uint64_t> 0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * <uint64_t> 0x94D049BB133111EB
    return z ^ z >> 31


cdef void table_mask(const family_t *f, table_t *t, uint8_t source, uint8_t destination, uint8_t exact) noexcept nogil:
    cdef uint32_t i, half = (f.words - 2) // 2
    cdef int left
    t.source, t.destination, t.exact = source, destination, exact
    for i in range(f.words - 2):
        left = (<int> source if i < half else <int> destination) - 32 * <int> (i % half)
        if left <= 0:
            t.mask[i] = 0
        else:
            t.mask[i] = <uint32_t> 0xFFFFFFFF << (32 - left) if left < 32 else <uint32_t> 0xFFFFFFFF
    t.mask[f.words - 2] = (<uint32_t> 0xFFFF if exact & EXACT_SPORT else 0) \
        | (<uint32_t> 0xFFFF0000 if exact & EXACT_DPORT else 0)
    # The bit that says that ports are not known takes no part: a rule may match both.
    t.mask[f.words - 1] = (<uint32_t> 0x1FE if exact & EXACT_PROTOCOL else 0) \
        | (<uint32_t> 0xFFFF0000 if exact & EXACT_ZONE else 0)


cdef void table_factors(const family_t *f, table_t *t, uint64_t *random) noexcept nogil:
    cdef uint32_t i
    for i in range(f.words):
        t.factor[i] = <uint32_t> (next_random(random) >> 16) | 1


cdef uint32_t bits_for(uint32_t rules) noexcept nogil:
    # Of a directory with at least two buckets a rule.
    cdef uint32_t bits = 6
    while bits < 22 and (<uint32_t> 4 << bits) < 5 * rules:
        bits += 1
    return bits


cdef int table_empty(const family_t *f, table_t *t, uint32_t bits, uint8_t source, uint8_t destination, uint8_t exact,
                     uint64_t *random) noexcept nogil:
    cdef uint32_t i
    memset(t, 0, sizeof(table_t))
    table_mask(f, t, source, destination, exact)
    table_factors(f, t, random)
    t.shift = 32 - bits
    t.cap = CAP4 if f.version == 4 else CAP6
    t.directory = <uint32_t *> malloc(<size_t> 4 << bits)
    if t.directory == NULL:
        return -1
    for i in range(<uint32_t> 1 << bits):
        t.directory[i] = EMPTY_WORD
    return 0


cdef int by_reach(const void *a, const void *b) noexcept nogil:
    # Most rules first, then the more specific mask.
    cdef const mask_t *x = <const mask_t *> a
    cdef const mask_t *y = <const mask_t *> b
    cdef int i, j
    if x.may != y.may:
        return 1 if x.may < y.may else -1
    i = x.source + x.destination + 8 * x.exact
    j = y.source + y.destination + 8 * y.exact
    return j - i


cdef uint32_t candidates(const family_t *f, const uint32_t *rest, uint32_t n, uint32_t cap, mask_t *masks,
                         uint32_t *counts) noexcept nogil:
    # Every mask with the number of rules that it could take, the greatest first; returns how many.
    cdef const uint8_t *lengths = &LENGTHS4[0] if f.version == 4 else &LENGTHS6[0]
    cdef uint8_t[129] place
    cdef uint32_t i, s, d, e, at, bit, found = 0
    cdef uint32_t seen = 0, wide
    at = 0
    for i in range(129):
        while at + 1 < LENGTHS and lengths[at + 1] <= i:
            at += 1
        place[i] = <uint8_t> at
    memset(counts, 0, LENGTHS * LENGTHS * 16 * 4)
    for i in range(n):
        counts[(place[f.entry[rest[i]].source] * LENGTHS + place[f.entry[rest[i]].destination]) * 16
               + f.entry[rest[i]].exact] += 1
        seen |= f.entry[rest[i]].exact
    # Sums over everything that is at least as specific, one dimension after the other.
    for s in range(LENGTHS - 1, 0, -1):
        for i in range(LENGTHS * 16):
            counts[(s - 1) * LENGTHS * 16 + i] += counts[s * LENGTHS * 16 + i]
    for s in range(LENGTHS):
        for d in range(LENGTHS - 1, 0, -1):
            for e in range(16):
                counts[(s * LENGTHS + d - 1) * 16 + e] += counts[(s * LENGTHS + d) * 16 + e]
    for bit in range(4):
        for i in range(LENGTHS * LENGTHS * 16):
            if not i >> bit & 1:
                counts[i] += counts[i | <uint32_t> 1 << bit]
    for s in range(LENGTHS):
        for d in range(LENGTHS):
            for e in range(16):
                if e & ~seen:
                    continue
                i = counts[(s * LENGTHS + d) * 16 + e]
                # So few buckets cannot hold more.
                wide = lengths[s] + lengths[d] + 8 * (e & EXACT_SPORT != 0) + 8 * (e & EXACT_DPORT != 0) \
                    + 2 * (e & EXACT_PROTOCOL != 0) + 12 * (e & EXACT_ZONE != 0)
                if wide < 24 and i > cap << wide:
                    i = cap << wide
                if i:
                    masks[found].may = i
                    masks[found].source, masks[found].destination = lengths[s], lengths[d]
                    masks[found].exact = <uint8_t> e
                    found += 1
    qsort(masks, found, sizeof(mask_t), by_reach)
    return found


cdef uint32_t reach(const family_t *f, table_t *t, const uint32_t *rest, uint32_t n, uint32_t cap, uint8_t *fill,
                    uint32_t may, uint32_t best, uint64_t *work) noexcept nogil:
    # How many rules the mask takes with buckets of at most cap; stops where it cannot exceed `best` any more.
    cdef uint32_t i = 0, at, taken = 0, missed = 0
    memset(fill, 0, <size_t> 1 << (32 - t.shift))
    for i in range(n):
        if not lives_in(f, t, rest[i]):
            continue
        at = bucket(f, t, rest[i])
        if fill[at] < cap:
            fill[at] += 1
            taken += 1
        else:
            missed += 1
            if may - missed <= best:
                break
    work[0] += i + 1
    return taken


cdef int table_fill(family_t *f, table_t *t, pool_t *p, uint32_t number, uint32_t *rest, uint32_t *n, uint32_t cap,
                    uint32_t *start, uint32_t *sorted_rest) noexcept nogil:
    # Move what fits from `rest` into the table, in order; the others stay. `start` is as large as the directory + 1.
    cdef uint32_t size = <uint32_t> 1 << (32 - t.shift)
    cdef uint32_t i, at, left = 0
    cdef uint32_t *fill = t.directory       # counts first, words at the end
    memset(fill, 0, <size_t> size * 4)
    for i in range(n[0]):
        if lives_in(f, t, rest[i]):
            at = bucket(f, t, rest[i])
            if fill[at] < cap:
                fill[at] += 1
                f.entry[rest[i]].place = <uint8_t> number
                t.rules += 1
    start[0] = 0
    for i in range(size):
        start[i + 1] = start[i] + fill[i]
    for i in range(n[0]):
        if f.entry[rest[i]].place == number:
            at = bucket(f, t, rest[i])
            sorted_rest[start[at + 1] - fill[at]] = rest[i]
            fill[at] -= 1
        else:
            rest[left] = rest[i]
            left += 1
    n[0] = left
    for i in range(size):
        fill[i] = leaf_write(f, p, sorted_rest + start[i], start[i + 1] - start[i])
        if fill[i] == 0:
            return -1
    return 0


cdef long tables_build(family_t *f, table_t *tables, uint32_t *used, pool_t *p, uint32_t *rest, uint32_t n,
                       uint32_t enough, uint32_t rows, uint64_t *random) noexcept nogil:
    cdef mask_t *masks = <mask_t *> malloc(LENGTHS * LENGTHS * 16 * sizeof(mask_t))
    cdef uint32_t *counts = <uint32_t *> malloc(LENGTHS * LENGTHS * 16 * 4)
    cdef uint32_t bits = bits_for(n)
    cdef uint8_t *fill = <uint8_t *> malloc(<size_t> 1 << bits)
    cdef uint32_t *start = <uint32_t *> malloc((<size_t> 4 << bits) + 4)
    cdef uint32_t *ordered = <uint32_t *> malloc(<size_t> n * 4 + 4)
    cdef uint32_t i, found, best, taken
    cdef uint64_t work, share
    cdef table_t t
    cdef mask_t winner
    cdef uint32_t cap = CAP4 if f.version == 4 else CAP6
    cdef long result = -1
    used[0] = 0
    if masks != NULL and counts != NULL and fill != NULL and start != NULL and ordered != NULL:
        result = 0
        share = WORK // 2
        while n > (enough if cap < MOST_UNITS * p.per_unit else rows) and used[0] < TABLES - 2 and result == 0:
            found = candidates(f, rest, n, cap, masks, counts)
            memset(&t, 0, sizeof(t))
            table_factors(f, &t, random)
            t.shift = 32 - bits_for(n)
            best = 0
            work = 0
            memset(&winner, 0, sizeof(winner))
            for i in range(found):
                if masks[i].may <= best or work > share:
                    break
                table_mask(f, &t, masks[i].source, masks[i].destination, masks[i].exact)
                taken = reach(f, &t, rest, n, cap, fill, masks[i].may, best, &work)
                if taken > best:
                    best = taken
                    winner = masks[i]
            share = share // 2 if share // 2 > n * 8 else <uint64_t> n * 8
            # A table that takes next to nothing costs every packet more than it saves.
            if (best == 0 or best < n // (FEW if n <= rows else 64)
                    or (used[0] >= MOST_SHORT and cap < MOST_UNITS * p.per_unit)):
                if cap == MOST_UNITS * p.per_unit or n <= rows:
                    break
                # Long runs in few tables are far better than rules that every packet is compared with.
                cap = MOST_UNITS * p.per_unit
                continue
            if table_empty(f, &t, bits_for(best), winner.source, winner.destination, winner.exact, random):
                result = -1
                break
            t.cap = <uint8_t> cap
            result = table_fill(f, &t, p, used[0], rest, &n, cap, start, ordered)
            tables[used[0]] = t
            used[0] += 1
    free(masks)
    free(counts)
    free(fill)
    free(start)
    free(ordered)
    return result if result else <long> n

"""Builds the bit rows of a classifier's broad rules: one class of values, one row, one bit a rule."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset

from fastpath._entries cimport entry_t, family_t, low_of, rank_of, width_of
from fastpath._classify cimport NO_RANK, broad_t, steps6

cdef enum:
    BLOCKS = 1 << 15
    SMALL = 1 << 15         # more combinations of classes than this push others out of the cache
    PADDING = 64            # bytes that a vector load may read behind an array

# Distinct rows, found again by their hash.
ctypedef struct rows_t:
    uint32_t words
    uint32_t n
    uint32_t capacity
    uint64_t *row
    uint32_t *slot          # open addressing; row + 1, 0 empty
    uint32_t slots

# Where a rule's range begins or ends: `at` is the first value that is (not) in it.
ctypedef struct edge_t:
    uint64_t hi
    uint64_t lo
    uint32_t bit            # << 1 | begins
    uint32_t past           # 1: behind the last value there is

# A run of values that the same rules contain, `hi`:`lo` its first.
ctypedef struct run_t:
    uint64_t hi
    uint64_t lo
    uint32_t cls


cdef int rows_init(rows_t *r, uint32_t words, uint32_t expected) noexcept nogil:
    memset(r, 0, sizeof(rows_t))
    r.words = words
    r.capacity = expected + 16
    r.slots = 64
    while r.slots < 2 * r.capacity:
        r.slots *= 2
    r.row = <uint64_t *> malloc(<size_t> r.capacity * words * 8 + PADDING)
    r.slot = <uint32_t *> calloc(r.slots, 4)
    return 0 if r.row != NULL and r.slot != NULL else -1


cdef uint32_t rows_class(rows_t *r, const uint64_t *row) noexcept nogil:
    # The number of this row, new or known; NONE-like UINT32_MAX without memory.
    cdef uint64_t h = 0
    cdef uint32_t i, at, known, slots
    cdef uint64_t *more
    cdef uint32_t *slot
    for i in range(r.words):
        h = (h ^ row[i]) * <uint64_t> 0x9E3779B97F4A7C15
        h ^= h >> 29
    at = <uint32_t> (h >> 20) & (r.slots - 1)
    while r.slot[at]:
        known = r.slot[at] - 1
        if memcmp(r.row + <size_t> known * r.words, row, r.words * 8) == 0:
            return known
        at = (at + 1) & (r.slots - 1)
    if r.n == r.capacity:
        # The slots were made for this many; what is expected is an upper bound.
        return 0xFFFFFFFF
    memcpy(r.row + <size_t> r.n * r.words, row, r.words * 8)
    r.n += 1
    r.slot[at] = r.n
    return r.n - 1


cdef uint64_t *rows_take(rows_t *r) noexcept nogil:
    # The rows themselves, as little as is needed; what found them is freed.
    cdef uint64_t *rows = <uint64_t *> realloc(r.row, <size_t> (r.n if r.n else 1) * r.words * 8 + PADDING)
    if rows == NULL:
        rows = r.row
    free(r.slot)
    r.slot = NULL
    r.row = NULL
    return rows


cdef int by_place(const void *a, const void *b) noexcept nogil:
    cdef const edge_t *x = <const edge_t *> a
    cdef const edge_t *y = <const edge_t *> b
    if x.past != y.past:
        return 1 if x.past > y.past else -1
    if x.hi != y.hi:
        return 1 if x.hi > y.hi else -1
    if x.lo != y.lo:
        return 1 if x.lo > y.lo else -1
    return 0


cdef uint32_t sweep(edge_t *edge, uint32_t edges, rows_t *rows, uint64_t *row, run_t *run) noexcept nogil:
    # The runs between the edges, in order, beginning with value 0; returns how many. `row` is cleared first.
    cdef uint32_t i = 0, n = 0
    cdef uint64_t hi = 0, lo = 0
    memset(row, 0, rows.words * 8)
    qsort(edge, edges, sizeof(edge_t), by_place)
    while True:
        while i < edges and not edge[i].past and edge[i].hi == hi and edge[i].lo == lo:
            if edge[i].bit & 1:
                row[edge[i].bit >> 7] |= <uint64_t> 1 << (edge[i].bit >> 1 & 63)
            else:
                row[edge[i].bit >> 7] &= ~(<uint64_t> 1 << (edge[i].bit >> 1 & 63))
            i += 1
        run[n].hi, run[n].lo = hi, lo
        run[n].cls = rows_class(rows, row)
        n += 1
        if i == edges or edge[i].past:
            return n
        hi, lo = edge[i].hi, edge[i].lo


cdef void put_edges(edge_t *edge, uint32_t bit, uint64_t hi, uint64_t lo, uint64_t last_hi, uint64_t last_lo,
                    uint64_t top_hi, uint64_t top_lo) noexcept nogil:
    # The two edges of a range; `top` is the field's greatest value.
    edge[0].hi, edge[0].lo, edge[0].bit, edge[0].past = hi, lo, bit << 1 | 1, 0
    edge[1].hi, edge[1].lo, edge[1].bit, edge[1].past = last_hi, last_lo + 1, bit << 1, 0
    if edge[1].lo == 0 and last_lo == <uint64_t> 0xFFFFFFFFFFFFFFFF:
        edge[1].hi += 1
    edge[1].past = last_hi == top_hi and last_lo == top_lo


cdef uint32_t field_runs(family_t *f, const uint32_t *chosen, uint32_t n, int word, int part, rows_t *rows,
                         edge_t *edge, uint64_t *row, run_t *run) noexcept nogil:
    # The runs of a 16-bit half (part 0 low, 1 high) of a word, or of a whole address (part 2, its first word).
    cdef uint32_t i
    cdef const uint32_t *low
    cdef const uint32_t *width
    cdef uint64_t a, b, c, d, top
    for i in range(n):
        low = low_of(f, chosen[i])
        width = width_of(f, chosen[i])
        if part == 2 and f.version == 6:
            a = <uint64_t> low[word] << 32 | low[word + 1]
            b = <uint64_t> low[word + 2] << 32 | low[word + 3]
            # A prefix: the lanes' widths are the bits that are left.
            c = <uint64_t> width[word] << 32 | width[word + 1]
            d = <uint64_t> width[word + 2] << 32 | width[word + 3]
            put_edges(edge + 2 * i, i, a, b, a | c, b | d, <uint64_t> 0xFFFFFFFFFFFFFFFF,
                      <uint64_t> 0xFFFFFFFFFFFFFFFF)
            continue
        if part == 2:
            a, c, top = low[word], width[word], 0xFFFFFFFF
        else:
            # The lower half of `rest` has 9 bits.
            top = 0x1FF if part == 0 and word == <int> f.words - 1 else 0xFFFF
            a = low[word] >> 16 if part else low[word] & 0xFFFF
            c = width[word] >> 16 if part else width[word] & 0xFFFF
        put_edges(edge + 2 * i, i, 0, a, 0, a + c, 0, top)
    return sweep(edge, 2 * n, rows, row, run)


cdef void fill_direct(uint16_t *table, uint32_t size, const run_t *run, uint32_t runs) noexcept nogil:
    cdef uint32_t i, at, end
    for i in range(runs):
        end = <uint32_t> run[i + 1].lo if i + 1 < runs else size
        for at in range(<uint32_t> run[i].lo, end):
            table[at] = <uint16_t> run[i].cls


cdef uint16_t *fill_blocks(const run_t *run, uint32_t runs, uint32_t *blocks) noexcept nogil:
    # IPv4's 16-8-8 table. A run covers whole first-level entries, or leaves an entry to a block of 256.
    cdef size_t room = 65536 + 256 * (4 * <size_t> runs + 2)
    cdef uint16_t *table = <uint16_t *> malloc(room * 2 + PADDING)
    cdef uint32_t i, n = 0, block, inner
    cdef uint64_t at, end, stop
    blocks[0] = 0
    if table == NULL:
        return NULL
    for i in range(runs):
        at = run[i].lo
        end = run[i + 1].lo if i + 1 < runs else <uint64_t> 1 << 32
        while at < end:
            if at & 0xFFFF == 0 and end - at >= 65536:
                table[at >> 16] = <uint16_t> run[i].cls
                at += 65536
                continue
            # This entry is shared by several runs: the first to come makes the block.
            if at & 0xFFFF == 0:
                table[at >> 16] = <uint16_t> (0x8000 | n)
                n += 1
            block = table[at >> 16] & 0x7FFF
            stop = (at | 0xFFFF) + 1
            if stop > end:
                stop = end
            while at < stop:
                if at & 0xFF == 0 and stop - at >= 256:
                    table[65536 + block * 256 + (at >> 8 & 0xFF)] = <uint16_t> run[i].cls
                    at += 256
                    continue
                if at & 0xFF == 0:
                    table[65536 + block * 256 + (at >> 8 & 0xFF)] = <uint16_t> (0x8000 | n)
                    n += 1
                inner = table[65536 + block * 256 + (at >> 8 & 0xFF)] & 0x7FFF
                table[65536 + inner * 256 + (at & 0xFF)] = <uint16_t> run[i].cls
                at += 1
    blocks[0] = n
    cdef uint16_t *less = <uint16_t *> realloc(table, (65536 + 256 * <size_t> n) * 2 + PADDING)
    return less if less != NULL else table


cdef uint32_t power_above(uint32_t n) noexcept nogil:
    cdef uint32_t p = 1
    while p < n:
        p *= 2
    return p


cdef int fill_steps(steps6 *s, const run_t *run, uint32_t runs) noexcept nogil:
    # IPv6: one step for each first half that something begins at, and for the one behind a half that is cut up.
    cdef uint32_t i, j, k, n = 0, subs = 0, los = 0, size, cut = 0, before
    cdef uint64_t hi
    for i in range(runs):
        cut += run[i].lo != 0
    s.n = power_above(runs + cut + 2)
    s.hi = <uint64_t *> malloc(<size_t> s.n * 8)
    s.cls = <uint32_t *> malloc(<size_t> s.n * 4)
    s.sub = <uint32_t *> malloc(<size_t> (cut + 1) * 8)
    s.lo = <uint64_t *> malloc(<size_t> (4 * cut + 4) * 8)
    s.lo_cls = <uint32_t *> malloc(<size_t> (4 * cut + 4) * 4)
    if s.hi == NULL or s.cls == NULL or s.sub == NULL or s.lo == NULL or s.lo_cls == NULL:
        return -1
    i = 0
    before = 0              # the class that goes on from the run before
    while i < runs:
        hi = run[i].hi
        j = i
        while j < runs and run[j].hi == hi:
            j += 1
        # Runs i to j - 1 begin within this half.
        s.hi[n] = hi
        if j - i == 1 and run[i].lo == 0:
            s.cls[n] = run[i].cls
            n += 1
        else:
            size = power_above(j - i + (run[i].lo != 0))
            s.sub[2 * subs], s.sub[2 * subs + 1] = los, size
            k = los
            if run[i].lo != 0:
                s.lo[k], s.lo_cls[k] = 0, before
                k += 1
            while i < j:
                s.lo[k], s.lo_cls[k] = run[i].lo, run[i].cls
                k += 1
                i += 1
            while k < los + size:
                s.lo[k], s.lo_cls[k] = <uint64_t> 0xFFFFFFFFFFFFFFFF, s.lo_cls[k - 1]
                k += 1
            los += size
            s.cls[n] = <uint32_t> 0x80000000 | subs
            subs += 1
            n += 1
            if hi != <uint64_t> 0xFFFFFFFFFFFFFFFF and (j == runs or run[j].hi != hi + 1 or run[j].lo != 0):
                # The next half begins with what this one ended with.
                if j == runs or run[j].hi != hi + 1:
                    s.hi[n] = hi + 1
                    s.cls[n] = run[j - 1].cls
                    n += 1
        before = run[j - 1].cls
        i = j
    while n < s.n:
        s.hi[n], s.cls[n] = <uint64_t> 0xFFFFFFFFFFFFFFFF, s.cls[n - 1]
        n += 1
    return 0


cdef broad_t *rows_build(family_t *f, const uint32_t *chosen, uint32_t n) noexcept nogil:
    cdef broad_t *b = <broad_t *> calloc(1, sizeof(broad_t))
    cdef edge_t *edge = <edge_t *> malloc((2 * <size_t> n + 2) * sizeof(edge_t))
    cdef run_t *run = <run_t *> malloc((2 * <size_t> n + 2) * sizeof(run_t))
    cdef uint64_t *row
    cdef uint32_t words = 1
    cdef int ok
    while words * 64 < n:
        words *= 2
    row = <uint64_t *> malloc(<size_t> words * 8)
    ok = b != NULL and edge != NULL and run != NULL and row != NULL
    if ok:
        b.words = words
        ok = fill(f, chosen, n, b, edge, run, row) == 0
    free(edge)
    free(run)
    free(row)
    if not ok and b != NULL:
        rows_free(b)
        b = NULL
    return b


cdef int fill(family_t *f, const uint32_t *chosen, uint32_t n, broad_t *b, edge_t *edge, run_t *run,
              uint64_t *row) noexcept nogil:
    cdef uint32_t i, runs, blocks = 0
    cdef int ports = <int> f.words - 2, rest = <int> f.words - 1, zones = 0
    cdef rows_t rows
    b.rules = n
    b.rank = <uint64_t *> malloc((<size_t> b.words * 64 + 8) * 8)
    b.ones = <uint64_t *> malloc(<size_t> b.words * 8 + PADDING)
    b.sport = <uint16_t *> malloc(65536 * 2 + PADDING)
    b.dport = <uint16_t *> malloc(65536 * 2 + PADDING)
    if b.rank == NULL or b.ones == NULL or b.sport == NULL or b.dport == NULL:
        return -1
    memset(b.ones, 0xFF, <size_t> b.words * 8)
    for i in range(b.words * 64 + 8):
        b.rank[i] = NO_RANK
    for i in range(n):
        b.rank[i] = rank_of(f, f.order[chosen[i]])
        f.entry[chosen[i]].at = i
        zones |= width_of(f, chosen[i])[rest] >> 16 != 0xFFFF

    for i in range(2):
        if rows_init(&rows, b.words, 2 * n + 1):
            free(rows.row)
            free(rows.slot)
            return -1
        runs = field_runs(f, chosen, n, <int> (i * (1 if f.version == 4 else 4)), 2, &rows, edge, row, run)
        if i == 0:
            b.source_rows = rows_take(&rows)
        else:
            b.destination_rows = rows_take(&rows)
        if f.version == 6:
            if fill_steps(&b.source6 if i == 0 else &b.destination6, run, runs):
                return -1
        elif i == 0:
            b.source = fill_blocks(run, runs, &blocks)
            if b.source == NULL:
                return -1
        else:
            b.destination = fill_blocks(run, runs, &blocks)
            if b.destination == NULL:
                return -1

    cdef rows_t[3] small        # source port, destination port, protocol
    cdef int result = -1
    memset(small, 0, sizeof(small))
    if (rows_init(&small[0], b.words, 2 * n + 1) == 0 and rows_init(&small[1], b.words, 2 * n + 1) == 0
            and rows_init(&small[2], b.words, 2 * n + 1) == 0):
        fill_direct(b.sport, 65536, run, field_runs(f, chosen, n, ports, 0, &small[0], edge, row, run))
        fill_direct(b.dport, 65536, run, field_runs(f, chosen, n, ports, 1, &small[1], edge, row, run))
        fill_direct(b.protocol, 512, run, field_runs(f, chosen, n, rest, 0, &small[2], edge, row, run))
        result = fill_small(b, small, row)
    for i in range(3):
        free(small[i].row)
        free(small[i].slot)
    if result == 0 and zones:
        b.zone = <uint16_t *> malloc(65536 * 2 + PADDING)
        if b.zone == NULL or rows_init(&rows, b.words, 2 * n + 1):
            return -1
        fill_direct(b.zone, 65536, run, field_runs(f, chosen, n, rest, 1, &rows, edge, row, run))
        b.zone_rows = rows_take(&rows)
    return result


cdef int fill_small(broad_t *b, rows_t *small, uint64_t *row) noexcept nogil:
    # The small fields together, one row to AND instead of three; ports apart where there are too many of them.
    cdef uint32_t p, d, s, w, at = 0
    cdef uint64_t all
    cdef rows_t rows
    b.dports = small[1].n if <uint64_t> small[1].n * small[2].n <= SMALL else 1
    b.sports = small[0].n if <uint64_t> small[0].n * b.dports * small[2].n <= SMALL else 1
    all = <uint64_t> b.sports * b.dports * small[2].n
    b.small = <uint32_t *> malloc(all * 4 + PADDING)
    if b.small == NULL or rows_init(&rows, b.words, <uint32_t> all):
        return -1
    for p in range(small[2].n):
        for d in range(b.dports):
            for s in range(b.sports):
                for w in range(b.words):
                    row[w] = small[2].row[<size_t> p * b.words + w]
                    if b.dports == small[1].n:
                        row[w] &= small[1].row[<size_t> d * b.words + w]
                    if b.sports == small[0].n:
                        row[w] &= small[0].row[<size_t> s * b.words + w]
                b.small[at] = rows_class(&rows, row)
                at += 1
    b.small_rows = rows_take(&rows)
    if b.sports != small[0].n:
        b.sport_rows = rows_take(&small[0])
    if b.dports != small[1].n:
        b.dport_rows = rows_take(&small[1])
    return 0


cdef void steps_free(steps6 *s) noexcept nogil:
    free(s.hi)
    free(s.cls)
    free(s.sub)
    free(s.lo)
    free(s.lo_cls)


cdef void rows_free(broad_t *b) noexcept nogil:
    if b == NULL:
        return
    free(b.source)
    free(b.destination)
    steps_free(&b.source6)
    steps_free(&b.destination6)
    free(b.sport)
    free(b.dport)
    free(b.zone)
    free(b.small)
    free(b.source_rows)
    free(b.destination_rows)
    free(b.small_rows)
    free(b.sport_rows)
    free(b.dport_rows)
    free(b.zone_rows)
    free(b.ones)
    free(b.rank)
    free(b)


cdef extern from "malloc.h" nogil:
    size_t malloc_usable_size(void *at)


cdef size_t rows_bytes(const broad_t *b) noexcept nogil:
    if b == NULL:
        return 0
    return (malloc_usable_size(b.source) + malloc_usable_size(b.destination) + malloc_usable_size(b.source6.hi)
            + malloc_usable_size(b.source6.cls) + malloc_usable_size(b.source6.lo) + malloc_usable_size(b.source6.lo_cls)
            + malloc_usable_size(b.destination6.hi) + malloc_usable_size(b.destination6.cls)
            + malloc_usable_size(b.destination6.lo) + malloc_usable_size(b.destination6.lo_cls)
            + malloc_usable_size(b.sport) + malloc_usable_size(b.dport) + malloc_usable_size(b.zone)
            + malloc_usable_size(b.small) + malloc_usable_size(b.source_rows) + malloc_usable_size(b.destination_rows)
            + malloc_usable_size(b.small_rows) + malloc_usable_size(b.sport_rows) + malloc_usable_size(b.dport_rows)
            + malloc_usable_size(b.zone_rows)
            + malloc_usable_size(b.rank))

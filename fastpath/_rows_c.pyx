"""Builds the bit rows of a classifier's broad rules: one class of values, one row, one bit a rule."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

from fastpath._entries cimport entry_t, family_t, low_of, width_of
from fastpath._classify cimport BLOCK4, FORK6, HEIGHTS6, broad_t, steps4, steps6
from fastpath._distinct cimport rows_class, rows_forget, rows_init, rows_t

cdef extern from "stdlib.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)


cdef enum:
    LINE = 64               # bytes that rows and nodes are aligned to
    PIECE = 32              # words of a long row that a lookup takes at once
    LEAST_BITS = 6          # of an address, looked up at once
    MOST_BITS = 12
    SMALL = 1 << 15         # more combinations of classes than this push others out of the cache

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


cdef void *part(broad_t *b, size_t size) noexcept nogil:
    # Memory that begins with a cache line and goes when the rows go. NULL: there is none.
    cdef void *at
    size = (size + LINE - 1) & ~<size_t> (LINE - 1)
    at = aligned_alloc(LINE, size)
    if at != NULL:
        b.piece[b.pieces] = at
        b.pieces += 1
        b.bytes += size
    return at


cdef uint64_t *rows_take(broad_t *b, rows_t *r) noexcept nogil:
    # The rows themselves, as little as is needed; the others are freed. NULL: no memory.
    cdef size_t size = <size_t> r.n * r.words * 8
    cdef uint64_t *rows = <uint64_t *> part(b, size)
    if rows != NULL:
        memcpy(rows, r.row, size)
    rows_forget(r)
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


cdef int fill_ports(broad_t *b, uint8_t **narrow, uint16_t **wide, bint is_wide, const run_t *run, uint32_t runs) noexcept nogil:
    # The class of every port, as octets if they can be.
    cdef uint32_t i, end
    if is_wide:
        wide[0] = <uint16_t *> part(b, 65536 * 2)
        if wide[0] == NULL:
            return -1
        fill_direct(wide[0], 65536, run, runs)
        return 0
    narrow[0] = <uint8_t *> part(b, 65536)
    if narrow[0] == NULL:
        return -1
    for i in range(runs):
        end = <uint32_t> run[i + 1].lo if i + 1 < runs else 65536
        memset(narrow[0] + run[i].lo, <int> run[i].cls, end - run[i].lo)
    return 0


cdef bint block_each(const int32_t *step, uint32_t n, uint32_t shift) noexcept nogil:
    # Whether no value of an address's upper bits has more than a block of these numbers.
    cdef uint32_t i
    for i in range(BLOCK4, n):
        if <uint32_t> step[i] >> shift == <uint32_t> step[i - BLOCK4] >> shift:
            return False
    return True


cdef int fill_steps4(broad_t *b, steps4 *s, const run_t *run, uint32_t runs) noexcept nogil:
    # Where the runs begin, but for the first one, and what leads there.
    cdef uint32_t h = 0, i, j, n = runs - 1, size, bits = MOST_BITS
    cdef int32_t *step = NULL
    s.cls = <uint16_t *> part(b, <size_t> runs * 2)
    if s.cls == NULL:
        return -1
    for i in range(runs):
        s.cls[i] = <uint16_t> run[i].cls
    while True:
        # A whole block behind the last number, wherever one begins.
        size = (n // BLOCK4 + 2) * BLOCK4
        step = s.step[h] = <int32_t *> part(b, <size_t> size * 4)
        if step == NULL:
            return -1
        for i in range(size):
            if i >= n:
                step[i] = 0x7FFFFFFF
            elif h:
                step[i] = s.step[h - 1][BLOCK4 * i + BLOCK4 - 1]
            else:
                step[i] = <int32_t> (<uint32_t> (run[i + 1].lo - 1) ^ <uint32_t> 0x80000000)
        h += 1
        if block_each(step, n, 32 - MOST_BITS):
            break
        n //= BLOCK4
    while bits > LEAST_BITS and block_each(step, n, 33 - bits):
        bits -= 1
    s.heights, s.shift = h, 32 - bits
    s.first = <uint16_t *> part(b, <size_t> 2 << bits)
    if s.first == NULL:
        return -1
    j = 0
    for i in range(<uint32_t> 1 << bits):
        while j < n and (<uint32_t> step[j] ^ <uint32_t> 0x80000000) < i << s.shift:
            j += 1
        s.first[i] = <uint16_t> j
    return 0


cdef int fill_tree6(broad_t *b, steps6 *s, const uint64_t *hi, uint32_t n) noexcept nogil:
    # The same over `n` first halves.
    cdef uint32_t h, i, j, nodes, unit = 1, place
    cdef int64_t *node
    for h in range(HEIGHTS6):
        nodes = (n + unit * FORK6 - 1) // (unit * FORK6)
        node = s.node[h] = <int64_t *> part(b, <size_t> nodes * LINE)
        if node == NULL:
            return -1
        s.heights = h + 1
        for j in range(nodes):
            for i in range(FORK6 - 1):
                place = (FORK6 * j + i + 1) * unit
                node[(FORK6 - 1) * j + i] = <int64_t> (hi[place] - 1 ^ <uint64_t> 1 << 63) if place < n \
                    else 0x7FFFFFFFFFFFFFFF
        if nodes == 1:
            return 0
        unit *= FORK6
    return -1


cdef uint32_t power_above(uint32_t n) noexcept nogil:
    cdef uint32_t p = 1
    while p < n:
        p *= 2
    return p


cdef int fill_steps6(broad_t *b, steps6 *s, const run_t *run, uint32_t runs) noexcept nogil:
    # IPv6: one step for each first half that something begins at, and for the one behind a half that is cut up.
    cdef uint32_t i, j, k, n = 0, subs = 0, los = 0, size, cut = 0, before
    cdef uint64_t hi
    cdef uint64_t *first
    cdef int result
    for i in range(runs):
        cut += run[i].lo != 0
    first = <uint64_t *> malloc(<size_t> (runs + cut + 2) * 8)
    s.cls = <uint32_t *> part(b, <size_t> (runs + cut + 2) * 4)
    s.sub = <uint32_t *> part(b, <size_t> (cut + 1) * 8)
    s.lo = <uint64_t *> part(b, <size_t> (4 * cut + 4) * 8)
    s.lo_cls = <uint32_t *> part(b, <size_t> (4 * cut + 4) * 4)
    if first == NULL or s.cls == NULL or s.sub == NULL or s.lo == NULL or s.lo_cls == NULL:
        free(first)
        return -1
    i = 0
    before = 0              # the class that goes on from the run before
    while i < runs:
        hi = run[i].hi
        j = i
        while j < runs and run[j].hi == hi:
            j += 1
        # Runs i to j - 1 begin within this half.
        first[n] = hi
        if j - i == 1 and run[i].lo == 0:
            s.cls[n] = run[i].cls
            n += 1
        else:
            # Most are this small: the number of steps can be foreseen.
            size = power_above(j - i + (run[i].lo != 0))
            if size < 4:
                size = 4
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
                    first[n] = hi + 1
                    s.cls[n] = run[j - 1].cls
                    n += 1
        before = run[j - 1].cls
        i = j
    result = fill_tree6(b, s, first, n)
    free(first)
    return result


cdef uint64_t asked(const family_t *f, uint32_t entry, int field) noexcept nogil:
    # What a rule asks of a field, as a number: source, destination, source port, destination port, protocol, zone.
    cdef const uint32_t *low = low_of(f, entry)
    cdef const uint32_t *width = width_of(f, entry)
    cdef uint32_t half = (f.words - 2) // 2, i
    cdef uint64_t h = 0
    if field < 2:
        for i in range(half):
            h = (h ^ low[field * half + i]) * <uint64_t> 0x9E3779B97F4A7C15
            h ^= h >> 29
        return h ^ (f.entry[entry].destination if field else f.entry[entry].source)
    i = f.words - 2 + (field > 3)
    if field & 1:
        return low[i] >> 16 | <uint64_t> (width[i] >> 16) << 16
    return low[i] & 0xFFFF | <uint64_t> (width[i] & 0xFFFF) << 16


cdef int by_value(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t *> a)[0]
    cdef uint64_t y = (<const uint64_t *> b)[0]
    return 1 if x > y else -1 if x < y else 0


cdef bint rows_fit(const family_t *f, const uint32_t *chosen, uint32_t n, size_t most) noexcept nogil:
    cdef uint64_t *value = <uint64_t *> malloc((<size_t> n + 1) * 8)
    cdef uint64_t[6] classes
    cdef uint64_t small
    cdef uint32_t i
    cdef int field
    if value == NULL:
        return False
    for field in range(6):
        for i in range(n):
            value[i] = asked(f, chosen[i], field)
        qsort(value, n, 8, by_value)
        classes[field] = 1
        for i in range(n):
            # A range begins one class and ends another; prefixes lie in each other or apart, so there each is one.
            if i == 0 or value[i] != value[i - 1]:
                classes[field] += 1 if field < 2 else 2
    free(value)
    small = classes[2] * classes[3] * classes[4]
    small = small if small < SMALL else classes[2] + classes[3] + SMALL
    return (classes[0] + classes[1] + small + classes[5]) * ((n + 63) // 64) * 8 <= most


cdef broad_t *rows_build(family_t *f, const uint32_t *chosen, uint32_t n) noexcept nogil:
    cdef broad_t *b = <broad_t *> calloc(1, sizeof(broad_t))
    cdef edge_t *edge = <edge_t *> malloc((2 * <size_t> n + 2) * sizeof(edge_t))
    cdef run_t *run = <run_t *> malloc((4 * <size_t> n + 4) * sizeof(run_t))
    cdef uint64_t *row
    cdef uint32_t words = 1
    cdef int ok
    while words * 64 < n:
        # Long rows are no longer than they must be: what is never read leaves parts of a cache empty.
        words = 2 * words if words < PIECE else words + PIECE
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
    cdef uint32_t i, runs, others
    cdef uint64_t *taken
    cdef bint wide
    cdef int ports = <int> f.words - 2, rest = <int> f.words - 1, zones = 0
    cdef rows_t rows
    b.rules = n
    b.ones = <uint64_t *> part(b, <size_t> b.words * 8)
    if b.ones == NULL:
        return -1
    memset(b.ones, 0xFF, <size_t> b.words * 8)
    for i in range(n):
        f.entry[chosen[i]].at = i
        zones |= width_of(f, chosen[i])[rest] >> 16 != 0xFFFF

    for i in range(2):
        if rows_init(&rows, b.words, 2 * n + 1):
            rows_forget(&rows)
            return -1
        runs = field_runs(f, chosen, n, <int> (i * (1 if f.version == 4 else 4)), 2, &rows, edge, row, run)
        taken = rows_take(b, &rows)
        if i == 0:
            b.source_rows = taken
        else:
            b.destination_rows = taken
        if taken == NULL:
            return -1
        if f.version == 6:
            if fill_steps6(b, &b.source6 if i == 0 else &b.destination6, run, runs):
                return -1
        elif fill_steps4(b, &b.source if i == 0 else &b.destination, run, runs):
            return -1

    cdef rows_t[3] small        # source port, destination port, protocol
    cdef int result = -1
    memset(small, 0, sizeof(small))
    if (rows_init(&small[0], b.words, 2 * n + 1) == 0 and rows_init(&small[1], b.words, 2 * n + 1) == 0
            and rows_init(&small[2], b.words, 2 * n + 1) == 0):
        fill_direct(b.protocol, 512, run, field_runs(f, chosen, n, rest, 0, &small[2], edge, row, run))
        # The runs of both ports, one behind the other.
        runs = field_runs(f, chosen, n, ports, 0, &small[0], edge, row, run)
        others = field_runs(f, chosen, n, ports, 1, &small[1], edge, row, run + runs)
        wide = small[0].n > 256 or small[1].n > 256
        if ((small[0].n == 1 or fill_ports(b, &b.sport, &b.sport_wide, wide, run, runs) == 0)
                and (small[1].n == 1 or fill_ports(b, &b.dport, &b.dport_wide, wide, run + runs, others) == 0)):
            result = fill_small(b, small, row)
    for i in range(3):
        rows_forget(&small[i])
    if result == 0 and zones:
        b.zone = <uint16_t *> part(b, 65536 * 2)
        if b.zone == NULL or rows_init(&rows, b.words, 2 * n + 1):
            return -1
        fill_direct(b.zone, 65536, run, field_runs(f, chosen, n, rest, 1, &rows, edge, row, run))
        b.zone_rows = rows_take(b, &rows)
        if b.zone_rows == NULL:
            return -1
    return result


cdef int fill_small(broad_t *b, rows_t *small, uint64_t *row) noexcept nogil:
    # The small fields together, one row to AND instead of three; ports apart where there are too many of them.
    cdef uint32_t p, d, s, w, at = 0
    cdef uint64_t all
    cdef rows_t rows
    b.dports = small[1].n if <uint64_t> small[1].n * small[2].n <= SMALL else 1
    b.sports = small[0].n if <uint64_t> small[0].n * b.dports * small[2].n <= SMALL else 1
    all = <uint64_t> b.sports * b.dports * small[2].n
    b.small = <uint16_t *> part(b, all * 2)
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
                b.small[at] = <uint16_t> rows_class(&rows, row)
                at += 1
    b.small_rows = rows_take(b, &rows)
    if b.small_rows == NULL:
        return -1
    if b.sports != small[0].n:
        b.sport_rows = rows_take(b, &small[0])
        if b.sport_rows == NULL:
            return -1
    if b.dports != small[1].n:
        b.dport_rows = rows_take(b, &small[1])
        if b.dport_rows == NULL:
            return -1
    return 0


cdef void rows_free(broad_t *b) noexcept nogil:
    cdef uint32_t i
    if b == NULL:
        return
    for i in range(b.pieces):
        free(b.piece[i])
    free(b)


cdef size_t rows_bytes(const broad_t *b) noexcept nogil:
    return sizeof(broad_t) + b.bytes if b != NULL else 0

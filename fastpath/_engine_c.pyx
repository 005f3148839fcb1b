"""Makes the next version of a rule set's engine from the present one and a few changes, or from all entries."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from fastpath._classify cimport BROAD, DELTA, EMPTY_WORD, TABLES, broad_t, engine_t, wide_rule
from fastpath._entries cimport (
    IN_BROAD, IN_DELTA, IN_EXTRA, IN_TAIL, NONE, NOWHERE, entry_t, family_t,
)
from fastpath._entries_c cimport set_levels, sort_entries, wide
from fastpath._rows_c cimport rows_build, rows_free
from fastpath._tables_c cimport (
    CAP4_MORE, CAP6_MORE, bucket, leaf_write, lives_in, pool_close, pool_give, pool_open, pool_t, table_empty,
    tables_build,
)

cdef extern from * nogil:
    """
    static inline void np_store_word(uint32_t *at, uint32_t w) { __atomic_store_n(at, w, __ATOMIC_RELEASE); }
    static inline void np_and_word(uint64_t *at, uint64_t w) { __atomic_and_fetch(at, w, __ATOMIC_RELEASE); }
    """
    void np_store_word(uint32_t *at, uint32_t w)
    void np_and_word(uint64_t *at, uint64_t w)

cdef enum:
    UNITS = 1 << 20
    ROWS_MOST = 2048        # broad rules that rows may hold where tables cannot take them
    STANDING_BITS = 11      # of the directories of tables that stand by


cdef void retire(store_t *s, int what, void *at, uint32_t first, uint32_t units) noexcept nogil:
    # Something that the next version no longer has.
    cdef retired_t *more
    cdef retired_t *r
    if s.retirees == s.retired_room:
        more = <retired_t *> realloc(s.retired, (2 * s.retired_room + 64) * sizeof(retired_t))
        if more == NULL:
            return      # lost until the process ends
        s.retired = more
        s.retired_room = 2 * s.retired_room + 64
    r = &s.retired[s.retirees]
    s.retirees += 1
    r.epoch, r.what, r.at, r.first, r.units, r.pool = s.next_epoch, what, at, first, units, s.pools


cdef void retire_once(store_t *s, int what, void *at) noexcept nogil:
    # The same for what the draft may have replaced already.
    cdef size_t i
    if at == NULL:
        return
    for i in range(s.retirees):
        if s.retired[i].at == at:
            return
    retire(s, what, at, 0, 0)


cdef void reclaim(store_t *s, uint64_t oldest) noexcept nogil:
    cdef size_t i, kept = 0
    cdef retired_t *r
    for i in range(s.retirees):
        r = &s.retired[i]
        if r.epoch > oldest:
            s.retired[kept] = r[0]
            kept += 1
        elif r.what == FREE_MEMORY:
            free(r.at)
        elif r.what == FREE_ROWS:
            rows_free(<broad_t *> r.at)
        elif r.what == FREE_POOL:
            pool_close(<pool_t *> r.at)
            free(r.at)
        elif r.pool == s.pools:
            pool_give(&s.pool4 if r.what == GIVE_RUN4 else &s.pool6, r.first, r.units)
    s.retirees = kept


cdef int draft_copy(draft_t *d) noexcept nogil:
    if d.next == NULL:
        d.next = <engine_t *> malloc(sizeof(engine_t))
        if d.next == NULL:
            return -1
        memcpy(d.next, d.now, sizeof(engine_t))
    return 0


cdef uint32_t *directory_for(store_t *s, draft_t *d, uint32_t t) noexcept nogil:
    # The directory to write to: the published one for a single entry, else a copy that is published with the rest.
    cdef uint32_t *copy
    cdef size_t size
    if d.single:
        return d.now.table[t].directory
    if draft_copy(d):
        return NULL
    if not d.copied >> t & 1:
        size = <size_t> 4 << (32 - d.next.table[t].shift)
        copy = <uint32_t *> malloc(size)
        if copy == NULL:
            return NULL
        memcpy(copy, d.next.table[t].directory, size)
        retire(s, FREE_MEMORY, d.next.table[t].directory, 0, 0)
        d.next.table[t].directory = copy
        d.copied |= <uint32_t> 1 << t
    return d.next.table[t].directory


cdef uint32_t read_run(const pool_t *p, uint32_t word, uint32_t *run) noexcept nogil:
    # The entries of a bucket, in order.
    cdef size_t first = <size_t> (word & 0xFFFFF) * p.per_unit
    cdef uint32_t places = (word >> 20 & 0xF) * p.per_unit, n = 0
    if word == EMPTY_WORD:
        return 0
    while n < places and p.owner[first + n] != NONE:
        run[n] = p.owner[first + n]
        n += 1
    return n


cdef int put_run(store_t *s, family_t *f, pool_t *p, uint32_t *directory_word, uint32_t *run, uint32_t n) noexcept nogil:
    cdef uint32_t word = leaf_write(f, p, run, n), old = directory_word[0]
    if word == 0:
        return -1
    np_store_word(directory_word, word)
    if old != EMPTY_WORD:
        retire(s, GIVE_RUN4 if f.version == 4 else GIVE_RUN6, NULL, old & 0xFFFFF, old >> 20 & 0xF)
    return 0


cdef int take_out(store_t *s, family_t *f, pool_t *p, draft_t *d, uint32_t i) noexcept nogil:
    cdef uint8_t place = f.entry[i].place
    cdef engine_t *e = d.next if d.next != NULL else d.now
    cdef uint32_t *directory
    cdef uint32_t[64] run
    cdef uint32_t at, n, k, kept = 0
    cdef uint64_t *alive
    if d.full or place == NOWHERE:
        return 0
    if place == IN_TAIL or place == IN_EXTRA:
        d.full = True
        return 0
    if place == IN_BROAD or place == IN_DELTA:
        if d.rows:
            return 0    # they are built anew from what is left
        if place == IN_DELTA:
            if draft_copy(d):
                return -1
            e = d.next
            for at in range(e.deltas):
                if e.delta_entry[at] == i:
                    n = e.deltas - at - 1
                    memmove(&e.delta[at], &e.delta[at + 1], n * sizeof(wide_rule))
                    memmove(&e.delta_entry[at], &e.delta_entry[at + 1], n * 4)
                    e.deltas -= 1
                    break
            return 0
        at = f.entry[i].at
        if d.single:
            np_and_word(&d.now.alive[at >> 6], ~(<uint64_t> 1 << (at & 63)))
            return 0
        if draft_copy(d):
            return -1
        if not d.alive_copied:
            alive = <uint64_t *> malloc(<size_t> d.next.broad.words * 8)
            if alive == NULL:
                return -1
            memcpy(alive, d.next.alive, <size_t> d.next.broad.words * 8)
            retire(s, FREE_MEMORY, d.next.alive, 0, 0)
            d.next.alive = alive
            d.alive_copied = True
        d.next.alive[at >> 6] &= ~(<uint64_t> 1 << (at & 63))
        return 0
    at = bucket(f, &e.table[place], i)
    directory = directory_for(s, d, place)
    if directory == NULL:
        return -1
    n = read_run(p, directory[at], run)
    for k in range(n):
        if run[k] != i:
            run[kept] = run[k]
            kept += 1
    return put_run(s, f, p, &directory[at], run, kept)


cdef int put_in(store_t *s, family_t *f, pool_t *p, draft_t *d, uint32_t i) noexcept nogil:
    cdef engine_t *e = d.next if d.next != NULL else d.now
    cdef uint32_t t, at, word, n, j, most = CAP4_MORE if f.version == 4 else CAP6_MORE
    cdef uint32_t *directory
    cdef uint32_t[64] run
    if f.entry[i].more:
        d.full = True
    if d.full:
        return 0
    for t in range(e.tables):
        if not lives_in(f, &e.table[t], i):
            continue
        at = bucket(f, &e.table[t], i)
        n = read_run(p, e.table[t].directory[at], run)
        if n >= most:
            continue
        j = n
        while j and f.order[run[j - 1]] > f.order[i]:
            run[j] = run[j - 1]
            j -= 1
        run[j] = i
        directory = directory_for(s, d, t)
        if directory == NULL:
            return -1
        f.entry[i].place = <uint8_t> t
        return put_run(s, f, p, &directory[at], run, n + 1)
    f.entry[i].place = IN_DELTA
    if d.rows:
        return 0
    if draft_copy(d):
        return -1
    if d.next.deltas == DELTA:
        d.rows = True
        return 0
    wide(f, i, &d.next.delta[d.next.deltas])
    d.next.delta_entry[d.next.deltas] = i
    d.next.deltas += 1
    return 0


cdef int rows_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e) noexcept nogil:
    # The bit rows of `chosen` and their `alive` bits.
    cdef uint32_t i
    e.broad = NULL
    e.alive = NULL
    if n == 0:
        return 0
    e.broad = rows_build(f, chosen, n)
    if e.broad == NULL:
        return -1
    e.alive = <uint64_t *> malloc(<size_t> e.broad.words * 8)
    if e.alive == NULL:
        rows_free(e.broad)
        e.broad = NULL
        return -1
    memset(e.alive, 0xFF, <size_t> e.broad.words * 8)
    for i in range(n):
        f.entry[chosen[i]].place = IN_BROAD
    return 0


cdef int stand_by(store_t *s, family_t *f, pool_t *p, engine_t *e) noexcept nogil:
    # Where rules come in that only the rows could take, two coarse tables take the next ones: rows are costly to change.
    cdef uint8_t half = 16 if f.version == 4 else 32, source, destination
    cdef uint32_t turn, t
    cdef bint there
    if p.leaves == NULL and pool_open(p, f.per_unit, UNITS):
        return -1
    e.leaves, e.ranks = p.leaves, p.ranks
    for turn in range(2):
        source, destination = 0 if turn else half, half if turn else 0
        there = False
        for t in range(e.tables):
            if e.table[t].source <= source and e.table[t].destination <= destination and e.table[t].exact == 0:
                there = True
        if there or e.tables == TABLES:
            continue
        if table_empty(f, &e.table[e.tables], STANDING_BITS, source, destination, 0, &s.random):
            return -1
        e.tables += 1
    return 0


cdef int build_rows(store_t *s, family_t *f, pool_t *p, draft_t *d) noexcept nogil:
    # The broad rules anew, with those that waited.
    cdef uint32_t *chosen = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t n = sort_entries(f, chosen, True) if chosen != NULL else NONE
    cdef broad_t *rows
    cdef uint64_t *alive
    cdef int result = -1
    if n != NONE and draft_copy(d) == 0:
        if n > ROWS_MOST or (n > BROAD and n > f.rows_built + 256):
            d.full = True
            result = 0
        else:
            rows, alive = d.next.broad, d.next.alive
            result = rows_for(f, chosen, n, d.next)
            if result == 0:
                if d.alive_copied:
                    free(alive)
                else:
                    retire_once(s, FREE_MEMORY, alive)
                retire_once(s, FREE_ROWS, rows)
                d.next.deltas = 0
                result = stand_by(s, f, p, d.next)
            else:
                d.next.broad, d.next.alive = rows, alive
    free(chosen)
    return result


cdef int build_parts(store_t *s, family_t *f, pool_t *p, engine_t *e, uint32_t *chosen, uint32_t n) noexcept nogil:
    cdef long left = n
    cdef uint32_t i, rows
    if n > BROAD:
        if pool_open(p, f.per_unit, UNITS):
            return -1
        left = tables_build(f, e.table, &e.tables, p, chosen, n, BROAD, &s.random)
        if left < 0:
            return -1
        e.leaves, e.ranks = p.leaves, p.ranks
    rows = <uint32_t> left if left <= ROWS_MOST else ROWS_MOST
    if rows_for(f, chosen, rows, e):
        return -1
    f.rows_built = rows
    if left > rows:
        e.tail = <wide_rule *> malloc((left - rows) * sizeof(wide_rule))
        if e.tail == NULL:
            return -1
        for i in range(rows, <uint32_t> left):
            wide(f, chosen[i], &e.tail[e.tails])
            f.entry[chosen[i]].place = IN_TAIL
            e.tails += 1
    return 0


cdef void engine_free(engine_t *e) noexcept nogil:
    cdef uint32_t t
    if e == NULL:
        return
    for t in range(e.tables):
        free(e.table[t].directory)
    rows_free(e.broad)
    free(e.alive)
    free(e.tail)
    free(e.extra)
    free(e.extra_more)
    free(e)


cdef int build_full(store_t *s, family_t *f, pool_t *p, draft_t *d) noexcept nogil:
    # Everything anew from the entries, into a new pool.
    cdef uint32_t *chosen = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t all = sort_entries(f, chosen, False) if chosen != NULL else NONE
    cdef engine_t *e = <engine_t *> calloc(1, sizeof(engine_t))
    cdef pool_t *old = <pool_t *> malloc(sizeof(pool_t))
    cdef uint32_t i, n = 0, extras = 0, t
    cdef int result = -1
    if all != NONE and e != NULL and old != NULL:
        set_levels(f, chosen, all)
        for i in range(all):
            f.entry[chosen[i]].place = NOWHERE
            extras += f.entry[chosen[i]].more != 0
        e.extra = <wide_rule *> malloc(extras * sizeof(wide_rule) + 1)
        e.extra_more = <uint32_t *> malloc(<size_t> extras * 4 + 1)
        if e.extra != NULL and e.extra_more != NULL:
            for i in range(all):
                if f.entry[chosen[i]].more:
                    wide(f, chosen[i], &e.extra[e.extras])
                    e.extra_more[e.extras] = f.entry[chosen[i]].more
                    e.extras += 1
                    f.entry[chosen[i]].place = IN_EXTRA
                else:
                    chosen[n] = chosen[i]
                    n += 1
            old[0] = p[0]
            memset(p, 0, sizeof(pool_t))
            result = build_parts(s, f, p, e, chosen, n)
            if result:
                pool_close(p)
                p[0] = old[0]
    free(chosen)
    if result:
        free(old)
        engine_free(e)
        return -1
    # Of the draft, only what nobody has seen goes at once.
    if d.next != NULL:
        for t in range(d.next.tables):
            if d.copied >> t & 1 or t >= d.now.tables:
                free(d.next.table[t].directory)
        if d.next.broad != d.now.broad:
            rows_free(d.next.broad)
        if d.next.alive != d.now.alive:
            free(d.next.alive)
        free(d.next)
    for t in range(d.now.tables):
        retire_once(s, FREE_MEMORY, d.now.table[t].directory)
    retire_once(s, FREE_ROWS, d.now.broad)
    retire_once(s, FREE_MEMORY, d.now.alive)
    retire_once(s, FREE_MEMORY, d.now.tail)
    retire_once(s, FREE_MEMORY, d.now.extra)
    retire_once(s, FREE_MEMORY, d.now.extra_more)
    retire(s, FREE_POOL, old, 0, 0)
    s.pools += 1
    d.next = e
    return 0


cdef int finish(store_t *s, draft_t *d) noexcept nogil:
    cdef uint32_t k
    cdef family_t *f
    cdef pool_t *p
    for k in range(2):
        f = &s.six if k else &s.four
        p = &s.pool6 if k else &s.pool4
        if d[k].rows and not d[k].full and build_rows(s, f, p, &d[k]):
            return -1
        if d[k].full and build_full(s, f, p, &d[k]):
            return -1
        if d[k].next != NULL:
            d[k].next.ids = s.ids
        elif d[k].now.ids != s.ids:
            if draft_copy(&d[k]):
                return -1
            d[k].next.ids = s.ids
    return 0

"""Makes the next version of a rule set's engine from the present one and a few changes, or from all entries."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from fastpath._atomic cimport np_load_epoch, np_store_word
from fastpath._classify cimport (
    BROAD, DELTA, EMPTY_WORD, NO_RANK, TABLES, TAIL_BLOCK, broad_t, engine_t, table_t, wide_rule,
)
from fastpath._broad_c cimport (
    draft_copy, give_bit, rows_for, tail_drop, tail_for, tail_free, tail_retire, take_bit, take_tail,
)
from fastpath._entries cimport IN_BROAD, IN_DELTA, IN_EXTRA, IN_TAIL, NONE, NOWHERE, entry_t, family_t, rank_of
from fastpath._entries_c cimport ALL, ROWS, set_levels, sort_entries, wide
from fastpath._fetch cimport __builtin_prefetch
from fastpath._retired cimport retire, retired_room
from fastpath._rows_c cimport rows_fit, rows_free
from fastpath._tables_c cimport (
    CAP4, CAP4_MORE, CAP6, CAP6_MORE, bucket, leaf_change, level_before, lives_in, pool_close, pool_give, pool_open, pool_t,
    shorten, table_empty, tables_build, word_of,
)

cdef enum:
    SOON = 8                # things retired after which one will be given back
    UNITS = 1 << 20
    ROWS_MOST = TAIL_BLOCK  # broad rules that rows may hold where tables cannot take them
    ROWS_SMALL = 1 << 14    # rules of a set that may all be in rows, if those take at most
    ROWS_BYTES = 8 << 20
    STANDING_BITS = 11      # of the directories of tables that stand by
    HALF4 = 16              # the prefix length that they ask for
    HALF6 = 32


cdef void reclaim(store_t *s, uint64_t oldest) noexcept nogil:
    cdef retired_t r
    cdef const retired_t *later
    cdef const pool_t *p
    while s.first_retired < s.retirees:
        r = s.retired[s.first_retired & (s.retired_room - 1)]
        if r.epoch > oldest:
            break
        later = &s.retired[(s.first_retired + SOON) & (s.retired_room - 1)]
        if s.first_retired + SOON < s.retirees and later.what == SETTLE:
            __builtin_prefetch(later.at, 1)
        s.first_retired += 1
        if r.what == FREE_MEMORY:
            free(r.at)
        elif r.what == FREE_ROWS:
            rows_free(<broad_t *> r.at)
        elif r.what == FREE_POOL:
            pool_close(<pool_t *> r.at)
            free(r.at)
        elif r.pool != s.pools[r.six]:
            pass            # the whole pool goes
        elif r.what == GIVE_RUN:
            pool_give(&s.pool[r.six], r.first, r.units)
        elif (<uint32_t *> r.at)[0] & 0xFFFFFF == r.first | r.units << 20:
            # All readers see the bucket as it is, so it may say that itself. Who looks just now still goes by the run.
            p = &s.pool[r.six]
            if p.ranks[<size_t> r.first * p.per_unit] == NO_RANK:
                np_store_word(<uint32_t *> r.at, EMPTY_WORD)
                retire(s, GIVE_RUN, r.six, NULL, r.first, 1, s.next_epoch + 1)
            else:
                np_store_word(<uint32_t *> r.at, word_of(p, r.first, r.units))


cdef void note_readers(store_t *s, uint64_t *reading) noexcept nogil:
    cdef uint64_t e
    cdef int i
    s.readers, s.oldest = 0, s.next_epoch - 1
    for i in range(64):
        e = np_load_epoch(&reading[i])
        if e:
            s.reader[s.readers] = e
            s.readers += 1
            s.oldest = min(s.oldest, e >> 1)


cdef uint32_t run_length(const pool_t *p, uint32_t word) noexcept nogil:
    # How many entries a bucket has.
    cdef const uint32_t *owner = &p.owner[<size_t> (word & 0xFFFFF) * p.per_unit]
    cdef uint32_t places = (word >> 20 & 0xF) * p.per_unit, n = 0
    if word == EMPTY_WORD:
        return 0
    while n < places and owner[n] != NONE:
        n += 1
    return n


cdef int put_run(store_t *s, int k, draft_t *d, uint32_t *at, uint32_t n, uint32_t slot, uint32_t i) noexcept nogil:
    # Let a bucket lead, from the version that is being made on, to its n entries with one more or, for NONE, without the
    # one in `slot`. -1: no memory, nothing has changed.
    cdef pool_t *p = &s.pool[k]
    cdef uint32_t word, level, old = at[0]
    if retired_room(s, 2):
        return -1
    word = leaf_change(&s.family[k], p, old, n, slot, i)
    if word == 0:
        return -1
    # A reader passes a bucket over by its word's level, before it asks whether that came after its version.
    level = level_before(p, s.oldest, d.now.base, old)
    if level < word >> 24:
        retire(s, SETTLE, k, at, word & 0xFFFFF, word >> 20 & 0xF, s.next_epoch)
        word = word & 0xFFFFFF | level << 24
    # Empty buckets' readers ask the first run, whoever has it.
    np_store_word(&p.came[word & 0xFFFFF], <uint32_t> (s.next_epoch - d.now.base))
    p.before[word & 0xFFFFF] = old
    np_store_word(at, word)
    shorten(p, s.reader, s.readers, s.next_epoch, d.now.base, old)
    if old != EMPTY_WORD:
        retire(s, GIVE_RUN, k, NULL, old & 0xFFFFF, old >> 20 & 0xF, s.next_epoch)
    return 0


cdef int take_waiting(draft_t *d, uint32_t i) noexcept nogil:
    # Remove one of those that wait for the rows.
    cdef uint32_t at, n
    if draft_copy(d):
        return -1
    for at in range(d.next.deltas):
        if d.next.delta_entry[at] == i:
            n = d.next.deltas - at - 1
            memmove(&d.next.delta[at], &d.next.delta[at + 1], n * sizeof(wide_rule))
            memmove(&d.next.delta_entry[at], &d.next.delta_entry[at + 1], n * 4)
            d.next.deltas -= 1
            break
    return 0


cdef void take_out(store_t *s, int k, draft_t *d, uint32_t i) noexcept nogil:
    cdef family_t *f = &s.family[k]
    cdef uint8_t place = f.entry[i].place
    cdef table_t *t
    cdef uint32_t *at
    cdef const uint32_t *owner
    cdef uint32_t n, slot = 0
    if d.full or place == NOWHERE:
        return
    if place == IN_TAIL:
        if take_tail(f, d, i):
            d.full = True
    elif place == IN_EXTRA:
        d.extras = True
    elif place == IN_BROAD or place == IN_DELTA:
        # Rows are built from what is left.
        if not d.rows and (take_bit(s, f, d, i) if place == IN_BROAD else take_waiting(d, i)):
            d.full = True
    else:
        t = &(d.next if d.next != NULL else d.now).table[place]
        at = &t.directory[bucket(f, t, i)]
        n = run_length(&s.pool[k], at[0])
        owner = &s.pool[k].owner[<size_t> (at[0] & 0xFFFFF) * f.per_unit]
        while owner[slot] != i:
            slot += 1
        if put_run(s, k, d, at, n, slot, NONE):
            d.full = True
        f.left[place] += 1


cdef const uint32_t *word_for(const store_t *s, int k, const draft_t *d, uint32_t i) noexcept nogil:
    cdef const family_t *f = &s.family[k]
    cdef const engine_t *e = d.next if d.next != NULL else d.now
    cdef uint32_t t = f.entry[i].place
    if d.full:
        return NULL
    if t == NOWHERE and f.entry[i].more == 0:
        t = 0
        while t < e.tables and not lives_in(f, &e.table[t], i):
            t += 1
    return &e.table[t].directory[bucket(f, &e.table[t], i)] if t < e.tables else NULL


cdef void put_in(store_t *s, int k, draft_t *d, uint32_t i) noexcept nogil:
    cdef family_t *f = &s.family[k]
    cdef engine_t *e
    cdef uint32_t turn, t, n, slot, more = CAP6_MORE if k else CAP4_MORE
    cdef uint32_t *at
    cdef const uint64_t *ranks
    cdef uint64_t rank
    if d.full:
        return
    if f.entry[i].more:
        f.entry[i].place = IN_EXTRA
        d.extras = True
        return
    if not d.rows and give_bit(s, f, d, i):
        return
    e = d.next if d.next != NULL else d.now
    # Where a build would have put it, if there is room; else where there is more than a build would take.
    for turn in range(2 * e.tables):
        t = turn if turn < e.tables else turn - e.tables
        if not lives_in(f, &e.table[t], i):
            continue
        at = &e.table[t].directory[bucket(f, &e.table[t], i)]
        n = run_length(&s.pool[k], at[0])
        if n >= (e.table[t].cap if turn < e.tables else more):
            continue
        rank = rank_of(f, f.order[i])
        ranks = &s.pool[k].ranks[<size_t> (at[0] & 0xFFFFF) * f.per_unit]
        slot = n
        while slot and ranks[slot - 1] > rank:
            slot -= 1
        f.entry[i].place = <uint8_t> t
        if put_run(s, k, d, at, n, slot, i):
            d.full = True
        if f.left[t] and turn < e.tables:
            f.left[t] -= 1
            s.returned += 1
        return
    f.entry[i].place = IN_DELTA
    if d.rows:
        return
    if draft_copy(d):
        d.full = True
    elif d.next.deltas == DELTA:
        d.rows = True
    else:
        wide(f, i, &d.next.delta[d.next.deltas])
        d.next.delta_entry[d.next.deltas] = i
        d.next.deltas += 1


cdef int list_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e) noexcept nogil:
    # The rules that every packet is compared with. -1: no memory, `e` is as it was.
    cdef wide_rule *rules = NULL
    cdef uint32_t *more = NULL
    cdef uint32_t i
    if n:
        rules = <wide_rule *> malloc(n * sizeof(wide_rule))
        more = <uint32_t *> malloc(<size_t> n * 4)
        if rules == NULL or more == NULL:
            free(rules)
            free(more)
            return -1
    for i in range(n):
        wide(f, chosen[i], &rules[i])
        more[i] = f.entry[chosen[i]].more
        f.entry[chosen[i]].place = IN_EXTRA
    e.extra, e.extra_more, e.extras = rules, more, n
    return 0


cdef int list_again(family_t *f, draft_t *d) noexcept nogil:
    cdef uint32_t *chosen = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t n = sort_entries(f, chosen, IN_EXTRA) if chosen != NULL else NONE
    cdef int result = -1
    if n != NONE and draft_copy(d) == 0:
        result = list_for(f, chosen, n, d.next)
    free(chosen)
    return result


cdef int stand_by(store_t *s, int k, engine_t *e, const uint32_t *waited) noexcept nogil:
    # Where rules come in that only the rows could take, a coarse table takes the next ones, for rows are costly to
    # change. `waited`: how many have waited, and how many of those had a source, a destination, both. Each table costs every
    # lookup, so there is one more only when those that are there did not suffice.
    cdef pool_t *p = &s.pool[k]
    cdef family_t *f = &s.family[k]
    cdef uint8_t half = HALF6 if k else HALF4, source, destination
    cdef uint32_t turn, t, asked
    cdef bint there
    if p.leaves == NULL and pool_open(p, f.per_unit, UNITS, 0):
        return -1
    e.leaves, e.ranks, e.came, e.before = p.leaves, p.ranks, p.came, p.before
    for turn in range(3):
        # Both, if most have both: of what lies in few networks, short runs. Then by what more of them have.
        if turn == 0:
            if 2 * waited[3] < waited[0]:
                continue
            asked = 3
        else:
            asked = turn if waited[1] > waited[2] else 3 - turn
        source, destination = half if asked & 1 else 0, half if asked & 2 else 0
        there = False
        for t in range(e.tables):
            if e.table[t].source <= source and e.table[t].destination <= destination and e.table[t].exact == 0:
                there = True
        if there:
            continue
        if e.tables == TABLES:
            break
        if table_empty(f, &e.table[e.tables], STANDING_BITS, source, destination, 0, &s.random):
            return -1
        e.tables += 1
        break
    return 0


cdef void waiting(const family_t *f, int k, const uint32_t *chosen, uint32_t n, uint32_t *waited) noexcept nogil:
    # What `stand_by` asks about the rules that wait for the rows.
    cdef uint8_t half = HALF6 if k else HALF4
    cdef uint32_t i, asked
    memset(waited, 0, 16)
    for i in range(n):
        if f.entry[chosen[i]].place == IN_DELTA:
            asked = (f.entry[chosen[i]].source >= half) | (f.entry[chosen[i]].destination >= half) << 1
            waited[0] += 1
            waited[1] += asked & 1
            waited[2] += asked >> 1
            waited[3] += asked == 3


cdef int build_rows(store_t *s, int k, draft_t *d) noexcept nogil:
    # The broad rules anew, with those that waited.
    cdef family_t *f = &s.family[k]
    cdef uint32_t *chosen = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t n = sort_entries(f, chosen, ROWS) if chosen != NULL else NONE
    cdef engine_t was
    cdef uint32_t[4] waited
    cdef int result = -1
    if n != NONE and draft_copy(d) == 0:
        if n > BROAD and n > f.rows_built + 256:
            d.full = True
            result = 0
        else:
            was = d.next[0]
            waiting(f, k, chosen, n, waited)
            result = rows_for(f, chosen, n, d.next, s.next_epoch)
            if result == 0:
                # What an earlier step of this draft made, nobody has seen.
                if was.alive != d.now.alive:
                    free(was.alive)
                if was.rank != d.now.rank:
                    free(was.rank)
                d.next.deltas = 0
                # Who comes once is in the rows now. If others come, too, they are to find a table.
                if f.rows_again:
                    result = stand_by(s, k, d.next, waited)
                f.rows_again = True
    free(chosen)
    return result


cdef int build_parts(store_t *s, int k, pool_t *p, engine_t *e, uint32_t *chosen, uint32_t n) noexcept nogil:
    cdef family_t *f = &s.family[k]
    cdef long left = n
    cdef uint32_t rows = ROWS_MOST
    if n > BROAD:
        if pool_open(p, f.per_unit, UNITS, n):
            return -1
        # Rows of a thousand and more lie in farther caches, and are still better than many tables.
        if n > ROWS_MOST and n <= ROWS_SMALL and rows_fit(f, chosen, n, ROWS_BYTES):
            rows = n
        left = tables_build(f, e.table, &e.tables, p, chosen, n, BROAD, rows, &s.random)
        if left < 0:
            return -1
        e.leaves, e.ranks, e.came, e.before = p.leaves, p.ranks, p.came, p.before
    rows = <uint32_t> left if left <= rows else rows
    f.rows_built, f.rows_again = rows, False
    if rows_for(f, chosen, rows, e, s.next_epoch):
        return -1
    return tail_for(f, chosen + rows, <uint32_t> left - rows, e)


cdef void engine_free(engine_t *e) noexcept nogil:
    cdef uint32_t t
    if e == NULL:
        return
    for t in range(e.tables):
        free(e.table[t].directory)
    rows_free(e.broad)
    free(e.alive)
    free(e.rank)
    tail_free(e.tail, e.tails)
    free(e.extra)
    free(e.extra_more)
    free(e)


cdef void drop_one(store_t *s, int k, draft_t *d) noexcept nogil:
    # What the draft does not share with what is published.
    cdef uint32_t t
    cdef engine_t *e = d.next
    if d.old != NULL:
        pool_close(&s.pool[k])
        s.pool[k] = d.old[0]
        free(d.old)
        d.old = NULL
        engine_free(e)
    elif e != NULL:
        for t in range(d.now.tables, e.tables):
            free(e.table[t].directory)
        if e.broad != d.now.broad:
            rows_free(e.broad)
        if e.alive != d.now.alive:
            free(e.alive)
        if e.rank != d.now.rank:
            free(e.rank)
        if e.tail != d.now.tail:
            tail_drop(d)
        if e.extra != d.now.extra:
            free(e.extra)
        if e.extra_more != d.now.extra_more:
            free(e.extra_more)
        free(e)
    d.next = NULL


cdef void drop(store_t *s, draft_t *d, size_t retirees) noexcept nogil:
    drop_one(s, 0, &d[0])
    drop_one(s, 1, &d[1])
    s.retirees = retirees


cdef int build_full(store_t *s, int k, draft_t *d) noexcept nogil:
    # Everything anew from the entries, into a new pool.
    cdef family_t *f = &s.family[k]
    cdef uint32_t *chosen = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t *plain = <uint32_t *> malloc(<size_t> (f.count + 1) * 4)
    cdef uint32_t all = sort_entries(f, chosen, ALL) if chosen != NULL and plain != NULL else NONE
    cdef engine_t *e = <engine_t *> calloc(1, sizeof(engine_t))
    cdef pool_t *old = <pool_t *> malloc(sizeof(pool_t))
    cdef pool_t fresh
    cdef uint32_t i, n = 0, extras = 0
    cdef int result = -1
    memset(&fresh, 0, sizeof(fresh))
    drop_one(s, k, d)
    memset(f.left, 0, sizeof(f.left))
    if all != NONE and e != NULL and old != NULL:
        set_levels(f, chosen, all)
        for i in range(all):
            f.entry[chosen[i]].place = NOWHERE
            if f.entry[chosen[i]].more:
                chosen[extras] = chosen[i]
                extras += 1
            else:
                plain[n] = chosen[i]
                n += 1
        e.base, e.pending = s.next_epoch, &s.pending
        result = list_for(f, chosen, extras, e)
        if result == 0:
            result = build_parts(s, k, &fresh, e, plain, n)
    free(chosen)
    free(plain)
    if result:
        pool_close(&fresh)
        free(old)
        engine_free(e)
        return -1
    fresh.since = s.next_epoch
    old[0] = s.pool[k]
    s.pool[k] = fresh
    d.old, d.next = old, e
    return 0


cdef int finish_one(store_t *s, int k, draft_t *d) noexcept nogil:
    cdef family_t *f = &s.family[k]
    if d.rows and not d.full and build_rows(s, k, d):
        d.full = True
    if d.extras and not d.full and list_again(f, d):
        d.full = True
    if d.full and build_full(s, k, d):
        return -1
    return draft_copy(d) if d.now.ids != s.ids else 0


cdef int finish(store_t *s, draft_t *d) noexcept nogil:
    if finish_one(s, 0, &d[0]) or finish_one(s, 1, &d[1]):
        return -1
    return make_room(s)


cdef int make_room(store_t *s) noexcept nogil:
    return retired_room(s, 2 * (TABLES + 9) + 3 * (<size_t> s.tails[0] + s.tails[1]))


cdef void succeed(store_t *s, draft_t *d) noexcept nogil:
    cdef uint32_t t
    cdef int k
    cdef engine_t *now
    cdef engine_t *e
    if d[0].now.ids != s.ids:
        retire(s, FREE_MEMORY, 0, d[0].now.ids, 0, 0, s.next_epoch)
    for k in range(2):
        now, e = d[k].now, d[k].next
        if e == NULL:
            continue
        if e.broad != now.broad:
            retire(s, FREE_ROWS, k, now.broad, 0, 0, s.next_epoch)
        if e.alive != now.alive:
            retire(s, FREE_MEMORY, k, now.alive, 0, 0, s.next_epoch)
        if e.rank != now.rank:
            retire(s, FREE_MEMORY, k, now.rank, 0, 0, s.next_epoch)
        if e.tail != now.tail:
            tail_retire(s, k, &d[k])
        if e.extra != now.extra:
            retire(s, FREE_MEMORY, k, now.extra, 0, 0, s.next_epoch)
            retire(s, FREE_MEMORY, k, now.extra_more, 0, 0, s.next_epoch)
        if d[k].old != NULL:
            for t in range(now.tables):
                retire(s, FREE_MEMORY, k, now.table[t].directory, 0, 0, s.next_epoch)
            retire(s, FREE_POOL, k, d[k].old, 0, 0, s.next_epoch)
            s.pools[k] += 1
        retire(s, FREE_MEMORY, k, now, 0, 0, s.next_epoch)

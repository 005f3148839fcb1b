"""The rules of a rule set by id, and what one transaction does to them, forwards and back."""

from cpython.array cimport array, clone
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from fastpath._classify cimport engine_t
from fastpath._engine_c cimport draft_t, make_room, put_in, take_out, word_for
from fastpath._entries cimport NONE, entry_t, family_t, packed_t
from fastpath._entries_c cimport entries_copy, entries_reserve, entry_free, entry_make, entry_record
from fastpath._fetch cimport __builtin_prefetch, fetch_entry, fetch_run

from fastpath.rules import PRIORITIES, ZONES, RuleError, pack

cdef enum:
    LEAST_CHANGES = 256     # before a set is built anew by itself
    BLOCK = 16              # rules whose memory is fetched at once
    RENUMBER = 1 << 18      # numbers that may be unused, and
    NUMBERS = 16            # for each rule: everything is built anew then, which takes its time


NO_IDS = array("I")


cdef uint32_t parts_of(const packed_t *r) noexcept nogil:
    # A zone without a direction is two ranges.
    return 2 if r.zone != 0xFFFF and r.direction == 2 else 1


cdef void forget_entries(state_t *s, draft_t *d, uint32_t id) noexcept nogil:
    # Take a rule's entries out (of drafts, if there are any) and free them.
    cdef uint32_t i, sibling
    cdef int k
    cdef family_t *f
    for k in range(2):
        f = &s.store.family[k]
        i = s.rule[id].first[k]
        while i != NONE:
            sibling = f.entry[i].sibling
            if d != NULL:
                take_out(&s.store, k, &d[k], i)
            entry_free(f, i)
            i = sibling
        s.rule[id].first[k] = NONE


cdef void make_entries(state_t *s, const packed_t *r, uint32_t id) noexcept nogil:
    # Make a rule's entries, with the id and number that it has. There is room for them.
    cdef uint32_t i, parts, number = s.rule[id].number
    cdef int k
    cdef family_t *f
    s.rule[id].first[0] = s.rule[id].first[1] = NONE
    for k in range(2):
        if not r.versions >> k & 1:
            continue
        f = &s.store.family[k]
        parts = parts_of(r)
        while parts:
            parts -= 1
            i = entry_make(f, r, id, number, <int> parts if parts_of(r) == 2 else r.direction)
            f.entry[i].sibling = s.rule[id].first[k]
            s.rule[id].first[k] = i


cdef void put_entries(state_t *s, draft_t *d, uint32_t id) noexcept nogil:
    # Put a rule's entries in.
    cdef uint32_t i
    cdef int k
    for k in range(2):
        i = s.rule[id].first[k]
        while i != NONE:
            put_in(&s.store, k, &d[k], i)
            i = s.store.family[k].entry[i].sibling


cdef void fetch_buckets(state_t *s, const draft_t *d, const uint32_t *ids, uint32_t n) noexcept nogil:
    # Where the entries of a few rules live, or will.
    cdef const uint32_t *words[2 * BLOCK]
    cdef uint32_t i, e
    for i in range(2 * n):
        e = s.rule[ids[i >> 1]].first[i & 1]
        words[i] = word_for(&s.store, i & 1, &d[i & 1], e) if e != NONE else NULL
        if words[i] != NULL:
            __builtin_prefetch(words[i], 1)
    for i in range(2 * n):
        if words[i] != NULL:
            fetch_run(&s.store.pool[i & 1], words[i][0])


cdef void fetch_rules(state_t *s, const draft_t *d, const uint32_t *ids, uint32_t n) noexcept nogil:
    # A few rules, their entries, and where those live.
    cdef uint32_t i, e
    for i in range(n):
        __builtin_prefetch(&s.rule[ids[i]], 1)
    for i in range(2 * n):
        e = s.rule[ids[i >> 1]].first[i & 1]
        if e != NONE:
            fetch_entry(&s.store.family[i & 1], e)
    fetch_buckets(s, d, ids, n)


cdef inline void note(state_t *s, uint32_t id) noexcept nogil:
    # There is room for every id once.
    if s.noted != NULL and not s.rule[id].noted:
        s.rule[id].noted = 1
        s.noted[s.notes] = id
        s.notes += 1


cdef uint32_t take_rule(state_t *s) noexcept nogil:
    # A new rule's id, with the next number. There is room for it.
    cdef uint32_t id = s.free_rule
    if id == NONE:
        id = s.rules
        s.rules += 1
    else:
        s.free_rule = s.rule[id].number
    s.rule[id].number = s.next_number
    s.rule[id].live = 1
    if s.store.ids != NULL:
        # The published table is only written to beyond what anybody reads.
        s.store.ids[s.next_number] = id
    s.next_number += 1
    s.live += 1
    return id


cdef void record_of(const state_t *s, uint32_t id, packed_t *r) noexcept nogil:
    # A rule as it was packed, from its entries.
    memset(r, 0, sizeof(packed_t))
    if s.rule[id].first[0] != NONE:
        entry_record(&s.store.family[0], s.rule[id].first[0], r)
    if s.rule[id].first[1] != NONE:
        entry_record(&s.store.family[1], s.rule[id].first[1], r)


ctypedef struct sort_t:
    uint32_t number
    uint32_t id


cdef int by_number(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const sort_t *> a).number
    cdef uint32_t y = (<const sort_t *> b).number
    return 1 if x > y else -1 if x < y else 0


cdef void set_ids(state_t *s, const engine_t *published, uint32_t *ids, uint32_t room) noexcept nogil:
    # A new table; the published one goes when the next version is published.
    if s.store.ids != published.ids:
        free(s.store.ids)
    s.store.ids, s.ids_room = ids, room


cdef int renumber(state_t *s, const engine_t *published, size_t more) noexcept nogil:
    # Rules that came and went leave holes in the numbers: close them. Everything must be built anew after it.
    cdef uint32_t room = <uint32_t> (s.live + more + 64)
    cdef sort_t *all = <sort_t *> malloc((<size_t> s.live + 1) * sizeof(sort_t))
    cdef uint32_t *ids = <uint32_t *> malloc(<size_t> room * 4)
    cdef uint32_t i, e, n = 0
    cdef int k
    cdef family_t *f
    if all == NULL or ids == NULL:
        free(all)
        free(ids)
        return NO_MEMORY
    for i in range(s.rules):
        if s.rule[i].live:
            all[n].number, all[n].id = s.rule[i].number, i
            n += 1
    qsort(all, n, sizeof(sort_t), by_number)
    for i in range(n):
        ids[i] = all[i].id
        s.rule[ids[i]].number = i
        for k in range(2):
            f = &s.store.family[k]
            e = s.rule[ids[i]].first[k]
            while e != NONE:
                f.order[e] = f.order[e] >> 32 << 32 | i
                e = f.entry[e].sibling
    free(all)
    set_ids(s, published, ids, room)
    s.next_number = n
    s.renumbered = True
    return 0


cdef uint64_t most_numbers(const state_t *s) noexcept nogil:
    return NUMBERS * <uint64_t> s.live + RENUMBER


cdef bint build_pays(const state_t *s) noexcept nogil:
    return ((s.since_build >= LEAST_CHANGES and s.since_build >= s.live // 4)
            or s.next_number > most_numbers(s) // 2)


cdef int reserve_ids(state_t *s, const engine_t *published, const change_t *c) noexcept nogil:
    # From now on `ids` has room for the new numbers, or is not needed.
    cdef uint32_t *ids
    cdef uint32_t i
    cdef size_t room
    if s.store.ids == NULL and s.rules == s.next_number and s.free_rule == NONE and c.removals == 0:
        return 0
    if c.additions == 0 or (s.store.ids != NULL and s.next_number + c.additions <= s.ids_room):
        return 0
    room = 2 * (s.next_number + c.additions) + 64
    if room > most_numbers(s):
        room = s.next_number + c.additions + 64 if s.next_number + c.additions > most_numbers(s) else most_numbers(s)
    ids = <uint32_t *> malloc(room * 4)
    if ids == NULL:
        return NO_MEMORY
    for i in range(s.next_number):
        ids[i] = s.store.ids[i] if s.store.ids != NULL else i
    set_ids(s, published, ids, <uint32_t> room)
    return 0


cdef int reserve_rules(state_t *s, size_t n) noexcept nogil:
    # Room for ids less than `n`, and to note them. -1: no memory.
    cdef size_t room = s.room + s.room // 4 + 16
    cdef void *at
    if n <= s.room:
        return 0
    if room < n:
        room = n
    at = realloc(s.rule, room * sizeof(rule_t))
    if at == NULL:
        return -1
    s.rule = <rule_t *> at
    if s.noted != NULL:
        at = realloc(s.noted, room * 4)
        if at == NULL:
            return -1
        s.noted = <uint32_t *> at
    # Ids that were never given out are not live and not noted.
    memset(s.rule + s.room, 0, (room - s.room) * sizeof(rule_t))
    s.room = <uint32_t> room
    return 0


cdef int reserve(state_t *s, const engine_t *published, const change_t *c, bint full) noexcept nogil:
    # Everything that the rules themselves need for a transaction, so that it cannot end half way.
    cdef size_t i
    cdef size_t[2] parts
    cdef const packed_t *r
    parts[0] = parts[1] = 0
    for i in range(c.additions + c.replacing):
        r = &c.added[i] if i < c.additions else &c.replacements[i - c.additions]
        parts[0] += parts_of(r) * (r.versions & 1)
        parts[1] += parts_of(r) * (r.versions >> 1 & 1)
    if s.store.family[0].live + parts[0] > MOST_ENTRIES or s.store.family[1].live + parts[1] > MOST_ENTRIES:
        return TOO_MANY
    if entries_reserve(&s.store.family[0], parts[0]) or entries_reserve(&s.store.family[1], parts[1]):
        return NO_MEMORY
    if reserve_rules(s, <size_t> s.rules + c.additions):
        return NO_MEMORY
    if (s.next_number + <uint64_t> c.additions > most_numbers(s)
            or (full and s.next_number > 2 * <uint64_t> s.live + 64)):
        if renumber(s, published, c.additions):
            return NO_MEMORY
        s.broken = True     # until everything was built with the new numbers
    return reserve_ids(s, published, c)


cdef inline uint32_t block(size_t left) noexcept nogil:
    return BLOCK if left > BLOCK else <uint32_t> left


cdef size_t apply(state_t *s, draft_t *d, const change_t *c, taken_t *taken) noexcept nogil:
    # One transaction, on the rules and on the drafts; `taken` gets what it removes and replaces.
    cdef size_t i, first, returned
    cdef uint32_t id
    for i in range(c.removals + c.replacing):
        if i < c.removals:
            id = c.removed[i]
            if i % BLOCK == 0:
                fetch_rules(s, d, &c.removed[i], block(c.removals - i))
        else:
            id = c.replaced[i - c.removals]
            if (i - c.removals) % BLOCK == 0:
                fetch_rules(s, d, &c.replaced[i - c.removals], block(c.removals + c.replacing - i))
        record_of(s, id, &taken[i].record)
        taken[i].number = s.rule[id].number
        note(s, id)
        forget_entries(s, d, id)
        if i < c.removals:
            s.rule[id].live = 0
            s.live -= 1
        else:
            make_entries(s, &c.replacements[i - c.removals], id)
            put_entries(s, d, id)
    returned = s.store.returned
    for i in range(c.removals):
        s.rule[c.removed[i]].number = s.free_rule
        s.free_rule = c.removed[i]
    for i in range(c.additions):
        id = take_rule(s)
        note(s, id)
        make_entries(s, &c.added[i], id)
        c.ids[i] = id
        if (i + 1) % BLOCK == 0 or i + 1 == c.additions:
            first = i // BLOCK * BLOCK
            fetch_buckets(s, d, &c.ids[first], <uint32_t> (i + 1 - first))
            while first <= i:
                put_entries(s, d, c.ids[first])
                first += 1
    return c.removals + c.replacing + c.additions + returned


cdef void revert(state_t *s, const change_t *c, const taken_t *taken, uint32_t rules) noexcept nogil:
    # The rules as they were before `apply`; `rules` is how many ids there were.
    cdef size_t i
    cdef uint32_t id
    for i in range(c.additions):
        id = c.ids[c.additions - 1 - i]
        forget_entries(s, NULL, id)
        s.rule[id].live = 0
        s.live -= 1
        s.next_number -= 1
        if id >= rules:
            s.rules -= 1
        else:
            s.rule[id].number = s.free_rule
            s.free_rule = id
    for i in range(c.removals):
        s.free_rule = s.rule[s.free_rule].number
    for i in range(c.removals + c.replacing):
        id = c.removed[i] if i < c.removals else c.replaced[i - c.removals]
        forget_entries(s, NULL, id)
        s.rule[id].number = taken[i].number
        if i < c.removals:
            s.rule[id].live = 1
            s.live += 1
        make_entries(s, &taken[i].record, id)


cdef int copy_rules(const state_t *s, state_t *o) noexcept nogil:
    # The rules of one set to a new one, which must be built then.
    cdef int k
    for k in range(2):
        if entries_copy(&o.store.family[k], &s.store.family[k]):
            return -1
    if reserve_rules(o, <size_t> s.rules + 1):
        return -1
    if s.rules:
        memcpy(o.rule, s.rule, <size_t> s.rules * sizeof(rule_t))
    if s.store.ids != NULL:
        o.store.ids = <uint32_t *> malloc(<size_t> (s.next_number + 1) * 4)
        if o.store.ids == NULL:
            return -1
        memcpy(o.store.ids, s.store.ids, <size_t> s.next_number * 4)
        o.ids_room = s.next_number + 1
    o.rules, o.free_rule, o.live, o.next_number = s.rules, s.free_rule, s.live, s.next_number
    o.broken = True
    return 0


cdef int note_changes(state_t *s) noexcept nogil:
    cdef uint32_t i
    s.noted = <uint32_t *> malloc(<size_t> s.room * 4 + 4)
    if s.noted == NULL:
        return -1
    for i in range(s.rules):
        s.rule[i].noted = 0
    s.notes, s.renumbered = 0, False
    return 0


cdef void forget_changes(state_t *s) noexcept nogil:
    free(s.noted)
    s.noted = NULL


cdef int report(state_t *s, report_t *r) noexcept nogil:
    cdef uint32_t i, id
    r.n = 0
    r.rules, r.free_rule, r.next_number = s.rules, s.free_rule, s.next_number
    r.news = <news_t *> malloc((<size_t> s.notes + 1) * sizeof(news_t))
    if r.news == NULL:
        return -1
    for i in range(s.notes):
        id = s.noted[i]
        s.rule[id].noted = 0
        if id >= s.rules:
            continue        # of a transaction that was reverted
        r.news[r.n].id, r.news[r.n].number, r.news[r.n].live = id, s.rule[id].number, s.rule[id].live
        if s.rule[id].live:
            record_of(s, id, &r.news[r.n].record)
        r.n += 1
    s.notes = 0
    return 0


cdef int reserve_news(state_t *s, const engine_t *published, report_t *r, uint32_t since, uint32_t less) noexcept nogil:
    cdef size_t[2] parts
    cdef news_t *news
    cdef uint32_t i
    cdef int k
    cdef change_t c
    parts[0] = parts[1] = 0
    for i in range(r.n):
        for k in range(2):
            if r.news[i].live and r.news[i].record.versions >> k & 1:
                parts[k] += parts_of(&r.news[i].record)
    memset(&c, 0, sizeof(c))
    c.additions, c.removals = r.next_number - less - s.next_number, 1
    if (entries_reserve(&s.store.family[0], parts[0]) or entries_reserve(&s.store.family[1], parts[1])
            or reserve_rules(s, r.rules) or reserve_ids(s, published, &c)):
        return NO_MEMORY
    s.next_number = r.next_number - less
    for i in range(r.n):
        news = &r.news[i]
        if news.live:
            # A rule with an older number was replaced, and is here under the number that it had.
            news.number = news.number - less if news.number >= since else s.rule[news.id].number
    return 0


cdef void news_out(state_t *s, draft_t *d, const news_t *news, size_t n) noexcept nogil:
    cdef size_t i
    cdef uint32_t id
    for i in range(n):
        id = news[i].id
        if s.rule[id].live:
            forget_entries(s, d, id)
            s.rule[id].live = 0
            s.live -= 1


cdef void news_in(state_t *s, draft_t *d, const news_t *news, size_t n) noexcept nogil:
    cdef size_t i
    cdef uint32_t id
    for i in range(n):
        id = news[i].id
        s.rule[id].number = news[i].number
        if news[i].live:
            s.rule[id].live = 1
            s.live += 1
            if s.store.ids != NULL:
                s.store.ids[news[i].number] = id
            make_entries(s, &news[i].record, id)
            put_entries(s, d, id)


cdef object check_packed(const packed_t *r, size_t n):
    # Every record is a rule that `Rule` would take.
    cdef size_t i
    cdef int k
    for i in range(n):
        if (r[i].priority >= <uint32_t> PRIORITIES or r[i].port[0][0] > r[i].port[0][1]
                or r[i].port[1][0] > r[i].port[1][1] or (r[i].zone >= <uint32_t> ZONES and r[i].zone != 0xFFFF)
                or not 1 <= r[i].versions <= 3 or r[i].direction > 2 or r[i].protocol_counts > 1
                or r[i].dscp_counts > 1 or r[i].dscp > 63 or r[i].flags_value & ~r[i].flags_mask
                or (r[i].flags_mask and not (r[i].protocol_counts and r[i].protocol == 6))
                or (r[i].versions != 2 and (r[i].length[0] > 32 or r[i].length[1] > 32))
                or r[i].length[0] > 128 or r[i].length[1] > 128
                or (r[i].versions == 3 and (r[i].length[0] or r[i].length[1]))):
            raise RuleError("add", f"record {i} is no rule")


cdef bytes packed_rules(rules):
    # What `pack` makes of rules; bytes are checked and taken as they are.
    cdef bytes data
    if isinstance(rules, (bytes, bytearray, memoryview)):
        data = bytes(rules)
        if len(data) % RECORD:
            raise RuleError("add", f"{len(data)} bytes are no whole number of records of {RECORD}")
        check_packed(<const packed_t *> <const char *> data, len(data) // RECORD)
        return data
    return pack(rules)


cdef array ids_of(ids):
    # As an array of our own.
    cdef array given, own
    if isinstance(ids, array) and (<array> ids).ob_descr.typecode == c"I":
        given = ids
        own = clone(NO_IDS, len(given), False)
        memcpy(own.data.as_voidptr, given.data.as_voidptr, <size_t> len(given) * 4)
        return own
    ids = ids if isinstance(ids, array) else list(ids)
    try:
        return array("I", ids)
    except OverflowError as error:
        raise KeyError(next(id for id in ids if not 0 <= id < 1 << 32)) from error

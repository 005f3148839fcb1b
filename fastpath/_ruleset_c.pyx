"""A set of classification rules that can be changed while others look up in it; `_ruleset_py` is the specification."""

import os
import threading
from array import array

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memset

from fastpath._classify cimport WORDS4, WORDS6, engine_t, wide_rule
from fastpath._engine_c cimport FREE_MEMORY, draft_t, engine_free, finish, put_in, reclaim, retire, store_t, take_out
from fastpath._entries cimport NONE, entry_t, family_t, packed_t
from fastpath._entries_c cimport entries_close, entry_free, entry_make, entry_record, set_levels
from fastpath._rows_c cimport rows_bytes
from fastpath._tables_c cimport pool_bytes, pool_close

from fastpath.rules import PRIORITIES, ZONES, RuleError, pack, unpack

cdef extern from * nogil:
    """
    static inline void np_store_engine(engine_t **at, engine_t *e) { __atomic_store_n(at, e, __ATOMIC_SEQ_CST); }
    static inline engine_t *np_load_engine(engine_t **at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
    static inline void np_store_epoch(uint64_t *at, uint64_t w) { __atomic_store_n(at, w, __ATOMIC_SEQ_CST); }
    static inline uint64_t np_load_epoch(uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
    static inline int np_claim(uint64_t *at, uint64_t w) {
        uint64_t nobody = 0;
        return __atomic_compare_exchange_n(at, &nobody, w, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    """
    void np_store_engine(engine_t **at, engine_t *e)
    engine_t *np_load_engine(engine_t **at)
    void np_store_epoch(uint64_t *at, uint64_t w)
    uint64_t np_load_epoch(uint64_t *at)
    int np_claim(uint64_t *at, uint64_t w)

cdef enum:
    RECORD = 56
    RENUMBER = 1 << 20      # numbers that may be unused
    MOST_RULES = 1 << 20

ctypedef struct rule_t:
    uint32_t number         # in order of insertion; of a free one the next free one
    uint32_t first[2]       # its IPv4 and IPv6 entries, NONE
    uint32_t live

ctypedef struct state_t:
    store_t store
    rule_t *rule
    uint32_t rules          # ever used
    uint32_t room
    uint32_t free_rule
    uint32_t live
    uint32_t next_number
    uint32_t ids_room
    bint broken             # an update ended without memory: the next one builds everything


cdef int remove_rule(state_t *s, draft_t *d, uint32_t id) noexcept nogil:
    # Take a rule's entries out and free them. -1: no memory.
    cdef uint32_t k, i, sibling
    cdef family_t *f
    for k in range(2):
        f = &s.store.six if k else &s.store.four
        i = s.rule[id].first[k]
        while i != NONE:
            sibling = f.entry[i].sibling
            if take_out(&s.store, f, &s.store.pool6 if k else &s.store.pool4, &d[k], i):
                return -1
            entry_free(f, i)
            i = sibling
        s.rule[id].first[k] = NONE
    return 0


cdef int insert_rule(state_t *s, draft_t *d, const packed_t *r, uint32_t id) noexcept nogil:
    # Make a rule's entries, with the id and number that it has, and put them in. -1: no memory.
    cdef uint32_t k, i, parts, number = s.rule[id].number
    cdef family_t *f
    s.rule[id].first[0] = s.rule[id].first[1] = NONE
    for k in range(2):
        if not r.versions >> k & 1:
            continue
        f = &s.store.six if k else &s.store.four
        # A zone without a direction is two ranges.
        parts = 2 if r.zone != 0xFFFF and r.direction == 2 else 1
        while parts:
            parts -= 1
            i = entry_make(f, r, id, number, r.direction if r.zone == 0xFFFF or r.direction != 2 else <int> parts)
            if i == NONE:
                return -1
            f.entry[i].sibling = s.rule[id].first[k]
            s.rule[id].first[k] = i
            if put_in(&s.store, f, &s.store.pool6 if k else &s.store.pool4, &d[k], i):
                return -1
    return 0


cdef uint32_t take_rule(state_t *s) noexcept nogil:
    # A new rule's id, with the next number. NONE: no memory.
    cdef uint32_t id = s.free_rule, more
    cdef void *at
    if id == NONE:
        if s.rules == s.room:
            more = 2 * s.room if s.room else 64
            at = realloc(s.rule, <size_t> more * sizeof(rule_t))
            if at == NULL:
                return NONE
            s.rule = <rule_t *> at
            s.room = more
        id = s.rules
        s.rules += 1
    else:
        s.free_rule = s.rule[id].number
    s.rule[id].number = s.next_number
    s.rule[id].live = 1
    s.rule[id].first[0] = s.rule[id].first[1] = NONE
    s.next_number += 1
    s.live += 1
    return id


cdef int name_number(state_t *s, uint32_t id) noexcept nogil:
    # Let a rule's number lead to its id. The published table is only written to beyond what anybody reads.
    cdef uint32_t number = s.rule[id].number, room, i
    cdef uint32_t *ids
    if s.store.ids == NULL and number == id:
        return 0
    if s.store.ids == NULL or number >= s.ids_room:
        room = 2 * number + 64
        ids = <uint32_t *> malloc(<size_t> room * 4)
        if ids == NULL:
            return -1
        for i in range(number):
            ids[i] = s.store.ids[i] if s.store.ids != NULL else i
        if s.store.ids != NULL:
            retire(&s.store, FREE_MEMORY, s.store.ids, 0, 0)
        s.store.ids, s.ids_room = ids, room
    s.store.ids[number] = id
    return 0


ctypedef struct sort_t:
    uint32_t number
    uint32_t id


cdef int by_number(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const sort_t *> a).number
    cdef uint32_t y = (<const sort_t *> b).number
    return 1 if x > y else -1 if x < y else 0


cdef int renumber(state_t *s) noexcept nogil:
    # Rules that came and went leave holes in the numbers: close them. Everything must be built anew after it.
    cdef sort_t *all = <sort_t *> malloc((<size_t> s.live + 1) * sizeof(sort_t))
    cdef uint32_t *ids = <uint32_t *> malloc((2 * <size_t> s.live + 64) * 4)
    cdef uint32_t i, k, e, n = 0
    cdef family_t *f
    if all == NULL or ids == NULL:
        free(all)
        free(ids)
        return -1
    for i in range(s.rules):
        if s.rule[i].live:
            all[n].number, all[n].id = s.rule[i].number, i
            n += 1
    qsort(all, n, sizeof(sort_t), by_number)
    for i in range(n):
        ids[i] = all[i].id
        s.rule[ids[i]].number = i
        for k in range(2):
            f = &s.store.six if k else &s.store.four
            e = s.rule[ids[i]].first[k]
            while e != NONE:
                f.order[e] = f.order[e] >> 32 << 32 | i
                e = f.entry[e].sibling
    free(all)
    if s.store.ids != NULL:
        retire(&s.store, FREE_MEMORY, s.store.ids, 0, 0)
    s.store.ids, s.ids_room, s.next_number = ids, 2 * s.live + 64, n
    return 0


cdef int change(state_t *s, draft_t *d, const uint32_t *removed, size_t removals, const uint32_t *replaced,
                const packed_t *replacements, size_t replacing, const packed_t *added, size_t additions,
                uint32_t *ids) noexcept nogil:
    # One transaction on the drafts. -1: no memory.
    cdef size_t i
    cdef uint32_t id
    for i in range(removals):
        id = removed[i]
        if remove_rule(s, d, id):
            return -1
        s.rule[id].live = 0
        s.live -= 1
    for i in range(replacing):
        if remove_rule(s, d, replaced[i]) or insert_rule(s, d, &replacements[i], replaced[i]):
            return -1
    for i in range(removals):
        s.rule[removed[i]].number = s.free_rule
        s.free_rule = removed[i]
    for i in range(additions):
        id = take_rule(s)
        if id == NONE or name_number(s, id) or insert_rule(s, d, &added[i], id):
            return -1
        ids[i] = id
    if s.next_number > 4 * <uint64_t> s.live + RENUMBER:
        if renumber(s):
            return -1
        d[0].full = d[1].full = True
    return finish(&s.store, d)


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


cdef int publish(RuleSet self, draft_t *d) noexcept nogil:
    cdef state_t *s = <state_t *> self.state
    cdef uint64_t oldest, e
    cdef int i
    if d[0].next != NULL:
        np_store_engine(&self.engine4, d[0].next)
        retire(&s.store, FREE_MEMORY, d[0].now, 0, 0)
    if d[1].next != NULL:
        np_store_engine(&self.engine6, d[1].next)
        retire(&s.store, FREE_MEMORY, d[1].now, 0, 0)
    np_store_epoch(&self.epoch, s.store.next_epoch)
    oldest = s.store.next_epoch
    for i in range(READERS):
        e = np_load_epoch(&self.reading[i])
        if e and e < oldest:
            oldest = e
    reclaim(&s.store, oldest)
    return 0

cdef int commit(RuleSet self, const uint32_t *removed, size_t removals, const uint32_t *replaced,
                const packed_t *replacements, size_t replacing, const packed_t *added, size_t additions,
                uint32_t *ids, bint full) noexcept nogil:
    cdef state_t *s = <state_t *> self.state
    cdef draft_t[2] d
    cdef size_t marked = s.store.retirees, changes = removals + replacing + additions
    cdef int result, k
    cdef uint32_t entry
    memset(d, 0, sizeof(d))
    d[0].now, d[1].now = self.engine4, self.engine6
    s.store.next_epoch = self.epoch + 1
    # Rules by the thousand are quicker built in than put in one by one.
    if full or s.broken or (additions + replacing > 64 and additions + replacing > s.live // 2):
        d[0].full = d[1].full = True
    d[0].single = d[1].single = changes == 1 and replacing == 0
    if changes == 1 and additions == 1 and added.zone != 0xFFFF and added.direction == 2:
        d[0].single = d[1].single = False
    if changes == 1 and removals == 1:
        for k in range(2):
            entry = s.rule[removed[0]].first[k]
            if entry != NONE and (s.store.six if k else s.store.four).entry[entry].sibling != NONE:
                d[0].single = d[1].single = False
    result = change(s, d, removed, removals, replaced, replacements, replacing, added, additions, ids)
    if result:
        # Memory ran out: everything once more, from the entries.
        d[0].full = d[1].full = True
        result = finish(&s.store, d)
    s.broken = result != 0
    if result:
        s.store.retirees = marked
        return -1
    return publish(self, d)


cdef class RuleSet:
    """See `fastpath._ruleset_py.RuleSet`."""

    def __cinit__(self, rules=()):
        cdef state_t *s = <state_t *> calloc(1, sizeof(state_t))
        if s == NULL:
            raise MemoryError
        self.state = s
        self.epoch = s.store.next_epoch = 1
        self.writing = threading.Lock()
        s.store.four.version, s.store.four.words, s.store.four.key_words, s.store.four.per_unit = 4, WORDS4, 4, 4
        s.store.six.version, s.store.six.words, s.store.six.key_words, s.store.six.per_unit = 6, WORDS6, 16, 1
        s.store.four.free = s.store.six.free = s.free_rule = NONE
        set_levels(&s.store.four, NULL, 0)
        set_levels(&s.store.six, NULL, 0)
        s.store.random = int.from_bytes(os.urandom(8), "little")
        self.engine4 = <engine_t *> calloc(1, sizeof(engine_t))
        self.engine6 = <engine_t *> calloc(1, sizeof(engine_t))
        if self.engine4 == NULL or self.engine6 == NULL:
            raise MemoryError

    def __init__(self, rules=()):
        self.update(add=rules)

    def __dealloc__(self):
        cdef state_t *s = <state_t *> self.state
        if s == NULL:
            return
        reclaim(&s.store, <uint64_t> 0xFFFFFFFFFFFFFFFF)
        engine_free(self.engine4)
        engine_free(self.engine6)
        pool_close(&s.store.pool4)
        pool_close(&s.store.pool6)
        entries_close(&s.store.four)
        entries_close(&s.store.six)
        free(s.rule)
        free(s.store.ids)
        free(s.store.retired)
        free(s)

    cdef int enter(self) except -1:
        cdef int i
        cdef uint64_t now = np_load_epoch(&self.epoch)
        for i in range(READERS):
            if self.reading[i] == 0 and np_claim(&self.reading[i], now):
                return i
        raise RuntimeError(f"more than {READERS} threads look up at once")

    cdef void leave(self, int place) noexcept nogil:
        np_store_epoch(&self.reading[place], 0)

    cdef engine_t *read4(self) noexcept nogil:
        return np_load_engine(&self.engine4)

    cdef engine_t *read6(self) noexcept nogil:
        return np_load_engine(&self.engine6)

    def update(self, add=(), remove=(), replace=None):
        cdef state_t *s = <state_t *> self.state
        cdef bytes added = packed_rules(add)
        cdef Py_buffer gone
        cdef uint32_t id
        cdef size_t i, n = len(added) // RECORD
        removed = remove if isinstance(remove, array) and remove.typecode == "I" else array("I", remove)
        changed = array("I", replace if replace is not None else ())
        cdef bytes replacement = pack(replace.values()) if replace is not None else b""
        ids = array("I", bytes(4 * n))
        cdef uint32_t[::1] ids_view = ids
        cdef uint32_t[::1] removed_view = removed
        cdef uint32_t[::1] changed_view = changed
        cdef uint32_t nothing = 0
        cdef const uint32_t *removed_at = &removed_view[0] if len(removed) else &nothing
        cdef const uint32_t *changed_at = &changed_view[0] if len(changed) else &nothing
        cdef uint32_t *ids_at = &ids_view[0] if n else &nothing
        cdef size_t removals = len(removed), changing = len(changed)
        cdef const packed_t *added_at = <const packed_t *> <const char *> added
        cdef const packed_t *replacement_at = <const packed_t *> <const char *> replacement
        cdef int result
        with self.writing:
            if s.live + n > MOST_RULES:
                raise RuleError("add", f"a rule set holds {MOST_RULES} rules")
            # Everything is checked before anything changes; 2 marks what this transaction already names.
            for i in range(removals + changing):
                id = removed_at[i] if i < removals else changed_at[i - removals]
                if id >= s.rules or s.rule[id].live != 1:
                    while i:
                        i -= 1
                        s.rule[removed_at[i] if i < removals else changed_at[i - removals]].live = 1
                    raise KeyError(id)
                s.rule[id].live = 2
            for i in range(removals + changing):
                s.rule[removed_at[i] if i < removals else changed_at[i - removals]].live = 1
            if removals + changing + n == 0:
                return ids
            with nogil:
                result = commit(self, removed_at, removals, changed_at, replacement_at, changing, added_at, n, ids_at, False)
            if result:
                raise MemoryError("the rule set")
            self.changes += 1
        return ids

    def add(self, rule):
        return self.update(add=(rule,))[0]

    def remove(self, id):
        self.update(remove=(id,))

    def replace(self, id, rule):
        self.update(replace={id: rule})

    def compact(self):
        cdef int result = 0
        cdef uint32_t nothing = 0
        with self.writing, nogil:
            result = commit(self, &nothing, 0, &nothing, NULL, 0, NULL, 0, &nothing, True)
        if result:
            raise MemoryError("the rule set")

    @property
    def version(self):
        return self.changes

    def __len__(self):
        return (<state_t *> self.state).live

    def __contains__(self, id):
        cdef state_t *s = <state_t *> self.state
        return 0 <= id < s.rules and s.rule[<uint32_t> id].live == 1

    def rule(self, id):
        with self.writing:
            if id not in self:
                raise KeyError(id)
            return unpack(self.record(id))[0]

    cdef bytes record(self, uint32_t id):
        # A rule as it was packed, from its entries.
        cdef state_t *s = <state_t *> self.state
        cdef packed_t r
        memset(&r, 0, sizeof(r))
        if s.rule[id].first[0] != NONE:
            entry_record(&s.store.four, s.rule[id].first[0], &r)
        if s.rule[id].first[1] != NONE:
            entry_record(&s.store.six, s.rule[id].first[1], &r)
        return (<char *> &r)[:RECORD]

    def rules(self):
        cdef state_t *s = <state_t *> self.state
        cdef uint32_t i
        with self.writing:
            live = sorted((s.rule[i].number, i) for i in range(s.rules) if s.rule[i].live)
            return {id: unpack(self.record(id))[0] for _, id in live}

    def stats(self):
        cdef state_t *s = <state_t *> self.state
        cdef engine_t *e
        cdef family_t *f
        cdef uint32_t t
        found = {}
        with self.writing:
            for k in range(2):
                e = self.engine6 if k else self.engine4
                f = &s.store.six if k else &s.store.four
                size = rows_bytes(e.broad) + pool_bytes(&s.store.pool6 if k else &s.store.pool4) + e.tails * sizeof(wide_rule)
                for t in range(e.tables):
                    size += <size_t> 4 << (32 - e.table[t].shift)
                rules = <size_t> f.capacity * (2 * f.key_words * 4 + 8 + sizeof(entry_t))
                found["ipv6" if k else "ipv4"] = {
                    "entries": f.live, "tables": e.tables, "broad": e.broad.rules if e.broad != NULL else 0,
                    "waiting": e.deltas, "linear": e.tails + e.extras, "lookup_bytes": size, "rule_bytes": rules,
                    "masks": [(e.table[t].source, e.table[t].destination, e.table[t].exact) for t in range(e.tables)],
                }
        return found

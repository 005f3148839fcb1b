"""A set of classification rules that can be changed while others look up in it; `_ruleset_py` is the specification."""

import os
import threading
import time

from cpython.array cimport array, clone
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastpath._atomic cimport np_claim, np_load_epoch, np_store_engine, np_store_epoch
from fastpath._classify cimport WORDS4, WORDS6, engine_t, wide_rule
from fastpath._broad_c cimport ranks_of, tail_bytes
from fastpath._engine_c cimport (
    draft_t, drop, engine_free, finish, make_room, note_readers, reclaim, retired_t, succeed,
)
from fastpath._entries cimport NONE, entry_t, family_t, packed_t
from fastpath._entries_c cimport entries_close, set_levels
from fastpath._places_c cimport places_bytes, places_settle
from fastpath._rows_c cimport rows_bytes
from fastpath._tables_c cimport pool_bytes, pool_close, pool_t
from fastpath._transaction_c cimport (
    MOST_ENTRIES, MOST_RULES, NO_IDS, NO_MEMORY, RECORD, TOO_MANY, apply, build_pays, change_t, copy_rules,
    forget_changes, ids_of, news_in, news_out, news_t, note_changes, packed_rules, record_of, report, report_t, reserve,
    reserve_news, revert, rule_t, state_t, taken_t,
)

from fastpath.rules import RuleError, pack, unpack

cdef enum:
    REST = 20               # times as long as the processor worked on that, it is left alone
    NICE = 10               # of the thread that does it
    ROUNDS = 3
    BLOCK = 1024            # changes that a copy takes over at once

cdef uint64_t REBASE = <uint64_t> 1 << 31   # versions since a build: what a run's `came` can name

cdef void publish(RuleSet self, draft_t *d) noexcept nogil:
    cdef state_t *s = <state_t *> self.state
    cdef uint64_t oldest, e
    cdef int i, k
    cdef engine_t *latest = NULL
    for k in range(2):
        if d[k].next != NULL:
            latest = d[k].next
            latest.ids, latest.version, latest.six = s.store.ids, s.store.next_epoch, k
            if k:
                self.engine6 = latest
            else:
                self.engine4 = latest
    if latest != NULL:
        latest.mate = self.engine4 if latest.six else self.engine6
        np_store_engine(&self.latest, latest)
    np_store_epoch(&self.epoch, s.store.next_epoch)
    succeed(&s.store, d)
    oldest = s.store.next_epoch
    for i in range(READERS):
        e = np_load_epoch(&self.reading[i]) >> 1
        if e and e < oldest:
            oldest = e
    reclaim(&s.store, oldest)


cdef bint many(const state_t *s, size_t growing) noexcept nogil:
    # Rules by the thousand are quicker built in than put in one by one.
    return growing > 64 and growing > s.live // 2


cdef void begin(RuleSet self, draft_t *d, bint full) noexcept nogil:
    cdef state_t *s = <state_t *> self.state
    memset(d, 0, 2 * sizeof(draft_t))
    d[0].now, d[1].now = self.engine4, self.engine6
    s.store.next_epoch = self.epoch + 1
    note_readers(&s.store, self.reading)
    if (full or s.broken or s.store.next_epoch - d[0].now.base > REBASE
            or s.store.next_epoch - d[1].now.base > REBASE):
        d[0].full = d[1].full = True
    np_store_epoch(&s.store.pending, s.store.next_epoch)
    s.store.returned = 0


cdef void settle(RuleSet self, draft_t *d, size_t changes) noexcept nogil:
    # Publish what was begun.
    cdef state_t *s = <state_t *> self.state
    # A rule that left and has its place again leaves nothing for a build to do.
    s.since_build = s.since_build + changes - min(2 * s.store.returned, s.since_build + changes)
    if d[0].old != NULL and d[1].old != NULL:
        s.since_build = 0
    publish(self, d)


cdef int commit(RuleSet self, const change_t *c, bint full) noexcept nogil:
    # 0, or NO_MEMORY or TOO_MANY, and then nothing has changed.
    cdef state_t *s = <state_t *> self.state
    cdef draft_t[2] d
    cdef size_t marked = s.store.retirees, growing = c.additions + c.replacing
    cdef size_t changes
    cdef uint32_t rules = s.rules
    cdef taken_t one
    cdef taken_t *taken = &one
    cdef int result = reserve(s, self.engine4, c, full)
    if result:
        return result
    if c.removals + c.replacing > 1:
        taken = <taken_t *> malloc((c.removals + c.replacing) * sizeof(taken_t))
        if taken == NULL:
            return NO_MEMORY
    begin(self, d, full or many(s, growing))
    changes = apply(s, d, c, taken)
    result = finish(&s.store, d)
    # Where entries live says nothing any more if what they were put in is dropped.
    s.broken = result != 0
    if result:
        drop(&s.store, d, marked)
        revert(s, c, taken, rules)
    else:
        settle(self, d, changes)
    if taken != &one:
        free(taken)
    return result


cdef int follow(RuleSet self, const news_t *news, size_t n, bint coming) noexcept nogil:
    # Let some rules go or come. 0, or NO_MEMORY, and then the set is of no use.
    cdef state_t *s = <state_t *> self.state
    cdef draft_t[2] d
    cdef size_t marked = s.store.retirees
    begin(self, d, coming and many(s, n))
    if coming:
        news_in(s, d, news, n)
    else:
        news_out(s, d, news, n)
    if finish(&s.store, d):
        drop(&s.store, d, marked)
        return NO_MEMORY
    settle(self, d, n)
    return 0


cdef int catch_up(RuleSet self, report_t *r, uint32_t since, uint32_t less) noexcept nogil:
    # Become what another set is, whose rules were these before its number `since`. NO_MEMORY as above.
    cdef state_t *s = <state_t *> self.state
    cdef size_t i, step = r.n + 1 if many(s, r.n) else BLOCK
    cdef int coming
    if reserve_news(s, self.engine4, r, since, less):
        return NO_MEMORY
    for coming in range(2):
        i = 0
        while i < r.n:
            if follow(self, r.news + i, r.n - i if r.n - i < step else step, coming):
                return NO_MEMORY
            i += step
    s.rules, s.free_rule = r.rules, r.free_rule
    return 0


cdef int take_over(RuleSet self, state_t *s, RuleSet other, state_t *o) noexcept nogil:
    cdef draft_t[2] d
    cdef engine_t *e
    cdef family_t family
    cdef int k
    cdef uint32_t *ids = s.store.ids
    memset(d, 0, sizeof(d))
    for k in range(2):
        d[k].old = <pool_t *> malloc(sizeof(pool_t))
    if d[0].old == NULL or d[1].old == NULL or make_room(&s.store):
        free(d[0].old)
        free(d[1].old)
        return NO_MEMORY
    # Nobody looks up in the other one.
    reclaim(&o.store, <uint64_t> 0xFFFFFFFFFFFFFFFF)
    s.store.next_epoch = self.epoch + 1
    np_store_epoch(&s.store.pending, s.store.next_epoch)
    for k in range(2):
        d[k].now = self.engine6 if k else self.engine4
        e = other.engine6 if k else other.engine4
        # The other counted versions in its own way; all of its runs are there from the version that is made here.
        e.base = s.store.next_epoch - (other.epoch - e.base)
        e.pending = &s.store.pending
        d[k].next = e
        d[k].old[0] = s.store.pool[k]
        s.store.pool[k] = o.store.pool[k]
        s.store.pool[k].since = s.store.next_epoch
        memset(&o.store.pool[k], 0, sizeof(pool_t))
        family = s.store.family[k]
        s.store.family[k] = o.store.family[k]
        places_settle(&s.store.family[k].places, s.store.next_epoch)
        o.store.family[k] = family
    if ids != self.engine4.ids:
        free(ids)       # never published
    s.store.ids, s.ids_room = o.store.ids, o.ids_room
    o.store.ids = NULL
    other.engine4 = other.engine6 = other.latest = NULL
    s.rule, o.rule = o.rule, s.rule
    s.rules, s.room, s.free_rule, s.live, s.next_number = o.rules, o.room, o.free_rule, o.live, o.next_number
    s.since_build, s.broken = o.since_build, False
    publish(self, d)
    return 0


cdef class RuleSet:
    """See `fastpath._ruleset_py.RuleSet`."""

    def __cinit__(self, *arguments, **named):
        cdef state_t *s = <state_t *> calloc(1, sizeof(state_t))
        cdef family_t *f
        cdef int k
        if s == NULL:
            raise MemoryError
        self.state = s
        self.epoch = s.store.next_epoch = 1
        self.writing = threading.Lock()
        self.compacting = threading.Lock()
        for k in range(2):
            f = &s.store.family[k]
            f.version, f.words, f.key_words, f.per_unit = (6, WORDS6, 16, 1) if k else (4, WORDS4, 4, 4)
            f.free = NONE
            set_levels(f, NULL, 0)
        s.free_rule = NONE
        s.store.random = int.from_bytes(os.urandom(8), "little")
        self.engine4 = <engine_t *> calloc(1, sizeof(engine_t))
        self.engine6 = <engine_t *> calloc(1, sizeof(engine_t))
        if self.engine4 == NULL or self.engine6 == NULL:
            raise MemoryError
        self.engine4.pending = self.engine6.pending = &s.store.pending
        self.engine4.version = self.engine6.version = s.store.pending = 1
        self.engine6.six, self.engine6.mate, self.latest = True, self.engine4, self.engine6

    def __init__(self, rules=(), *, background=True):
        self.background = False
        self.update(add=rules)
        self.background = background

    def __dealloc__(self):
        cdef int k
        cdef state_t *s = <state_t *> self.state
        if s == NULL:
            return
        while s.store.first_retired < s.store.retirees:
            reclaim(&s.store, <uint64_t> 0xFFFFFFFFFFFFFFFF)
        if self.engine4 != NULL and s.store.ids != self.engine4.ids:
            free(self.engine4.ids)
        engine_free(self.engine4)
        engine_free(self.engine6)
        for k in range(2):
            pool_close(&s.store.pool[k])
            entries_close(&s.store.family[k])
        free(s.rule)
        free(s.noted)
        free(s.store.ids)
        free(s.store.retired)
        free(s)

    cdef int enter(self) except -1:
        cdef int i
        cdef uint64_t now = np_load_epoch(&self.epoch)
        for i in range(READERS):
            if np_load_epoch(&self.reading[i]) == 0 and np_claim(&self.reading[i], now << 1):
                return i
        raise RuntimeError(f"more than {READERS} threads look up at once")

    def update(self, add=(), remove=(), replace=None):
        # What is worked on without the GIL belongs to nobody else.
        cdef bytes added = packed_rules(add)
        cdef array removed = ids_of(remove)
        if replace is None:
            return self.transact(added, removed, b"", NO_IDS)
        replace = dict(replace)
        return self.transact(added, removed, pack(replace.values()), ids_of(replace))

    cdef array transact(self, bytes added, array removed, bytes replacement, array changed):
        # One transaction; the arguments are its own.
        cdef state_t *s = <state_t *> self.state
        cdef array ids = clone(NO_IDS, len(added) // RECORD, False)
        cdef uint32_t id = 0
        cdef size_t i
        cdef change_t c
        cdef int result
        c.added, c.additions = <const packed_t *> <const char *> added, len(added) // RECORD
        c.removals, c.replacing = len(removed), len(changed)
        c.replacements = <const packed_t *> <const char *> replacement
        c.removed, c.replaced, c.ids = removed.data.as_uints, changed.data.as_uints, ids.data.as_uints
        with self.writing:
            if s.live + c.additions > MOST_RULES:
                raise RuleError("add", f"a rule set holds {MOST_RULES} rules")
            # Everything is checked before anything changes; 2 marks what this transaction already names.
            i = 0
            while i < c.removals + c.replacing:
                id = c.removed[i] if i < c.removals else c.replaced[i - c.removals]
                if id >= s.rules or s.rule[id].live != 1:
                    break
                s.rule[id].live = 2
                i += 1
            result = i < c.removals + c.replacing
            while i:
                i -= 1
                s.rule[c.removed[i] if i < c.removals else c.replaced[i - c.removals]].live = 1
            if result:
                raise KeyError(id)
            if c.removals + c.replacing + c.additions == 0:
                return ids
            with nogil:
                result = commit(self, &c, False)
            if result == TOO_MANY:
                raise RuleError("add", f"a rule set holds {MOST_ENTRIES} rules of an IP version; "
                                       "one with a zone and no direction counts twice")
            if result:
                raise MemoryError("the rule set")
            self.changes += 1
        self.tend()
        return ids

    def add(self, rule):
        return self.transact(packed_rules((rule,)), NO_IDS, b"", NO_IDS)[0]

    def remove(self, id):
        self.transact(b"", ids_of((id,)), b"", NO_IDS)

    def replace(self, id, rule):
        self.update(replace={id: rule})

    cdef int build(self) except -1:
        # Everything anew; other changes wait.
        cdef int result = 0
        cdef uint32_t nothing = 0
        cdef change_t c
        memset(&c, 0, sizeof(c))
        c.removed = c.replaced = c.ids = &nothing
        with self.writing, nogil:
            result = commit(self, &c, True)
        if result:
            raise MemoryError("the rule set")
        return 0

    def compact(self):
        cdef RuleSet other
        cdef state_t *s = <state_t *> self.state
        cdef uint32_t since, less
        cdef report_t r
        cdef int turn, failed = 0
        with self.compacting:
            try:
                other = self.twin(True)
                since = (<state_t *> other.state).next_number
                other.build()
                less = since - (<state_t *> other.state).next_number
                # What has become of the rules that changed meanwhile; of the last few with all others waiting.
                for turn in range(ROUNDS):
                    with self.writing:
                        if s.renumbered or s.notes <= BLOCK:
                            break
                        with nogil:
                            failed = report(s, &r)
                    if failed:
                        break
                    with nogil:
                        failed = catch_up(other, &r, since, less)
                        free(r.news)
                    if failed:
                        break
                with self.writing:
                    if s.renumbered:
                        return      # and so built anew
                    if not failed:
                        with nogil:
                            failed = report(s, &r)
                            if not failed:
                                failed = catch_up(other, &r, since, less)
                                free(r.news)
                    if failed:
                        raise MemoryError("the rule set")
                    self.exchange(other)
            finally:
                with self.writing:
                    forget_changes(s)

    cdef int exchange(self, RuleSet other) except -1:
        # Take what the other set, which has the same rules, looks up in; under the lock.
        cdef state_t *s = <state_t *> self.state
        cdef state_t *o = <state_t *> other.state
        if take_over(self, s, other, o):
            raise MemoryError("the rule set")
        return 0

    cdef void tend(self):
        # A set that many changes made slower is built anew by a thread, which may take a small part of the time.
        if (not self.background or not build_pays(<state_t *> self.state) or self.compacting.locked()
                or time.monotonic() < self.rest_until):
            return
        self.rest_until = time.monotonic() + 1
        threading.Thread(target=self.tend_now, name="nodeplane-compact", daemon=True).start()

    def tend_now(self):
        """Compact, and rest for a while."""
        began = time.thread_time()
        try:
            # Of this thread alone: who changes rules or looks up on the same core goes first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        except OSError:
            pass        # where threads have no priority of their own
        try:
            self.compact()
        except MemoryError:
            pass        # it stays as it is, and is tried again
        self.rest_until = time.monotonic() + REST * (time.thread_time() - began)

    cdef RuleSet twin(self, bint noting):
        # The rules, not yet built; with `noting`, which rules change from now on is noted.
        cdef RuleSet other = RuleSet.__new__(RuleSet)
        cdef state_t *s = <state_t *> self.state
        cdef state_t *o = <state_t *> other.state
        cdef bint failed = False
        other.background = False
        with self.writing:
            with nogil:
                failed = copy_rules(s, o) != 0 or (noting and note_changes(s))
            other.changes = self.changes
        if failed:
            raise MemoryError("the rule set")
        return other

    def copy(self):
        cdef RuleSet other = self.twin(False)
        other.build()
        other.background = self.background
        return other

    @property
    def version(self):
        return self.changes

    def __len__(self):
        return (<state_t *> self.state).live

    def __contains__(self, id):
        with self.writing:
            return self.has(id)

    cdef bint has(self, id):
        # Under the lock: a writer may move the rules.
        cdef state_t *s = <state_t *> self.state
        return isinstance(id, int) and 0 <= id < s.rules and s.rule[<uint32_t> id].live != 0

    def rule(self, id):
        record = b""
        with self.writing:
            if not self.has(id):
                raise KeyError(id)
            record = self.record(id)
        return unpack(record)[0]

    cdef bytes record(self, uint32_t id):
        cdef packed_t r
        record_of(<state_t *> self.state, id, &r)
        return (<char *> &r)[:RECORD]

    def rules(self):
        cdef state_t *s = <state_t *> self.state
        cdef uint32_t i
        live, records = [], []
        with self.writing:
            live = sorted((s.rule[i].number, i) for i in range(s.rules) if s.rule[i].live)
            records = [self.record(id) for _, id in live]
        return {id: rule for (_, id), rule in zip(live, unpack(b"".join(records)))}

    def stats(self):
        cdef state_t *s = <state_t *> self.state
        cdef engine_t *e
        cdef family_t *f
        cdef uint32_t t
        cdef int k
        found = {}
        with self.writing:
            for k in range(2):
                e = self.engine6 if k else self.engine4
                f = &s.store.family[k]
                size = rows_bytes(e.broad) + pool_bytes(&s.store.pool[k]) + sizeof(engine_t) \
                    + e.extras * sizeof(wide_rule) + tail_bytes(e) + (ranks_of(e.broad) * 8 if e.broad != NULL else 0)
                tail = 0
                for t in range(e.tails):
                    tail += e.tail[t].broad.rules
                for t in range(e.tables):
                    size += <size_t> 4 << (32 - e.table[t].shift)
                rules = <size_t> f.capacity * (2 * f.key_words * 4 + 8 + sizeof(entry_t)) + places_bytes(f)
                if k == 0:
                    rules += <size_t> s.room * sizeof(rule_t) + <size_t> s.ids_room * 4 \
                        + s.store.retired_room * sizeof(retired_t)
                found["ipv6" if k else "ipv4"] = {
                    "entries": f.live, "tables": e.tables, "broad": e.broad.rules if e.broad != NULL else 0,
                    "vacant": e.removed, "waiting": e.deltas, "tail": tail, "linear": e.extras, "since_build": s.since_build,
                    "lookup_bytes": size, "rule_bytes": rules,
                    "masks": [(e.table[t].source, e.table[t].destination, e.table[t].exact) for t in range(e.tables)],
                }
        return found

"""Looks packets up in a flow cache, and what it does not know in the rules; `_flowcache_py` is the specification."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport Batch, batch_t, flow_key
from fastpath._classify cimport (
    CHUNK, FROM_KEY, answers_somebody, chunk_t, engine_t, more_of, rest_of, turn_key, zone_bits, zone_mask,
)
from fastpath._flowtable_c cimport (
    FLOW_CHUNK, FLOW_MISSES, FlowCache, flow_misses, flow_table, flow_view, governor_direct,
    governor_record, governor_t, governor_ticks,
)
from fastpath._ruleset_c cimport RuleSet

from fastpath import _select
from fastpath.flags import Flags
from fastpath.rules import ZONES

cdef extern from "arpa/inet.h" nogil:
    uint16_t ntohs(uint16_t word)
    uint32_t ntohl(uint32_t word)

cdef extern from "classify.h" nogil:
    void classify_chunk(const engine_t *e, chunk_t *c, const uint16_t *more, const int version)
    void answers(const engine_t *e, const chunk_t *c, int32_t *out)
    void take_keys(chunk_t *c, const void *keys, uint32_t n, const int version)

cdef extern from "flowcache.h" nogil:
    uint32_t flow_probe(
        flow_table *t, const flow_view *v, const uint8_t *keys, const uint32_t *marks, uint32_t n,
        const uint32_t *where, uint32_t first, const uint32_t *length, int32_t *rule, flow_misses *m, const int version
    )
    void flow_take4(
        const uint8_t *origin, const uint32_t *flags, const uint32_t *packet, uint32_t n, uint32_t later, uint32_t keep,
        uint32_t set, uint8_t *to
    )
    void flow_keep_all(flow_table *t, const flow_view *v, const flow_misses *m, const int version)

cdef enum:
    GIVEN = 1 << 16         # of a mark: DSCP and TCP flags are known

cdef uint32_t LATER_FRAGMENT = Flags.LATER_FRAGMENT

# The classifier of this level, for calls that go past the cache.
_suffix = __name__.rpartition("_")[2]
_lookup = _select.stage("classify", "baseline" if _suffix == "c" else _suffix).lookup

ctypedef struct call_t:
    flow_table *t
    flow_view v
    const engine_t *e
    bint marked             # keys have marks: the rules ask for more than a key has
    uint32_t hits
    uint32_t misses
    flow_misses m
    chunk_t c


cdef void ask(call_t *call, int32_t *rule, int version) noexcept nogil:
    # The rules, for everything that was not found.
    cdef uint32_t i
    cdef flow_misses *m = &call.m
    cdef const uint16_t *more = m.more if call.marked else NULL
    if version == 4:
        take_keys(&call.c, m.key, m.count, 4)
        classify_chunk(call.e, &call.c, more, 4)
    else:
        take_keys(&call.c, m.key, m.count, 6)
        classify_chunk(call.e, &call.c, more, 6)
    answers(call.e, &call.c, m.rule)
    for i in range(m.count):
        rule[m.where[i]] = m.rule[i]
    if version == 4:
        flow_keep_all(call.t, &call.v, m, 4)
    else:
        flow_keep_all(call.t, &call.v, m, 6)
    call.misses += m.count
    m.count = 0


cdef inline void probe(
    call_t *call, const uint8_t *keys, const uint32_t *marks, uint32_t n, const uint32_t *where, uint32_t first,
    const uint32_t *length, int32_t *rule, int version
) noexcept nogil:
    # One chunk; what is not found waits until there is enough for a lookup in the rules.
    if version == 4:
        call.hits += flow_probe(call.t, &call.v, keys, marks, n, where, first, length, rule, &call.m, 4)
    else:
        call.hits += flow_probe(call.t, &call.v, keys, marks, n, where, first, length, rule, &call.m, 6)
    if call.m.count > FLOW_MISSES - FLOW_CHUNK:
        ask(call, rule, version)


cdef void begin(
    call_t *call, FlowCache cache, const engine_t *e, uint64_t fixed, const flow_view *v, int version
) noexcept nogil:
    call.c.version = fixed - e.base
    call.t, call.e, call.v = &cache.t, e, v[0]
    call.v.stamp |= version == 6
    call.m.count = 0
    call.marked = False


cdef void run_keys(
    call_t *call, const uint8_t *keys, const uint16_t *more, uint32_t n, int32_t *rule, int version
) noexcept nogil:
    cdef uint32_t[128] marks
    cdef uint32_t first = 0, some, i
    call.marked = more != NULL and call.e.extras != 0
    while first < n:
        some = n - first if n - first < FLOW_CHUNK else FLOW_CHUNK
        if call.marked:
            for i in range(some):
                marks[i] = GIVEN | more[first + i]
        probe(call, keys + <size_t> first * (16 if version == 4 else 64), marks if call.marked else NULL, some, NULL,
              first, NULL, rule, version)
        first += some
    if call.m.count:
        ask(call, rule, version)


cdef void past(
    call_t *call, const uint8_t *keys, const uint16_t *more, uint32_t n, int32_t *rule, int version
) noexcept nogil:
    # All keys to the rules.
    cdef uint32_t i = 0, some
    while i < n:
        some = n - i if n - i < CHUNK else CHUNK
        if version == 4:
            take_keys(&call.c, keys + <size_t> 16 * i, some, 4)
            classify_chunk(call.e, &call.c, more + i if more != NULL else NULL, 4)
        else:
            take_keys(&call.c, keys + <size_t> 64 * i, some, 6)
            classify_chunk(call.e, &call.c, more + i if more != NULL else NULL, 6)
        answers(call.e, &call.c, rule + i)
        i += some


cdef inline uint32_t ports_of(const flow_key *k) noexcept nogil:
    return ntohs(k.source_port) | <uint32_t> ntohs(k.destination_port) << 16


cdef inline uint32_t word_of(const uint8_t *at) noexcept nogil:
    cdef uint32_t word = 0
    memcpy(&word, at, 4)
    return ntohl(word)


cdef bint run_batch(
    call_t *call, batch_t *b, int version, int direction, int zone, bint connections
) noexcept nogil:
    # The packets of one IP version; returns whether there are any of the other.
    cdef uint32_t[2048] keys
    cdef uint32_t[128] marks
    cdef uint32_t[128] packet
    cdef uint32_t first = 0, last, n, i, j, w
    cdef uint32_t bits = zone_bits(direction, zone), mask = zone_mask(zone)
    cdef uint32_t *to
    cdef const flow_key *k
    cdef bint others = False
    call.marked = call.e.extras != 0
    memset(keys, 0, sizeof(keys))
    while first < b.count:
        n = 0
        last = b.count if b.count - first < FLOW_CHUNK else first + FLOW_CHUNK
        for i in range(first, last):
            packet[n] = i
            n += b.verdict[i] == 0 and b.key[i].version == version
            others |= b.key[i].version == 10 - version
        first = last
        if version == 4:
            flow_take4(<const uint8_t *> b.key, b.flags, packet, n, LATER_FRAGMENT, mask, bits, <uint8_t *> keys)
        else:
            for j in range(n):
                k = &b.key[packet[j]]
                to = &keys[16 * j]
                for w in range(4):
                    to[w], to[4 + w] = word_of(&k.source[4 * w]), word_of(&k.destination[4 * w])
                to[8] = ports_of(k)
                to[9] = rest_of(k, b.flags[packet[j]] & LATER_FRAGMENT != 0, bits, mask)
        if connections:
            for j in range(n):
                if answers_somebody(b.ct[packet[j]]):
                    turn_key(&keys[(4 if version == 4 else 16) * j], version)
        if call.marked:
            for j in range(n):
                marks[j] = GIVEN | more_of(b, packet[j], b.flags[packet[j]] & LATER_FRAGMENT != 0)
        probe(call, <const uint8_t *> keys, marks if call.marked else NULL, n, packet, 0, b.length, b.rule, version)
    if call.m.count:
        ask(call, b.rule, version)
    return others


cdef void note(governor_t *g, bint direct, uint32_t packets, uint32_t hits, uint64_t began) noexcept nogil:
    governor_record(g, direct, packets, hits, <double> (governor_ticks() - began))


cdef void count(FlowCache cache, const call_t *call) noexcept nogil:
    cache.t.hits += call.hits
    cache.t.misses += call.misses


def lookup(Batch batch not None, FlowCache cache not None, RuleSet rules not None, *, direction=0, zone=None,
           connections=False):
    """See `fastpath._flowcache_py.lookup`."""
    cdef int way = direction, where = FROM_KEY if zone is None else zone
    cdef uint32_t matched = 0, i
    cdef bint whose = connections
    cdef uint64_t began
    cdef flow_view v
    cdef uint64_t fixed
    cdef engine_t *four
    cdef engine_t *sixes
    cdef call_t call
    cdef int place
    if not 0 <= way <= 1:
        raise ValueError("direction is 0 or 1")
    if zone is not None and not 0 <= where < <int> ZONES:
        raise ValueError(f"zone is 0 to {ZONES - 1}")
    cache.enter()
    try:
        began = governor_ticks()
        if not cache.always and governor_direct(&cache.g):
            matched = _lookup(batch, rules, direction=direction, zone=zone, connections=connections)
            cache.t.direct += batch.b.count
            note(&cache.g, True, batch.b.count, 0, began)
            return matched
        batch.enter()
        try:
            # The version before the rules: an answer may be younger than its mark, never older.
            cache.view(rules, rules.changes, &v)
            place = rules.enter()
            with nogil:
                memset(batch.b.rule, 0xFF, <size_t> batch.b.count * 4)
                call.hits = call.misses = 0
                fixed = rules.read(&four, &sixes)
                begin(&call, cache, four, fixed, &v, 4)
                if run_batch(&call, &batch.b, 4, way, where, whose):
                    begin(&call, cache, sixes, fixed, &v, 6)
                    run_batch(&call, &batch.b, 6, way, where, whose)
                rules.leave(place)
                for i in range(batch.b.count):
                    matched += batch.b.rule[i] >= 0
                count(cache, &call)
                if not cache.always:
                    note(&cache.g, False, call.hits + call.misses, call.hits, began)
        finally:
            batch.leave()
    finally:
        cache.leave()
    return matched


def lookup_keys(FlowCache cache not None, RuleSet rules not None, keys, out, version=4, more=None):
    """See `fastpath._flowcache_py.lookup_keys`."""
    cdef Py_buffer k, o, m
    cdef size_t n, size
    cdef int place, six = version == 6
    cdef bint direct
    cdef uint64_t began
    cdef flow_view v
    cdef uint64_t fixed
    cdef engine_t *four
    cdef engine_t *sixes
    cdef call_t call
    if version not in (4, 6):
        raise ValueError("version is 4 or 6")
    cache.enter()
    try:
        began = governor_ticks()
        direct = not cache.always and governor_direct(&cache.g)
        size = 64 if six else 16
        PyObject_GetBuffer(keys, &k, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(out, &o, PyBUF_SIMPLE | PyBUF_WRITABLE)
            try:
                n = k.len // size
                if k.len % size:
                    raise ValueError(f"keys: {k.len} bytes are no whole number of keys of {size}")
                if n > <size_t> 0xFFFFFFFF - FLOW_CHUNK:
                    raise ValueError("keys: one call takes less than 2^32")
                if <size_t> o.len < 4 * n or (n and <size_t> o.buf % 4):
                    raise ValueError(f"out: {n} keys need {4 * n} aligned bytes")
                m.buf = NULL
                if more is not None:
                    PyObject_GetBuffer(more, &m, PyBUF_SIMPLE)
                try:
                    if more is not None and <size_t> m.len < 2 * n:
                        raise ValueError(f"more: {n} keys need {2 * n} bytes")
                    cache.view(rules, rules.changes, &v)
                    place = rules.enter()
                    with nogil:
                        call.hits = call.misses = 0
                        fixed = rules.read(&four, &sixes)
                        begin(&call, cache, sixes if six else four, fixed, &v, 6 if six else 4)
                        if direct:
                            past(
                                &call, <const uint8_t *> k.buf, <const uint16_t *> m.buf, <uint32_t> n,
                                <int32_t *> o.buf, 6 if six else 4,
                            )
                            cache.t.direct += n
                        else:
                            run_keys(
                                &call, <const uint8_t *> k.buf, <const uint16_t *> m.buf, <uint32_t> n,
                                <int32_t *> o.buf, 6 if six else 4,
                            )
                        rules.leave(place)
                        count(cache, &call)
                        if not cache.always:
                            note(&cache.g, direct, <uint32_t> n, call.hits, began)
                finally:
                    if more is not None:
                        PyBuffer_Release(&m)
            finally:
                PyBuffer_Release(&o)
        finally:
            PyBuffer_Release(&k)
    finally:
        cache.leave()
    return n

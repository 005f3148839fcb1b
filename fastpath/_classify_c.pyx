"""Looks packets up in a rule set, a chunk at a time; `_classify_py` is the specification."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath._batch_c cimport Batch, batch_t, flow_key
from fastpath._classify cimport CHUNK, chunk_t, engine_t
from fastpath._ruleset_c cimport RuleSet

from fastpath.flags import Flags
from fastpath.rules import ZONES

cdef extern from "classify.h" nogil:
    void classify_chunk(const engine_t *e, chunk_t *c, const uint16_t *more, const int version)
    void answers(const engine_t *e, const chunk_t *c, int32_t *out)
    uint64_t version_of(const engine_t *e, uint64_t seen)
    void take_packet(chunk_t *c, uint8_t *keys, uint32_t i, const void *flow_key, uint32_t rest, const int version)
    void take_keys(chunk_t *c, const void *keys, uint32_t n, const int version)


cdef void run4(const engine_t *e, uint64_t seen, const uint8_t *keys, const uint16_t *more, size_t n,
               int32_t *out) noexcept nogil:
    cdef chunk_t c
    cdef size_t i = 0
    c.version = version_of(e, seen)
    while i < n:
        take_keys(&c, keys + 16 * i, <uint32_t> (n - i if n - i < CHUNK else CHUNK), 4)
        classify_chunk(e, &c, more + i if more != NULL else NULL, 4)
        answers(e, &c, out + i)
        i += CHUNK


cdef void run6(const engine_t *e, uint64_t seen, const uint8_t *keys, const uint16_t *more, size_t n,
               int32_t *out) noexcept nogil:
    cdef chunk_t c
    cdef size_t i = 0
    c.version = version_of(e, seen)
    while i < n:
        take_keys(&c, keys + 64 * i, <uint32_t> (n - i if n - i < CHUNK else CHUNK), 6)
        classify_chunk(e, &c, more + i if more != NULL else NULL, 6)
        answers(e, &c, out + i)
        i += CHUNK


def lookup_keys(RuleSet rules not None, keys, out, version=4, more=None):
    cdef Py_buffer k, o, m
    cdef size_t n, size
    cdef uint64_t seen
    cdef int place, six = version == 6
    if version not in (4, 6):
        raise ValueError("version is 4 or 6")
    size = 64 if six else 16
    PyObject_GetBuffer(keys, &k, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &o, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            n = k.len // size
            if k.len % size:
                raise ValueError(f"keys: {k.len} bytes are no whole number of keys of {size}")
            if <size_t> o.len < 4 * n or (n and <size_t> o.buf % 4):
                raise ValueError(f"out: {n} keys need {4 * n} aligned bytes")
            m.buf = NULL
            if more is not None:
                PyObject_GetBuffer(more, &m, PyBUF_SIMPLE)
            try:
                if more is not None and <size_t> m.len < 2 * n:
                    raise ValueError(f"more: {n} keys need {2 * n} bytes")
                place = rules.enter()
                with nogil:
                    seen = rules.seen()
                    if six:
                        run6(rules.read6(), seen, <const uint8_t *> k.buf, <const uint16_t *> m.buf, n,
                             <int32_t *> o.buf)
                    else:
                        run4(rules.read4(), seen, <const uint8_t *> k.buf, <const uint16_t *> m.buf, n,
                             <int32_t *> o.buf)
                    rules.leave(place)
            finally:
                if more is not None:
                    PyBuffer_Release(&m)
        finally:
            PyBuffer_Release(&o)
    finally:
        PyBuffer_Release(&k)
    return n


cdef uint32_t LATER_FRAGMENT = Flags.LATER_FRAGMENT
cdef enum:
    FROM_KEY = -1           # the zone is that of each packet's key
    TCP = 6


cdef inline uint32_t rest_of(const flow_key *k, uint32_t flags, int direction, int zone) noexcept nogil:
    return (<uint32_t> k.protocol << 1 | (flags & LATER_FRAGMENT != 0)
            | <uint32_t> ((direction << 15) | (k.zone & 0x7FFF if zone == FROM_KEY else zone)) << 16)


cdef inline uint16_t more_of(const batch_t *b, uint32_t i) noexcept nogil:
    # DSCP << 8 | TCP flags, from the packet itself.
    cdef const uint8_t *at = b.memory + b.offset[i]
    cdef uint32_t l3 = b.layers[i] & 0xFFFF, l4 = b.layers[i] >> 16, length = b.length[i]
    cdef uint16_t more = 0
    if l3 + 2 <= length:
        if b.key[i].version == 4:
            more = <uint16_t> (at[l3 + 1] >> 2) << 8
        else:
            more = <uint16_t> ((at[l3] & 0x0F) << 2 | at[l3 + 1] >> 6) << 8
    if b.key[i].protocol == TCP and l4 and l4 + 14 <= length and not b.flags[i] & LATER_FRAGMENT:
        more |= at[l4 + 13]
    return more


cdef uint32_t some(const batch_t *b, uint32_t *first, int version, uint32_t *packet) noexcept nogil:
    # The next packets of one IP version, at most CHUNK of them; `first` moves on.
    cdef uint32_t n = 0, i = first[0]
    while i < b.count and n < CHUNK:
        if b.verdict[i] == 0 and b.key[i].version == version:
            packet[n] = i
            n += 1
        i += 1
    first[0] = i
    return n


cdef uint32_t run_batch(const batch_t *b, const engine_t *e, uint64_t seen, int version, int direction,
                        int zone) noexcept nogil:
    cdef chunk_t c
    cdef uint8_t[16384] keys
    cdef uint32_t[256] packet
    cdef uint16_t[256] more
    cdef int32_t[256] answer
    cdef uint32_t first = 0, n, i, w, matched = 0
    # The words of an IPv6 key that are never written are zero.
    memset(keys, 0, sizeof(keys) if version == 6 else 4096)
    c.key = keys
    c.version = version_of(e, seen)
    while first < b.count:
        n = some(b, &first, version, packet)
        if n == 0:
            break
        for i in range(n):
            w = rest_of(&b.key[packet[i]], b.flags[packet[i]], direction, zone)
            if version == 4:
                take_packet(&c, keys, i, &b.key[packet[i]], w, 4)
            else:
                take_packet(&c, keys, i, &b.key[packet[i]], w, 6)
        if e.extras:
            for i in range(n):
                more[i] = more_of(b, packet[i])
        for i in range(n, (n + 15) & ~<uint32_t> 15):
            for w in range(4 if version == 4 else 10):
                c.word[w][i] = 0
        c.count = n
        if version == 4:
            classify_chunk(e, &c, more if e.extras else NULL, 4)
        else:
            classify_chunk(e, &c, more if e.extras else NULL, 6)
        answers(e, &c, answer)
        for i in range(n):
            b.rule[packet[i]] = answer[i]
            matched += answer[i] >= 0
    return matched


def lookup(Batch batch not None, RuleSet rules not None, *, direction=0, zone=None):
    cdef int way, where, place
    cdef uint32_t i, matched = 0, six = 0
    cdef uint64_t seen
    if not 0 <= direction <= 1:
        raise ValueError("direction is 0 or 1")
    if zone is not None and not 0 <= zone < ZONES:
        raise ValueError(f"zone is 0 to {ZONES - 1}")
    way, where = direction, FROM_KEY if zone is None else zone
    batch.enter()
    try:
        place = rules.enter()
        with nogil:
            for i in range(batch.b.count):
                batch.b.rule[i] = -1
                six += batch.b.key[i].version == 6
            seen = rules.seen()
            if six < batch.b.count:
                matched = run_batch(&batch.b, rules.read4(), seen, 4, way, where)
            if six:
                matched += run_batch(&batch.b, rules.read6(), seen, 6, way, where)
            rules.leave(place)
    finally:
        batch.leave()
    return matched

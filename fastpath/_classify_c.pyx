"""Looks packets up in a rule set, a chunk at a time; `_classify_py` is the specification."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath._batch_c cimport Batch, batch_t
from fastpath._classify cimport (
    CHUNK, FROM_KEY, answers_somebody, chunk_t, engine_t, more_of, rest_of, turn_key, zone_bits, zone_mask,
)
from fastpath._ruleset_c cimport RuleSet

from fastpath.flags import Flags
from fastpath.rules import ZONES

cdef extern from "classify.h" nogil:
    void classify_chunk(const engine_t *e, chunk_t *c, const uint16_t *more, const int version)
    void answers(const engine_t *e, const chunk_t *c, int32_t *out)
    void take_packet(uint8_t *keys, uint32_t i, const void *flow_key, uint32_t rest, const int version)
    void take_keys(chunk_t *c, const void *keys, uint32_t n, const int version)


cdef void run4(const engine_t *e, uint64_t version, const uint8_t *keys, const uint16_t *more, size_t n,
               int32_t *out) noexcept nogil:
    cdef chunk_t c
    cdef size_t i = 0
    c.version = version - e.base
    while i < n:
        take_keys(&c, keys + 16 * i, <uint32_t> (n - i if n - i < CHUNK else CHUNK), 4)
        classify_chunk(e, &c, more + i if more != NULL else NULL, 4)
        answers(e, &c, out + i)
        i += CHUNK


cdef void run6(const engine_t *e, uint64_t version, const uint8_t *keys, const uint16_t *more, size_t n,
               int32_t *out) noexcept nogil:
    cdef chunk_t c
    cdef size_t i = 0
    c.version = version - e.base
    while i < n:
        take_keys(&c, keys + 64 * i, <uint32_t> (n - i if n - i < CHUNK else CHUNK), 6)
        classify_chunk(e, &c, more + i if more != NULL else NULL, 6)
        answers(e, &c, out + i)
        i += CHUNK


def lookup_keys(RuleSet rules not None, keys, out, version=4, more=None):
    cdef Py_buffer k, o, m
    cdef size_t n, size
    cdef uint64_t fixed
    cdef int place, six = version == 6
    cdef engine_t *four
    cdef engine_t *sixes
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
                    fixed = rules.read(&four, &sixes)
                    # It may take long: writers are to know what it does not need.
                    rules.fix(place, fixed)
                    if six:
                        run6(sixes, fixed, <const uint8_t *> k.buf, <const uint16_t *> m.buf, n, <int32_t *> o.buf)
                    else:
                        run4(four, fixed, <const uint8_t *> k.buf, <const uint16_t *> m.buf, n, <int32_t *> o.buf)
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


cdef uint32_t run_batch(const batch_t *b, const engine_t *e, uint64_t fixed, int version, int direction,
                        int zone, bint connections) noexcept nogil:
    cdef chunk_t c
    cdef uint32_t[4096] words
    cdef uint8_t *keys = <uint8_t *> words
    cdef uint32_t[256] packet
    cdef uint32_t bits = zone_bits(direction, zone), mask = zone_mask(zone)
    cdef uint16_t[256] more
    cdef int32_t[256] answer
    cdef uint32_t first = 0, n, i, w, matched = 0
    # The words of an IPv6 key that are never written are zero.
    memset(words, 0, sizeof(words) if version == 6 else 4096)
    c.key = keys
    c.version = fixed - e.base
    while first < b.count:
        n = some(b, &first, version, packet)
        if n == 0:
            break
        for i in range(n):
            w = rest_of(&b.key[packet[i]], b.flags[packet[i]] & LATER_FRAGMENT != 0, bits, mask)
            if version == 4:
                take_packet(keys, i, &b.key[packet[i]], w, 4)
            else:
                take_packet(keys, i, &b.key[packet[i]], w, 6)
        if connections:
            for i in range(n):
                if answers_somebody(b.ct[packet[i]]):
                    turn_key(<uint32_t *> (keys + i * (16 if version == 4 else 64)), version)
        if e.extras:
            for i in range(n):
                more[i] = more_of(b, packet[i], b.flags[packet[i]] & LATER_FRAGMENT != 0)
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


def lookup(Batch batch not None, RuleSet rules not None, *, direction=0, zone=None, connections=False):
    cdef int way, where, place
    cdef bint whose = connections
    cdef uint32_t i, matched = 0, six = 0
    cdef uint64_t fixed
    cdef engine_t *four
    cdef engine_t *sixes
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
            fixed = rules.read(&four, &sixes)
            if six < batch.b.count:
                matched = run_batch(&batch.b, four, fixed, 4, way, where, whose)
            if six:
                matched += run_batch(&batch.b, sixes, fixed, 6, way, where, whose)
            rules.leave(place)
    finally:
        batch.leave()
    return matched

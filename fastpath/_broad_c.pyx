"""The broad rules of a version: how one leaves the bit rows, how its like returns, how rows become new ones."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastpath._classify cimport NO_RANK, TAIL_BLOCK, block_t, broad_t, engine_t
from fastpath._engine_c cimport FREE_MEMORY, FREE_ROWS, draft_t, store_t
from fastpath._entries cimport IN_BROAD, IN_TAIL, family_t, rank_of
from fastpath._places_c cimport places_find, places_forget, places_leave, places_take
from fastpath._retired cimport retire
from fastpath._rows_c cimport rows_build, rows_bytes, rows_free

cdef extern from "stdlib.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef enum:
    WORDS_COPIED = 32       # in the rows of sets whose ranks a transaction may copy: 16 KiB


cdef int draft_copy(draft_t *d) noexcept nogil:
    if d.next == NULL:
        d.next = <engine_t *> malloc(sizeof(engine_t))
        if d.next == NULL:
            return -1
        memcpy(d.next, d.now, sizeof(engine_t))
    return 0


cdef uint64_t *copy_of(const uint64_t *words, size_t n) noexcept nogil:
    # Beginning with a cache line. NULL: no memory.
    cdef uint64_t *copy = <uint64_t *> aligned_alloc(64, (n * 8 + 63) & ~<size_t> 63)
    if copy != NULL:
        memcpy(copy, words, n * 8)
    return copy


cdef size_t ranks_of(const broad_t *rows) noexcept nogil:
    return <size_t> rows.words * 64 + 8


cdef int own_alive(draft_t *d) noexcept nogil:
    cdef uint64_t *alive
    if draft_copy(d):
        return -1
    if d.next.alive == d.now.alive:
        alive = copy_of(d.now.alive, d.now.broad.words)
        if alive == NULL:
            return -1
        d.next.alive = alive
    return 0


cdef int take_bit(store_t *s, family_t *f, draft_t *d, uint32_t i) noexcept nogil:
    cdef uint32_t bit = f.entry[i].at
    if own_alive(d):
        return -1
    d.next.alive[bit >> 6] &= ~(<uint64_t> 1 << (bit & 63))
    d.next.removed += 1
    places_leave(f, d.next.broad.rules, i, s.next_epoch)
    return 0


cdef bint may_be_read(const store_t *s, uint64_t since, uint64_t left) noexcept nogil:
    # Whether somebody may look up in one of the versions from `since` to before `left`, or begin to.
    cdef uint64_t version
    cdef uint32_t r
    if left == s.next_epoch:
        return True
    for r in range(s.readers):
        version = s.reader[r] >> 1
        # Who has not fixed a version may have any that came since.
        if version < left and (version >= since or not s.reader[r] & 1):
            return True
    return False


cdef bint give_bit(store_t *s, family_t *f, draft_t *d, uint32_t i) noexcept nogil:
    cdef engine_t *e = d.next if d.next != NULL else d.now
    cdef uint32_t *link
    cdef uint64_t *copy
    cdef uint64_t rank = rank_of(f, f.order[i])
    cdef uint32_t bit
    if e.removed == 0:
        return False
    link = places_find(f, e.alive, e.rank, e.broad.words, i)
    if link == NULL or own_alive(d):
        return False
    bit = link[0]
    if d.next.rank[bit] != rank:
        if d.next.rank == d.now.rank and may_be_read(s, f.places.since, f.places.left[bit]):
            if d.now.broad.words > WORDS_COPIED:
                return False
            copy = copy_of(d.now.rank, ranks_of(d.now.broad))
            if copy == NULL:
                return False
            d.next.rank = copy
            f.places.since = s.next_epoch
        d.next.rank[bit] = rank
    places_take(&f.places, link)
    d.next.alive[bit >> 6] |= <uint64_t> 1 << (bit & 63)
    d.next.removed -= 1
    f.entry[i].place, f.entry[i].at = IN_BROAD, bit
    s.returned += 1
    return True


cdef int block_for(family_t *f, const uint32_t *chosen, uint32_t n, block_t *b) noexcept nogil:
    # -1: no memory, `b` is as it was.
    cdef uint32_t i
    cdef broad_t *rows = rows_build(f, chosen, n)
    cdef uint64_t *alive
    cdef uint64_t *rank
    if rows == NULL:
        return -1
    alive = copy_of(rows.ones, rows.words)
    rank = <uint64_t *> aligned_alloc(64, ranks_of(rows) * 8)
    if alive == NULL or rank == NULL:
        free(alive)
        free(rank)
        rows_free(rows)
        return -1
    for i in range(<uint32_t> ranks_of(rows)):
        rank[i] = rank_of(f, f.order[chosen[i]]) if i < n else <uint64_t> NO_RANK
    b.broad, b.alive, b.rank, b.removed = rows, alive, rank, 0
    return 0


cdef int tail_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e) noexcept nogil:
    cdef uint32_t blocks = (n + TAIL_BLOCK - 1) // TAIL_BLOCK, t, i
    cdef block_t *tail = NULL
    if n:
        tail = <block_t *> calloc(blocks, sizeof(block_t))
        if tail == NULL:
            return -1
    for t in range(blocks):
        i = t * TAIL_BLOCK
        if block_for(f, chosen + i, min(n - i, <uint32_t> TAIL_BLOCK), &tail[t]):
            tail_free(tail, blocks)
            return -1
    for i in range(n):
        f.entry[chosen[i]].place, f.entry[chosen[i]].at = IN_TAIL, i
    e.tail, e.tails = tail, blocks
    return 0


cdef int take_tail(family_t *f, draft_t *d, uint32_t i) noexcept nogil:
    cdef uint32_t t = f.entry[i].at // TAIL_BLOCK, bit = f.entry[i].at % TAIL_BLOCK
    cdef block_t *tail
    cdef uint64_t *alive
    if draft_copy(d):
        return -1
    if d.next.tail == d.now.tail:
        tail = <block_t *> malloc(d.now.tails * sizeof(block_t))
        if tail == NULL:
            return -1
        memcpy(tail, d.now.tail, d.now.tails * sizeof(block_t))
        d.next.tail = tail
    tail = &d.next.tail[t]
    if tail.alive == d.now.tail[t].alive:
        alive = copy_of(tail.alive, tail.broad.words)
        if alive == NULL:
            return -1
        tail.alive = alive
    tail.alive[bit >> 6] &= ~(<uint64_t> 1 << (bit & 63))
    tail.removed += 1
    return 0


cdef void tail_free(block_t *tail, uint32_t blocks) noexcept nogil:
    cdef uint32_t t
    for t in range(blocks):
        rows_free(tail[t].broad)
        free(tail[t].alive)
        free(tail[t].rank)
    free(tail)


cdef void tail_drop(draft_t *d) noexcept nogil:
    cdef uint32_t t
    for t in range(d.next.tails):
        if d.next.tail[t].alive != d.now.tail[t].alive:
            free(d.next.tail[t].alive)
    free(d.next.tail)


cdef void tail_retire(store_t *s, int k, draft_t *d) noexcept nogil:
    # Of blocks that were not built anew only the bits differ.
    cdef block_t *b
    cdef uint32_t t
    for t in range(d.now.tails):
        b = &d.now.tail[t]
        if d.old != NULL:
            retire(s, FREE_ROWS, k, b.broad, 0, 0, s.next_epoch)
            retire(s, FREE_MEMORY, k, b.rank, 0, 0, s.next_epoch)
        if d.old != NULL or d.next.tail[t].alive != b.alive:
            retire(s, FREE_MEMORY, k, b.alive, 0, 0, s.next_epoch)
    retire(s, FREE_MEMORY, k, d.now.tail, 0, 0, s.next_epoch)
    s.tails[k] = d.next.tails


cdef size_t tail_bytes(const engine_t *e) noexcept nogil:
    cdef size_t size = 0
    cdef uint32_t t
    for t in range(e.tails):
        size += sizeof(block_t) + rows_bytes(e.tail[t].broad) + ranks_of(e.tail[t].broad) * 8
    return size


cdef int rows_for(family_t *f, const uint32_t *chosen, uint32_t n, engine_t *e, uint64_t epoch) noexcept nogil:
    cdef uint32_t i
    cdef block_t made
    memset(&made, 0, sizeof(made))
    if n and block_for(f, chosen, n, &made):
        return -1
    e.broad, e.alive, e.rank, e.removed = made.broad, made.alive, made.rank, 0
    places_forget(&f.places, epoch)
    for i in range(n):
        f.entry[chosen[i]].place = IN_BROAD
    return 0

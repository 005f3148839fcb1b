# Encapsulation of a batch: `_encap.encode` says what is written, what is here only writes it sooner where many packets
# go through one plain tunnel.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath._batch_c cimport batch_t
from fastpath._encap cimport NO_HEADROOM, SHORT, TOO_LONG, TUNNEL_UNKNOWN, __builtin_prefetch, cargo, encode
from fastpath._hasher_c cimport hash_keys
from fastpath._tunnels_c cimport COPY_ECN, HASH_LABEL, IP6, tunnel_t

cdef extern from "encap.h" nogil:
    enum:
        FLOW_LANES
        ENCAP_AHEAD
    ctypedef struct encap_plain "struct encap_plain":
        const uint8_t *header
        uint32_t size, number, most, ip_sum, mark, label
    uint32_t encap_blocks(
        uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
        uint32_t *layers, uint32_t *hash, uint32_t slot, const encap_plain *t, const uint32_t *k, uint64_t factor,
        uint32_t start, uint32_t end
    )

cdef inline uint32_t refuse(const batch_t *b, uint32_t i, const tunnel_t *t) noexcept nogil:
    # Why packet i cannot go through the tunnel; 0 if it can.
    cdef uint32_t room
    if b.length[i] < 14:
        return SHORT
    if b.length[i] > t.most:
        return TOO_LONG
    # Nearly always packet i is in slot i; only compact() changes that, and the division is slow.
    room = b.offset[i] - i * b.slot
    if room > b.slot:
        room = b.offset[i] % b.slot
    if room < t.size:
        return NO_HEADROOM
    return 0

cdef inline void encap_one(
    batch_t *b, uint32_t i, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t identification,
    uint64_t *counts
) noexcept nogil:
    cdef uint32_t reason = TUNNEL_UNKNOWN
    cdef uint8_t *at = b.memory + b.offset[i]
    cdef const tunnel_t *t = NULL
    cdef cargo c
    if b.verdict[i]:
        return
    if b.tunnel[i] < capacity and tunnels[b.tunnel[i]].size:
        t = &tunnels[b.tunnel[i]]
        reason = refuse(b, i, t)
        if reason == 0:
            reason = encode(t, h, at, b.length[i], b.flags[i], identification + i, &c)
    counts[reason] += 1
    if reason:
        b.verdict[i] = reason
        return
    b.hash[i] = c.hash
    b.layers[i] = c.layers + t.size * (<uint32_t> 0x10001 if c.layers >> 16 else <uint32_t> 1) if c.layers else 0
    b.offset[i] -= t.size
    b.length[i] += t.size

cdef inline bint plain(const tunnel_t *t, uint32_t number, encap_plain *p) noexcept nogil:
    # Whether the tunnel is one that `encap_blocks` knows, and that.
    if t.size == 0 or t.mode & ~(IP6 | COPY_ECN | HASH_LABEL):
        return False
    p.header = <const uint8_t *> &t.header[0]
    p.size, p.number, p.most, p.ip_sum = t.size, number, t.most, t.ip_sum
    p.mark = 3 if t.mode & COPY_ECN else 0
    p.label = 0xFFFFF if t.mode & HASH_LABEL else 0
    return True

cdef inline void encap_batch(
    batch_t *b, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t identification,
    uint64_t *counts
) noexcept nogil:
    cdef uint32_t i = 0, number, done, ahead
    cdef encap_plain p
    for i in range(<uint32_t> ENCAP_AHEAD if b.count > ENCAP_AHEAD else b.count):
        __builtin_prefetch(b.memory + b.offset[i], 0, 3)
        __builtin_prefetch(b.memory + b.offset[i] - 1, 1, 3)
    i = 0
    while i < b.count:
        number = b.tunnel[i]
        if i + FLOW_LANES <= b.count and number < capacity and plain(&tunnels[number], number, &p):
            done = encap_blocks(
                b.memory, b.offset, b.length, b.verdict, b.tunnel, b.layers, b.hash, b.slot, &p, &h.k[0], h.odd,
                i, b.count,
            )
            counts[0] += done - i
            i = done
        done = i + FLOW_LANES if i + FLOW_LANES < b.count else b.count
        while i < done:
            ahead = i + ENCAP_AHEAD
            if ahead < b.count:
                __builtin_prefetch(b.memory + b.offset[ahead], 0, 3)
                __builtin_prefetch(b.memory + b.offset[ahead] - 1, 1, 3)
            encap_one(b, i, tunnels, capacity, h, identification, counts)
            i += 1

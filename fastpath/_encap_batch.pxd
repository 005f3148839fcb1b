# Encapsulation of a batch.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath._batch_c cimport batch_t
from fastpath._encap cimport NO_HEADROOM, SHORT, TOO_LONG, TUNNEL_UNKNOWN, __builtin_prefetch, cargo, encode
from fastpath._hasher_c cimport hash_keys
from fastpath._tunnels_c cimport tunnel_t

cdef enum:
    AHEAD = 16

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

cdef inline void encap_batch(
    batch_t *b, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t identification,
    uint64_t *counts
) noexcept nogil:
    cdef uint32_t i, reason
    cdef uint32_t last = b.count - 1
    cdef uint8_t *at
    cdef const tunnel_t *t = NULL
    cdef cargo c
    for i in range(b.count):
        at = b.memory + b.offset[i + AHEAD if i + AHEAD < last else last]
        __builtin_prefetch(at, 0, 3)
        __builtin_prefetch(at - 64, 1, 3)
        if b.verdict[i]:
            continue
        if b.tunnel[i] < capacity and tunnels[b.tunnel[i]].size:
            t = &tunnels[b.tunnel[i]]
            at = b.memory + b.offset[i]
            reason = refuse(b, i, t)
            if reason == 0:
                reason = encode(t, h, at, b.length[i], b.flags[i], identification + i, &c)
        else:
            reason = TUNNEL_UNKNOWN
        counts[reason] += 1
        if reason:
            b.verdict[i] = reason
            continue
        b.hash[i] = c.hash
        b.layers[i] = c.layers + t.size * (<uint32_t> 0x10001 if c.layers >> 16 else <uint32_t> 1) if c.layers else 0
        b.offset[i] -= t.size
        b.length[i] += t.size

# Encapsulation of a batch: `_encap.encode` says what is written, what is here only writes it sooner where many packets
# go through one plain tunnel.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath._batch_c cimport batch_t
from fastpath._encap cimport NO_HEADROOM, SHORT, TOO_LONG, TUNNEL_UNKNOWN, cargo, encode
from fastpath._hasher_c cimport hash_keys
from fastpath._tunnels_c cimport COPY_ECN, HASH_LABEL, IP6, tunnel_t

cdef extern from "encap.h" nogil:
    enum:
        FLOW_LANES
        ENCAP_AHEAD
    ctypedef struct encap_lanes "struct encap_lanes":
        uint32_t size
    void encap_lane(
        encap_lanes *t, uint32_t lane, const uint8_t *header, uint32_t number, uint32_t most, uint32_t ip_sum,
        uint32_t mark, uint32_t label
    )
    void encap_fetch(const uint8_t *at)
    uint32_t encap_blocks(
        uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
        uint32_t *layers, uint32_t *hash, uint32_t slot, const encap_lanes *t, const uint32_t *k, uint64_t factor,
        uint32_t start, uint32_t end
    )
    bint encap_mixed(
        uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
        uint32_t *layers, uint32_t *hash, uint32_t slot, const encap_lanes *t, const uint32_t *k, uint64_t factor,
        uint32_t start
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
            reason = encode(t, h, at, b.length[i], at, b.flags[i], identification + i, &c)
    counts[reason] += 1
    if reason:
        b.verdict[i] = reason
        return
    b.hash[i] = c.hash
    b.layers[i] = c.layers + t.size * (<uint32_t> 0x10001 if c.layers >> 16 else <uint32_t> 1) if c.layers else 0
    b.offset[i] -= t.size
    b.length[i] += t.size

cdef inline bint lane(
    const tunnel_t *tunnels, uint32_t capacity, uint32_t number, uint32_t j, encap_lanes *lanes
) noexcept nogil:
    # Whether the tunnel is plain and its header as long as the first one's; then it is the j-th of the block.
    cdef const tunnel_t *t
    if number >= capacity:
        return False
    t = &tunnels[number]
    if j == 0:
        lanes.size = t.size
    if t.size == 0 or t.size != lanes.size or t.mode & ~(IP6 | COPY_ECN | HASH_LABEL):
        return False
    encap_lane(
        lanes, j, <const uint8_t *> &t.header[0], number, t.most, t.ip_sum,
        3 if t.mode & COPY_ECN else 0, 0xFFFFF if t.mode & HASH_LABEL else 0,
    )
    return True

cdef inline uint32_t block(
    batch_t *b, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t i, encap_lanes *lanes
) noexcept nogil:
    # As many packets from i on as go in blocks; returns where the next begins.
    cdef uint32_t j, first = b.tunnel[i]
    cdef bint same = True
    if not lane(tunnels, capacity, first, 0, lanes):
        return i
    for j in range(1, <uint32_t> FLOW_LANES):
        same = same and b.tunnel[i + j] == first
        if not lane(tunnels, capacity, b.tunnel[i + j], j, lanes):
            return i
    if same:
        return encap_blocks(
            b.memory, b.offset, b.length, b.verdict, b.tunnel, b.layers, b.hash, b.slot, lanes, &h.k[0], h.odd,
            i, b.count,
        )
    if encap_mixed(
        b.memory, b.offset, b.length, b.verdict, b.tunnel, b.layers, b.hash, b.slot, lanes, &h.k[0], h.odd, i
    ):
        return i + FLOW_LANES
    return i

cdef inline void encap_batch(
    batch_t *b, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t identification,
    uint64_t *counts
) noexcept nogil:
    cdef uint32_t i, end, done
    cdef encap_lanes lanes
    for i in range(<uint32_t> ENCAP_AHEAD if b.count > ENCAP_AHEAD else b.count):
        encap_fetch(b.memory + b.offset[i])
    i = 0
    while i < b.count:
        end = i + FLOW_LANES if i + FLOW_LANES < b.count else b.count
        if FLOW_LANES > 1 and end - i == FLOW_LANES:
            done = block(b, tunnels, capacity, h, i, &lanes)
            if done != i:
                counts[0] += done - i
                # After many, the next packets were asked for on the way.
                for i in range(i + ENCAP_AHEAD, done + ENCAP_AHEAD if done == end else i + ENCAP_AHEAD):
                    if i < b.count:
                        encap_fetch(b.memory + b.offset[i])
                i = done
                continue
        while i < end:
            if i + ENCAP_AHEAD < b.count:
                encap_fetch(b.memory + b.offset[i + ENCAP_AHEAD])
            encap_one(b, i, tunnels, capacity, h, identification, counts)
            i += 1

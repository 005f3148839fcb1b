# Encapsulation of a batch: `_encap.encode` says what is written, what is here only writes it sooner where many packets
# go through one plain tunnel.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath._batch_c cimport batch_t
from fastpath._encap cimport NO_HEADROOM, SHORT, TOO_LONG, TUNNEL_UNKNOWN, cargo, encode
from fastpath._flow cimport ctz
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
    ctypedef struct encap_job "struct encap_job":
        uint8_t *memory
        uint32_t *offset
        uint32_t *length
        uint32_t *layers
        uint32_t *hash
        const uint32_t *verdict
        const uint32_t *tunnel
        const uint32_t *k
        uint64_t factor
        uint64_t passed
    void encap_begin(encap_job *job, uint32_t count, uint32_t slot)
    void encap_fetch(const uint8_t *at)
    uint32_t encap_blocks(encap_job *job, uint32_t start, const encap_lanes *t, uint32_t *left)
    uint32_t encap_mixed(encap_job *job, uint32_t start, const encap_lanes *t)

cdef enum:
    # What the lanes of a block are filled with.
    OTHERS = 0                  # tunnels that are not plain, or with headers of different sizes
    ONE = 1
    SEVERAL = 2

cdef inline uint32_t refuse(const batch_t *b, uint32_t i, const tunnel_t *t) noexcept nogil:
    # Why packet i cannot go through the tunnel; 0 if it can.
    cdef uint32_t room
    if b.length[i] < 14:
        return SHORT
    if b.length[i] > t.most:
        return TOO_LONG
    # Nearly always packet i is in slot i; only compact() changes that, and the division is slow.
    room = b.offset[i] - i * b.slot
    if room >= b.slot:
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

cdef inline uint32_t prepare(
    const batch_t *b, const tunnel_t *tunnels, uint32_t capacity, uint32_t i, encap_lanes *lanes
) noexcept nogil:
    # The tunnels of the block from i on.
    cdef uint32_t j, found = ONE
    for j in range(<uint32_t> FLOW_LANES):
        if b.tunnel[i + j] != b.tunnel[i]:
            found = SEVERAL
        if not lane(tunnels, capacity, b.tunnel[i + j], j, lanes):
            return OTHERS
    return found

cdef inline void encap_batch(
    batch_t *b, const tunnel_t *tunnels, uint32_t capacity, const hash_keys *h, uint32_t identification,
    uint64_t *counts
) noexcept nogil:
    cdef uint32_t i, end, left, done, filled = OTHERS, number = 0
    cdef encap_lanes lanes
    cdef encap_job job
    job.memory, job.offset, job.length, job.layers, job.hash = b.memory, b.offset, b.length, b.layers, b.hash
    job.verdict, job.tunnel = b.verdict, b.tunnel
    job.k = &h.k[0]
    job.factor = h.odd
    encap_begin(&job, b.count, b.slot)
    for i in range(<uint32_t> ENCAP_AHEAD if b.count > ENCAP_AHEAD else b.count):
        encap_fetch(b.memory + b.offset[i])
    i = 0
    while i + FLOW_LANES <= b.count and FLOW_LANES > 1:
        if filled != ONE or number != b.tunnel[i]:
            filled, number = prepare(b, tunnels, capacity, i, &lanes), b.tunnel[i]
        end = i + FLOW_LANES
        left = (<uint32_t> 1 << FLOW_LANES) - 1
        if filled == ONE:
            done = encap_blocks(&job, i, &lanes, &left)
            if done == i:
                # A packet of another tunnel is in this block.
                filled = OTHERS
                continue
            end = done
        else:
            for done in range(i + ENCAP_AHEAD, min(end + ENCAP_AHEAD, b.count)):
                encap_fetch(b.memory + b.offset[done])
            if filled == SEVERAL:
                left = encap_mixed(&job, i, &lanes)
        while left:
            encap_one(b, end - FLOW_LANES + ctz(left), tunnels, capacity, h, identification, counts)
            left &= left - 1
        i = end
    while i < b.count:
        if FLOW_LANES == 1 and i + ENCAP_AHEAD < b.count:
            encap_fetch(b.memory + b.offset[i + ENCAP_AHEAD])
        encap_one(b, i, tunnels, capacity, h, identification, counts)
        i += 1
    counts[0] += job.passed

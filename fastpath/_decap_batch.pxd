# Decapsulation of a batch: `_decap.decode` says what is right, what is here only says it sooner of the usual frames:
# untagged Ethernet, IPv4 without options, UDP without a checksum, no congestion marked.
#
# Packets are taken in blocks. While all of a block look like the packet before them (same addresses, VNI, flags), one
# masked comparison of 64 bytes stands for nearly all checks, and nothing branches: see decap.h. Else they go one by one.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport batch_t
from fastpath._checksum cimport load16
from fastpath._decap cimport (
    FOUND_RESERVED, PARTIAL_CHECKSUM, PASS, VXLAN_RESERVED, add, arrival, decide_source, decode, raw32, raw64, set_ecn,
)
from fastpath._vtep_c cimport OF_ADDRESS4, OF_PAIR4, entry_t, look_up, place, vtep_t

cdef extern from "decap.h" nogil:
    enum:
        FLOW_LANES
        DECAP_AHEAD
        DECAP_USUAL
    ctypedef struct decap_pattern "struct decap_pattern":
        uint8_t want[64]
        uint8_t mask[64]
        uint32_t vni, network, flags
    uint32_t decap_blocks(
        const uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, uint32_t *vni,
        uint32_t *tunnel, uint32_t *flags, uint32_t *layers, uint32_t keep, const decap_pattern *k,
        uint32_t start, uint32_t end
    )
    bint decap_checked(
        const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
        const decap_pattern *k, uint32_t *inner
    )

cdef extern from *:
    void __builtin_prefetch(const void *at, int write, int locality) nogil

cdef enum:
    PATIENCE = 31               # the most blocks that go one by one before a whole one is tried again

cdef inline bint checksum_wrong(const uint8_t *at) noexcept nogil:
    # Of an IPv4 header of 20 bytes, not all zero. The sum is right if it is a multiple of 65535.
    return add(add(raw64(at), raw64(at + 8)), raw32(at + 16)) % 0xFFFF != 0

cdef inline bint empty_mac(const uint8_t *at) noexcept nogil:
    return (raw32(at) | load16(at + 4)) == 0

cdef inline void begin(const vtep_t *v, decap_pattern *k) noexcept nogil:
    # The pattern of all frames of the usual kind.
    cdef uint8_t *mask = k.mask
    memset(k, 0, sizeof(k[0]))
    memset(mask + 12, 0xFF, 3)          # EtherType, version and header length
    mask[15] = 1                        # ECT(1) and CE need a look inside
    mask[20], mask[21] = 0x3F, 0xFF     # a fragment
    mask[23] = 0xFF                     # protocol
    memset(mask + 36, 0xFF, 2)          # destination port
    memset(mask + 42, 0xFF, 4)          # VXLAN flags
    mask[49] = 0xFF
    mask[56] = 1                        # multicast
    if v.verify:
        memset(mask + 40, 0xFF, 2)
    k.want[12], k.want[14], k.want[23], k.want[42] = 8, 0x45, 17, 8
    k.want[36], k.want[37] = <uint8_t> (v.port >> 8), <uint8_t> v.port
    if v.own4 == 1:
        memset(mask + 30, 0xFF, 4)
        memcpy(k.want + 30, &v.only4, 4)

cdef inline void learn(const vtep_t *v, const uint8_t *at, const arrival *found, decap_pattern *k) noexcept nogil:
    # Take a frame that `decode` let pass as the pattern of those that follow, if it is of the usual kind; other flags
    # of VXLAN than the usual are learned, too.
    cdef int i
    if found.start != DECAP_USUAL or at[12] != 8 or at[15] & 1 or found.flags & FOUND_RESERVED:
        return
    if v.verify and load16(at + 40):
        return
    begin(v, k)
    memset(k.mask + 26, 0xFF, 8)        # addresses
    memset(k.mask + 46, 0xFF, 3)        # VNI
    for i in range(64):
        k.want[i] = at[i] & k.mask[i]
    k.vni, k.network, k.flags = found.vni, found.network, found.flags

cdef inline bint pair(const vtep_t *v, const uint8_t *at, arrival *out) noexcept nogil:
    # Whether the source of a usual frame may send for the VNI in `out`, and the network.
    cdef uint32_t tag = OF_PAIR4 | out.vni
    cdef uint64_t i = place(v, raw32(at + 26), 0, tag)
    cdef const entry_t *entry
    while True:
        entry = &v.entries[i]
        if entry.tag == tag and entry.a == raw32(at + 26):
            out.network = entry.network
            return True
        if entry.tag == 0:
            return decide_source(v, raw32(at + 26), 0, OF_PAIR4, out) == PASS
        i = (i + 1) & v.last

cdef inline bint decode_usual(const vtep_t *v, const uint8_t *at, uint32_t length, arrival *out) noexcept nogil:
    # True if the frame is of the usual kind and right; of all others `decode` has to say.
    cdef uint32_t udp
    if length < 64:
        return False
    udp = load16(at + 38)
    if (
        ((raw64(at + 12) ^ v.want[0]) & v.mask[0]) | ((raw64(at + 20) ^ v.want[1]) & v.mask[1])
        | ((raw64(at + 34) ^ v.want[2]) & v.mask[2]) | ((raw64(at + 42) ^ v.want[3]) & v.mask[3])
        | (load16(at + 16) ^ (udp + 20))
        | <uint64_t> ((length < udp + 34) | (udp < 30) | checksum_wrong(at + 14) | empty_mac(at + 56))
        | <uint64_t> (at[56] & 1) | (<uint64_t> (v.own4 == 1) & <uint64_t> (raw32(at + 30) != v.only4))
    ):
        return False
    if v.own4 != 1 and v.own4 | v.own6 and look_up(v, raw32(at + 30), 0, OF_ADDRESS4).tag == 0:
        return False
    out.vni = load16(at + 46) << 8 | at[48]
    out.start, out.length, out.flags, out.ecn = DECAP_USUAL, udp - 16, 0, 0
    return pair(v, at, out)

cdef inline void decap_one(batch_t *b, uint32_t i, const vtep_t *v, uint64_t *counts, decap_pattern *k) noexcept nogil:
    # `k`: learn from this packet; or NULL.
    cdef arrival found
    cdef uint32_t reason
    cdef uint8_t *at = b.memory + b.offset[i]
    if b.verdict[i]:
        return
    if not decode_usual(v, at, b.length[i], &found):
        reason = decode(v, at, b.length[i], b.flags[i] & PARTIAL_CHECKSUM != 0, &found)
        counts[reason] += 1
        if reason:
            b.verdict[i] = reason
            return
        if found.ecn:
            set_ecn(at + found.start, found.length, found.ecn)
        if found.flags & FOUND_RESERVED:
            counts[VXLAN_RESERVED] += 1
    else:
        counts[PASS] += 1
    if k != NULL:
        learn(v, at, &found, k)
    b.vni[i] = found.vni
    b.tunnel[i] = found.network
    b.flags[i] = b.flags[i] & PARTIAL_CHECKSUM | found.flags
    b.layers[i] = 0
    b.offset[i] += found.start
    b.length[i] = found.length

cdef inline bint decap_mixed(batch_t *b, uint32_t i, const vtep_t *v, const decap_pattern *k) noexcept nogil:
    # A block from packet i on of usual frames from any source for any VNI; else nothing has happened.
    cdef uint32_t lengths[FLOW_LANES]
    cdef uint32_t vnis[FLOW_LANES]
    cdef uint32_t networks[FLOW_LANES]
    cdef uint32_t j
    cdef const uint8_t *at
    cdef arrival found
    if not decap_checked(b.memory, b.offset + i, b.length + i, b.verdict + i, k, lengths):
        return False
    for j in range(<uint32_t> FLOW_LANES):
        at = b.memory + b.offset[i + j]
        if v.own4 != 1 and v.own4 | v.own6 and look_up(v, raw32(at + 30), 0, OF_ADDRESS4).tag == 0:
            return False
        found.vni = load16(at + 46) << 8 | at[48]
        if not pair(v, at, &found):
            return False
        vnis[j], networks[j] = found.vni, found.network
    for j in range(<uint32_t> FLOW_LANES):
        b.vni[i + j], b.tunnel[i + j], b.length[i + j] = vnis[j], networks[j], lengths[j]
        b.offset[i + j] += DECAP_USUAL
        b.flags[i + j] &= PARTIAL_CHECKSUM
        b.layers[i + j] = 0
    return True

cdef inline void fetch(const batch_t *b, uint32_t i, uint32_t count) noexcept nogil:
    # Ask for the headers of that many packets; a header of 64 bytes lies in two lines at most.
    cdef uint32_t j
    cdef const uint8_t *at
    for j in range(i, i + count if i + count < b.count else b.count):
        at = b.memory + b.offset[j]
        __builtin_prefetch(at, 0, 3)
        __builtin_prefetch(at + 63, 0, 3)

cdef inline void decap_batch(batch_t *b, const vtep_t *v, uint64_t *counts) noexcept nogil:
    cdef uint32_t i = 0, done, wait = 0, patience = 0
    cdef arrival found
    cdef decap_pattern any
    cdef decap_pattern last
    begin(v, &any)
    memset(&last, 0, sizeof(last))
    fetch(b, 0, DECAP_AHEAD)
    if b.count >= FLOW_LANES and not b.verdict[0] and decode_usual(v, b.memory + b.offset[0], b.length[0], &found):
        learn(v, b.memory + b.offset[0], &found, &last)
    while i < b.count:
        if wait:
            wait -= 1
        elif last.mask[12]:
            done = decap_blocks(
                b.memory, b.offset, b.length, b.verdict, b.vni, b.tunnel, b.flags, b.layers, PARTIAL_CHECKSUM, &last,
                i, b.count,
            )
            counts[PASS] += done - i
            if done > i:
                patience = 0
            i = done
            # Traffic that is mixed does not pay for trying each time.
            wait = patience = 2 * patience + 1 if patience < PATIENCE else PATIENCE
        fetch(b, i + DECAP_AHEAD, FLOW_LANES)
        done = i + FLOW_LANES if i + FLOW_LANES < b.count else b.count
        if FLOW_LANES > 1 and done - i == FLOW_LANES and decap_mixed(b, i, v, &any):
            counts[PASS] += FLOW_LANES
            i = done
            if wait == 0:
                found.vni, found.network = b.vni[i - 1], b.tunnel[i - 1]
                found.start, found.flags = DECAP_USUAL, 0
                learn(v, b.memory + b.offset[i - 1] - DECAP_USUAL, &found, &last)
            continue
        while i < done:
            decap_one(b, i, v, counts, &last if i + 1 == done and wait == 0 else NULL)
            i += 1

# Decapsulation of a batch: `_decap.decode` says what is right, what is here only says it sooner of the usual frames:
# untagged Ethernet, IPv4 without options, UDP without a checksum, no congestion marked.
#
# Packets are taken sixteen at a time. While all sixteen look like the packet before them (same addresses, VNI, flags),
# one masked comparison of 64 bytes stands for nearly all checks, and nothing branches. Else they go one by one.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport batch_t
from fastpath._checksum cimport load16
from fastpath._decap cimport (
    FOUND_RESERVED, PARTIAL_CHECKSUM, PASS, VXLAN_RESERVED, arrival, decide_source, decode, raw32, raw64, set_ecn,
)
from fastpath._vtep_c cimport OF_ADDRESS4, OF_PAIR4, entry_t, look_up, place, vtep_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__AVX2__)
    #include <immintrin.h>
    #elif defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* Not 0 if the 64 bytes at `at` differ from `want` where `mask` has ones. */
    static inline uint64_t np_differs(const uint8_t *at, const uint8_t *want, const uint8_t *mask)
    {
    #if defined(__AVX512BW__)
        return _mm512_test_epi8_mask(_mm512_xor_si512(_mm512_loadu_si512(at), _mm512_loadu_si512(want)),
                                     _mm512_loadu_si512(mask));
    #elif defined(__AVX2__)
        const __m256i *a = (const __m256i *)at, *w = (const __m256i *)want, *m = (const __m256i *)mask;
        __m256i low = _mm256_and_si256(_mm256_xor_si256(_mm256_loadu_si256(a), _mm256_loadu_si256(w)),
                                       _mm256_loadu_si256(m));
        __m256i high = _mm256_and_si256(_mm256_xor_si256(_mm256_loadu_si256(a + 1), _mm256_loadu_si256(w + 1)),
                                        _mm256_loadu_si256(m + 1));
        low = _mm256_or_si256(low, high);
        return !_mm256_testz_si256(low, low);
    #elif defined(__SSE2__)
        const __m128i *a = (const __m128i *)at, *w = (const __m128i *)want, *m = (const __m128i *)mask;
        __m128i all = _mm_setzero_si128();
        for (int i = 0; i < 4; i++)
            all = _mm_or_si128(all, _mm_and_si128(_mm_xor_si128(_mm_loadu_si128(a + i), _mm_loadu_si128(w + i)),
                                                  _mm_loadu_si128(m + i)));
        return _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) ^ 0xFFFF;
    #else
        uint64_t all = 0;
        for (int i = 0; i < 64; i += 8) {
            uint64_t a, w, m;
            memcpy(&a, at + i, 8);
            memcpy(&w, want + i, 8);
            memcpy(&m, mask + i, 8);
            all |= (a ^ w) & m;
        }
        return all;
    #endif
    }
    """
    uint64_t np_differs(const uint8_t *at, const uint8_t *want, const uint8_t *mask) noexcept nogil
    void __builtin_prefetch(const void *at, int write, int locality) nogil

cdef enum:
    RUN = 16                    # packets; also how far ahead they are fetched from memory
    USUAL = 50                  # bytes of the usual outer headers
    PATIENCE = 15               # the most runs that go one by one before sixteen are tried together again

ctypedef struct pattern:
    # What 64 bytes look like that `decode` took; mask is zero as long as there was none.
    uint8_t want[64]
    uint8_t mask[64]
    uint32_t vni
    uint32_t network
    uint32_t flags

cdef inline uint64_t add(uint64_t one, uint64_t other) noexcept nogil:
    # Modulo 2^64 - 1, a multiple of 65535.
    one += other
    return one + (one < other)

cdef inline bint checksum_wrong(const uint8_t *at) noexcept nogil:
    # Of an IPv4 header of 20 bytes, not all zero. The sum is right if it is a multiple of 65535.
    return add(add(raw64(at), raw64(at + 8)), raw32(at + 16)) % 0xFFFF != 0

cdef inline bint empty_mac(const uint8_t *at) noexcept nogil:
    return (raw32(at) | load16(at + 4)) == 0

cdef inline void learn(const vtep_t *v, const uint8_t *at, const arrival *found, pattern *k) noexcept nogil:
    # Take a frame that `decode` let pass as the pattern of those that follow, if it is of the usual kind.
    cdef uint8_t *mask = k.mask
    cdef int i
    if found.start != USUAL or at[12] != 8 or at[15] & 1 or found.flags & FOUND_RESERVED:
        return
    if v.verify and load16(at + 40):
        return
    memset(mask, 0, 64)
    memset(mask + 12, 0xFF, 3)          # EtherType, version and header length
    mask[15] = 1                        # ECT(1) and CE need a look inside
    mask[20], mask[21] = 0x3F, 0xFF     # a fragment
    mask[23] = 0xFF
    memset(mask + 26, 0xFF, 8)          # addresses
    memset(mask + 36, 0xFF, 2)          # destination port
    memset(mask + 42, 0xFF, 8)          # VXLAN
    mask[56] = 1                        # multicast
    if v.verify:
        memset(mask + 40, 0xFF, 2)
    for i in range(64):
        k.want[i] = at[i] & mask[i]
    k.vni, k.network, k.flags = found.vni, found.network, found.flags

cdef inline bint decap_run(batch_t *b, uint32_t i, uint32_t ahead, uint32_t count, const pattern *k) noexcept nogil:
    # So many packets from i, at most RUN, if all are like the pattern and right; else nothing has happened.
    cdef uint32_t lengths[RUN]
    cdef uint64_t wrong = 0
    cdef uint32_t j, udp, length
    cdef const uint8_t *at
    for j in range(count):
        at = b.memory + b.offset[ahead + j]
        __builtin_prefetch(at, 0, 3)
        __builtin_prefetch(at + 63, 0, 3)
        at = b.memory + b.offset[i + j]
        length = b.length[i + j]
        udp = load16(at + 38)
        wrong |= np_differs(at, k.want, k.mask)
        wrong |= b.verdict[i + j] | (load16(at + 16) ^ (udp + 20))
        wrong |= <uint64_t> ((length < udp + 34) | (udp < 30) | checksum_wrong(at + 14) | empty_mac(at + 56))
        lengths[j] = udp - 16
    if wrong:
        return False
    for j in range(count):
        b.offset[i + j] += USUAL
    memcpy(b.length + i, lengths, 4 * count)
    for j in range(count):
        b.vni[i + j] = k.vni
    for j in range(count):
        b.tunnel[i + j] = k.network
    for j in range(count):
        b.flags[i + j] = b.flags[i + j] & PARTIAL_CHECKSUM | k.flags
    for j in range(count):
        b.layers[i + j] = 0
    return True

cdef inline bint decode_usual(const vtep_t *v, const uint8_t *at, uint32_t length, arrival *out) noexcept nogil:
    # True if the frame is of the usual kind and right; of all others `decode` has to say.
    cdef uint64_t i
    cdef uint32_t udp, tag
    cdef const entry_t *entry
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
    out.start, out.length, out.flags, out.ecn = USUAL, udp - 16, 0, 0
    tag = OF_PAIR4 | out.vni
    i = place(v, raw32(at + 26), 0, tag)
    while True:
        entry = &v.entries[i]
        if entry.tag == tag and entry.a == raw32(at + 26):
            out.network = entry.network
            return True
        if entry.tag == 0:
            return decide_source(v, raw32(at + 26), 0, OF_PAIR4, out) == PASS
        i = (i + 1) & v.last

cdef inline void decap_one(batch_t *b, uint32_t i, const vtep_t *v, uint64_t *counts, pattern *k) noexcept nogil:
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

cdef inline void fetch(const batch_t *b, uint32_t i, uint32_t count) noexcept nogil:
    # Ask for the headers of that many packets; a header of 64 bytes lies in two lines at most.
    cdef uint32_t j
    cdef const uint8_t *at
    for j in range(count):
        at = b.memory + b.offset[i + j]
        __builtin_prefetch(at, 0, 3)
        __builtin_prefetch(at + 63, 0, 3)

cdef inline void decap_batch(batch_t *b, const vtep_t *v, uint64_t *counts) noexcept nogil:
    cdef uint32_t i = 0, j, count, ahead, wait = 0, patience = 0
    cdef arrival found
    cdef pattern k
    memset(&k, 0, sizeof(k))
    fetch(b, 0, <uint32_t> RUN if b.count > RUN else b.count)
    if b.count and not b.verdict[0] and decode_usual(v, b.memory + b.offset[0], b.length[0], &found):
        learn(v, b.memory + b.offset[0], &found, &k)
    while i < b.count:
        count = b.count - i
        count = RUN if count > RUN else count
        ahead = i + count if i + count + RUN <= b.count else i
        if wait:
            wait -= 1
        elif k.mask[12]:
            # Written twice: the compiler unrolls what it knows the number of.
            if decap_run(b, i, ahead, RUN, &k) if count == RUN else decap_run(b, i, ahead, count, &k):
                counts[PASS] += count
                patience = 0
                i += count
                continue
            wait = patience = 2 * patience + 1 if patience < PATIENCE else PATIENCE
        fetch(b, ahead, count)
        for j in range(count):
            decap_one(b, i + j, v, counts, &k if j == RUN - 1 and wait == 0 else NULL)
        i += count

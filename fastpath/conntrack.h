/* What Cython cannot say of connection tracking: the table of TCP's states, and comparing eight tags at once. */

#ifndef NODEPLANE_CONNTRACK_H
#define NODEPLANE_CONNTRACK_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define CONNTRACK_HEAD UINT32_C(0x80000000)
#define CONNTRACK_NO_LIMIT UINT32_MAX
#define CONNTRACK_ANY_ZONE UINT32_MAX
#define CONNTRACK_LAST_TICK UINT64_C(0xF0000000)
#define CONNTRACK_NOT_YET UINT32_C(0xFFFFFFFF)
#define CONNTRACK_RELATED_LATER UINT32_C(0xFFFFFFFE)

enum { NO = 0, SS, SR, ES, FW, CW, LA, TW, CL, S2, IG, IV };

/* _conntrack_tcp_py.NEXT: who sends (0: who began), kind of segment, state before. */
__attribute__((unused)) static const uint8_t conntrack_next[2][5][10] = {
    {
        {SS, SS, IG, IG, IG, IG, IG, SS, SS, S2},
        {IV, IV, SR, IV, IV, IV, IV, IV, IV, SR},
        {IV, IV, FW, FW, LA, LA, LA, TW, CL, IV},
        {ES, IV, ES, ES, CW, CW, TW, TW, CL, IV},
        {IV, CL, CL, CL, CL, CL, CL, CL, CL, CL},
    },
    {
        {IV, S2, IV, IV, IV, IV, IV, SS, IV, S2},
        {IV, SR, IG, IG, IG, IG, IG, IG, IG, SR},
        {IV, IV, FW, FW, LA, LA, LA, TW, CL, IV},
        {IV, IG, SR, ES, CW, CW, TW, TW, CL, IG},
        {IV, CL, CL, CL, CL, CL, CL, CL, CL, CL},
    },
};

/* Kinds of segments, `_conntrack_tcp.pxd`'s, by their flags without ECE and CWR. Of FIN, SYN, RST, ACK and URG together:
 * SYN, SYN URG, SYN ACK, RST, RST ACK, FIN ACK, FIN ACK URG, ACK, ACK URG; PSH does not matter. */
#define N 5
__attribute__((unused)) static const uint8_t conntrack_kind[64] = {
    N, N, 0, N, 4, N, N, N, N, N, 0, N, 4, N, N, N, /* none */
    3, 2, 1, N, 4, N, N, N, 3, 2, 1, N, 4, N, N, N, /* ACK */
    N, N, 0, N, N, N, N, N, N, N, 0, N, N, N, N, N, /* URG */
    3, 2, N, N, N, N, N, N, 3, 2, N, N, N, N, N, N, /* ACK URG */
};
#undef N

/* Of eight tags, two bits for each that is `tag`. */
static inline uint32_t conntrack_match(const uint16_t *tags, uint16_t tag) {
#if defined(__SSE2__)
    __m128i all = _mm_load_si128((const __m128i *) tags);
    return (uint32_t) _mm_movemask_epi8(_mm_cmpeq_epi16(all, _mm_set1_epi16((short) tag)));
#else
    uint32_t found = 0;
    for (int i = 0; i < 8; i++)
        found |= (uint32_t) (tags[i] == tag) << (2 * i);
    return found;
#endif
}

static inline uint64_t conntrack_word(const void *at, int i) {
    uint64_t word;
    memcpy(&word, (const char *) at + 8 * i, 8);
    return word;
}

/* Ask for TCP's flags behind IPv6 headers: they lie in a cache line that parsing has not read. Into the second cache, for
 * in the first one packets at a stride of a power of two all want the same few places, and what finds none is not
 * fetched. Bits 1 and 12 of a packet's flags: IPv6, TCP. Inlined before the compiler finds that it has no effect. */
static inline __attribute__((always_inline)) void conntrack_ask(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *layers, const uint32_t *flags, uint32_t first,
    uint32_t end) {
    uint32_t any = 0;
    for (uint32_t i = first; i < end; i++)
        any |= flags[i];
    if ((any & 0x1002) == 0x1002)
        for (uint32_t i = first; i < end; i++)
            __builtin_prefetch(memory + offset[i] + (layers[i] >> 16) + 12 * (flags[i] >> 12 & 1), 0, 2);
}

/* Whether 40 bytes are the same. Words of 8 bytes, as `conntrack_put` writes them: the processor passes them on. */
static inline int conntrack_same(const void *one, const void *other) {
    uint64_t all = 0;
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        all |= conntrack_word(one, i) ^ conntrack_word(other, i);
    return all == 0;
}

/* Word i of a key, given as a little-endian number. */
static inline void conntrack_put(void *key, int i, uint64_t word) {
    word = htole64(word);
    memcpy((char *) key + 8 * i, &word, 8);
}

#endif

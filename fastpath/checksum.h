/* Ones' complement sums (RFC 1071), alone and in the pass of a copy.
 *
 * Words are added as they lie in memory: the byte order cancels out, and the folded sum can be stored as it is
 * (section 2, B). Plain C with GCC's vector types: each translation unit gets the registers that its flags allow, SSE2
 * and NEON included. Nothing is read or written outside the `size` bytes, and nothing needs alignment. */
#ifndef NODEPLANE_CHECKSUM_H
#define NODEPLANE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__)
#define NODEPLANE_WIDE 64
#elif defined(__AVX2__)
#define NODEPLANE_WIDE 32
#else
#define NODEPLANE_WIDE 16
#endif

typedef uint64_t nodeplane_words __attribute__((vector_size(NODEPLANE_WIDE)));

/* From `NODEPLANE_WIDE - n` on, a mask that keeps the last n bytes of a register. */
static const uint8_t nodeplane_tail[2 * NODEPLANE_WIDE] = {
#define NODEPLANE_ONES 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
    [NODEPLANE_WIDE] = NODEPLANE_ONES,
#if NODEPLANE_WIDE >= 32
    NODEPLANE_ONES,
#endif
#if NODEPLANE_WIDE >= 64
    NODEPLANE_ONES, NODEPLANE_ONES,
#endif
};

/* The sum of fewer bytes than a register has, or of any number; with `to`, they are copied on the way. */
static inline uint64_t nodeplane_few(uint8_t *to, const uint8_t *at, size_t size)
{
    uint64_t total = 0, eight;
    uint32_t four;
    uint16_t two;
    for (; size >= 8; size -= 8, at += 8) {
        memcpy(&eight, at, 8);
        if (to) { memcpy(to, &eight, 8); to += 8; }
        total += (eight & 0xffffffffu) + (eight >> 32);
    }
    if (size & 4) {
        memcpy(&four, at, 4);
        if (to) { memcpy(to, &four, 4); to += 4; }
        total += four;
        at += 4;
    }
    if (size & 2) {
        memcpy(&two, at, 2);
        if (to) { memcpy(to, &two, 2); to += 2; }
        total += two;
        at += 2;
    }
    if (size & 1) {
        /* An odd last byte is followed by a zero. */
        two = 0;
        memcpy(&two, at, 1);
        if (to) *to = *at;
        total += two;
    }
    return total;
}

/* The lanes of a register added up. */
static inline uint64_t nodeplane_across(nodeplane_words v)
{
#if NODEPLANE_WIDE == 64
    return (uint64_t)_mm512_reduce_add_epi64((__m512i)v);
#elif NODEPLANE_WIDE == 32
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
#else
    return v[0] + v[1];
#endif
}

#define NODEPLANE_ADD(n, v) do { all##n += (v); high##n += (v) >> 32; } while (0)
#define NODEPLANE_TAKE(v, from) do { \
        memcpy(&(v), at + (from), NODEPLANE_WIDE); \
        if (to) memcpy(to + (from), &(v), NODEPLANE_WIDE); \
    } while (0)

/* Three instructions a register: 64-bit lanes are added with their carries lost, and their upper halves by themselves; that
 * gives the lower halves back at the end. Wide registers are loaded from multiples of their size, if that is an even number
 * of bytes away: what lies across two cache lines takes two loads. */
static inline uint64_t nodeplane_many(uint8_t *to, const uint8_t *at, size_t size)
{
    nodeplane_words all0 = {0}, high0 = {0}, all1 = {0}, high1 = {0}, one, two, three, four, mask;
    uint64_t total = 0;
    size_t i = NODEPLANE_WIDE > 16 ? -(uintptr_t)at & (NODEPLANE_WIDE - 1) : 0, rest;
    if (size & 1) {
        size--;
        total = nodeplane_few(to ? to + size : NULL, at + size, 1);
    }
    i = i & 1 ? 0 : i;
    if (i) {
        NODEPLANE_TAKE(one, 0);
        memcpy(&mask, nodeplane_tail + NODEPLANE_WIDE - i, NODEPLANE_WIDE);
        one &= ~mask;
        NODEPLANE_ADD(0, one);
    }
    for (; i + 4 * NODEPLANE_WIDE <= size; i += 4 * NODEPLANE_WIDE) {
        NODEPLANE_TAKE(one, i);
        NODEPLANE_TAKE(two, i + NODEPLANE_WIDE);
        NODEPLANE_TAKE(three, i + 2 * NODEPLANE_WIDE);
        NODEPLANE_TAKE(four, i + 3 * NODEPLANE_WIDE);
        NODEPLANE_ADD(0, one);
        NODEPLANE_ADD(1, two);
        NODEPLANE_ADD(0, three);
        NODEPLANE_ADD(1, four);
    }
    for (; i + NODEPLANE_WIDE <= size; i += NODEPLANE_WIDE) {
        NODEPLANE_TAKE(one, i);
        NODEPLANE_ADD(0, one);
    }
    rest = size - i;
    if (rest) {
        /* The last register's worth once more, without what has been added. Its start is at an even distance. */
        NODEPLANE_TAKE(two, size - NODEPLANE_WIDE);
        memcpy(&mask, nodeplane_tail + rest, NODEPLANE_WIDE);
        two &= mask;
        NODEPLANE_ADD(1, two);
    }
    high0 += high1;
    return total + nodeplane_across(all0 + all1 - (high0 << 32) + high0);
}

/* The sum of `size` bytes, below 2^32 of them; to be folded. */
static inline uint64_t nodeplane_sum(const uint8_t *at, size_t size)
{
    return size <= NODEPLANE_WIDE ? nodeplane_few(NULL, at, size) : nodeplane_many(NULL, at, size);
}

/* The same, and the bytes are copied to `to`, which may not overlap. */
static inline uint64_t nodeplane_copy_sum(uint8_t *restrict to, const uint8_t *restrict at, size_t size)
{
    return size <= NODEPLANE_WIDE ? nodeplane_few(to, at, size) : nodeplane_many(to, at, size);
}

/* Carries added back until 16 bits are left: 0 only if the sum was 0. */
static inline uint32_t nodeplane_fold(uint64_t total)
{
    total = (total & 0xffffffffu) + (total >> 32);
    total = (total & 0xffffu) + ((total >> 16) & 0xffffu) + (total >> 32);
    total = (total & 0xffffu) + (total >> 16);
    return (uint32_t)((total & 0xffffu) + (total >> 16));
}

#endif

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

static inline uint64_t nodeplane_many(uint8_t *to, const uint8_t *at, size_t size)
{
    nodeplane_words low0 = {0}, high0 = {0}, low1 = {0}, high1 = {0}, one, two, mask;
    uint64_t total = 0, lanes[NODEPLANE_WIDE / 8];
    size_t i, rest;
    if (size & 1) {
        size--;
        total = nodeplane_few(to ? to + size : NULL, at + size, 1);
    }
    for (i = 0; i + 2 * NODEPLANE_WIDE <= size; i += 2 * NODEPLANE_WIDE) {
        memcpy(&one, at + i, NODEPLANE_WIDE);
        memcpy(&two, at + i + NODEPLANE_WIDE, NODEPLANE_WIDE);
        if (to) {
            memcpy(to + i, &one, NODEPLANE_WIDE);
            memcpy(to + i + NODEPLANE_WIDE, &two, NODEPLANE_WIDE);
        }
        low0 += one & 0xffffffffu;
        high0 += one >> 32;
        low1 += two & 0xffffffffu;
        high1 += two >> 32;
    }
    if (i + NODEPLANE_WIDE <= size) {
        memcpy(&one, at + i, NODEPLANE_WIDE);
        if (to) memcpy(to + i, &one, NODEPLANE_WIDE);
        low0 += one & 0xffffffffu;
        high0 += one >> 32;
        i += NODEPLANE_WIDE;
    }
    rest = size - i;
    if (rest) {
        /* The last register's worth once more, without what has been added. Its start is at an even distance. */
        memcpy(&two, at + size - NODEPLANE_WIDE, NODEPLANE_WIDE);
        if (to) memcpy(to + size - NODEPLANE_WIDE, &two, NODEPLANE_WIDE);
        memcpy(&mask, nodeplane_tail + rest, NODEPLANE_WIDE);
        two &= mask;
        low1 += two & 0xffffffffu;
        high1 += two >> 32;
    }
    low0 += low1 + high0 + high1;
    memcpy(lanes, &low0, NODEPLANE_WIDE);
    for (i = 0; i < NODEPLANE_WIDE / 8; i++)
        total += lanes[i];
    return total;
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

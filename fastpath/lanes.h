/* Vectors of FLOW_LANES 32-bit numbers, one for each packet of a block, in GCC's types; AVX2, SSE2 or NEON by the flags.
 *
 * Where wider registers exist, eight lanes stay the choice: sixteen were slower on cold memory and no faster on hot.
 */
#ifndef NODEPLANE_LANES_H
#define NODEPLANE_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#define FLOW_LANES 8
#elif defined(__SSE2__)
#include <emmintrin.h>
#define FLOW_LANES 4
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#define FLOW_LANES 4
#else
#define FLOW_LANES 1        /* no blocks: every packet goes through `parse` */
#endif

#if FLOW_LANES > 1

#define FLOW_ALL ((1u << FLOW_LANES) - 1)

typedef uint32_t flow_u32 __attribute__((vector_size(FLOW_LANES * 4)));
typedef uint64_t flow_u64 __attribute__((vector_size(FLOW_LANES * 4)));
typedef uint8_t flow_u8 __attribute__((vector_size(16)));

static inline flow_u32 flow_load(const void *at) { flow_u32 v; memcpy(&v, at, sizeof v); return v; }
static inline void flow_store(void *at, flow_u32 v) { memcpy(at, &v, sizeof v); }

/* Lanes of `yes` where all bits of `which` are set, of `no` where none is. */
#if defined(__AVX2__)
#define FLOW_PICK(which, yes, no) ((flow_u32)_mm256_blendv_epi8((__m256i)(no), (__m256i)(yes), (__m256i)(which)))
#else
#define FLOW_PICK(which, yes, no) (((yes) & (which)) | ((no) & ~(which)))
#endif

#if FLOW_LANES == 8
#define FLOW_AT(j) _mm_loadu_si128((const __m128i *)(memory + offset[j]))
#define FLOW_ROWS(q) ((flow_u32)_mm256_inserti128_si256(_mm256_castsi128_si256(FLOW_AT(q)), FLOW_AT(4 + q), 1))
#define FLOW_ZIPLO(a, b) ((flow_u32)_mm256_unpacklo_epi32((__m256i)(a), (__m256i)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)_mm256_unpackhi_epi32((__m256i)(a), (__m256i)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define FLOW_ZEROS(v) ((uint32_t)_mm256_movemask_ps((__m256)((v) == 0)))
#define FLOW_POSITIVE(v) (!_mm256_movemask_ps((__m256)(v)))
#elif defined(__SSE2__)
#define FLOW_ROWS(q) flow_load(memory + offset[q])
#define FLOW_ZIPLO(a, b) ((flow_u32)_mm_unpacklo_epi32((__m128i)(a), (__m128i)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)_mm_unpackhi_epi32((__m128i)(a), (__m128i)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#define FLOW_ZEROS(v) ((uint32_t)_mm_movemask_ps((__m128)((v) == 0)))
#define FLOW_POSITIVE(v) (!_mm_movemask_ps((__m128)(v)))
#else
#define FLOW_ROWS(q) flow_load(memory + offset[q])
#define FLOW_ZIPLO(a, b) ((flow_u32)vzip1q_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)vzip2q_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#define FLOW_ZEROS(v) (vaddvq_u32((uint32x4_t)((flow_u32)((v) == 0) & (flow_u32){1, 2, 4, 8})))
#define FLOW_POSITIVE(v) (!(vmaxvq_u32((uint32x4_t)(v)) >> 31))
#endif

/* The low 32 bits of each 64-bit lane multiplied. FLOW_ZEROS: bit j is set where lane j is zero. FLOW_POSITIVE: no lane
 * has its highest bit set. */

/* The four words at `memory` of each packet of a block, turned: lane j of column c is word c of packet j. */
static inline void flow_turn(const uint8_t *memory, const uint32_t *offset, flow_u32 *column)
{
    /* The 128-bit part L of row q is packet 4 L + q, so that nothing moves between parts. */
    flow_u32 a = FLOW_ROWS(0), b = FLOW_ROWS(1), c = FLOW_ROWS(2), d = FLOW_ROWS(3);
    flow_u32 ac = FLOW_ZIPLO(a, c), bd = FLOW_ZIPLO(b, d);
    column[0] = FLOW_ZIPLO(ac, bd);
    column[1] = FLOW_ZIPHI(ac, bd);
    ac = FLOW_ZIPHI(a, c), bd = FLOW_ZIPHI(b, d);
    column[2] = FLOW_ZIPLO(ac, bd);
    column[3] = FLOW_ZIPHI(ac, bd);
}

#endif

#endif

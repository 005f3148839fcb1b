/* The common shapes of a frame, several packets at once: Ethernet, perhaps one VLAN tag; IPv4 without options, or IPv6; no
 * fragment; TCP or UDP; whole. `_flow.pxd` parses everything else.
 *
 * A block is FLOW_LANES packets. The words that all checks need are loaded from each and turned (a transposition), so
 * that one comparison serves the whole block; then every packet that passed has its key shuffled together. Where wider
 * registers exist, eight lanes stay the choice: sixteen were slower on cold memory and no faster on hot.
 *
 * Up to 64 bytes at a packet's first byte are read whatever its length is; bytes behind its end never influence a result.
 */
#ifndef NODEPLANE_FLOW_H
#define NODEPLANE_FLOW_H

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

#if FLOW_LANES == 8
#define FLOW_AT(j) _mm_loadu_si128((const __m128i *)(memory + offset[j]))
#define FLOW_ROWS(q) ((flow_u32)_mm256_inserti128_si256(_mm256_castsi128_si256(FLOW_AT(q)), FLOW_AT(4 + q), 1))
#define FLOW_ZIPLO(a, b) ((flow_u32)_mm256_unpacklo_epi32((__m256i)(a), (__m256i)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)_mm256_unpackhi_epi32((__m256i)(a), (__m256i)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define FLOW_ZEROS(v) ((uint32_t)_mm256_movemask_ps((__m256)((v) == 0)))
#elif defined(__SSE2__)
#define FLOW_ROWS(q) flow_load(memory + offset[q])
#define FLOW_ZIPLO(a, b) ((flow_u32)_mm_unpacklo_epi32((__m128i)(a), (__m128i)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)_mm_unpackhi_epi32((__m128i)(a), (__m128i)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#define FLOW_ZEROS(v) ((uint32_t)_mm_movemask_ps((__m128)((v) == 0)))
#else
#define FLOW_ROWS(q) flow_load(memory + offset[q])
#define FLOW_ZIPLO(a, b) ((flow_u32)vzip1q_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define FLOW_ZIPHI(a, b) ((flow_u32)vzip2q_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define FLOW_TIMES(a, b) ((flow_u64)vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#define FLOW_ZEROS(v) (vaddvq_u32((uint32x4_t)((flow_u32)((v) == 0) & (flow_u32){1, 2, 4, 8})))
#endif

/* The low 32 bits of each 64-bit lane multiplied; FLOW_ZEROS: bit j is set where lane j is zero. */

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

/* `row` are the 16 bytes from offset 22 of an IPv4 packet: TTL, protocol, checksum; source; destination; ports. */
static inline void flow_key4(uint8_t *key, const uint8_t *row)
{
#if defined(__SSSE3__)
    const __m128i source = _mm_setr_epi8(4, 5, 6, 7, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m128i destination = _mm_setr_epi8(8, 9, 10, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m128i ports = _mm_setr_epi8(12, 13, 14, 15, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m128i version = _mm_setr_epi8(0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m128i v = _mm_loadu_si128((const __m128i *)row);
    _mm_storeu_si128((__m128i *)key, _mm_shuffle_epi8(v, source));
    _mm_storeu_si128((__m128i *)(key + 16), _mm_shuffle_epi8(v, destination));
    _mm_storel_epi64((__m128i *)(key + 32), _mm_or_si128(_mm_shuffle_epi8(v, ports), version));
#else
    const uint64_t none = 0;
    uint32_t word;
    uint64_t part;
    memcpy(&word, row + 4, 4);
    part = word;
    memcpy(key, &part, 8);
    memcpy(key + 8, &none, 8);
    memcpy(&word, row + 8, 4);
    part = word;
    memcpy(key + 16, &part, 8);
    memcpy(key + 24, &none, 8);
    memcpy(&word, row + 12, 4);
    part = word | (uint64_t)row[1] << 32 | (uint64_t)4 << 40;
    memcpy(key + 32, &part, 8);
#endif
}

static inline void flow_key6(uint8_t *key, const uint8_t *at)
{
    flow_u8 source, destination;
    uint32_t ports;
    uint64_t rest;
    memcpy(&source, at + 22, 16);
    memcpy(&destination, at + 38, 16);
    memcpy(&ports, at + 54, 4);
    rest = ports | (uint64_t)at[20] << 32 | (uint64_t)6 << 40;
    memcpy(key, &source, 16);
    memcpy(key + 16, &destination, 16);
    memcpy(key + 32, &rest, 8);
}

/* A key of either version: offsets from `memory`, protocol and version, all bits set if an address has 16 bytes. */
static inline void flow_key(
    uint8_t *key, const uint8_t *memory, uint32_t source, uint32_t destination, uint32_t ports, uint32_t rest, uint32_t wide)
{
    typedef uint32_t words __attribute__((vector_size(16)));
    const words keep = (words){0xFFFFFFFF} | wide;
    words one, other;
    uint32_t word;
    uint64_t tail;
    memcpy(&one, memory + source, 16);
    memcpy(&other, memory + destination, 16);
    memcpy(&word, memory + ports, 4);
    one &= keep;
    other &= keep;
    tail = word | (uint64_t)rest << 32;
    memcpy(key, &one, 16);
    memcpy(key + 16, &other, 16);
    memcpy(key + 32, &tail, 8);
}

/* One multiplication of the hash: (a + key) * (b + other), added to the sums of the even and of the odd lanes. */
static inline void flow_add(flow_u64 *even, flow_u64 *odd, flow_u32 a, uint32_t key, flow_u32 b, uint32_t other)
{
    a += key;
    b += other;
    *even += FLOW_TIMES(a, b);
    *odd += FLOW_TIMES((flow_u64)a >> 32, (flow_u64)b >> 32);
}

static inline flow_u64 flow_high(flow_u64 sum, uint64_t factor)
{
    /* Bits 32 to 63 of (sum ^ sum >> 32) * factor, in 32-bit steps. */
    const flow_u64 low = (flow_u64){0} + (factor & 0xFFFFFFFF), high = (flow_u64){0} + (factor >> 32);
    flow_u64 shifted = sum >> 32;
    sum ^= shifted;
    return (FLOW_TIMES(sum, low) >> 32) + FLOW_TIMES(sum, high) + FLOW_TIMES(shifted, low);
}

static inline flow_u32 flow_finish(flow_u64 even, flow_u64 odd, uint64_t factor)
{
    return (flow_u32)((flow_high(even, factor) & 0xFFFFFFFF) | flow_high(odd, factor) << 32);
}

/* a and b exchanged in the lanes of `swap`. */
#define FLOW_SWAP(a, b) do { flow_u32 t_ = ((a) ^ (b)) & swap; (a) ^= t_; (b) ^= t_; } while (0)

/* The hashes of a block, `hash_key` of `_flow.pxd`; right only in the lanes of that version. */
static inline flow_u32 flow_hash4(
    const uint8_t *memory, const uint32_t *offset, flow_u32 protocol, const uint32_t *k, uint64_t factor)
{
    flow_u32 column[4], swap, ports;
    flow_u64 even = {0}, odd = {0};
    flow_turn(memory + 22, offset, column);
    ports = column[3];
    swap = (flow_u32)((ports & 0xFFFF) > (ports >> 16))
        | ((flow_u32)((ports & 0xFFFF) == (ports >> 16)) & (flow_u32)(column[1] > column[2]));
    FLOW_SWAP(column[1], column[2]);
    ports = (ports & ~swap) | ((ports >> 16 | ports << 16) & swap);
    flow_add(&even, &odd, column[1], k[0], column[2], k[1]);
    flow_add(&even, &odd, ports, k[2], protocol | 4 << 8, k[3]);
    return flow_finish(even, odd, factor);
}

static inline flow_u32 flow_hash6(
    const uint8_t *memory, const uint32_t *offset, flow_u32 protocol, const uint32_t *k, uint64_t factor)
{
    flow_u32 source[4], destination[4], ports, swap;
    flow_u64 even = {0}, odd = {0};
    int i;
    flow_turn(memory + 42, offset, source);
    ports = source[3];
    flow_turn(memory + 22, offset, source);
    flow_turn(memory + 38, offset, destination);
    swap = (flow_u32)((ports & 0xFFFF) > (ports >> 16));
    for (i = 0; i < 4; i++)
        swap = (flow_u32)(source[i] > destination[i]) | ((flow_u32)(source[i] == destination[i]) & swap);
    ports = (ports & ~swap) | ((ports >> 16 | ports << 16) & swap);
    flow_add(&even, &odd, ports, k[12], protocol | 6 << 8, k[13]);
    for (i = 0; i < 4; i++) {
        FLOW_SWAP(source[i], destination[i]);
        flow_add(&even, &odd, source[i], k[4 + 2 * i], destination[i], k[5 + 2 * i]);
    }
    return flow_finish(even, odd, factor);
}

/* Key, flags, layers, and hash unless `k` is NULL, of those packets of a block that are not dropped and
 * have a common shape; returns which these are (bit j: packet j), and in `others` which of the rest are not dropped. The
 * columns point at the block's first packet. */
static inline __attribute__((always_inline)) uint32_t flow_block(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t *others)
{
    flow_u32 column[4], size, bad4, bad6, tcp, udp, found, four, protocol, tagged;
    uint32_t moved[FLOW_LANES];
    const uint32_t valid = FLOW_ZEROS(flow_load(verdict));
    uint32_t is4, is6, left;
    int j;

    flow_turn(memory + 12, offset, column);
    size = flow_load(length);
    tagged = column[0] & 0xFFFF;
    tagged = (flow_u32)(tagged == 0x0081) | (flow_u32)(tagged == 0xA888) | (flow_u32)(tagged == 0x0091);
    if (FLOW_ZEROS(tagged) != FLOW_ALL) {
        /* Behind the tag, everything is as without, four bytes later. */
        flow_store(moved, flow_load(offset) + (tagged & 4));
        offset = moved;
        size -= tagged & 4;
        flow_turn(memory + 12, offset, column);
    }

    /* Words are little-endian. EtherType, version and header length, type of service | total length, identifier |
     * fragment, TTL, protocol | ...  The sign of a difference says which one is greater. */
    found = (column[1] & 0xFF) << 8 | (column[1] >> 8 & 0xFF);
    bad4 = (column[0] << 8 ^ 0x45000800) | (column[2] & 0xFF3F) | ((size - found - 14) | (found - 24)) >> 31;
    /* EtherType, version and class | flow label, payload length | next header, hop limit, source | ... */
    found = column[1] >> 24 | (column[1] >> 8 & 0xFF00);
    bad6 = ((column[0] ^ 0x0060DD86) & 0x00F0FFFF) | ((size - found - 54) | (found - 4)) >> 31;

    four = (flow_u32)((column[0] & 0xFFFF) == 8);
    protocol = (column[2] >> 24 & four) | (column[2] & 0xFF & ~four);
    tcp = (flow_u32)(protocol == 6);
    udp = (flow_u32)(protocol == 17);
    is4 = FLOW_ZEROS(bad4 | ~(tcp | udp)) & valid;
    is6 = FLOW_ZEROS(bad6 | ~(tcp | udp)) & valid;
    found = (tcp & 1 << 12) | (udp & 1 << 13) | 1 << 7 | (tagged & 4);
    tagged &= 4 | 4 << 16;

    if (is4 == FLOW_ALL) {
        for (j = 0; j < FLOW_LANES; j++)
            flow_key4(key + 40 * j, memory + offset[j] + 22);
        flow_store(flags, found | 1);
        flow_store(layers, tagged + (14 | 34 << 16));
        if (k)
            flow_store(hash, flow_hash4(memory, offset, protocol, k, factor));
    } else if (is6 == FLOW_ALL) {
        for (j = 0; j < FLOW_LANES; j++)
            flow_key6(key + 40 * j, memory + offset[j]);
        flow_store(flags, found | 2);
        flow_store(layers, tagged + (14 | 54 << 16));
        if (k)
            flow_store(hash, flow_hash6(memory, offset, protocol, k, factor));
    } else if (is4 | is6) {
        /* Both, or some left for `parse`. Without a branch on which: where to read is worked out for all at once. */
        uint32_t source[FLOW_LANES], destination[FLOW_LANES], ports[FLOW_LANES], rest[FLOW_LANES], wide[FLOW_LANES];
        uint32_t kept[FLOW_LANES], where[FLOW_LANES], hashed[FLOW_LANES];
        size = flow_load(offset);
        flow_store(source, size + 22 + (four & 4));
        flow_store(destination, size + 38 - (four & 8));
        flow_store(ports, size + 54 - (four & 20));
        flow_store(rest, protocol | (6 << 8 ^ (four & 2 << 8)));
        flow_store(wide, ~four);
        found |= 2 ^ (four & 3);
        column[0] = tagged + (14 | 54 << 16) - (four & 20 << 16);
        if (k) {
            column[1] = flow_hash4(memory, offset, protocol, k, factor);
            column[2] = flow_hash6(memory, offset, protocol, k, factor);
            column[1] = (column[1] & four) | (column[2] & ~four);
        }
        if (valid == FLOW_ALL) {
            /* What `parse` will do is written over. */
            for (j = 0; j < FLOW_LANES; j++)
                flow_key(key + 40 * j, memory, source[j], destination[j], ports[j], rest[j], wide[j]);
            flow_store(flags, found);
            flow_store(layers, column[0]);
            if (k)
                flow_store(hash, column[1]);
        } else {
            flow_store(kept, found);
            flow_store(where, column[0]);
            if (k)
                flow_store(hashed, column[1]);
            for (left = is4 | is6; left; left &= left - 1) {
                j = __builtin_ctz(left);
                flow_key(key + 40 * j, memory, source[j], destination[j], ports[j], rest[j], wide[j]);
                flags[j] = kept[j];
                layers[j] = where[j];
                if (k)
                    hash[j] = hashed[j];
            }
        }
    }
    *others = valid & ~(is4 | is6);
    return is4 | is6;
}

#endif

#define FLOW_AHEAD 8        /* packets: enough to hide a miss; more would push each other out of a full cache set */
#define FLOW_RUN 64         /* columns are padded to a multiple of it */

/* Blocks, for the packets from `start` to `end`, at most FLOW_RUN; returns which have a common shape, and in `others`
 * which of the rest are not dropped; bit j: packet start + j. `padded` is what the columns have room for. */
static inline __attribute__((always_inline)) uint64_t flow_blocks(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end, uint32_t padded, uint64_t *others)
{
    uint64_t done = 0, left = 0;
    uint32_t i = start;
#if FLOW_LANES > 1
    for (; i + FLOW_LANES <= end; i += FLOW_LANES) {
        uint32_t block, rest;
        /* Up to the padding, every offset is one of the memory. */
        if (i + FLOW_AHEAD + FLOW_LANES <= padded)
            for (int j = 0; j < FLOW_LANES; j++)
                __builtin_prefetch(memory + offset[i + FLOW_AHEAD + j]);
        block = flow_block(memory, offset + i, length + i, verdict + i, key + 40 * (size_t)i,
                           flags + i, layers + i, hash + i, k, factor, &rest);
        done |= (uint64_t)block << (i - start);
        left |= (uint64_t)rest << (i - start);
    }
#endif
    for (; i < end; i++)
        left |= (uint64_t)(verdict[i] == 0) << (i - start);
    *others = left;
    return done;
}

/* Key, layers and flags. */
static __attribute__((noinline, unused)) uint64_t flow_keys(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t start, uint32_t end, uint32_t padded, uint64_t *others)
{
    return flow_blocks(memory, offset, length, verdict, key, flags, layers, flags, NULL, 0, start, end, padded, others);
}

/* The same and the hash. */
static __attribute__((noinline, unused)) uint64_t flow_hashes(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end, uint32_t padded, uint64_t *others)
{
    return flow_blocks(memory, offset, length, verdict, key, flags, layers, hash, k, factor, start, end, padded, others);
}

#endif

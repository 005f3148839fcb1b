/* The common shapes of a frame, several packets at once: Ethernet, perhaps one VLAN tag; IPv4 without options, or IPv6; no
 * fragment; TCP or UDP; whole. `_flow.pxd` parses everything else.
 *
 * A block is FLOW_LANES packets. The words that all checks need are loaded from each and turned (a transposition), so
 * that one comparison serves the whole block; then every packet that passed has its key shuffled together. Words begin
 * at byte 10 of a packet, so that three turns have all that either version needs, and blocks of both go the same way.
 *
 * Up to 64 bytes at a packet's first byte are read whatever its length is; bytes behind its end never influence a result.
 */
#ifndef NODEPLANE_FLOW_H
#define NODEPLANE_FLOW_H

#include "lanes.h"

#define FLOW_KEPT 0xFFFF0000u      /* flags that others set: `fastpath.flags.OTHERS` */

#if FLOW_LANES > 1

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

#if FLOW_LANES != 8
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
#endif

/* The sums of a block's hashes, and one multiplication of each: (a + key) * (b + other). The end is bits 32 to 63 of
 * (sum ^ sum >> 32) * factor. */
#if defined(__AVX512DQ__) && defined(__AVX512VL__)
typedef __m512i flow_sums;
#define FLOW_NOTHING _mm512_setzero_si512()

static inline void flow_add_keys(flow_sums *sums, flow_u32 a, flow_u32 key, flow_u32 b, flow_u32 other)
{
    const __m512i one = _mm512_cvtepu32_epi64((__m256i)(a + key)), two = _mm512_cvtepu32_epi64((__m256i)(b + other));
    *sums = _mm512_add_epi64(*sums, _mm512_mul_epu32(one, two));
}

static inline flow_u32 flow_finish(flow_sums sums, uint64_t factor)
{
    sums = _mm512_xor_si512(sums, _mm512_srli_epi64(sums, 32));
    sums = _mm512_mullo_epi64(sums, _mm512_set1_epi64((long long)factor));
    return (flow_u32)_mm512_cvtepi64_epi32(_mm512_srli_epi64(sums, 32));
}
#else
typedef struct { flow_u64 even, odd; } flow_sums;
#define FLOW_NOTHING (flow_sums){{0}, {0}}

static inline void flow_add_keys(flow_sums *sums, flow_u32 a, flow_u32 key, flow_u32 b, flow_u32 other)
{
    a += key;
    b += other;
    sums->even += FLOW_TIMES(a, b);
    sums->odd += FLOW_TIMES((flow_u64)a >> 32, (flow_u64)b >> 32);
}

#if FLOW_LANES == 8
/* In 32-bit steps; the sums' lanes become one register's. */
static inline flow_u32 flow_finish(flow_sums sums, uint64_t factor)
{
    const flow_u64 mask = (flow_u64){0} + ((uint64_t)0xFFFFFFFF << 32), first = (flow_u64){0} + (factor & 0xFFFFFFFF);
    const flow_u32 low = (flow_u32)FLOW_PICK(mask, sums.odd ^ sums.odd << 32, sums.even ^ sums.even >> 32);
    const flow_u32 high = (flow_u32)FLOW_PICK(mask, sums.odd, sums.even >> 32);
    const flow_u32 carried = (flow_u32)FLOW_PICK(mask, FLOW_TIMES((flow_u64)low >> 32, first), FLOW_TIMES(low, first) >> 32);
    return carried + low * (uint32_t)(factor >> 32) + high * (uint32_t)factor;
}
#else
/* There, multiplying 32-bit lanes takes several steps: each sum by itself. */
static inline flow_u64 flow_high(flow_u64 sum, uint64_t factor)
{
    const flow_u64 low = (flow_u64){0} + (factor & 0xFFFFFFFF), high = (flow_u64){0} + (factor >> 32);
    flow_u64 shifted = sum >> 32;
    sum ^= shifted;
    return (FLOW_TIMES(sum, low) >> 32) + FLOW_TIMES(sum, high) + FLOW_TIMES(shifted, low);
}

static inline flow_u32 flow_finish(flow_sums sums, uint64_t factor)
{
    return (flow_u32)((flow_high(sums.even, factor) & 0xFFFFFFFF) | flow_high(sums.odd, factor) << 32);
}
#endif
#endif

static inline void flow_add(flow_sums *sums, flow_u32 a, uint32_t key, flow_u32 b, uint32_t other)
{
    flow_add_keys(sums, a, (flow_u32){0} + key, b, (flow_u32){0} + other);
}

/* Lanes where a is above b, or the same and `below` is set: one step of a comparison from the lowest word on. */
static inline flow_u32 flow_above(flow_u32 a, flow_u32 b, flow_u32 below)
{
#if FLOW_LANES == 8
    const __m256i most = _mm256_max_epu32((__m256i)a, (__m256i)b);
    const flow_u32 least_b = (flow_u32)_mm256_cmpeq_epi32(most, (__m256i)a);
    const flow_u32 least_a = (flow_u32)_mm256_cmpeq_epi32(most, (__m256i)b);
    return (least_b & below) | ~least_a;
#else
    return (flow_u32)(a > b) | ((flow_u32)(a == b) & below);
#endif
}

/* a and b exchanged in the lanes of `swap`. */
#define FLOW_SWAP(a, b) do { flow_u32 t_ = FLOW_PICK(swap, b, a); (b) = FLOW_PICK(swap, a, b); (a) = t_; } while (0)

static inline flow_u32 flow_turned_ports(flow_u32 ports, flow_u32 swap)
{
    return FLOW_PICK(swap, ports >> 16 | ports << 16, ports);
}

/* The hashes of a block, `hash_key` of `_flow.pxd`, of packets of one version; `first` is the word at byte 22. */
static inline flow_u32 flow_hash4(
    const uint8_t *memory, const uint32_t *offset, flow_u32 protocol, const uint32_t *k, uint64_t factor)
{
    flow_u32 word[4], swap, ports;
    flow_sums sums = FLOW_NOTHING;
    flow_turn(memory + 26, offset, word);
    ports = word[2];
    swap = flow_above(ports & 0xFFFF, ports >> 16, (flow_u32)(word[0] > word[1]));
    FLOW_SWAP(word[0], word[1]);
    flow_add(&sums, word[0], k[0], word[1], k[1]);
    flow_add(&sums, flow_turned_ports(ports, swap), k[2], protocol | 4 << 8, k[3]);
    return flow_finish(sums, factor);
}

static inline flow_u32 flow_hash6(
    const uint8_t *memory, const uint32_t *offset, flow_u32 first, flow_u32 protocol, const uint32_t *k,
    uint64_t factor)
{
    flow_u32 word[9], ports, swap;
    flow_sums sums = FLOW_NOTHING;
    int i;
    word[0] = first;
    flow_turn(memory + 26, offset, word + 1);
    flow_turn(memory + 42, offset, word + 5);
    ports = word[8];
    swap = (flow_u32)((ports & 0xFFFF) > (ports >> 16));
    for (i = 0; i < 4; i++)
        swap = flow_above(word[i], word[4 + i], swap);
    flow_add(&sums, flow_turned_ports(ports, swap), k[12], protocol | 6 << 8, k[13]);
    for (i = 0; i < 4; i++) {
        FLOW_SWAP(word[i], word[4 + i]);
        flow_add(&sums, word[i], k[4 + 2 * i], word[4 + i], k[5 + 2 * i]);
    }
    return flow_finish(sums, factor);
}

/* The same of both versions; all bits of `four` are set in the lanes of IPv4. */
static inline flow_u32 flow_hash(
    const uint8_t *memory, const uint32_t *offset, flow_u32 first, flow_u32 four, flow_u32 protocol, const uint32_t *k,
    uint64_t factor)
{
    flow_u32 word[9], ports, low, high, swap, swap4;
    flow_sums sums = FLOW_NOTHING;
    int i;
    word[0] = first;
    flow_turn(memory + 26, offset, word + 1);
    flow_turn(memory + 42, offset, word + 5);
    ports = FLOW_PICK(four, word[3], word[8]);
    word[0] = FLOW_PICK(four, word[1], word[0]);
    word[4] = FLOW_PICK(four, word[2], word[4]);
    low = ports & 0xFFFF;
    high = ports >> 16;
    swap4 = flow_above(low, high, (flow_u32)(word[0] > word[4]));
    swap = (flow_u32)(low > high);
    for (i = 0; i < 4; i++)
        swap = flow_above(word[i], word[4 + i], swap);
    swap = FLOW_PICK(four, swap4, swap);
    FLOW_SWAP(word[0], word[4]);
#define FLOW_KEY(at4, at6) FLOW_PICK(four, (flow_u32){0} + k[at4], (flow_u32){0} + k[at6])
    flow_add_keys(&sums, word[0], FLOW_KEY(0, 4), word[4], FLOW_KEY(1, 5));
    flow_add_keys(&sums, flow_turned_ports(ports, swap), FLOW_KEY(2, 12),
                  protocol | ((flow_u32){0} + (6 << 8) - (four & 2 << 8)), FLOW_KEY(3, 13));
#undef FLOW_KEY
    for (i = 1; i < 4; i++) {
        /* IPv4 has no more: a factor of 0. */
        FLOW_SWAP(word[i], word[4 + i]);
        word[i] = (word[i] + k[4 + 2 * i]) & ~four;
        flow_add(&sums, word[i], 0, word[4 + i], k[5 + 2 * i]);
    }
    return flow_finish(sums, factor);
}

/* What the packets of a block are, if there is no tag: of what is 0 in `bad4` or `bad6`, it is a common shape. */
struct flow_shapes {
    flow_u32 four;              /* all bits are set in the lanes of IPv4 */
    flow_u32 protocol;          /* where four is right */
    flow_u32 bad4, bad6;
    flow_u32 word[4];           /* bytes 10 to 25 */
};

/* Words are little-endian. The sign of a difference says which one is greater. */
static inline __attribute__((always_inline)) void flow_look4(struct flow_shapes *s, flow_u32 size)
{
    /* EtherType | version and header length, type of service, total length | identifier, fragment | TTL, protocol */
    const flow_u32 total = (s->word[1] >> 8 & 0xFF00) | s->word[1] >> 24;
    s->protocol = s->word[3] >> 8 & 0xFF;
    s->bad4 = (s->word[0] >> 16 ^ 8) | ((s->word[1] & 0xFF) ^ 0x45) | (s->word[2] & 0xFF3F0000)
        | ((size - total - 14) | (total - 24)) >> 31
        | ~((flow_u32)(s->protocol == 6) | (flow_u32)(s->protocol == 17));
}

static inline __attribute__((always_inline)) void flow_look6(struct flow_shapes *s, flow_u32 size)
{
    /* EtherType | version, class, flow label | payload length, next header, hop limit | source */
    const flow_u32 total = (s->word[2] & 0xFF) << 8 | (s->word[2] >> 8 & 0xFF);
    s->protocol = s->word[2] >> 16 & 0xFF;
    s->bad6 = ((s->word[0] >> 16 | (s->word[1] & 0xF0) << 16) ^ 0x60DD86)
        | ((size - total - 54) | (total - 4)) >> 31
        | ~((flow_u32)(s->protocol == 6) | (flow_u32)(s->protocol == 17));
}

static inline __attribute__((always_inline)) void flow_look(struct flow_shapes *s, flow_u32 size)
{
    s->four = (flow_u32)(s->word[0] >> 16 == 8);
    flow_look4(s, size);
    flow_look6(s, size);
    s->protocol = FLOW_PICK(s->four, s->word[3] >> 8, s->word[2] >> 16) & 0xFF;
}

/* All bits of the lanes with a VLAN tag. */
static inline flow_u32 flow_tagged(const struct flow_shapes *s)
{
    const flow_u32 kind = s->word[0] >> 16;
    return (flow_u32)(kind == 0x0081) | (flow_u32)(kind == 0xA888) | (flow_u32)(kind == 0x0091);
}

/* The keys of a block of both versions. */
static inline void flow_keys_both(
    uint8_t *key, const uint8_t *memory, const uint32_t *offset, flow_u32 four, flow_u32 protocol, uint32_t which)
{
    uint32_t ports[FLOW_LANES], rest[FLOW_LANES];
    uint32_t j;
    flow_store(ports, flow_load(offset) + 54 - (four & 20));
    flow_store(rest, protocol | ((flow_u32){0} + (6 << 8) - (four & 2 << 8)));
#if FLOW_LANES == 8
    /* Words 22 to 53 of an IPv6 packet are the addresses; in those of an IPv4 packet, they are the second and third. */
#if defined(__AVX512VL__)
    /* Of eight zeros and those words. */
    static const uint32_t table[2][8] __attribute__((aligned(64))) = {
        {8, 9, 10, 11, 12, 13, 14, 15}, {9, 0, 0, 0, 10, 0, 0, 0},
    };
#define FLOW_ADDRESSES(row, words) _mm256_permutex2var_epi32(_mm256_setzero_si256(), (row)[0], words)
#else
    static const uint32_t table[2][2][8] __attribute__((aligned(64))) = {
        {{0, 1, 2, 3, 4, 5, 6, 7}, {-1u, -1u, -1u, -1u, -1u, -1u, -1u, -1u}},
        {{1, 0, 0, 0, 2, 0, 0, 0}, {-1u, 0, 0, 0, -1u, 0, 0, 0}},
    };
#define FLOW_ADDRESSES(row, words) _mm256_and_si256(_mm256_permutevar8x32_epi32(words, (row)[0]), (row)[1])
#endif
    uint32_t version[8];
    flow_store(version, four & (uint32_t)sizeof table[0]);
#define FLOW_ONE(j) do { \
        const __m256i *row = (const __m256i *)((const uint8_t *)table + version[j]); \
        const __m256i v = FLOW_ADDRESSES(row, _mm256_loadu_si256((const __m256i *)(memory + offset[j] + 22))); \
        _mm256_storeu_si256((__m256i *)(key + 40 * (j)), v); \
        memcpy(key + 40 * (j) + 32, memory + ports[j], 4); \
        memcpy(key + 40 * (j) + 36, rest + (j), 4); \
    } while (0)
#else
    uint32_t source[FLOW_LANES], destination[FLOW_LANES], wide[FLOW_LANES];
    flow_store(source, flow_load(offset) + 22 + (four & 4));
    flow_store(destination, flow_load(offset) + 38 - (four & 8));
    flow_store(wide, ~four);
#define FLOW_ONE(j) flow_key(key + 40 * (j), memory, source[j], destination[j], ports[j], rest[j], wide[j])
#endif
    if (which == FLOW_ALL)
        for (j = 0; j < FLOW_LANES; j++)
            FLOW_ONE(j);
    else
        for (; which; which &= which - 1) {
            j = __builtin_ctz(which);
            FLOW_ONE(j);
        }
#undef FLOW_ONE
}

/* Key, flags, layers, and hash unless `k` is NULL, of those packets of a block that are not dropped and
 * have a common shape; returns which these are (bit j: packet j), and in `others` which of the rest are not dropped. The
 * columns point at the block's first packet. */
static inline __attribute__((always_inline)) uint32_t flow_block(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t *others)
{
    struct flow_shapes s;
    flow_u32 found, where, tagged, size, hashed = {0};
    uint32_t moved[FLOW_LANES], kept[3][FLOW_LANES];
    const uint32_t valid = FLOW_ZEROS(flow_load(verdict));
    uint32_t is4, is6, left;
    int j;

    size = flow_load(length);
    flow_turn(memory + 10, offset, s.word);
    tagged = flow_tagged(&s);
    if (FLOW_ZEROS(tagged) != FLOW_ALL) {
        /* Behind the tag, everything is as without, four bytes later. */
        flow_store(moved, flow_load(offset) + (tagged & 4));
        offset = moved;
        size -= tagged & 4;
        flow_turn(memory + 10, offset, s.word);
    }
    flow_look(&s, size);
    is4 = FLOW_ZEROS(s.bad4) & valid;
    is6 = FLOW_ZEROS(s.bad6) & valid;
    /* TCP is 6, UDP 17: the bit of both tells them apart. */
    found = ((flow_u32){0} + (1 << 12) + (s.protocol << 8 & 1 << 12)) | 1 << 7 | (tagged & 4)
        | (flow_load(flags) & FLOW_KEPT);
    where = tagged & (4 | 4 << 16);

    if (is4 == FLOW_ALL) {
        for (j = 0; j < FLOW_LANES; j++)
            flow_key4(key + 40 * j, memory + offset[j] + 22);
        flow_store(flags, found | 1);
        flow_store(layers, where + (14 | 34 << 16));
        if (k)
            flow_store(hash, flow_hash4(memory, offset, s.protocol, k, factor));
    } else if (is6 == FLOW_ALL) {
        for (j = 0; j < FLOW_LANES; j++)
            flow_key6(key + 40 * j, memory + offset[j]);
        flow_store(flags, found | 2);
        flow_store(layers, where + (14 | 54 << 16));
        if (k)
            flow_store(hash, flow_hash6(memory, offset, s.word[3], s.protocol, k, factor));
    } else if (is4 | is6) {
        /* Both, or some left for `parse`. Without a branch on which: where to read is worked out for all at once. */
        found |= 2 ^ (s.four & 3);
        where += (14 | 54 << 16) - (s.four & 20 << 16);
        if (k)
            hashed = flow_hash(memory, offset, s.word[3], s.four, s.protocol, k, factor);
        if (valid == FLOW_ALL) {
            /* What `parse` will do is written over. */
            flow_keys_both(key, memory, offset, s.four, s.protocol, FLOW_ALL);
            flow_store(flags, found);
            flow_store(layers, where);
            if (k)
                flow_store(hash, hashed);
        } else {
            flow_keys_both(key, memory, offset, s.four, s.protocol, is4 | is6);
            flow_store(kept[0], found);
            flow_store(kept[1], where);
            flow_store(kept[2], hashed);
            for (left = is4 | is6; left; left &= left - 1) {
                j = __builtin_ctz(left);
                flags[j] = kept[0][j];
                layers[j] = kept[1][j];
                if (k)
                    hash[j] = kept[2][j];
            }
        }
    }
    *others = valid & ~(is4 | is6);
    return is4 | is6;
}

#endif

#define FLOW_AHEAD 32       /* packets: so many misses are under way at once */
#define FLOW_RUN 64         /* columns are padded to a multiple of it */

/* Blocks, for the packets from `start` to `end`, at most FLOW_RUN; returns which have a common shape, and in `others`
 * which of the rest are not dropped; bit j: packet start + j. The batch has `count` packets. */
static inline __attribute__((always_inline)) uint64_t flow_blocks(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end, uint32_t count, uint64_t *others)
{
    uint64_t done = 0, left = 0;
    uint32_t i = start;
#if FLOW_LANES > 1
    if (start == 0)
        for (uint32_t j = 0; j < FLOW_AHEAD && j < count; j++)
            __builtin_prefetch(memory + offset[j]);
    for (; i + FLOW_LANES <= end; i += FLOW_LANES) {
        uint32_t block, rest;
        if (i + FLOW_AHEAD + FLOW_LANES <= count)
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
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t start, uint32_t end, uint32_t count, uint64_t *others)
{
    return flow_blocks(memory, offset, length, verdict, key, flags, layers, flags, NULL, 0, start, end, count, others);
}

/* The same and the hash. */
static __attribute__((noinline, unused)) uint64_t flow_hashes(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end, uint32_t count, uint64_t *others)
{
    return flow_blocks(memory, offset, length, verdict, key, flags, layers, hash, k, factor, start, end, count, others);
}

#endif

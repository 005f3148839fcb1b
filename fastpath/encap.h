/* Outer headers for FLOW_LANES packets at once, where all go through plain tunnels with headers of one size: those of a
 * common shape, see flow.h, IPv4 and IPv6 side by side. `_encap.pxd` does everything else, and says what the bytes are.
 *
 * What differs from packet to packet, lengths, checksum, source port, congestion mark, is worked out in one register
 * for all of them; then each gets its tunnel's header with its four words in it.
 */
#ifndef NODEPLANE_ENCAP_H
#define NODEPLANE_ENCAP_H

#include "flow.h"

#define ENCAP_AHEAD 16      /* packets */

/* The tunnels of a block. A plain tunnel inherits nothing but the ECN field, and has no UDP checksum. */
struct encap_lanes {
    const uint8_t *header[FLOW_LANES];
    uint32_t word[3][FLOW_LANES];   /* that change: of the IP header the first, and the third (IPv4) or second; of UDP's */
    uint32_t number[FLOW_LANES];
    uint32_t most[FLOW_LANES];      /* the longest inner frame */
    uint32_t ip_sum[FLOW_LANES];    /* IPv4: the sum of the header's words */
    uint32_t mark[FLOW_LANES];      /* 3: the inner ECN field is copied; 0: it is not */
    uint32_t label[FLOW_LANES];     /* IPv6: the bits of the flow label that come from the hash */
    uint32_t size;                  /* bytes of each header: 50, 54, 70 or 74 */
};

/* A batch's columns, and what all blocks need. */
struct encap_job {
    uint8_t *memory;
    uint32_t *offset, *length, *layers, *hash;
    const uint32_t *verdict, *tunnel;
    uint32_t count;
    uint32_t slot;
    uint32_t reciprocal;        /* 2^32 / slot */
    uint32_t slots[FLOW_LANES]; /* where a block's begin */
    const uint32_t *k;          /* of the hash */
    uint64_t factor;
    uint64_t passed;
};

static inline void encap_begin(struct encap_job *b, uint32_t count, uint32_t slot)
{
    b->count = count;
    b->slot = slot;
    b->reciprocal = (uint32_t)(((uint64_t)1 << 32) / slot);
    for (int j = 0; j < FLOW_LANES; j++)
        b->slots[j] = j * slot;
    b->passed = 0;
}

static inline uint32_t encap_word(const uint8_t *at) { uint32_t word; memcpy(&word, at, 4); return word; }

static inline void encap_lane(
    struct encap_lanes *t, uint32_t j, const uint8_t *header, uint32_t number, uint32_t most, uint32_t ip_sum,
    uint32_t mark, uint32_t label)
{
    const int six = t->size >= 70;
    t->header[j] = header;
    t->word[0][j] = encap_word(header + t->size - (six ? 56 : 36));
    t->word[1][j] = encap_word(header + t->size - (six ? 52 : 28));
    t->word[2][j] = encap_word(header + t->size - 16);
    t->number[j] = number;
    t->most[j] = most;
    t->ip_sum[j] = ip_sum;
    t->mark[j] = mark;
    t->label[j] = label;
}

#if FLOW_LANES > 1

static inline flow_u32 encap_big16(flow_u32 v) { return (v << 8 & 0xFF00) | v >> 8; }

static inline flow_u32 encap_big32(flow_u32 v)
{
    v = (v << 8 & 0xFF00FF00) | (v >> 8 & 0x00FF00FF);
    return v << 16 | v >> 16;
}

/* Offsets modulo the size of a slot. The quotient by multiplication is right or one too small. */
static inline flow_u32 encap_room(flow_u32 offset, uint32_t slot, uint32_t reciprocal)
{
    const flow_u64 by = (flow_u64){0} + reciprocal;
    flow_u64 even = FLOW_TIMES(offset, by) >> 32;
    flow_u64 odd = FLOW_TIMES((flow_u64)offset >> 32, by) & ~(uint64_t)0xFFFFFFFF;
    offset -= (flow_u32)(even | odd) * slot;
    return offset - ((flow_u32)(offset >= slot) & slot);
}

/* The headers: the first two words at `place` before the packet and `step` bytes later, the others are UDP's. */
static inline __attribute__((always_inline)) void encap_write_one(
    uint8_t *at, const uint8_t *header, uint32_t size, uint32_t place, uint32_t step, const uint32_t *word)
{
    memcpy(at - size, header, size);
    memcpy(at - place, word, 4);
    memcpy(at - place + step, word + FLOW_LANES, 4);
    memcpy(at - 16, word + 2 * FLOW_LANES, 4);
    memcpy(at - 12, word + 3 * FLOW_LANES, 4);
}

#if FLOW_LANES == 8

/* The first 32 bytes of a header of 50, 54, 70 or 74 bytes, and the last 32, over IPv4 or IPv6: H(i) is its own byte,
 * W(i) byte i of the packet's four words. */
#define ENCAP_4(F, i) F(i), F(i + 1), F(i + 2), F(i + 3)
#define ENCAP_12(F, i) ENCAP_4(F, i), ENCAP_4(F, i + 4), ENCAP_4(F, i + 8)
#define ENCAP_50(H, W) \
    ENCAP_12(H, 0), H(12), H(13), ENCAP_4(W, 0), ENCAP_4(H, 18), ENCAP_4(W, 4), ENCAP_4(H, 26), H(30), H(31)
#define ENCAP_54(H, W) \
    ENCAP_12(H, 0), ENCAP_4(H, 12), H(16), H(17), ENCAP_4(W, 0), ENCAP_4(H, 22), ENCAP_4(W, 4), H(30), H(31)
#define ENCAP_70(H, W) \
    ENCAP_12(H, 0), H(12), H(13), ENCAP_4(W, 0), ENCAP_4(W, 4), ENCAP_4(H, 22), ENCAP_4(H, 26), H(30), H(31)
#define ENCAP_74(H, W) \
    ENCAP_12(H, 0), ENCAP_4(H, 12), H(16), H(17), ENCAP_4(W, 0), ENCAP_4(W, 4), ENCAP_4(H, 26), H(30), H(31)
#define ENCAP_LAST4(H, W) \
    ENCAP_4(H, 0), ENCAP_4(W, 4), ENCAP_4(H, 8), ENCAP_4(H, 12), ENCAP_4(W, 8), ENCAP_4(W, 12), ENCAP_4(H, 24), ENCAP_4(H, 28)
#define ENCAP_LAST6(H, W) \
    ENCAP_12(H, 0), ENCAP_4(H, 12), ENCAP_4(W, 8), ENCAP_4(W, 12), ENCAP_4(H, 24), ENCAP_4(H, 28)
#define ENCAP_WHERE(H, W) { \
    {ENCAP_50(H, W)}, {ENCAP_54(H, W)}, {ENCAP_70(H, W)}, {ENCAP_74(H, W)}, {ENCAP_LAST4(H, W)}, {ENCAP_LAST6(H, W)}, \
}
#if defined(__AVX512VBMI__)
/* As VPERMT2B takes it, for the words in the lower and in the higher half of a register. */
#define ENCAP_HEADER(i) 32 + (i)
#define ENCAP_LOW(i) i
#define ENCAP_HIGH(i) 16 + (i)
static const uint8_t encap_where[2][6][32] __attribute__((aligned(64))) = {
    ENCAP_WHERE(ENCAP_HEADER, ENCAP_LOW), ENCAP_WHERE(ENCAP_HEADER, ENCAP_HIGH),
};
#else
/* As VPSHUFB takes it: 0 where the header's bytes stay. */
#define ENCAP_HEADER(i) 128
#define ENCAP_WORD(i) i
static const uint8_t encap_where[1][6][32] __attribute__((aligned(64))) = {ENCAP_WHERE(ENCAP_HEADER, ENCAP_WORD)};
#endif

static inline __m256i encap_load(const uint8_t *at) { return _mm256_loadu_si256((const __m256i *)at); }

/* All lanes: the words, each with its place's constant bits, are put into the header while that is in registers. */
static inline __attribute__((always_inline)) void encap_write(
    uint8_t *memory, const uint32_t *offset, const struct encap_lanes *t, uint32_t size, const flow_u32 *word)
{
    const int which = size == 50 ? 0 : size == 54 ? 1 : size == 70 ? 2 : 3;
    const __m256i low01 = (__m256i)FLOW_ZIPLO(word[0], word[1]), low23 = (__m256i)FLOW_ZIPLO(word[2], word[3]);
    const __m256i high01 = (__m256i)FLOW_ZIPHI(word[0], word[1]), high23 = (__m256i)FLOW_ZIPHI(word[2], word[3]);
    const __m256i rows[4] = {
        _mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23),
    };
    for (int j = 0; j < FLOW_LANES; j++) {
        uint8_t *at = memory + offset[j];
        const uint8_t *header = t->header[j];
        const __m256i row = rows[j & 3];
        __m256i one = encap_load(header), other = encap_load(header + size - 32);
#if defined(__AVX512VBMI__)
        one = _mm256_permutex2var_epi8(row, encap_load(encap_where[j >> 2][which]), one);
        other = _mm256_permutex2var_epi8(row, encap_load(encap_where[j >> 2][4 + which / 2]), other);
#else
        const __m256i both = j < 4 ? _mm256_permute2x128_si256(row, row, 0x00) : _mm256_permute2x128_si256(row, row, 0x11);
        one = _mm256_or_si256(one, _mm256_shuffle_epi8(both, encap_load(encap_where[0][which])));
        other = _mm256_or_si256(other, _mm256_shuffle_epi8(both, encap_load(encap_where[0][4 + which / 2])));
#endif
        if (size >= 70)
            _mm_storeu_si128((__m128i *)(at - 48), _mm_loadu_si128((const __m128i *)(header + size - 48)));
        _mm256_storeu_si256((__m256i *)(at - size), one);
        _mm256_storeu_si256((__m256i *)(at - 32), other);
    }
}

#else

static inline __attribute__((always_inline)) void encap_write(
    uint8_t *memory, const uint32_t *offset, const struct encap_lanes *t, uint32_t size, const flow_u32 *word)
{
    uint32_t words[4][FLOW_LANES];
    memcpy(words, word, sizeof words);
    for (int j = 0; j < FLOW_LANES; j++)
        encap_write_one(memory + offset[j], t->header[j], size, size < 70 ? 36 : 56, size < 70 ? 8 : 4, words[0] + j);
}

#endif

/* Some lanes. */
static inline void encap_write_some(
    uint8_t *memory, const uint32_t *offset, const struct encap_lanes *t, const flow_u32 *word, uint32_t which)
{
    uint32_t words[4][FLOW_LANES];
    memcpy(words, word, sizeof words);
    for (; which; which &= which - 1) {
        const uint32_t j = __builtin_ctz(which);
        uint8_t *at = memory + offset[j];
        if (t->size == 50)
            encap_write_one(at, t->header[j], 50, 36, 8, words[0] + j);
        else if (t->size == 54)
            encap_write_one(at, t->header[j], 54, 36, 8, words[0] + j);
        else
            encap_write_one(at, t->header[j], t->size, 56, 4, words[0] + j);
    }
}

/* What is written for a block, and for which of its packets: bit j for packet j. */
struct encap_work {
    flow_u32 word[4], hash, layers, done;
    uint32_t good;
};

/* Works out the block of packets from `i` on, and changes nothing. `same`: that all are of the lanes' tunnels is known. */
static inline __attribute__((always_inline)) void encap_words(
    const struct encap_job *b, uint32_t i, const struct encap_lanes *t, struct encap_work *w, const int same)
{
    const uint32_t *offset = b->offset + i;
    struct flow_shapes s;
    flow_u32 wrong, size, room, sum, mark, starts, hashed, place;
    uint32_t moved[FLOW_LANES];

    starts = flow_load(offset);
    size = flow_load(b->length + i);
    /* The room before the packet, in its slot: nearly always that of the same number. */
    room = starts - i * b->slot - flow_load(b->slots);
    if (!FLOW_POSITIVE((room - t->size) | (b->slot - 1 - room)))
        room = encap_room(starts, b->slot, b->reciprocal);
    wrong = flow_load(b->verdict + i);
    if (!same)
        wrong |= flow_load(b->tunnel + i) ^ flow_load(t->number);
    wrong |= ((flow_load(t->most) - size) | (room - t->size)) >> 31;

    flow_turn(b->memory + 10, offset, s.word);
    place = (flow_u32){0} + (14 + t->size) + (t->size << 16);
    w->good = FLOW_ALL;
    w->done = ~(flow_u32){0};
    flow_look4(&s, size);
    if (FLOW_ZEROS(wrong | s.bad4) == FLOW_ALL) {
        mark = s.word[1] >> 8;
        place += 34 << 16;
        hashed = flow_hash4(b->memory, offset, s.protocol, b->k, b->factor);
    } else {
        flow_look6(&s, size);
        if (FLOW_ZEROS(wrong | s.bad6) == FLOW_ALL) {
            mark = s.word[1] >> 12;
            place += 54 << 16;
            hashed = flow_hash6(b->memory, offset, s.word[3], s.protocol, b->k, b->factor);
        } else {
            flow_look(&s, size);
            w->good = FLOW_ZEROS(wrong | FLOW_PICK(s.four, s.bad4, s.bad6));
            if (w->good != FLOW_ALL) {
                const flow_u32 tagged = flow_tagged(&s);
                if (FLOW_ZEROS(tagged) != FLOW_ALL) {
                    /* Behind the tag, everything is as without, four bytes later. */
                    flow_store(moved, starts + (tagged & 4));
                    offset = moved;
                    flow_turn(b->memory + 10, offset, s.word);
                    flow_look(&s, size - (tagged & 4));
                    place += tagged & (4 | 4 << 16);
                }
                wrong |= FLOW_PICK(s.four, s.bad4, s.bad6);
                w->done = (flow_u32)(wrong == 0);
                w->good = FLOW_ZEROS(wrong);
                if (!w->good)
                    return;
            }
            mark = FLOW_PICK(s.four, s.word[1] >> 8, s.word[1] >> 12);
            place += (54 << 16) - (s.four & 20 << 16);
            hashed = flow_hash(b->memory, offset, s.word[3], s.four, s.protocol, b->k, b->factor);
        }
    }
    mark &= flow_load(t->mark);
    w->hash = hashed;
    w->layers = place;
    w->word[2] = encap_big16((hashed & 0x3FFF) | 0xC000) | flow_load(t->word[2]);
    w->word[3] = encap_big16(size + 16);
    if (t->size < 70) {
        sum = size + 36 + mark + flow_load(t->ip_sum);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        w->word[0] = flow_load(t->word[0]) | mark << 8 | encap_big16(size + 36) << 16;
        w->word[1] = flow_load(t->word[1]) | encap_big16(sum ^ 0xFFFF) << 16;
    } else {
        w->word[0] = flow_load(t->word[0]) | encap_big32(mark << 20 | (hashed >> 12 & flow_load(t->label)));
        w->word[1] = flow_load(t->word[1]) | encap_big16(size + 16);
    }
}

/* Writes it. */
static inline __attribute__((always_inline)) void encap_put(
    const struct encap_job *b, uint32_t i, const struct encap_lanes *t, const struct encap_work *w)
{
    uint32_t *offset = b->offset + i, *length = b->length + i, *layers = b->layers + i, *hash = b->hash + i;
    if (w->good == FLOW_ALL) {
        if (t->size == 50)
            encap_write(b->memory, offset, t, 50, w->word);
        else if (t->size == 54)
            encap_write(b->memory, offset, t, 54, w->word);
        else if (t->size == 70)
            encap_write(b->memory, offset, t, 70, w->word);
        else
            encap_write(b->memory, offset, t, 74, w->word);
        flow_store(hash, w->hash);
        flow_store(layers, w->layers);
        flow_store(offset, flow_load(offset) - t->size);
        flow_store(length, flow_load(length) + t->size);
    } else if (w->good) {
        encap_write_some(b->memory, offset, t, w->word, w->good);
        flow_store(hash, FLOW_PICK(w->done, w->hash, flow_load(hash)));
        flow_store(layers, FLOW_PICK(w->done, w->layers, flow_load(layers)));
        flow_store(offset, flow_load(offset) - (w->done & t->size));
        flow_store(length, flow_load(length) + (w->done & t->size));
    }
}

/* Both; returns for which packets. */
static inline __attribute__((always_inline)) uint32_t encap_block(
    const struct encap_job *b, uint32_t i, const struct encap_lanes *t, const int same)
{
    struct encap_work work;
    encap_words(b, i, t, &work, same);
    encap_put(b, i, t, &work);
    return work.good;
}

#endif

static inline void encap_fetch(const uint8_t *at)
{
    __builtin_prefetch(at);
    __builtin_prefetch(at - 1, 1);
}

/* Packets through one tunnel from `start` on, block by block, up to the first with others in it; returns where the next
 * begins, and in `left` which of the last one's are still to do: they are for `encode`. Where the first one has packets of
 * another tunnel, nothing is done. Asks for the memory of later packets. */
static __attribute__((noinline, unused)) uint32_t encap_blocks(
    struct encap_job *b, uint32_t start, const struct encap_lanes *t, uint32_t *left)
{
    *left = 0;
#if FLOW_LANES > 1
    uint32_t good = FLOW_ALL;
#if FLOW_LANES == 8
    /* A block is written after the next one has been worked out, so that two chains of dependent steps run side by
     * side. With half the registers, that is slower. */
    struct encap_work work[2];
    uint32_t turn = 0;
    int waiting = 0;
#endif
    while (good == FLOW_ALL && start + FLOW_LANES <= b->count) {
        if (FLOW_ZEROS(flow_load(b->tunnel + start) ^ flow_load(t->number)) != FLOW_ALL)
            break;
        if (start + ENCAP_AHEAD + FLOW_LANES <= b->count)
            for (int j = 0; j < FLOW_LANES; j++)
                encap_fetch(b->memory + b->offset[start + ENCAP_AHEAD + j]);
#if FLOW_LANES == 8
        encap_words(b, start, t, &work[turn], 1);
        if (waiting)
            encap_put(b, start - FLOW_LANES, t, &work[turn ^ 1]);
        waiting = 1;
        good = work[turn].good;
        turn ^= 1;
#else
        good = encap_block(b, start, t, 1);
#endif
        b->passed += __builtin_popcount(good);
        start += FLOW_LANES;
    }
#if FLOW_LANES == 8
    if (waiting)
        encap_put(b, start - FLOW_LANES, t, &work[turn ^ 1]);
#endif
    *left = good ^ FLOW_ALL;
#endif
    return start;
}

/* One block from `start` on, each packet through its own tunnel; returns which are still to do. */
static __attribute__((noinline, unused)) uint32_t encap_mixed(
    struct encap_job *b, uint32_t start, const struct encap_lanes *t)
{
#if FLOW_LANES > 1
    const uint32_t good = encap_block(b, start, t, 0);
    b->passed += __builtin_popcount(good);
    return good ^ FLOW_ALL;
#else
    return 1;
#endif
}

#endif

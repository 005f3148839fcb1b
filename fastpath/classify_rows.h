/* Broad rules of the classifier as columns of bit rows. A part of classify.h. */
#ifndef NODEPLANE_CLASSIFY_ROWS_H
#define NODEPLANE_CLASSIFY_ROWS_H
#include "classify_engine.h"

static inline uint32_t key_word(const uint8_t *key, uint32_t w) {
    uint32_t word;
    memcpy(&word, key + 4 * w, 4);
    return word;
}

/* How many of eight sorted numbers are below `value`. */
static inline uint32_t below4(const int32_t *step, int32_t value) {
#if defined(__AVX2__)
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(value), _mm256_loadu_si256((const __m256i *) step));
    return (uint32_t) __builtin_popcount((uint32_t) _mm256_movemask_ps(_mm256_castsi256_ps(below)));
#elif defined(__SSE2__)
    const __m128i v = _mm_set1_epi32(value), *s = (const __m128i *) step;
    const __m128i below = _mm_packs_epi32(_mm_cmpgt_epi32(v, _mm_loadu_si128(s)), _mm_cmpgt_epi32(v, _mm_loadu_si128(s + 1)));
    return (uint32_t) __builtin_ctz(~_mm_movemask_epi8(below)) >> 1;
#else
    uint32_t n = 0;
    for (uint32_t half = 4; half; half >>= 1)
        n += (uint32_t) (step[n + half - 1] < value) * half;
    return n + (step[n] < value);
#endif
}

static inline uint32_t below6(const int64_t *node, int64_t value) {
#if defined(__AVX512VBMI__)
    return (uint32_t) __builtin_popcount(_mm512_cmplt_epi64_mask(_mm512_load_si512(node), _mm512_set1_epi64(value)));
#elif defined(__AVX2__)
    const __m256i v = _mm256_set1_epi64x(value), *n = (const __m256i *) node;
    const __m256i both = _mm256_packs_epi32(_mm256_cmpgt_epi64(v, _mm256_load_si256(n)),
                                            _mm256_cmpgt_epi64(v, _mm256_load_si256(n + 1)));
    return (uint32_t) __builtin_popcount((uint32_t) _mm256_movemask_ps(_mm256_castsi256_ps(both)));
#else
    uint32_t n = 0;
    for (uint32_t half = 4; half; half >>= 1)
        n += (uint32_t) (node[n + half - 1] < value) * half;
    return n + (node[n] < value);
#endif
}

/* The classes of `n` IPv4 addresses, at most 16, which are 16 bytes apart. All of them go down together: what one waits
 * for would fill the processor's queues. */
FOLDED void down4(const steps4 *t, const uint8_t *at, const uint32_t n, uint32_t *c, const uint32_t heights) {
    uint32_t place[16];
    int32_t value[16];
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t address = key_word(at + 16 * i, 0), first = t->first[address >> t->shift];
        value[i] = (int32_t) (address ^ 1u << 31);
        place[i] = first + below4(t->step[heights - 1] + first, value[i]);
    }
    for (uint32_t h = heights - 1; h; h--)
        for (uint32_t i = 0; i < n; i++)
            place[i] = place[i] * BLOCK4 + below4(t->step[h - 1] + (uint64_t) place[i] * BLOCK4, value[i]);
    for (uint32_t i = 0; i < n; i++)
        c[i] = t->cls[place[i]];
}

static inline void classes4(const steps4 *t, const uint8_t *at, uint32_t n, uint32_t *c) {
    if (n == 16 && t->heights == 2)
        down4(t, at, 16, c, 2);
    else if (n == 16 && t->heights == 1)
        down4(t, at, 16, c, 1);
    else
        down4(t, at, n, c, t->heights);
}

/* The last place of a sorted, padded array that is not above `value`; the first is never above. */
static inline uint32_t last_step(const uint64_t *at, uint32_t n, uint64_t value) {
    uint32_t low = 0;
    for (uint32_t half = n >> 1; half; half >>= 1)
        low += at[low + half] <= value ? half : 0;
    return low;
}

/* Two words of a key as one number. */
static inline uint64_t two_words(const uint8_t *at) {
    uint64_t both;
    memcpy(&both, at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    both = both << 32 | both >> 32;
#endif
    return both;
}

FOLDED void down6(const steps6 *t, const uint8_t *at, const uint32_t n, uint32_t *c, const uint32_t heights) {
    uint32_t place[16];
    int64_t address[16];
    for (uint32_t i = 0; i < n; i++) {
        address[i] = (int64_t) (two_words(at + 64 * i) ^ 1ull << 63);
        place[i] = below6(t->node[heights - 1], address[i]);
    }
    for (uint32_t h = heights - 1; h; h--)
        for (uint32_t i = 0; i < n; i++)
            place[i] = place[i] * FORK6 + below6(t->node[h - 1] + (uint64_t) place[i] * (FORK6 - 1), address[i]);
    for (uint32_t i = 0; i < n; i++)
        c[i] = t->cls[place[i]];
}

/* The classes of at most 16 IPv6 addresses, which are 64 bytes apart. */
static inline void classes6(const steps6 *t, const uint8_t *at, uint32_t n, uint32_t *c) {
    if (n == 16 && t->heights == 4)
        down6(t, at, 16, c, 4);
    else if (n == 16 && t->heights == 3)
        down6(t, at, 16, c, 3);
    else
        down6(t, at, n, c, t->heights);
    /* Then those that depend on the second half: which ones do could not be foreseen one by one. */
    uint32_t again[16], more = 0;
    for (uint32_t i = 0; i < n; i++) {
        again[more] = i;
        more += c[i] >> 31;
    }
    for (uint32_t k = 0; k < more; k++) {
        const uint32_t i = again[k];
        const uint32_t *sub = t->sub + 2 * (uint64_t) (c[i] & 0x7FFFFFFF);
        c[i] = t->lo_cls[sub[0] + last_step(t->lo + sub[0], sub[1], two_words(at + 64 * i + 8))];
    }
}

/* The rows of one packet's values. */
typedef struct { const uint64_t *source, *destination, *small, *sport, *dport, *zone; } rows_of;

/* What there is to AND besides a packet's first three rows. */
enum { NOTHING, ALIVE, ALL_ROWS };

#if defined(__AVX512VBMI__)
#define VECTOR_WORDS 8
#define WORD_BITS 1
typedef __m512i row_part;
#define ROW(at) _mm512_load_si512((at) + w)
#define AND _mm512_and_si512
#elif defined(__AVX2__)
#define VECTOR_WORDS 4
#define WORD_BITS 2
typedef __m256i row_part;
#define ROW(at) _mm256_load_si256((const __m256i *) ((at) + w))
#define AND _mm256_and_si256
#else
#define VECTOR_WORDS 1
#define WORD_BITS 1
typedef uint64_t row_part;
#define ROW(at) ((at)[w])
#define AND(x, y) ((x) & (y))
#endif

/* VECTOR_WORDS words of a packet's rows, ANDed. */
FOLDED row_part part_at(const rows_of *r, const uint64_t *alive, uint32_t w, const int more) {
    row_part all = AND(AND(ROW(r->source), ROW(r->destination)), ROW(r->small));
    if (more != NOTHING)
        all = AND(all, ROW(alive));
    if (more == ALL_ROWS)
        all = AND(AND(all, ROW(r->dport)), AND(ROW(r->sport), ROW(r->zone)));
    return all;
}
#undef ROW
#undef AND

/* Which of `words` ANDed words, a multiple of VECTOR_WORDS up to 16, are not zero: WORD_BITS bits a word. */
FOLDED uint32_t words_left(const rows_of *r, const uint64_t *alive, const uint32_t words, const int more) {
    uint32_t left = 0;
#if defined(__AVX512VBMI__)
    for (uint32_t w = 0; w < words; w += 8) {
        const __m512i all = part_at(r, alive, w, more);
        left |= (uint32_t) _mm512_test_epi64_mask(all, all) << w;
    }
    return left;
#elif defined(__AVX2__)
    const __m256i zero = _mm256_setzero_si256();
    __m256i none[4] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1), _mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};
    for (uint32_t w = 0; w < words; w += 4)
        none[w / 4] = _mm256_cmpeq_epi64(part_at(r, alive, w, more), zero);
    /* 2 octets a word, in halves that are put right at the end. */
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(none[0], none[1]),
                                              _mm256_packs_epi32(none[2], none[3]));
    left = ~(uint32_t) _mm256_movemask_epi8(
        _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    return left;
#else
    for (uint32_t w = 0; w < words; w++)
        left |= (uint32_t) (part_at(r, alive, w, more) != 0) << w;
    return left;
#endif
}

/* Trailing zeros; 64 of zero. */
static inline uint32_t zeros_below(uint64_t word) {
#if defined(__BMI__)
    return (uint32_t) _tzcnt_u64(word);
#else
    return word ? (uint32_t) __builtin_ctzll(word) : 64;
#endif
}

FOLDED uint64_t word_at(const rows_of *r, const uint64_t *alive, uint32_t w, const int more) {
    uint64_t word = r->source[w] & r->destination[w] & r->small[w];
    if (more != NOTHING)
        word &= alive[w];
    if (more == ALL_ROWS)
        word &= r->sport[w] & r->dport[w] & r->zone[w];
    return word;
}

/* Let rows begin `words` later. */
FOLDED void move_rows(rows_of *r, const uint32_t words, const int more) {
    r->source += words, r->destination += words, r->small += words;
    if (more == ALL_ROWS)
        r->sport += words, r->dport += words, r->zone += words;
}

/* The first word that is not zero; if all are, the last one. */
FOLDED uint32_t first_word(const rows_of *r, const uint64_t *alive, const uint32_t words, const int more) {
    if (words >= VECTOR_WORDS && words <= 16) {
        uint32_t left = words_left(r, alive, words, more);
        HIDDEN(left);
        return (uint32_t) __builtin_ctz(left | 1u << WORD_BITS * (words - 1)) / WORD_BITS;
    }
    if (words < VECTOR_WORDS) {
        uint32_t w = 0;
        while (w < words - 1 && !word_at(r, alive, w, more))
            w++;
        return w;
    }
    /* Long rows piece by piece: most winners are in the first ones. */
    rows_of part = *r, next;
    for (uint32_t first = 0;; first += 32) {
        next = part;
        move_rows(&next, 16, more);
        uint64_t left = words_left(&part, alive + first, 16, more);
        left |= (uint64_t) words_left(&next, alive + first + 16, 16, more) << WORD_BITS * 16;
        HIDDEN(left);
        if (left || first + 32 >= words)
            return first + (uint32_t) __builtin_ctzll(left | 1ull << WORD_BITS * 31) / WORD_BITS;
        part = next;
        move_rows(&part, 16, more);
    }
}

/* The winners of up to 16 packets, given the classes of their addresses and the rows of their small fields; `key` is
 * the first one's, from its ports on. */
FOLDED void broad_rows(const block_t *e, rank_t *best, const uint8_t *key, const uint32_t size, uint32_t n,
                       const uint32_t *s, const uint32_t *d, const uint32_t *p, const uint64_t words, const int more) {
    const broad_t *b = e->broad;
    rows_of r[16];
    uint32_t w[16];
    for (uint32_t i = 0; i < n; i++) {
        r[i].source = b->source_rows + s[i] * words;
        r[i].destination = b->destination_rows + d[i] * words;
        r[i].small = b->small_rows + p[i] * words;
        if (more == ALL_ROWS) {
            const uint32_t ports = key_word(key + i * size, 0);
            r[i].sport = r[i].dport = r[i].zone = b->ones;
            if (b->sport_rows)
                r[i].sport = b->sport_rows
                    + (b->sport ? b->sport[ports & 0xFFFF] : b->sport_wide[ports & 0xFFFF]) * words;
            if (b->dport_rows)
                r[i].dport = b->dport_rows + (b->dport ? b->dport[ports >> 16] : b->dport_wide[ports >> 16]) * words;
            if (b->zone_rows)
                r[i].zone = b->zone_rows + b->zone[key_word(key + i * size, 1) >> 16] * words;
        }
        w[i] = first_word(&r[i], e->alive, (uint32_t) words, more);
    }
    /* The winning word once more by scalar loads: quicker than taking it out of a vector. */
    for (uint32_t i = 0; i < n; i++)
        best[i] = e->rank[w[i] * 64 + zeros_below(word_at(&r[i], e->alive, w[i], more))];
}

/* One copy for each width: the loops over a row's words have no end to find. Each is a function: what one keeps in
 * registers is none of the others' concern. */
typedef void rows_pass(const block_t *e, rank_t *best, const uint8_t *key, uint32_t size, uint32_t n,
                       const uint32_t *s, const uint32_t *d, const uint32_t *p);
#define ROWS_PASS(name, words, more) \
    static APART void name(const block_t *e, rank_t *best, const uint8_t *key, uint32_t size, uint32_t n, \
                           const uint32_t *s, const uint32_t *d, const uint32_t *p) { \
        broad_rows(e, best, key, size, n, s, d, p, words, more); \
    }
ROWS_PASS(rows_8, 8, NOTHING)
ROWS_PASS(rows_16, 16, NOTHING)
ROWS_PASS(rows_32, 32, NOTHING)
ROWS_PASS(rows_long, e->broad->words, NOTHING)
ROWS_PASS(rows_1_alive, 1, ALIVE)
ROWS_PASS(rows_8_alive, 8, ALIVE)
ROWS_PASS(rows_16_alive, 16, ALIVE)
ROWS_PASS(rows_32_alive, 32, ALIVE)
ROWS_PASS(rows_long_alive, e->broad->words, ALIVE)
ROWS_PASS(rows_16_all, 16, ALL_ROWS)
ROWS_PASS(rows_any, e->broad->words, ALL_ROWS)
#undef ROWS_PASS

static inline rows_pass *pass_for(const block_t *e) {
    const broad_t *b = e->broad;
    if (b->sport_rows || b->dport_rows || b->zone_rows)
        return b->words == 16 ? rows_16_all : rows_any;
    switch (b->words) {
    case 1:
        return rows_1_alive;
    case 8:
        return e->removed ? rows_8_alive : rows_8;
    case 16:
        return e->removed ? rows_16_alive : rows_16;
    case 32:
        return e->removed ? rows_32_alive : rows_32;
    }
    if (b->words < 32)
        return rows_any;
    return e->removed ? rows_long_alive : rows_long;
}

/* The row of the small fields of up to 16 packets. Ports that are apart, or of one class, are not asked for here. */
FOLDED void small_rows(const broad_t *b, const uint8_t *key, const uint32_t size, uint32_t n, uint32_t *p,
                       const int sports, const int dports, const int wide) {
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t ports = key_word(key + i * size, 0), rest = key_word(key + i * size, 1);
        uint32_t at = b->protocol[rest & 0x1FF];
        if (dports)
            at = at * b->dports + (wide ? b->dport_wide[ports >> 16] : b->dport[ports >> 16]);
        if (sports)
            at = at * b->sports + (wide ? b->sport_wide[ports & 0xFFFF] : b->sport[ports & 0xFFFF]);
        p[i] = b->small[at];
    }
}

enum { KEYS_AHEAD = 32 };

/* The winners of a chunk among the rules of a block. */
FOLDED void broad_pass(const block_t *e, const chunk_t *c, rank_t *winner, const int version) {
    const broad_t *b = e->broad;
    const uint32_t size = version == 4 ? 16 : 64, ports = version == 4 ? 8 : 32;
    rows_pass *rows = pass_for(e);
    for (uint32_t first = 0; first < c->count; first += 16) {
        uint32_t s[16], d[16], p[16];
        const uint32_t n = c->count - first < 16 ? c->count - first : 16;
        const uint8_t *key = c->key + first * size;
        rank_t *best = winner + first;
        if (version == 6) {
            /* A key is a cache line, and a page has few: the processor sees no stream. Past the end is harmless. */
            for (uint32_t i = 0; i < 16; i++)
                __builtin_prefetch(key + (KEYS_AHEAD + i) * size);
            classes6(&b->source6, key, n, s);
            classes6(&b->destination6, key + 16, n, d);
        } else {
            classes4(&b->source, key, n, s);
            classes4(&b->destination, key + 4, n, d);
        }
        key += ports;
        if (b->sport_wide || b->dport_wide)
            small_rows(b, key, size, n, p, b->sports > 1, b->dports > 1, 1);
        else if (b->sports > 1 && b->dports > 1)
            small_rows(b, key, size, n, p, 1, 1, 0);
        else if (b->dports > 1)
            small_rows(b, key, size, n, p, 0, 1, 0);
        else
            small_rows(b, key, size, n, p, b->sports > 1, 0, 0);
        rows(e, best, key, size, n, s, d, p);
    }
}
#endif

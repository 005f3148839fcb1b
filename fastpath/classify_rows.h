/* Broad rules of the classifier as columns of bit rows. A part of classify.h. */
#ifndef NODEPLANE_CLASSIFY_ROWS_H
#define NODEPLANE_CLASSIFY_ROWS_H
#include "classify_engine.h"

/* Without a jump: an entry that is no block is read again, which costs less than a jump that cannot be foreseen. */
static inline uint32_t class4(const uint16_t *table, uint32_t address) {
    uint32_t at = address >> 16;
    for (int shift = 8; shift >= 0; shift -= 8) {
        const uint32_t c = table[at];
        const uint32_t block = 65536 + (c & 0x7FFF) * 256 + (address >> shift & 0xFF);
        uint32_t is_block = -(c >> 15);
        HIDDEN(is_block);
        at ^= (at ^ block) & is_block;
    }
    return table[at];
}

/* The last place of a sorted, padded array that is not above `value`; the first is never above. */
static inline uint32_t last_step(const uint64_t *at, uint32_t n, uint64_t value) {
    uint32_t low = 0;
    for (uint32_t half = n >> 1; half; half >>= 1)
        low += at[low + half] <= value ? half : 0;
    return low;
}

/* The classes of 16 IPv6 addresses; `w` points to the first of four word columns. Step by step for all of them, so
 * that their cache misses overlap. */
static inline void classes6(const steps6 *t, const uint32_t (*w)[CHUNK], uint32_t first, uint32_t *c) {
    uint64_t value[16];
    uint32_t low[16];
    for (int i = 0; i < 16; i++) {
        value[i] = (uint64_t) w[0][first + i] << 32 | w[1][first + i];
        low[i] = 0;
    }
    for (uint32_t half = t->n >> 1; half; half >>= 1)
        for (int i = 0; i < 16; i++)
            low[i] += t->hi[low[i] + half] <= value[i] ? half : 0;
    for (int i = 0; i < 16; i++) {
        uint32_t found = t->cls[low[i]];
        if (found >> 31) {
            const uint32_t *sub = t->sub + 2 * (uint64_t) (found & 0x7FFFFFFF);
            const uint64_t rest = (uint64_t) w[2][first + i] << 32 | w[3][first + i];
            found = t->lo_cls[sub[0] + last_step(t->lo + sub[0], sub[1], rest)];
        }
        c[i] = found;
    }
}

/* The rows of one packet's values. */
typedef struct { const uint64_t *source, *destination, *small, *sport, *dport, *zone; } rows_of;

#if defined(__AVX512VBMI__)
#define VECTOR_WORDS 8
#else
#define VECTOR_WORDS 4
#endif

/* Of `words` ANDed words, a multiple of VECTOR_WORDS, which are not zero, as bits; `more`: ports or zones have rows, too. */
FOLDED uint32_t words_left(const rows_of *r, const uint64_t *alive, const uint32_t words, const int more) {
    uint32_t left = 0;
#if defined(__AVX512VBMI__)
    for (uint32_t w = 0; w + 8 <= words; w += 8) {
        __m512i all = _mm512_and_si512(
            _mm512_and_si512(_mm512_loadu_si512(r->source + w), _mm512_loadu_si512(r->destination + w)),
            _mm512_and_si512(_mm512_loadu_si512(r->small + w), _mm512_loadu_si512(alive + w)));
        if (more)
            all = _mm512_and_si512(
                _mm512_and_si512(all, _mm512_loadu_si512(r->dport + w)),
                _mm512_and_si512(_mm512_loadu_si512(r->sport + w), _mm512_loadu_si512(r->zone + w)));
        left |= (uint32_t) _mm512_test_epi64_mask(all, all) << w;
    }
#elif defined(__AVX2__)
#define ROW(at) _mm256_loadu_si256((const __m256i *) ((at) + w))
    for (uint32_t w = 0; w < words; w += 4) {
        __m256i all = _mm256_and_si256(_mm256_and_si256(ROW(r->source), ROW(r->destination)),
                                       _mm256_and_si256(ROW(r->small), ROW(alive)));
        if (more)
            all = _mm256_and_si256(_mm256_and_si256(all, ROW(r->dport)),
                                   _mm256_and_si256(ROW(r->sport), ROW(r->zone)));
        const __m256i none = _mm256_cmpeq_epi64(all, _mm256_setzero_si256());
        left |= (uint32_t) (_mm256_movemask_pd(_mm256_castsi256_pd(none)) ^ 0xF) << w;
    }
#undef ROW
#else
    for (uint32_t w = 0; w < words; w++) {
        uint64_t all = r->source[w] & r->destination[w] & r->small[w] & alive[w];
        if (more)
            all &= r->sport[w] & r->dport[w] & r->zone[w];
        left |= (uint32_t) (all != 0) << w;
    }
#endif
    return left;
}

/* Trailing zeros; 64 of zero. */
static inline uint32_t zeros_below(uint64_t word) {
#if defined(__BMI__)
    return (uint32_t) _tzcnt_u64(word);
#else
    return word ? (uint32_t) __builtin_ctzll(word) : 64;
#endif
}

FOLDED rank_t first_bit(const broad_t *b, const rows_of *r, const uint64_t *alive, const uint32_t words, const int more) {
    uint32_t w;
    if (words >= VECTOR_WORDS && words <= 16) {
        uint32_t left = words_left(r, alive, words, more);
        HIDDEN(left);
        w = __builtin_ctz(left | 1u << (words - 1));
    } else {
        for (w = 0; w < words - 1; w++)
            if (r->source[w] & r->destination[w] & r->small[w] & alive[w] & (more ? r->sport[w] & r->dport[w] & r->zone[w] : UINT64_MAX))
                break;
    }
    /* The winning word once more by scalar loads: quicker than taking it out of a vector. */
    uint64_t word = r->source[w] & r->destination[w] & r->small[w] & alive[w];
    if (more)
        word &= r->sport[w] & r->dport[w] & r->zone[w];
    return b->rank[w * 64 + zeros_below(word)];
}

/* The winners of up to 16 packets, given their rows. */
FOLDED void broad_rows(const engine_t *e, chunk_t *c, uint32_t first, uint32_t n, const uint32_t *s, const uint32_t *d,
                       const uint32_t *p, const uint32_t *ports, const uint32_t *rest, const uint64_t words,
                       const int more) {
    const broad_t *b = e->broad;
    for (uint32_t i = 0; i < n; i++) {
        rows_of r = {b->source_rows + s[i] * words, b->destination_rows + d[i] * words, b->small_rows + p[i] * words,
                     b->ones, b->ones, b->ones};
        if (more && b->sport_rows)
            r.sport = b->sport_rows + b->sport[ports[first + i] & 0xFFFF] * words;
        if (more && b->dport_rows)
            r.dport = b->dport_rows + b->dport[ports[first + i] >> 16] * words;
        if (more && b->zone_rows)
            r.zone = b->zone_rows + b->zone[rest[first + i] >> 16] * words;
        c->best[first + i] = first_bit(b, &r, e->alive, (uint32_t) words, more);
    }
}

/* The broad rules over a chunk: sets `best`. */
FOLDED void broad_pass(const engine_t *e, chunk_t *c, const int version) {
    const broad_t *b = e->broad;
    const uint64_t words = b->words;
    const uint32_t *ports = c->word[version == 4 ? 2 : 8], *rest = c->word[version == 4 ? 3 : 9];
    for (uint32_t first = 0; first < c->count; first += 16) {
        uint32_t s[16] __attribute__((aligned(64))), d[16] __attribute__((aligned(64)));
        uint32_t p[16] __attribute__((aligned(64)));
        const uint32_t n = c->count - first < 16 ? c->count - first : 16;
        if (version == 6) {
            classes6(&b->source6, (const uint32_t (*)[CHUNK]) c->word, first, s);
            classes6(&b->destination6, (const uint32_t (*)[CHUNK]) c->word + 4, first, d);
        } else {
            for (uint32_t i = 0; i < n; i++)
                s[i] = class4(b->source, c->word[0][first + i]);
            for (uint32_t i = 0; i < n; i++)
                d[i] = class4(b->destination, c->word[1][first + i]);
        }
        for (uint32_t i = 0; i < n; i++) {
            /* Where ports are apart, there is 1 of them: their class is then not asked for. */
            const uint32_t at = b->protocol[rest[first + i] & 0x1FF] * b->dports
                + (b->dports > 1 ? b->dport[ports[first + i] >> 16] : 0);
            p[i] = b->small[at * b->sports + (b->sports > 1 ? b->sport[ports[first + i] & 0xFFFF] : 0)];
        }
        const int more = b->sport_rows || b->dport_rows || b->zone_rows;
        /* One copy for each width: the loops over a row's words have no end to find. */
        if (words == 16 && !more)
            broad_rows(e, c, first, n, s, d, p, ports, rest, 16, 0);
        else if (words == 8 && !more)
            broad_rows(e, c, first, n, s, d, p, ports, rest, 8, 0);
        else if (words == 16)
            broad_rows(e, c, first, n, s, d, p, ports, rest, 16, 1);
        else if (words == 8)
            broad_rows(e, c, first, n, s, d, p, ports, rest, 8, 1);
        else if (words == 1 && !more)
            broad_rows(e, c, first, n, s, d, p, ports, rest, 1, 0);
        else
            broad_rows(e, c, first, n, s, d, p, ports, rest, words, more);
    }
}
#endif

/* The lookup half of the classifier: how a chunk of keys is run through what a rule set publishes.
 *
 * Two forms work together. Broad rules (at most BROAD of them) are columns of bit rows: every field's value picks a
 * row, the rows are ANDed, the first set bit wins. The other rules live in a few hash tables whose masks are much
 * coarser than the rules; a bucket is a run of leaf units, each holding rules as 16-bit ranges that one vector
 * compares at once. A lookup goes table by table over a whole chunk, so that the cache misses of many packets overlap.
 *
 * Included by every level of _classify: the compiler's flags decide which of the variants below is built.
 */
#ifndef NODEPLANE_CLASSIFY_H
#define NODEPLANE_CLASSIFY_H
#include "classify_engine.h"
#include "classify_rows.h"

FOLDED uint32_t bucket_of(const table_t *t, const uint32_t *w, const int version) {
    uint32_t h = 0;
    for (int i = 0; i < (version == 4 ? WORDS4 : WORDS6); i++)
        h += (w[i] & t->mask[i]) * t->factor[i];
    h ^= h >> 15;
    return (h * 0x9E3779B1u) >> t->shift;
}

typedef uint16_t lanes8 __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint16_t lanes16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint64_t two64 __attribute__((vector_size(16), may_alias));
typedef uint64_t four64 __attribute__((vector_size(32), may_alias));

/* All lanes within their ranges: key - low <= width, modulo 2^16. */
FOLDED int inside(const void *key, const void *low, const void *width, const int version) {
    if (version == 4) {
        const two64 over = (two64) ((*(const lanes8 *) key - *(const lanes8 *) low) > *(const lanes8 *) width);
        return (over[0] | over[1]) == 0;
    }
    const lanes16 *k = key, *l = low, *w = width;
    const four64 over = (four64) (((k[0] - l[0]) > w[0]) | ((k[1] - l[1]) > w[1]));
    return (over[0] | over[1] | over[2] | over[3]) == 0;
}

static inline void fetch_leaf(const engine_t *e, uint32_t word, uint32_t per_unit) {
    const uint64_t unit = word & 0xFFFFF;
    __builtin_prefetch(e->leaves + unit * UNIT);
    __builtin_prefetch(e->leaves + unit * UNIT + 64);
    __builtin_prefetch(e->ranks + unit * per_unit);
}

/* Compare every (item, leaf) of the list; runs that go on stay in it, at its beginning. Returns how many. */
FOLDED uint32_t leaf_pass(const engine_t *e, chunk_t *c, uint32_t n, const int version) {
    const uint32_t per_unit = version == 4 ? 4 : 1;
    uint32_t *item = c->item, *leaf = c->leaf;
    uint32_t more = 0;
    for (uint32_t i = 0; i < AHEAD; i++)
        leaf[n + i] = 0;    /* prefetched past the end, and compared by nobody */
    for (uint32_t i = 0; i < AHEAD; i++)
        fetch_leaf(e, leaf[i], per_unit);
    for (uint32_t i = 0; i < n; i++) {
        fetch_leaf(e, leaf[i + AHEAD], per_unit);
        const uint32_t unit = leaf[i] & 0xFFFFF, packet = item[i], left = leaf[i] >> 20 & 0xF;
        const uint8_t *at = e->leaves + (uint64_t) unit * UNIT;
        uint32_t hit, slot = 0;
        if (version == 4) {
#if defined(__AVX512VBMI__)
            const __m512i key = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) c->key + packet));
            const __m512i over = _mm512_subs_epu16(_mm512_sub_epi16(key, _mm512_load_si512(at)),
                                                   _mm512_load_si512(at + 64));
            const uint32_t zero = _mm512_testn_epi64_mask(over, over);
            hit = zero & zero >> 1 & 0x55;
            slot = __builtin_ctz(hit | 0x100) >> 1 & 3;
#else
            hit = 0;
            for (uint32_t r = 0; r < 4; r++)
                hit |= (uint32_t) inside(c->key + packet * 16, at + r * 16, at + 64 + r * 16, 4) << r;
            slot = __builtin_ctz(hit | 0x10) & 3;
#endif
        } else {
#if defined(__AVX512VBMI__)
            const __m512i over = _mm512_sub_epi16(_mm512_loadu_si512(c->key + packet * 64), _mm512_load_si512(at));
            hit = _mm512_cmpgt_epu16_mask(over, _mm512_load_si512(at + 64)) == 0;
#else
            hit = (uint32_t) inside(c->key + packet * 64, at, at + 64, 6);
#endif
        }
        const rank_t rank = e->ranks[(uint64_t) unit * per_unit + slot];
        const rank_t found = hit ? rank : NO_RANK;
        c->best[packet] = found < c->best[packet] ? found : c->best[packet];
        /* Rules of a run are sorted: after one that wins or comes later than the best the rest cannot win. */
        const int over = e->ranks[(uint64_t) unit * per_unit + per_unit - 1] >= c->best[packet];
        item[more] = packet;
        leaf[more] = (unit + 1) | (left - 1) << 20;
        more += left > 1 && !over;
    }
    return more;
}

/* A word that a writer stores beside us, and with it what it leads to. */
static inline uint32_t load_word(const uint32_t *at) {
#if defined(__SANITIZE_THREAD__)
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);   /* it knows no fences */
#else
    return __atomic_load_n(at, __ATOMIC_RELAXED);
#endif
}

static inline uint32_t load_relaxed(const uint32_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void fence(void) {
#if !defined(__SANITIZE_THREAD__)
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Go back from words that came after the reader's version. Beside a busy writer, all words are asked that are not passed
 * over: so first all of a chunk's which ones did, without a jump, for the misses to overlap. `late` has room for them. */
static APART void go_back(const engine_t *e, uint32_t version, uint32_t *word, uint32_t n, uint32_t *late) {
    const uint32_t *came = e->came;
    uint32_t some = 0;
#if defined(__AVX512VBMI__)
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i mine = _mm512_set1_epi32((int) version);
    for (uint32_t i = 0; i < n; i += 16) {
        const __m512i now = _mm512_loadu_si512(word + i);
        const __mmask16 there = n - i < 16 ? (1u << (n - i)) - 1 : 0xFFFF;
        const __m512i since = _mm512_mask_i32gather_epi32(
            mine, there, _mm512_and_si512(now, _mm512_set1_epi32(0xFFFFF)), came, 4);
        const __mmask16 after = _mm512_cmpgt_epu32_mask(since, mine);
        _mm512_storeu_si512(late + some, _mm512_maskz_compress_epi32(after, _mm512_add_epi32(lane, _mm512_set1_epi32(i))));
        some += __builtin_popcount(after);
    }
#else
    for (uint32_t i = 0; i < n; i++) {
        late[some] = i;
        some += load_relaxed(came + (word[i] & 0xFFFFF)) > version;
    }
#endif
    for (uint32_t k = 0; k < some; k++) {
        uint32_t then = word[late[k]];
        do
            then = load_relaxed(e->before + (then & 0xFFFFF));
        while (then != EMPTY_WORD && load_relaxed(came + (then & 0xFFFFF)) > version);
        word[late[k]] = then;
    }
}

/* One table over a chunk. */
FOLDED void table_pass(const engine_t *e, const table_t *t, chunk_t *c, const int version) {
    const uint32_t n = c->count, words = version == 4 ? WORDS4 : WORDS6;
    const uint32_t *directory = t->directory;
    const int far = t->shift <= 32 - 17;    /* not in the second-level cache */
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i += 16) {
        /* The compiler makes vectors of this; a word whose mask is zero costs nothing. */
        uint32_t h[16] = {0};
        for (uint32_t w = 0; w < words; w++) {
            if (!t->mask[w])
                continue;
            for (uint32_t j = 0; j < 16; j++)
                h[j] += (c->word[w][i + j] & t->mask[w]) * t->factor[w];
        }
        for (uint32_t j = 0; j < 16; j++) {
            h[j] ^= h[j] >> 15;
            c->hash[i + j] = (h[j] * 0x9E3779B1u) >> t->shift;
        }
        if (far)
            for (uint32_t j = 0; j < 16; j++)
                __builtin_prefetch(directory + c->hash[i + j]);
    }
    uint32_t *words_now = c->hash;
#if defined(__AVX512VBMI__)
    for (uint32_t i = 0; i < n; i += 16)
        _mm512_storeu_si512(words_now + i, _mm512_i32gather_epi32(_mm512_loadu_si512(c->hash + i), directory, 4));
#else
    for (uint32_t i = 0; i < n; i++)
        words_now[i] = load_word(directory + c->hash[i]);
#endif
    fence();
#if defined(__AVX512VBMI__)
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (uint32_t i = 0; i < n; i += 16) {
        const __m512i word = _mm512_loadu_si512(words_now + i);
        const __m256i low = _mm512_cvtepi64_epi32(_mm512_srli_epi64(_mm512_load_si512(c->best + i), 56));
        const __m256i high = _mm512_cvtepi64_epi32(_mm512_srli_epi64(_mm512_load_si512(c->best + i + 8), 56));
        const __m512i level = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        /* A level is never above those of the bucket's versions before. 255 is the empty word's and no rule's. */
        __mmask16 wanted = _mm512_cmple_epu32_mask(_mm512_srli_epi32(word, 24), level);
        wanted &= _mm512_cmplt_epu32_mask(word, _mm512_set1_epi32((int) EMPTY_WORD));
        if (n - i < 16)
            wanted &= (1u << (n - i)) - 1;
        const __m512i number = _mm512_add_epi32(lane, _mm512_set1_epi32(i));
        _mm512_storeu_si512(c->item + found, _mm512_maskz_compress_epi32(wanted, number));
        _mm512_storeu_si512(c->leaf + found, _mm512_maskz_compress_epi32(wanted, word));
        found += __builtin_popcount(wanted);
    }
#else
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t word = words_now[i];
        c->item[found] = i;
        c->leaf[found] = word;
        /* Level 255 is the empty word's and no rule's. */
        found += word >> 24 <= (uint32_t) (c->best[i] >> 56) && word < EMPTY_WORD;
    }
#endif
    if (__atomic_load_n(e->pending, __ATOMIC_RELAXED) - e->base > c->version)
        go_back(e, (uint32_t) c->version, c->leaf, found, c->hash);
    while (found)
        found = leaf_pass(e, c, found, version);
}

/* The rules that ask for more than a key has; `more` is DSCP << 8 | TCP flags of every packet, or NULL: none match. */
FOLDED void extra_pass(const engine_t *e, chunk_t *c, const uint16_t *more, const int version) {
    for (uint32_t r = 0; more && r < e->extras; r++)
        for (uint32_t i = 0; i < c->count; i++)
            if (e->extra[r].rank < c->best[i] && (more[i] & e->extra_more[r] >> 16) == (e->extra_more[r] & 0xFFFF)
                && inside(c->key + i * (version == 4 ? 16 : 64), &e->extra[r].low, &e->extra[r].width, version))
                c->best[i] = e->extra[r].rank;
}

/* Rules that every packet is compared with. Which packets a broad rule matches cannot be foreseen, nor which of two wins: a
 * vector takes four packets, or two, without a jump. Elsewhere hits are asked for first. */
FOLDED void linear_pass(const wide_rule *rule, uint32_t n, chunk_t *c, const int version) {
    const uint32_t size = version == 4 ? 16 : 64;
    uint32_t i = 0;
#if defined(__AVX512VBMI__)
    const __m512i twice = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), once = _mm512_set_epi64(6, 4, 2, 0, 6, 4, 2, 0);
    for (; version == 4 && n && i + 4 <= c->count; i += 4) {
        const __m512i keys = _mm512_loadu_si512(c->key + i * 16);
        __m256i *at = (__m256i *) (c->best + i);
        /* Each of four packets in two lanes, as its key is. */
        __m512i best = _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(_mm256_loadu_si256(at)));
        for (uint32_t r = 0; r < n; r++) {
            const __m512i low = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) &rule[r].low));
            const __m512i width = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) &rule[r].width));
            const __m512i half = _mm512_subs_epu16(_mm512_sub_epi16(keys, low), width);
            const __m512i over = _mm512_or_si512(half, _mm512_shuffle_epi32(half, _MM_PERM_BADC));
            best = _mm512_mask_min_epu64(best, _mm512_testn_epi64_mask(over, over), best,
                                         _mm512_set1_epi64((long long) rule[r].rank));
        }
        _mm256_storeu_si256(at, _mm512_castsi512_si256(_mm512_permutexvar_epi64(once, best)));
    }
#elif defined(__AVX2__)
    /* Two packets. Ranks have their top bit turned, as comparisons are signed. */
    const __m256i top = _mm256_set1_epi64x(INT64_MIN), zero = _mm256_setzero_si256();
    for (; version == 4 && n && i + 2 <= c->count; i += 2) {
        const __m256i keys = _mm256_loadu_si256((const __m256i *) (c->key + i * 16));
        __m128i *at = (__m128i *) (c->best + i);
        __m256i best = _mm256_xor_si256(_mm256_permute4x64_epi64(_mm256_castsi128_si256(_mm_loadu_si128(at)), 0x50), top);
        for (uint32_t r = 0; r < n; r++) {
            const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) &rule[r].low));
            const __m256i width = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) &rule[r].width));
            const __m256i half = _mm256_subs_epu16(_mm256_sub_epi16(keys, low), width);
            const __m256i over = _mm256_or_si256(half, _mm256_shuffle_epi32(half, _MM_SHUFFLE(1, 0, 3, 2)));
            const __m256i rank = _mm256_xor_si256(_mm256_set1_epi64x((long long) rule[r].rank), top);
            const __m256i wins = _mm256_and_si256(_mm256_cmpeq_epi64(over, zero), _mm256_cmpgt_epi64(best, rank));
            best = _mm256_blendv_epi8(best, rank, wins);
        }
        _mm_storeu_si128(at, _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_xor_si256(best, top), 0x08)));
    }
#endif
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t k = i; k < c->count; k++)
            if (inside(c->key + k * size, &rule[r].low, &rule[r].width, version) && rule[r].rank < c->best[k])
                c->best[k] = rule[r].rank;
}

/* The keys by word, as the tables hash them. */
FOLDED void spread(chunk_t *c, const int version) {
    const uint32_t words = version == 4 ? WORDS4 : WORDS6, size = version == 4 ? 16 : 64;
    for (uint32_t i = 0; i < c->count; i++)
        for (uint32_t w = 0; w < words; w++)
            c->word[w][i] = key_word(c->key + i * size, w);
    /* The lanes that fill the last vector must be sound, not right. */
    for (uint32_t i = c->count; i < ((c->count + 15) & ~15u); i++)
        for (uint32_t w = 0; w < words; w++)
            c->word[w][i] = 0;
}

/* Functions: what one stage keeps in registers is none of the others' concern. */
static APART void spread4(chunk_t *c) {
    spread(c, 4);
}

static APART void spread6(chunk_t *c) {
    spread(c, 6);
}

static APART void table4(const engine_t *e, const table_t *t, chunk_t *c) {
    table_pass(e, t, c, 4);
}

static APART void table6(const engine_t *e, const table_t *t, chunk_t *c) {
    table_pass(e, t, c, 6);
}

/* The blocks of rules that fit nowhere else, the first ones' first. They have nothing for a packet that has a better one. */
FOLDED void tail_pass(const engine_t *e, chunk_t *c, const int version) {
    rank_t winner[CHUNK] __attribute__((aligned(64)));
    for (uint32_t t = 0; t < e->tails; t++) {
        rank_t worst = 0;
        for (uint32_t i = 0; i < c->count; i++)
            worst = c->best[i] > worst ? c->best[i] : worst;
        if (worst <= e->tail[t].rank[0])
            return;
        broad_pass(&e->tail[t], c, winner, version);
        for (uint32_t i = 0; i < c->count; i++)
            c->best[i] = winner[i] < c->best[i] ? winner[i] : c->best[i];
    }
}

static APART void tail4(const engine_t *e, chunk_t *c) {
    tail_pass(e, c, 4);
}

static APART void tail6(const engine_t *e, chunk_t *c) {
    tail_pass(e, c, 6);
}

/* All stages over a chunk; the answers are in `best`. */
FOLDED void classify_chunk(const engine_t *e, chunk_t *c, const uint16_t *more, const int version) {
    const block_t rows = {e->broad, e->alive, e->rank, e->removed};
    if (e->broad)
        broad_pass(&rows, c, c->best, version);
    else
        for (uint32_t i = 0; i < c->count; i++)
            c->best[i] = NO_RANK;
    linear_pass(e->delta, e->deltas, c, version);
    if (e->tables)
        version == 4 ? spread4(c) : spread6(c);
    for (uint32_t t = 0; t < e->tables; t++)
        version == 4 ? table4(e, &e->table[t], c) : table6(e, &e->table[t], c);
    if (e->tails)
        version == 4 ? tail4(e, c) : tail6(e, c);
    extra_pass(e, c, more, version);
}

static inline uint32_t big_endian(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

/* At most CHUNK keys to a chunk; they stay where they are. */
FOLDED void take_keys(chunk_t *c, const void *keys, uint32_t n, const int version) {
    (void) version;
    c->count = n;
    c->key = keys;
}

/* Key `i` of some, from a flow key: 16 bytes source, 16 destination, ports; all as on the wire. */
FOLDED void take_packet(uint8_t *keys, uint32_t i, const void *flow_key, uint32_t rest, const int version) {
    const uint8_t *at = flow_key;
    const uint32_t half = version == 4 ? 1 : 4, ports = big_endian(at + 32);
    uint32_t word[WORDS6];
    for (uint32_t w = 0; w < half; w++) {
        word[w] = big_endian(at + 4 * w);
        word[half + w] = big_endian(at + 16 + 4 * w);
    }
    word[2 * half] = ports >> 16 | ports << 16;
    word[2 * half + 1] = rest;
    memcpy(keys + i * (version == 4 ? 16 : 64), word, 4 * (2 * half + 2));
}

/* The answers as rule numbers, -1 for none. */
static inline void answers(const engine_t *e, const chunk_t *c, int32_t *out) {
    const uint32_t *ids = e->ids, n = c->count;
    const rank_t *best = c->best;
    if (!ids) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = (int32_t) best[i];
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        out[i] = best[i] == NO_RANK ? -1 : (int32_t) ids[(uint32_t) best[i]];
}
#endif

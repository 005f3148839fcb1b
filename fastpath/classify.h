/* The lookup half of the classifier: what a rule set publishes, and how a chunk of keys is run through it.
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
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum {
    CHUNK = 256,        /* keys that go through all stages together */
    TABLES = 16,        /* at most, a version */
    BROAD = 1024,       /* rules in bit rows, at most */
    DELTA = 16,         /* rules that wait for a rebuild, at most */
    UNIT = 128,         /* bytes of a leaf unit: IPv4 four rules, IPv6 one */
    WORDS4 = 4,         /* 32-bit words of an IPv4 key, as the tables hash them */
    WORDS6 = 10,        /* of an IPv6 key; 16 as it is compared */
    AHEAD = 14          /* leaves prefetched before they are compared */
};

/* A rule's rank: 8 bits of level (a quantile of what follows, for pruning), 24 bits 0xffffff - priority, 32 bits
 * number in order of insertion. The smallest wins. */
typedef uint64_t rank_t;
#define NO_RANK UINT64_MAX

/* A key or one side of a rule: 32-bit words in host order, compared as unsigned 16-bit ranges.
 * IPv4 (4 words): source, destination, ports, rest. IPv6 (16): source (4, the first one leads), destination (4), ports,
 * rest, zeros. `ports` is source port | destination port << 16; `rest` is protocol << 1 | ports are not known, and above it
 * (direction << 15 | zone) << 16. */
typedef union {
    uint32_t w[4];
    uint16_t lane[8];
} key4;
typedef union {
    uint32_t w[16];
    uint16_t lane[32];
} key6;

typedef struct { key6 low, width; rank_t rank; } wide_rule;     /* of either version */

/* One hashed table. A directory word is leaf unit (20 bits) | units << 20 (4 bits) | level of its best rule << 24. */
#define EMPTY_WORD 0xFF000000u
/* Words above it: a bucket that became empty; its run has no rules, and a past. */
typedef struct {
    uint32_t *directory;
    uint32_t shift;         /* 32 - log2 of the directory's size */
    uint32_t mask[WORDS6];  /* over the key's words */
    uint32_t factor[WORDS6]; /* odd, random */
    uint32_t rules;
    uint8_t source, destination, exact;     /* how specific a rule must be to live here: prefix lengths, EXACT_* */
} table_t;

/* Where the classes of IPv6 addresses begin: `hi` is sorted, a class that depends on the low half points to `lo`. */
typedef struct {
    uint32_t n;             /* a power of two; the rest is filled with UINT64_MAX */
    uint64_t *hi;
    uint32_t *cls;          /* class, or bit 31 and the number of a sub-range */
    uint32_t *sub;          /* two a sub-range: first, how many, in `lo` */
    uint64_t *lo;
    uint32_t *lo_cls;
} steps6;

/* The broad rules. `words` is 1, 2, 4, 8, 16 or more: 64-bit words in a row. */
typedef struct {
    uint32_t words, rules;
    uint16_t *source, *destination;     /* IPv4: 65536 first-level entries, then blocks of 256; bit 15: a block */
    steps6 source6, destination6;
    uint16_t *sport, *dport, *zone;     /* 65536 classes; zone NULL: no rule asks for one */
    uint16_t protocol[512];             /* classes of the lower half of `rest` */
    uint32_t sports, dports;            /* numbers of classes; 1: these ports may have rows of their own */
    uint32_t *small;                    /* (protocol * dports + dport) * sports + sport -> row of `small_rows` */
    uint64_t *source_rows, *destination_rows, *small_rows;
    uint64_t *sport_rows, *dport_rows, *zone_rows;      /* NULL: in `small_rows`, or nobody asks */
    uint64_t *ones;                     /* a row of all rules */
    rank_t *rank;                       /* of every bit, and NO_RANK behind them */
} broad_t;

/* What a reader sees: never changed once it is published, but for directory words and what they newly lead to.
 *
 * A bucket changes by one store of its word, to a new run that knows in which version it came and which word was
 * there before (`past`). A reader fixes its version as it begins and goes back to what its version had; so a lookup
 * sees a transaction whole or not at all, whatever is written meanwhile, and nobody waits. What a reader may go back
 * to is kept until it has left. */
typedef struct {
    uint32_t tables, deltas, tails, extras;
    table_t table[TABLES];
    broad_t *broad;         /* NULL: none */
    uint64_t *alive;        /* broad rules that have not been removed, broad->words words */
    wide_rule delta[DELTA];
    uint32_t delta_entry[DELTA];        /* the writer's: which entry each is */
    wide_rule *tail;        /* rules that fit nowhere, by rank */
    wide_rule *extra;       /* rules that ask for TCP flags or DSCP */
    uint32_t *extra_more;   /* what they ask for: value | mask << 16 of (DSCP << 8 | TCP flags) */
    uint8_t *leaves;        /* units of UNIT bytes */
    rank_t *ranks;          /* of the rules in the leaves: per_unit a unit */
    uint64_t *past;         /* of a run's first unit: version that it came in, from `base` | word before << 32 */
    const uint64_t *pending;        /* the version that is being made, or was last: nothing newer is written */
    uint64_t base;          /* the version in which it was built; runs of then have 0 in `past` */
    uint64_t version;       /* since when it is as it is, but for words */
    uint32_t *ids;          /* by the last 32 bits of a rank; NULL: the same */
} engine_t;

/* What one chunk of keys needs; the caller sets `count`, `key` and `word`. */
typedef struct {
    uint32_t count;
    uint64_t version;                   /* the reader's, from the engine's base */
    const uint8_t *key;                 /* 16 bytes apart for IPv4, 64 for IPv6 */
    uint32_t word[WORDS6][CHUNK] __attribute__((aligned(64)));  /* the keys by word */
    rank_t best[CHUNK] __attribute__((aligned(64)));
    uint32_t item[2][CHUNK + 64];       /* packets that have a leaf to compare */
    uint32_t leaf[2][CHUNK + 64];       /* its first unit | units left << 20 */
    uint32_t hash[CHUNK + 16];
} chunk_t;

#define HIDDEN(x) __asm__("" : "+r"(x))     /* the compiler knows nothing of x here, and makes no jump of it */
#define FOLDED static inline __attribute__((always_inline))     /* `version` is a constant in every copy */

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

static inline void fetch_leaf(const engine_t *e, uint32_t word, uint32_t per_unit) {
    const uint64_t unit = word & 0xFFFFF;
    __builtin_prefetch(e->leaves + unit * UNIT);
    __builtin_prefetch(e->leaves + unit * UNIT + 64);
    __builtin_prefetch(e->ranks + unit * per_unit);
}

/* Compare every (item, leaf) of one list; runs that go on are put into the other list. Returns its length. */
FOLDED uint32_t leaf_pass(const engine_t *e, chunk_t *c, uint32_t side, uint32_t n, const int version) {
    uint32_t *item = c->item[side], *leaf = c->leaf[side], *item2 = c->item[side ^ 1], *leaf2 = c->leaf[side ^ 1];
    const uint32_t per_unit = version == 4 ? 4 : 1;
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
        /* Rules of a run are sorted: after a hit the rest cannot win. */
        item2[more] = packet;
        leaf2[more] = (unit + 1) | (left - 1) << 20;
        more += left > 1 && !hit;
    }
    return more;
}

/* The version that a lookup fixes, given what `RuleSet.seen` said just before the engine was read. An engine may be
 * published just before its version is. */
static inline uint64_t version_of(const engine_t *e, uint64_t seen) {
    return (e->version > seen ? e->version : seen) - e->base;
}

/* A word that a writer stores beside us, and with it what it leads to. */
static inline uint32_t load_word(const uint32_t *at) {
#if defined(__SANITIZE_THREAD__)
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);   /* it knows no fences */
#else
    return __atomic_load_n(at, __ATOMIC_RELAXED);
#endif
}

static inline void fence(void) {
#if !defined(__SANITIZE_THREAD__)
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Go back from words that came after the reader's version. */
static __attribute__((noinline)) void go_back(const engine_t *e, uint64_t version, uint32_t *word, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        while (word[i] != EMPTY_WORD) {
            const uint64_t past = e->past[word[i] & 0xFFFFF];
            if ((uint32_t) past <= version)
                break;
            word[i] = (uint32_t) (past >> 32);
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
    uint32_t *words_now = c->leaf[1];
#if defined(__AVX512VBMI__)
    for (uint32_t i = 0; i < n; i += 16)
        _mm512_storeu_si512(words_now + i, _mm512_i32gather_epi32(_mm512_loadu_si512(c->hash + i), directory, 4));
#else
    for (uint32_t i = 0; i < n; i++)
        words_now[i] = load_word(directory + c->hash[i]);
#endif
    fence();
    if (__atomic_load_n(e->pending, __ATOMIC_RELAXED) - e->base > c->version)
        go_back(e, c->version, words_now, n);
#if defined(__AVX512VBMI__)
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (uint32_t i = 0; i < n; i += 16) {
        const __m512i word = _mm512_loadu_si512(words_now + i);
        const __m256i low = _mm512_cvtepi64_epi32(_mm512_srli_epi64(_mm512_load_si512(c->best + i), 56));
        const __m256i high = _mm512_cvtepi64_epi32(_mm512_srli_epi64(_mm512_load_si512(c->best + i + 8), 56));
        const __m512i level = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        /* Level 255 is the empty word's and no rule's. */
        __mmask16 wanted = _mm512_cmple_epu32_mask(_mm512_srli_epi32(word, 24), level);
        wanted &= _mm512_cmplt_epu32_mask(word, _mm512_set1_epi32((int) EMPTY_WORD));
        if (n - i < 16)
            wanted &= (1u << (n - i)) - 1;
        const __m512i number = _mm512_add_epi32(lane, _mm512_set1_epi32(i));
        _mm512_storeu_si512(c->item[0] + found, _mm512_maskz_compress_epi32(wanted, number));
        _mm512_storeu_si512(c->leaf[0] + found, _mm512_maskz_compress_epi32(wanted, word));
        found += __builtin_popcount(wanted);
    }
#else
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t word = words_now[i];
        c->item[0][found] = i;
        c->leaf[0][found] = word;
        /* Level 255 is the empty word's and no rule's. */
        found += word >> 24 <= (uint32_t) (c->best[i] >> 56) && word < EMPTY_WORD;
    }
#endif
    for (uint32_t side = 0; found; side ^= 1)
        found = leaf_pass(e, c, side, found, version);
}

/* The rules that ask for more than a key has; `more` is DSCP << 8 | TCP flags of every packet, or NULL: none match. */
FOLDED void extra_pass(const engine_t *e, chunk_t *c, const uint16_t *more, const int version) {
    for (uint32_t r = 0; more && r < e->extras; r++)
        for (uint32_t i = 0; i < c->count; i++)
            if (e->extra[r].rank < c->best[i] && (more[i] & e->extra_more[r] >> 16) == (e->extra_more[r] & 0xFFFF)
                && inside(c->key + i * (version == 4 ? 16 : 64), &e->extra[r].low, &e->extra[r].width, version))
                c->best[i] = e->extra[r].rank;
}

FOLDED void linear_pass(const wide_rule *rule, uint32_t n, chunk_t *c, const int version) {
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = 0; i < c->count; i++)
            if (rule[r].rank < c->best[i]
                && inside(c->key + i * (version == 4 ? 16 : 64), &rule[r].low, &rule[r].width, version))
                c->best[i] = rule[r].rank;
}

/* All stages over a chunk; the answers are in `best`. */
FOLDED void classify_chunk(const engine_t *e, chunk_t *c, const uint16_t *more, const int version) {
    if (e->broad)
        broad_pass(e, c, version);
    else
        for (uint32_t i = 0; i < c->count; i++)
            c->best[i] = NO_RANK;
    linear_pass(e->delta, e->deltas, c, version);
    for (uint32_t t = 0; t < e->tables; t++)
        table_pass(e, &e->table[t], c, version);
    linear_pass(e->tail, e->tails, c, version);
    extra_pass(e, c, more, version);
}

/* At most CHUNK keys to a chunk; they stay where they are. */
FOLDED void take_keys(chunk_t *c, const void *keys, uint32_t n, const int version) {
    const uint32_t words = version == 4 ? WORDS4 : WORDS6, size = version == 4 ? 16 : 64;
    c->count = n;
    c->key = keys;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t w = 0; w < words; w++)
            memcpy(&c->word[w][i], c->key + i * size + w * 4, 4);
    /* The lanes that fill the last vector must be sound, not right. */
    for (uint32_t i = n; i < ((n + 15) & ~15u); i++)
        for (uint32_t w = 0; w < words; w++)
            c->word[w][i] = 0;
}

static inline uint32_t big_endian(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

/* Packet `i` of a chunk, from a flow key: 16 bytes source, 16 destination, ports; all as on the wire. */
FOLDED void take_packet(chunk_t *c, uint8_t *keys, uint32_t i, const void *flow_key, uint32_t rest, const int version) {
    const uint8_t *at = flow_key;
    const uint32_t half = version == 4 ? 1 : 4, ports = big_endian(at + 32);
    uint32_t word[WORDS6];
    for (uint32_t w = 0; w < half; w++) {
        word[w] = big_endian(at + 4 * w);
        word[half + w] = big_endian(at + 16 + 4 * w);
    }
    word[2 * half] = ports >> 16 | ports << 16;
    word[2 * half + 1] = rest;
    for (uint32_t w = 0; w < 2 * half + 2; w++)
        c->word[w][i] = word[w];
    memcpy(keys + i * (version == 4 ? 16 : 64), word, 4 * (2 * half + 2));
}

/* The answers as rule numbers, -1 for none. */
static inline void answers(const engine_t *e, const chunk_t *c, int32_t *out) {
    if (!e->ids) {
        for (uint32_t i = 0; i < c->count; i++)
            out[i] = (int32_t) c->best[i];
        return;
    }
    for (uint32_t i = 0; i < c->count; i++)
        out[i] = c->best[i] == NO_RANK ? -1 : (int32_t) e->ids[(uint32_t) c->best[i]];
}
#endif

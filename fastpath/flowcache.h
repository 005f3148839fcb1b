/* An exact-match cache of answers: tags in cache lines of 28, an entry's line for each.
 *
 * A lookup takes a chunk of keys through three loops: hashes, asking for the tags' lines; tags, asking for the entries'
 * lines; entries. All memory is there from the beginning. Included by every level of _flowcache. */
#ifndef NODEPLANE_FLOWCACHE_H
#define NODEPLANE_FLOWCACHE_H
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include "governor.h"

#define FLOW_FOLDED static inline __attribute__((always_inline))
enum {
    FLOW_WAYS = 28,             /* of a bucket */
    FLOW_CHUNK = 128,           /* keys that go through the loops together */
    FLOW_KEYS = 14,
    FLOW_SETS = 8,              /* rule sets whose answers are kept apart */
    FLOW_MARK_BITS = 17
};
#define FLOW_ALL ((1u << FLOW_WAYS) - 1)
#define FLOW_LAST_STAMP 0x7FFFFFFEu

typedef struct {
    uint16_t tag[FLOW_WAYS];    /* of its entries' hashes; 0: none */
    uint32_t seen;              /* a bit for each: hit since the hand came past */
    uint32_t hand;
} flow_bucket;

/* The key is a classifier's (classify.h): 4 words of IPv4, 10 of IPv6. The stamp stands for the rule set, its version
 * and the IP version: an entry with another one says nothing. `packets` is packets << 17 | mark, and the mark what
 * rules asked for beside the key: 1 << 16 | DSCP << 8 | TCP flags, or 0. */
typedef struct {
    uint32_t key[10];
    int32_t rule;
    uint32_t stamp;
    uint64_t packets;
    uint64_t bytes;
} flow_entry;

typedef struct {
    flow_bucket *bucket;
    flow_entry *entry;          /* FLOW_WAYS for each bucket, and one that is never right */
    uint32_t buckets;
    uint32_t used;              /* entries */
    uint32_t k[FLOW_KEYS];      /* random */
    uint64_t odd;
    uint64_t random;
    uint64_t hits, misses, inserted, renewed, evicted, refused, direct;
} flow_table;

/* What is the same for all keys of a call. */
typedef struct {
    uint64_t salt;              /* of the rule set */
    uint32_t stamp;
} flow_view;

/* The keys that were not found, for one lookup in the rules. */
enum { FLOW_MISSES = 256 };
typedef struct {
    uint32_t count;
    uint32_t where[FLOW_MISSES];
    uint32_t bytes[FLOW_MISSES];
    uint32_t place[FLOW_MISSES];
    uint32_t tag[FLOW_MISSES];
    uint32_t mark[FLOW_MISSES];
    uint16_t more[FLOW_MISSES];
    int32_t rule[FLOW_MISSES];
    uint8_t key[FLOW_MISSES * 64];
} flow_misses;

FLOW_FOLDED uint64_t flow_times(uint32_t a, uint32_t b) {
    return (uint64_t) a * b;
}

/* Where a key belongs and its tag, from the sum of its products. */
FLOW_FOLDED void flow_finish(const flow_table *t, uint64_t sum, uint32_t *place, uint32_t *tag) {
    const uint64_t hash = (sum ^ sum >> 32) * t->odd;
    *place = (uint32_t) ((hash >> 32) * t->buckets >> 32);
    *tag = (uint16_t) (hash >> 16) ? (uint16_t) (hash >> 16) : 1;
}

/* NH (RFC 4418) under keys of the cache's own, over the words as they are: a flow's two directions are two keys. */
FLOW_FOLDED void flow_hash(const flow_table *t, const uint8_t *key, uint64_t salt, const int version, uint32_t *place,
                           uint32_t *tag) {
    uint32_t w[10];
    memcpy(w, key, version == 4 ? 16 : 40);
    for (int i = 0; i < (version == 4 ? 4 : 10); i += 2)
        salt += flow_times(w[i] + t->k[i], w[i + 1] + t->k[i + 1]);
    flow_finish(t, salt, place, tag);
}

FLOW_FOLDED uint64_t flow_salt(const flow_table *t, const flow_view *v, uint32_t mark) {
    return v->salt + flow_times(mark + t->k[10], t->k[11]);
}

/* The same for all of some keys of IPv4, one behind the other; returns how many were done, a multiple of the vector. */
FLOW_FOLDED uint32_t flow_hashes(const flow_table *t, const uint8_t *keys, uint64_t salt, uint32_t n, uint32_t *place,
                                 uint32_t *tag) {
    uint32_t i = 0;
#if defined(__AVX512DQ__) && defined(__AVX512VL__)
    const __m512i k = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) (const void *) t->k));
    const __m512i odd = _mm512_set1_epi64((long long) t->odd), plus = _mm512_set1_epi64((long long) salt);
    const __m512i buckets = _mm512_set1_epi64(t->buckets), order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for (; i + 8 <= n; i += 8) {
        const __m512i a = _mm512_add_epi32(_mm512_loadu_si512(keys + 16 * i), k);
        const __m512i b = _mm512_add_epi32(_mm512_loadu_si512(keys + 16 * i + 64), k);
        const __m512i p = _mm512_mul_epu32(a, _mm512_srli_epi64(a, 32));
        const __m512i q = _mm512_mul_epu32(b, _mm512_srli_epi64(b, 32));
        __m512i h = _mm512_add_epi64(_mm512_unpacklo_epi64(p, q), _mm512_unpackhi_epi64(p, q));
        h = _mm512_add_epi64(_mm512_permutexvar_epi64(order, h), plus);
        h = _mm512_mullo_epi64(_mm512_xor_si512(h, _mm512_srli_epi64(h, 32)), odd);
        const __m512i at = _mm512_srli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(h, 32), buckets), 32);
        const __m256i low = _mm256_srli_epi32(_mm512_cvtepi64_epi32(h), 16);
        _mm256_storeu_si256((__m256i *) (void *) (place + i), _mm512_cvtepi64_epi32(at));
        _mm256_storeu_si256((__m256i *) (void *) (tag + i), _mm256_max_epu32(low, _mm256_set1_epi32(1)));
    }
#elif defined(__AVX2__)
    const __m256i k = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (const void *) t->k));
    const __m256i odd = _mm256_set1_epi64x((long long) t->odd), high_odd = _mm256_srli_epi64(odd, 32);
    const __m256i plus = _mm256_set1_epi64x((long long) salt), buckets = _mm256_set1_epi64x(t->buckets);
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    for (; i + 4 <= n; i += 4) {
        const __m256i *at = (const __m256i *) (const void *) (keys + 16 * i);
        const __m256i a = _mm256_add_epi32(_mm256_loadu_si256(at), k);
        const __m256i b = _mm256_add_epi32(_mm256_loadu_si256(at + 1), k);
        const __m256i p = _mm256_mul_epu32(a, _mm256_srli_epi64(a, 32));
        const __m256i q = _mm256_mul_epu32(b, _mm256_srli_epi64(b, 32));
        __m256i h = _mm256_add_epi64(_mm256_unpacklo_epi64(p, q), _mm256_unpackhi_epi64(p, q));
        h = _mm256_add_epi64(_mm256_permute4x64_epi64(h, 0xD8), plus);
        h = _mm256_xor_si256(h, _mm256_srli_epi64(h, 32));
        const __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(h, 32), odd),
                                               _mm256_mul_epu32(h, high_odd));
        h = _mm256_add_epi64(_mm256_mul_epu32(h, odd), _mm256_slli_epi64(cross, 32));
        const __m256i to = _mm256_srli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(h, 32), buckets), 32);
        const __m128i low = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(h, even));
        const __m128i first = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(to, even));
        _mm_storeu_si128((__m128i *) (void *) (place + i), first);
        _mm_storeu_si128((__m128i *) (void *) (tag + i), _mm_max_epu32(_mm_srli_epi32(low, 16), _mm_set1_epi32(1)));
    }
#endif
    return i;
}

/* Which tags of a bucket are this one. */
FLOW_FOLDED uint32_t flow_match(const flow_bucket *b, uint32_t tag) {
#if defined(__AVX512BW__)
    const __m512i line = _mm512_load_si512(b);
    return _mm512_cmpeq_epi16_mask(line, _mm512_set1_epi16((short) tag)) & FLOW_ALL;
#elif defined(__AVX2__)
    const __m256i one = _mm256_set1_epi16((short) tag), *line = (const __m256i *) (const void *) b;
    const __m256i low = _mm256_cmpeq_epi16(_mm256_load_si256(line), one);
    const __m256i high = _mm256_cmpeq_epi16(_mm256_load_si256(line + 1), one);
    /* Packing goes by halves: 0-7 and 16-23, 8-15 and 24-31. */
    const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xD8);
    return (uint32_t) _mm256_movemask_epi8(all) & FLOW_ALL;
#elif defined(__SSE2__)
    const __m128i one = _mm_set1_epi16((short) tag), *line = (const __m128i *) (const void *) b;
    const __m128i low = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(line), one),
                                        _mm_cmpeq_epi16(_mm_load_si128(line + 1), one));
    const __m128i high = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(line + 2), one),
                                         _mm_cmpeq_epi16(_mm_load_si128(line + 3), one));
    return ((uint32_t) _mm_movemask_epi8(low) | (uint32_t) _mm_movemask_epi8(high) << 16) & FLOW_ALL;
#else
    uint32_t found = 0;
    for (uint32_t i = 0; i < FLOW_WAYS; i++)
        found |= (uint32_t) (b->tag[i] == tag) << i;
    return found;
#endif
}

FLOW_FOLDED int flow_same(const flow_entry *e, const uint8_t *key, const int version) {
#if defined(__SSE2__)
    if (version == 4) {
        const __m128i a = _mm_load_si128((const __m128i *) (const void *) e->key);
        const __m128i b = _mm_loadu_si128((const __m128i *) (const void *) key);
        return _mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) == 0xFFFF;
    }
#endif
    return !memcmp(e->key, key, version == 4 ? 16 : 40);
}

FLOW_FOLDED uint32_t flow_mark_of(const flow_entry *e) {
    return (uint32_t) e->packets & ((1u << FLOW_MARK_BITS) - 1);
}

FLOW_FOLDED void flow_count(flow_entry *e, uint32_t bytes) {
    e->packets += 1u << FLOW_MARK_BITS;
    e->bytes += bytes;
}

/* Look `n` keys up, at most FLOW_CHUNK, one behind the other. Answers go to `rule`: at `where` if `batch`, else in
 * order. What is not found is appended to `m`, which has the room. `marked` and `batch` say whether `marks`, and `where`
 * and `length`, are there. */
FLOW_FOLDED uint32_t flow_probe_as(
    flow_table *t, const flow_view *v, const uint8_t *keys, const uint32_t *marks, uint32_t n, const uint32_t *where,
    uint32_t first, const uint32_t *length, int32_t *rule, flow_misses *m, const int version, const int marked,
    const int batch
) {
    uint32_t place[FLOW_CHUNK], tag[FLOW_CHUNK], at[FLOW_CHUNK], hits = 0, done = 0;
    const uint32_t never = t->buckets * FLOW_WAYS, stride = version == 4 ? 16 : 64, stamp = v->stamp;
    const uint64_t salt = flow_salt(t, v, 0);
    if (version == 4 && !marked)
        done = flow_hashes(t, keys, salt, n, place, tag);
    for (uint32_t i = done; i < n; i++)
        flow_hash(t, keys + i * stride, marked ? flow_salt(t, v, marks[i]) : salt, version, &place[i], &tag[i]);
    for (uint32_t i = 0; i < n; i++)
        __builtin_prefetch(&t->bucket[place[i]]);
    for (uint32_t i = 0; i < n; i++) {
        flow_bucket *b = &t->bucket[place[i]];
        const uint32_t found = flow_match(b, tag[i]);
        at[i] = found ? place[i] * FLOW_WAYS + (uint32_t) __builtin_ctz(found) : never;
        __builtin_prefetch(&t->entry[at[i]], 1);
        if (__builtin_expect(found & ~b->seen, 0))
            b->seen |= found;
    }
    for (uint32_t i = 0; i < n; i++) {
        flow_entry *e = &t->entry[at[i]];
        const uint8_t *key = keys + i * stride;
        const uint32_t to = batch ? where[i] : first + i, mark = marked ? marks[i] : 0;
        int right = e->stamp == stamp && flow_same(e, key, version) && flow_mark_of(e) == mark;
        if (__builtin_expect(!right, 0) && at[i] != never) {
            /* Another flow of the bucket may have the same tag. */
            uint32_t ways = flow_match(&t->bucket[place[i]], tag[i]);
            for (ways &= ways - 1; ways && !right; ways &= ways - 1) {
                e = &t->entry[place[i] * FLOW_WAYS + (uint32_t) __builtin_ctz(ways)];
                right = e->stamp == stamp && flow_same(e, key, version) && flow_mark_of(e) == mark;
            }
        }
        if (__builtin_expect(right, 1)) {
            rule[to] = e->rule;
            flow_count(e, batch ? length[to] : 0);
            hits++;
            continue;
        }
        const uint32_t j = m->count++;
        m->where[j] = to;
        m->bytes[j] = batch ? length[to] : 0;
        m->place[j] = place[i];
        m->tag[j] = tag[i];
        m->mark[j] = mark;
        m->more[j] = (uint16_t) mark;
        memcpy(m->key + j * stride, key, stride);
    }
    return hits;
}

/* The same, `marks`, `where` and `length` being NULL if there are none. */
FLOW_FOLDED uint32_t flow_probe(
    flow_table *t, const flow_view *v, const uint8_t *keys, const uint32_t *marks, uint32_t n, const uint32_t *where,
    uint32_t first, const uint32_t *length, int32_t *rule, flow_misses *m, const int version
) {
    if (marks)
        return where ? flow_probe_as(t, v, keys, marks, n, where, first, length, rule, m, version, 1, 1)
                     : flow_probe_as(t, v, keys, marks, n, where, first, length, rule, m, version, 1, 0);
    return where ? flow_probe_as(t, v, keys, marks, n, where, first, length, rule, m, version, 0, 1)
                 : flow_probe_as(t, v, keys, marks, n, where, first, length, rule, m, version, 0, 0);
}

/* Keys of IPv4 as the classifier has them, from those of packets (40 bytes each, `flow_key`); `flags` as the batch has
 * them, `later` the one of later fragments. The zone is ANDed with `keep` and ORed with `set`. */
FLOW_FOLDED void flow_take4(const uint8_t *from, const uint32_t *flags, const uint32_t *packet, uint32_t n,
                            uint32_t later, uint32_t keep, uint32_t set, uint8_t *to) {
#if defined(__AVX512VBMI__)
    /* The words turned round, then protocol, 0 and zone; the key column is padded for the whole load. */
    const __m512i turn = _mm512_castsi128_si512(
        _mm_setr_epi8(3, 2, 1, 0, 19, 18, 17, 16, 33, 32, 35, 34, 36, 63, 38, 39));
    const __m128i protocol = _mm_setr_epi32(0, 0, 0, 0xFF), stay = _mm_setr_epi32(-1, -1, -1, (int) (0x1FF | keep));
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t p = packet[i];
        const __m512i key = _mm512_maskz_loadu_epi64(0x1F, from + 40 * (size_t) p);
        __m128i x = _mm512_castsi512_si128(_mm512_permutexvar_epi8(turn, key));
        x = _mm_add_epi32(x, _mm_and_si128(x, protocol));
        x = _mm_and_si128(x, stay);
        const uint32_t rest = set | ((flags[p] & later) != 0);
        x = _mm_or_si128(x, _mm_slli_si128(_mm_cvtsi32_si128((int) rest), 12));
        _mm_storeu_si128((__m128i *) (void *) (to + 16 * i), x);
    }
#else
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *key = from + 40 * (size_t) packet[i];
        uint32_t source, destination, ports, last;
        memcpy(&source, key, 4);
        memcpy(&destination, key + 16, 4);
        memcpy(&ports, key + 32, 4);
        memcpy(&last, key + 36, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        source = __builtin_bswap32(source);
        destination = __builtin_bswap32(destination);
        ports = (ports & 0x00FF00FFu) << 8 | (ports >> 8 & 0x00FF00FFu);
#else
        ports = ports << 16 | ports >> 16;
        last = (uint32_t) key[36] | (uint32_t) *(const uint16_t *) (const void *) (key + 38) << 16;
#endif
        const uint32_t words[4] = {
            source, destination, ports,
            (last & 0xFF) << 1 | ((flags[packet[i]] & later) != 0) | (last & keep) | set,
        };
        memcpy(to + 16 * i, words, 16);
    }
#endif
}

/* Keep an answer. A flow has one entry for each mark and rule set: one of another version is renewed. */
static inline void flow_keep(flow_table *t, const flow_view *v, const uint8_t *key, uint32_t mark, uint32_t place,
                             uint32_t tag, int32_t rule, uint32_t bytes, const int version) {
    flow_bucket *b = &t->bucket[place];
    flow_entry *e;
    uint32_t way, ways;
    for (ways = flow_match(b, tag); ways; ways &= ways - 1) {
        e = &t->entry[place * FLOW_WAYS + (uint32_t) __builtin_ctz(ways)];
        if (flow_same(e, key, version) && flow_mark_of(e) == mark && (e->stamp & 1) == (v->stamp & 1)) {
            t->renewed += e->stamp != v->stamp;
            e->stamp = v->stamp;
            e->rule = rule;
            flow_count(e, bytes);
            return;
        }
    }
    ways = flow_match(b, 0);
    if (ways) {
        way = (uint32_t) __builtin_ctz(ways);
        t->used++;
    } else {
        /* Flows that come once are to throw out each other, and few of those that come again. */
        t->random ^= t->random << 13;
        t->random ^= t->random >> 7;
        t->random ^= t->random << 17;
        ways = ~b->seen & FLOW_ALL;
        if (t->random >> 40 & (ways ? 3 : 31)) {
            t->refused++;
            return;
        }
        if (!ways) {
            b->seen = 0;
            ways = FLOW_ALL;
        }
        way = (uint32_t) __builtin_ctz(ways >> b->hand ? ways >> b->hand << b->hand : ways);
        b->hand = (way + 1) % FLOW_WAYS;
        t->evicted++;
    }
    b->tag[way] = (uint16_t) tag;
    b->seen &= ~(1u << way);
    e = &t->entry[place * FLOW_WAYS + way];
    memset(e, 0, sizeof(*e));
    memcpy(e->key, key, version == 4 ? 16 : 40);
    e->rule = rule;
    e->stamp = v->stamp;
    e->packets = mark;
    flow_count(e, bytes);
    t->inserted++;
}

FLOW_FOLDED void flow_keep_all(flow_table *t, const flow_view *v, const flow_misses *m, const int version) {
    for (uint32_t i = 0; i < m->count; i++)
        flow_keep(t, v, m->key + i * (version == 4 ? 16 : 64), m->mark[i], m->place[i], m->tag[i],
                  m->rule[i], m->bytes[i], version);
}
#endif

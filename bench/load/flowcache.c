/* A flow cache with nothing but speed: keys of 16 bytes, three in a line, CRC hash, 32 keys at a time. No counters, no
 * eviction, no versions, a hash that anybody can collide. The limit that the flow-cache case measures against. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE4_2__)
#include <immintrin.h>
#endif

typedef struct { uint64_t a, b; } key_t_;
typedef struct { key_t_ key[3]; int32_t rule[3]; uint32_t used; } bucket_t;
static bucket_t *buckets;
static uint32_t mask;

static inline uint32_t hash(key_t_ k) {
#if defined(__SSE4_2__)
    return (uint32_t) _mm_crc32_u64(_mm_crc32_u64(7, k.a), k.b);
#else
    const uint64_t x = (k.a ^ k.b * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
    return (uint32_t) (x >> 32);
#endif
}

/* Fill a cache of 2^bits buckets; returns how many keys found no room, -1 without memory. */
int flowcache_fill(const key_t_ *keys, const int32_t *rules, uint32_t n, uint32_t bits) {
    int lost = 0;
    free(buckets);
    mask = (1u << bits) - 1;
    buckets = aligned_alloc(64, sizeof(bucket_t) << bits);
    if (!buckets)
        return -1;
    memset(buckets, 0, sizeof(bucket_t) << bits);
    for (uint32_t i = 0; i < n; i++) {
        bucket_t *b = &buckets[hash(keys[i]) & mask];
        if (b->used == 3) {
            lost++;
            continue;
        }
        b->key[b->used] = keys[i];
        b->rule[b->used++] = rules[i];
    }
    return lost;
}

/* Look all keys up (a multiple of 32), answers 0 where there is none. */
void flowcache_lookup(const key_t_ *keys, uint32_t n, int32_t *rules) {
    for (uint32_t i = 0; i < n; i += 32) {
        uint32_t at[32];
        for (uint32_t j = 0; j < 32; j++) {
            at[j] = hash(keys[i + j]) & mask;
            __builtin_prefetch(&buckets[at[j]]);
        }
        for (uint32_t j = 0; j < 32; j++) {
            const bucket_t *b = &buckets[at[j]];
            const key_t_ k = keys[i + j];
            int32_t found = 0;
            for (int w = 0; w < 3; w++)
                found |= -(int32_t) ((b->key[w].a == k.a) & (b->key[w].b == k.b)) & b->rule[w];
            rules[i + j] = found;
        }
    }
}

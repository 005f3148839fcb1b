/* Which rule is the first that a header matches, by looking at every rule: what the classify case checks all answers
 * against. Rules come as records of fastpath.rules.pack in the order in which they win, headers as its keys; no zones,
 * directions, flags or DSCP. Built with this machine's flags: the loop over a block of rules becomes vectors. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RECORD 56
#define BLOCK 128

struct record {
    uint8_t address[2][16];
    uint32_t priority;
    uint16_t port[2][2], zone;
    uint8_t length[2], versions, direction, protocol, protocol_counts, rest[4];
} __attribute__((packed));
_Static_assert(sizeof(struct record) == RECORD, "as fastpath.rules.pack");

/* One block of rules, a column a field. IPv4 uses the first word of an address. */
static uint32_t value[8][BLOCK], mask[8][BLOCK], low[2][BLOCK], width[2][BLOCK], protocol[BLOCK], counts[BLOCK];

static void take(const struct record *r, uint32_t i, int words) {
    for (int side = 0; side < 2; side++)
        for (int w = 0; w < words; w++) {
            int bits = r->length[side] - 32 * w, at = side * words + w;
            uint32_t word;
            memcpy(&word, r->address[side] + 4 * w, 4);
            mask[at][i] = bits <= 0 ? 0 : bits >= 32 ? 0xFFFFFFFFu : ~(0xFFFFFFFFu >> bits);
            value[at][i] = __builtin_bswap32(word) & mask[at][i];
            low[side][i] = r->port[side][0];
            width[side][i] = (uint32_t)r->port[side][1] - r->port[side][0];
        }
    protocol[i] = r->protocol_counts ? r->protocol : 0;
    counts[i] = r->protocol_counts ? 0xFF : 0;
}

static inline __attribute__((always_inline)) int32_t first_in_block(const uint32_t *word, const uint16_t *rest,
                                                                    uint32_t n, const int words) {
    uint32_t source = rest[0], destination = rest[1], number = rest[2] >> 1, hit[BLOCK], any = 0;
    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t differs = (number & counts[i]) ^ protocol[i];
        for (int w = 0; w < 2 * words; w++) differs |= (word[w] & mask[w][i]) ^ value[w][i];
        hit[i] = (differs == 0) & (source - low[0][i] <= width[0][i]) & (destination - low[1][i] <= width[1][i]);
        any |= hit[i];
    }
    if (any)
        for (uint32_t i = 0; i < n; i++)
            if (hit[i]) return (int32_t)i;
    return -1;
}

/* Positions of the first matching rules, -1 for none. Returns 0, or -1 without memory. */
int scan(const uint8_t *records, uint32_t rules, const uint8_t *keys, uint32_t headers, int version, int32_t *out) {
    const int words = version == 4 ? 1 : 4, size = version == 4 ? 16 : 64;
    uint32_t *open = malloc(4 * (size_t)headers + 4), left = headers;
    if (!open) return -1;
    for (uint32_t i = 0; i < headers; i++) {
        open[i] = i;
        out[i] = -1;
    }
    for (uint32_t start = 0; start < rules && left; start += BLOCK) {
        uint32_t n = rules - start < BLOCK ? rules - start : BLOCK, still = 0;
        for (uint32_t i = 0; i < n; i++) take((const struct record *)(records + (size_t)RECORD * (start + i)), i, words);
        for (uint32_t i = 0; i < left; i++) {
            uint32_t word[8];
            uint16_t rest[3];
            const uint8_t *key = keys + (size_t)size * open[i];
            memcpy(word, key, 8 * words);
            memcpy(rest, key + 8 * words, 6);
            int32_t at = words == 1 ? first_in_block(word, rest, n, 1) : first_in_block(word, rest, n, 4);
            if (at >= 0) out[open[i]] = (int32_t)start + at;
            else open[still++] = open[i];
        }
        left = still;
    }
    free(open);
    return 0;
}

/* How many of n answers are not those wanted; -2 is wanted where any answer will do. The first goes to *at. */
uint32_t differences(const int32_t *found, const int32_t *wanted, uint32_t n, uint32_t *at) {
    uint32_t wrong = 0;
    for (uint32_t i = n; i-- > 0;)
        if (wanted[i] != -2 && found[i] != wanted[i]) {
            wrong++;
            *at = i;
        }
    return wrong;
}

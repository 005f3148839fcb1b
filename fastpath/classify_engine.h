/* What a rule set publishes for lookups, and what a lookup works on; classify.h says how. */
#ifndef NODEPLANE_CLASSIFY_ENGINE_H
#define NODEPLANE_CLASSIFY_ENGINE_H
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
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

/* One hashed table. A directory word is leaf unit (20 bits) | units << 20 (4 bits) | level << 24: that of its best rule, or a
 * lesser one that its bucket had in a version that is still looked up in. A bucket that became empty has a run without rules, for
 * as long as its past is needed. */
#define EMPTY_WORD 0xFF000000u      /* leads to a unit that matches nothing */
typedef struct {
    uint32_t *directory;
    uint32_t shift;         /* 32 - log2 of the directory's size */
    uint32_t mask[WORDS6];  /* over the key's words */
    uint32_t factor[WORDS6]; /* odd, random */
    uint32_t rules;
    uint8_t source, destination, exact;     /* how specific a rule must be to live here: prefix lengths, EXACT_* */
    uint8_t cap;            /* the writer's: rules in a bucket as it was built */
} table_t;

/* Which class of addresses one is of: `step[0]` has every place where one begins, sorted, `step[h]` every eighth number of
 * `step[h - 1]`: the last of each block of eight, which are compared at once. In the highest one `first`, by an address's
 * top bits, says where the eight begin that may be below it. A number is the class's first address less 1, with its
 * top bit turned, so that signed comparisons do; the greatest behind the last. */
enum { HEIGHTS4 = 5, BLOCK4 = 8, HEIGHTS6 = 6, FORK6 = 9 };
typedef struct {
    uint32_t heights;
    uint32_t shift;             /* 32 less the top bits */
    uint16_t *first;
    int32_t *step[HEIGHTS4];
    uint16_t *cls;              /* by how many steps are below */
} steps4;

/* Of IPv6 a tree over the first half's. A node is 64 bytes of such numbers and has a child more than those; nodes of a
 * height are one behind the other, the root is the last height; a class that depends on the second points to a sorted range of `lo`. */
typedef struct {
    uint32_t heights;
    int64_t *node[HEIGHTS6];
    uint32_t *cls;          /* class, or bit 31 and the number of a sub-range */
    uint32_t *sub;          /* two a sub-range: first, how many (a power of two), in `lo` */
    uint64_t *lo;           /* filled up with UINT64_MAX */
    uint32_t *lo_cls;
} steps6;

/* The broad rules. `words` is 1, 2, 4, 8, 16 or a multiple of 32: 64-bit words in a row. Rows begin at multiples of 64 bytes. */
typedef struct {
    uint32_t words, rules;
    steps4 source, destination;
    steps6 source6, destination6;
    uint8_t *sport, *dport;             /* 65536 classes; NULL: all ports are of one class */
    uint16_t *sport_wide, *dport_wide;  /* instead, where one of both has more than 256 classes */
    uint16_t *zone;                     /* 65536 classes; NULL: no rule asks for one */
    uint16_t protocol[512];             /* classes of the lower half of `rest` */
    uint32_t sports, dports;            /* numbers of classes; 1: these ports may have rows of their own */
    uint16_t *small;                    /* (protocol * dports + dport) * sports + sport -> row of `small_rows` */
    uint64_t *source_rows, *destination_rows, *small_rows;
    uint64_t *sport_rows, *dport_rows, *zone_rows;      /* NULL: in `small_rows`, or nobody asks */
    uint64_t *ones;                     /* a row of all rules */
    uint32_t pieces;
    void *piece[48];                    /* the memory that all of it lies in */
    uint64_t bytes;
} broad_t;

/* Broad rules as one version has them. */
typedef struct {
    broad_t *broad;         /* NULL: none */
    uint64_t *alive;        /* which have not been removed, broad->words words */
    rank_t *rank;           /* of each, sorted, and NO_RANK behind them; of one that is not alive nobody asks */
    uint32_t removed;       /* how many are not alive */
} block_t;

enum { TAIL_BLOCK = 2048 };

/* What a reader sees: never changed once it is published, but for directory words and what they newly lead to.
 *
 * A bucket changes by one store of its word, to a new run that knows in which version it came and which word was
 * there before. A reader fixes its version as it begins and goes back to what its version had; so a lookup
 * sees a transaction whole or not at all, whatever is written meanwhile, and nobody waits. What a reader may go back
 * to is kept until it has left. */
typedef struct engine {
    uint32_t tables, deltas, tails, extras;
    uint32_t removed;       /* how many places of the broad rules are empty */
    table_t table[TABLES];
    broad_t *broad;         /* NULL: none */
    uint64_t *alive;        /* broad rules that have not been removed, broad->words words */
    rank_t *rank;           /* of each of them, and NO_RANK behind them; of one that is not alive nobody asks */
    wide_rule delta[DELTA];
    uint32_t delta_entry[DELTA];        /* the writer's: which entry each is */
    block_t *tail;          /* rules that fit nowhere else, by rank, TAIL_BLOCK in each but the last */
    wide_rule *extra;       /* rules that ask for TCP flags or DSCP */
    uint32_t *extra_more;   /* what they ask for: value | mask << 16 of (DSCP << 8 | TCP flags) */
    uint8_t *leaves;        /* units of UNIT bytes */
    rank_t *ranks;          /* of the rules in the leaves: per_unit a unit */
    uint32_t *came;         /* of a run's first unit: version that it came in, from `base`; never changed */
    uint32_t *before;       /* and the word before, or an older one if nobody needs that */
    const uint64_t *pending;        /* the version that is being made, or was last: nothing newer is written */
    uint64_t base;          /* the version in which it was built; runs of then have 0 in `came` */
    uint64_t version;       /* since when it is as it is, but for words */
    uint32_t *ids;          /* by the last 32 bits of a rank; NULL: the same */
    int six;                /* of IPv6 rules */
    struct engine *mate;    /* that of the other IP version's when this one was published */
} engine_t;

/* What one chunk of keys needs; the caller sets `count`, `version` and `key`. */
typedef struct {
    uint32_t count;
    uint64_t version;                   /* the reader's, from the engine's base */
    const uint8_t *key;                 /* 16 bytes apart for IPv4, 64 for IPv6 */
    uint32_t word[WORDS6][CHUNK] __attribute__((aligned(64)));  /* the keys by word, for tables */
    rank_t best[CHUNK] __attribute__((aligned(64)));
    uint32_t item[CHUNK + 64];          /* packets that have a leaf to compare */
    uint32_t leaf[CHUNK + 64];          /* its first unit | units left << 20 */
    uint32_t hash[CHUNK + 16];          /* of the keys; then the words that lie there */
} chunk_t;

#define HIDDEN(x) __asm__("" : "+r"(x))     /* the compiler knows nothing of x here, and makes no jump of it */
#define APART __attribute__((noinline))
#define FOLDED static inline __attribute__((always_inline))     /* `version` is a constant in every copy */
#endif

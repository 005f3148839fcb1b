/* Whether a cache is worth its while: measured in the calls themselves, decided a window at a time.
 *
 * `_flowtable_py.Governor` is the specification. Costs are in any unit, a packet; only their ratio counts. */
#ifndef NODEPLANE_GOVERNOR_H
#define NODEPLANE_GOVERNOR_H
#include <stdint.h>
#include <string.h>

enum {
    GOVERNOR_WINDOW = 32,       /* cached calls that a decision looks at */
    GOVERNOR_ASIDE = 3,         /* the dearest of them, which something else may have disturbed, do not count */
    GOVERNOR_DIRECT = 8,        /* direct calls that are remembered */
    GOVERNOR_EVERY = 16,        /* while trying, one call in so many is direct */
    GOVERNOR_RARELY = 256,      /* while the cache serves */
    GOVERNOR_WINDOWS = 64,      /* a try warms up for so many windows at most */
    GOVERNOR_REST = 256,        /* direct calls after a try that failed; twice as many after each further one */
    GOVERNOR_LONGEST = 8192
};
enum { GOVERNOR_TRYING, GOVERNOR_SERVING, GOVERNOR_RESTING };

typedef struct {
    uint32_t state;
    uint32_t calls;             /* of this state */
    uint32_t samples;           /* of this window */
    uint32_t windows;           /* of this try */
    uint32_t strikes;           /* windows in a row that were too dear */
    uint32_t rest;
    uint32_t directs;           /* direct calls seen, ever */
    uint64_t hits, packets;     /* of this window */
    double rate;                /* of hits, in the window before */
    double cached, direct;      /* the costs that were compared last */
    double sample[GOVERNOR_WINDOW];
    double beside[GOVERNOR_DIRECT];
} governor_t;

static inline void governor_begin(governor_t *g) {
    memset(g, 0, sizeof(*g));
    g->rest = GOVERNOR_REST;
}

/* Whether the next call goes past the cache. */
static inline int governor_direct(const governor_t *g) {
    if (g->state == GOVERNOR_RESTING)
        return 1;
    const uint32_t every = g->state == GOVERNOR_TRYING ? GOVERNOR_EVERY : GOVERNOR_RARELY;
    return g->calls % every == every - 1;
}

static inline void governor_sort(double *x, uint32_t n) {
    for (uint32_t i = 1; i < n; i++) {
        const double one = x[i];
        uint32_t j = i;
        for (; j && x[j - 1] > one; j--)
            x[j] = x[j - 1];
        x[j] = one;
    }
}

static inline void governor_enter(governor_t *g, uint32_t state) {
    g->state = state;
    g->calls = g->samples = g->windows = g->strikes = 0;
    g->hits = g->packets = 0;
    g->rate = 0;
}

static inline void governor_decide(governor_t *g) {
    const double rate = (double) g->hits / (double) g->packets;
    const uint32_t n = g->directs < GOVERNOR_DIRECT ? g->directs : GOVERNOR_DIRECT;
    double sum = 0, beside[GOVERNOR_DIRECT];
    governor_sort(g->sample, GOVERNOR_WINDOW);
    for (uint32_t i = 0; i < GOVERNOR_WINDOW - GOVERNOR_ASIDE; i++)
        sum += g->sample[i];
    memcpy(beside, g->beside, sizeof(beside));
    governor_sort(beside, n);
    g->cached = sum / (GOVERNOR_WINDOW - GOVERNOR_ASIDE);
    g->direct = beside[n / 2];
    g->samples = 0;
    g->hits = g->packets = 0;
    if (g->state == GOVERNOR_SERVING) {
        g->strikes = g->cached > g->direct ? g->strikes + 1 : 0;
        if (g->strikes == 2)
            governor_enter(g, GOVERNOR_RESTING);
        return;
    }
    g->windows++;
    if (rate > g->rate + 0.02 && g->windows < GOVERNOR_WINDOWS) {
        g->rate = rate;         /* still warming up */
        return;
    }
    if (g->cached < g->direct * 0.95) {
        governor_enter(g, GOVERNOR_SERVING);
        g->rest = GOVERNOR_REST;
    } else
        governor_enter(g, GOVERNOR_RESTING);
}

/* What a call cost, all its packets together. */
static inline void governor_record(governor_t *g, int direct, uint32_t packets, uint32_t hits, double cost) {
    if (!packets)
        return;
    g->calls++;
    if (direct)
        g->beside[g->directs++ % GOVERNOR_DIRECT] = cost / packets;
    if (g->state == GOVERNOR_RESTING) {
        if (g->calls >= g->rest) {
            g->rest = 2 * g->rest < GOVERNOR_LONGEST ? 2 * g->rest : GOVERNOR_LONGEST;
            governor_enter(g, GOVERNOR_TRYING);
        }
        return;
    }
    if (direct)
        return;
    g->hits += hits;
    g->packets += packets;
    g->sample[g->samples++] = cost / packets;
    if (g->samples == GOVERNOR_WINDOW)
        governor_decide(g);
}

/* Ticks of a clock that costs next to nothing. */
#if defined(__x86_64__)
static inline uint64_t governor_ticks(void) {
    return __builtin_ia32_rdtsc();
}
#else
#include <time.h>
static inline uint64_t governor_ticks(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}
#endif
#endif

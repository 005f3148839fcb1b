/* How far two cores are from each other: one thread on each, and a word that they write in turns. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

typedef struct {
    _Alignas(128) atomic_uint word;     /* odd: the far one's turn */
    _Alignas(128) unsigned turns;
} game_t;

static void wait_for(game_t *game, unsigned word) {
    while (atomic_load_explicit(&game->word, memory_order_acquire) != word)
        ;
}

static void *answer(void *at) {
    game_t *game = at;
    for (unsigned turn = 0; turn < game->turns; turn++) {
        wait_for(game, 2 * turn + 1);
        atomic_store_explicit(&game->word, 2 * turn + 2, memory_order_release);
    }
    return NULL;
}

/* Nanoseconds that a word takes from the calling thread's core, which it must be bound to, to core `there` and back: the mean
 * of `turns` of them, at least 8. -1 and errno if no thread can be made there. */
double round_trip(int there, unsigned turns) {
    game_t game = {0, turns};
    pthread_attr_t attributes;
    pthread_t far;
    cpu_set_t set;
    struct timespec began, ended;
    CPU_ZERO(&set);
    CPU_SET(there, &set);
    pthread_attr_init(&attributes);
    errno = pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
    if (!errno)
        errno = pthread_create(&far, &attributes, answer, &game);
    pthread_attr_destroy(&attributes);
    if (errno)
        return -1;
    for (unsigned turn = 0; turn < turns; turn++) {
        if (turn == turns / 8)      /* the far one has woken up */
            clock_gettime(CLOCK_MONOTONIC, &began);
        atomic_store_explicit(&game.word, 2 * turn + 1, memory_order_release);
        wait_for(&game, 2 * turn + 2);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_join(far, NULL);
    return ((double) (ended.tv_sec - began.tv_sec) * 1e9 + (double) (ended.tv_nsec - began.tv_nsec)) / (turns - turns / 8);
}

/* Runs the vector code of fastpath's headers over packets from standard input and writes what it leaves: for processors
 * that there is no Python for, under an emulator. test_headers_run.py says what goes in and comes out. */
#include <stdio.h>
#include <stdlib.h>

#include "checksum.h"
#include "encap.h"

enum { KEYS = 18, HEADER = 80, BEHIND = 64 };

struct input {
    uint64_t factor;
    uint32_t k[KEYS], count, slot, size, most, ip_sum, mark, label, room;
    uint8_t header[HEADER];
};

static void *column(uint32_t count, size_t size)
{
    void *at = calloc(count + BEHIND, size);
    if (at == NULL)
        exit(2);
    return at;
}

static void take(void *to, size_t size) { if (fread(to, 1, size, stdin) != size) exit(3); }
static void give(const void *from, size_t size) { if (fwrite(from, 1, size, stdout) != size) exit(4); }

int main(void)
{
    struct input in;
    struct encap_lanes lanes;
    struct encap_job job;
    uint32_t *offset, *length, *flags, *layers, *hash, *verdict, *tunnel, *sums, start, left = 0;
    uint8_t *memory, *key, *made;
    take(&in, sizeof in);
    memory = column(in.count * in.slot, 1);
    key = column(in.count, 40);
    made = column(in.count, 1);
    offset = column(in.count, 4), length = column(in.count, 4), flags = column(in.count, 4);
    layers = column(in.count, 4), hash = column(in.count, 4), verdict = column(in.count, 4);
    tunnel = column(in.count, 4), sums = column(in.count, 4);
    take(memory, (size_t)in.count * in.slot);
    take(offset, (size_t)in.count * 4);
    take(length, (size_t)in.count * 4);

    for (start = 0; start < in.count; start += FLOW_RUN) {
        uint64_t others, done = flow_hashes(memory, offset, length, verdict, key, flags, layers, hash, in.k, in.factor,
                                            start, start + FLOW_RUN, in.count, &others);
        give(&done, 8);
        give(&others, 8);
    }
    give(key, (size_t)in.count * 40);
    give(flags, (size_t)in.count * 4);
    give(layers, (size_t)in.count * 4);
    give(hash, (size_t)in.count * 4);

    for (start = 0; start < in.count; start++) {
        uint8_t *copy = column(in.slot, 1);
        sums[start] = nodeplane_fold(nodeplane_sum(memory + offset[start], length[start]));
        /* Whatever is copied, it has the same sum, wherever it lies. */
        for (uint32_t at = 0; at < 8 && at < length[start]; at++) {
            const uint8_t *from = memory + offset[start] + at;
            const uint32_t size = length[start] - at;
            if (nodeplane_fold(nodeplane_copy_sum(copy + 1, from, size)) != nodeplane_fold(nodeplane_sum(from, size))
                || memcmp(copy + 1, from, size) || copy[0] || copy[size + 1])
                return 6;
            memset(copy, 0, in.slot);
        }
        free(copy);
    }
    give(sums, (size_t)in.count * 4);

    lanes.size = in.size;
    for (int j = 0; j < FLOW_LANES; j++)
        encap_lane(&lanes, j, in.header, 0, in.most, in.ip_sum, in.mark, in.label);
    job.memory = memory, job.offset = offset, job.length = length, job.layers = layers, job.hash = hash;
    job.verdict = verdict, job.tunnel = tunnel, job.k = in.k, job.factor = in.factor;
    encap_begin(&job, in.count, in.slot);
    for (start = 0; start < in.count;) {
        const uint32_t end = encap_blocks(&job, start, &lanes, &left);
        if (end == start)
            return 5;
        for (; start < end; start++)
            made[start] = !(start + FLOW_LANES >= end && left >> (start + FLOW_LANES - end) & 1);
    }
    give(made, in.count);
    give(memory, (size_t)in.count * in.slot);
    give(offset, (size_t)in.count * 4);
    give(length, (size_t)in.count * 4);
    give(layers, (size_t)in.count * 4);
    give(hash, (size_t)in.count * 4);
    return 0;
}

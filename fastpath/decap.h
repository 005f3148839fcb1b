/* Checks of FLOW_LANES frames at once that look like one that was taken before them: see `_decap_batch.pxd`.
 *
 * One masked comparison of 64 bytes stands for all fields that are the same in both. What differs from frame to frame,
 * lengths, header checksum, inner source MAC, is loaded from each, turned (see flow.h), and checked for all at once.
 *
 * Up to 64 bytes at a packet's first byte are read whatever its length is; bytes behind its end never influence a result.
 */
#ifndef NODEPLANE_DECAP_H
#define NODEPLANE_DECAP_H

#include "flow.h"

#define DECAP_AHEAD 16      /* packets */
#define DECAP_USUAL 50      /* bytes of the outer headers */

/* What 64 bytes look like that `decode` took. */
struct decap_pattern {
    uint8_t want[64];
    uint8_t mask[64];       /* all zero: there was none yet */
    uint32_t vni, network, flags;
};

#if FLOW_LANES > 1

typedef uint64_t decap_line __attribute__((vector_size(64)));

static inline flow_u32 decap_big16(flow_u32 v) { return (v << 8 & 0xFF00) | (v >> 8 & 0xFF); }
static inline flow_u32 decap_halves(flow_u32 v) { return (v & 0xFFFF) + (v >> 16); }

/* Whether all frames of a block look like the pattern and are right; `inner` gets the lengths of what is inside. The
 * columns point at the block's first packet. */
static inline __attribute__((always_inline)) int decap_check(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    const struct decap_pattern *k, flow_u32 *inner)
{
    flow_u32 ip[4], udp[4], mac[4], wrong, size, sum;
    decap_line want, mask, found, differs = {0};
    memcpy(&want, k->want, 64);
    memcpy(&mask, k->mask, 64);
    for (int j = 0; j < FLOW_LANES; j++) {
        memcpy(&found, memory + offset[j], 64);
        differs |= (found ^ want) & mask;
    }
    flow_turn(memory + 14, offset, ip);     /* version, length | identification, fragment | TTL, checksum | source */
    flow_turn(memory + 30, offset, udp);    /* destination | ports | length, checksum | VXLAN flags */
    flow_turn(memory + 48, offset, mac);    /* ... | ... | inner source, 4 bytes | 2 bytes, EtherType */
    sum = decap_halves(ip[0]) + decap_halves(ip[1]) + decap_halves(ip[2]) + decap_halves(ip[3]) + decap_halves(udp[0]);
    wrong = flow_load(verdict) | (decap_halves(decap_halves(sum)) ^ 0xFFFF);
    size = decap_big16(udp[2]);
    wrong |= decap_big16(ip[0] >> 16) ^ (size + 20);
    wrong |= ((flow_load(length) - size - 34) | (size - 30)) >> 31;
    wrong |= (flow_u32)((mac[2] | mac[3] << 16) == 0);
    *inner = size - 16;
    return FLOW_ZEROS(wrong) == FLOW_ALL
        && !(differs[0] | differs[1] | differs[2] | differs[3] | differs[4] | differs[5] | differs[6] | differs[7]);
}

/* Take the headers off a block; VNI, network and flags are the pattern's. Returns 1, or 0 and has done nothing. */
static inline __attribute__((always_inline)) int decap_block(
    const uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, uint32_t *vni,
    uint32_t *tunnel, uint32_t *flags, uint32_t *layers, uint32_t keep, const struct decap_pattern *k)
{
    flow_u32 inner;
    if (!decap_check(memory, offset, length, verdict, k, &inner))
        return 0;
    flow_store(vni, (flow_u32){0} + k->vni);
    flow_store(tunnel, (flow_u32){0} + k->network);
    flow_store(flags, (flow_load(flags) & keep) | k->flags);
    flow_store(layers, (flow_u32){0});
    flow_store(offset, flow_load(offset) + DECAP_USUAL);
    flow_store(length, inner);
    return 1;
}

#endif

/* Frames from `start` on, block by block, until one has others in it; returns where that begins. Asks for the memory
 * of later ones. Of `flags`, `keep` stays. */
static __attribute__((noinline, unused)) uint32_t decap_blocks(
    const uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, uint32_t *vni,
    uint32_t *tunnel, uint32_t *flags, uint32_t *layers, uint32_t keep, const struct decap_pattern *k,
    uint32_t start, uint32_t end)
{
#if FLOW_LANES > 1
    const struct decap_pattern own = *k;
    while (start + FLOW_LANES <= end) {
        if (start + DECAP_AHEAD + FLOW_LANES <= end)
            for (int j = 0; j < FLOW_LANES; j++) {
                __builtin_prefetch(memory + offset[start + DECAP_AHEAD + j]);
                __builtin_prefetch(memory + offset[start + DECAP_AHEAD + j] + 63);
            }
        if (!decap_block(memory, offset + start, length + start, verdict + start, vni + start, tunnel + start,
                         flags + start, layers + start, keep, &own))
            break;
        start += FLOW_LANES;
    }
#endif
    return start;
}

/* The checks alone, of one block; see `decap_check`. */
static __attribute__((noinline, unused)) int decap_checked(
    const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
    const struct decap_pattern *k, uint32_t *inner)
{
#if FLOW_LANES > 1
    flow_u32 lengths;
    if (!decap_check(memory, offset, length, verdict, k, &lengths))
        return 0;
    flow_store(inner, lengths);
    return 1;
#else
    return 0;
#endif
}

#endif

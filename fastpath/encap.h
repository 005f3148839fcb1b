/* Outer headers for FLOW_LANES packets at once, where all go through plain tunnels with headers of one size, and all have
 * a common shape: see flow.h. `_encap.pxd` does everything else, and says what the bytes are.
 *
 * What differs from packet to packet, lengths, checksum, source port, congestion mark, is worked out in one register
 * for all of them; then each gets its tunnel's header and its four words.
 */
#ifndef NODEPLANE_ENCAP_H
#define NODEPLANE_ENCAP_H

#include "flow.h"

#define ENCAP_AHEAD 16      /* packets */

/* The tunnels of a block. A plain tunnel inherits nothing but the ECN field, and has no UDP checksum. */
struct encap_lanes {
    const uint8_t *header[FLOW_LANES];
    uint32_t word[3][FLOW_LANES];   /* that change: of the IP header the first, and the third (IPv4) or second; of UDP's */
    uint32_t number[FLOW_LANES];
    uint32_t most[FLOW_LANES];      /* the longest inner frame */
    uint32_t ip_sum[FLOW_LANES];    /* IPv4: the sum of the header's words */
    uint32_t mark[FLOW_LANES];      /* 3: the inner ECN field is copied; 0: it is not */
    uint32_t label[FLOW_LANES];     /* IPv6: the bits of the flow label that come from the hash */
    uint32_t size;                  /* bytes of each header: 50, 54, 70 or 74 */
};

static inline uint32_t encap_word(const uint8_t *at) { uint32_t word; memcpy(&word, at, 4); return word; }

static inline void encap_lane(
    struct encap_lanes *t, uint32_t j, const uint8_t *header, uint32_t number, uint32_t most, uint32_t ip_sum,
    uint32_t mark, uint32_t label)
{
    const int six = t->size >= 70;
    t->header[j] = header;
    t->word[0][j] = encap_word(header + t->size - (six ? 56 : 36));
    t->word[1][j] = encap_word(header + t->size - (six ? 52 : 28));
    t->word[2][j] = encap_word(header + t->size - 16);
    t->number[j] = number;
    t->most[j] = most;
    t->ip_sum[j] = ip_sum;
    t->mark[j] = mark;
    t->label[j] = label;
}

#if FLOW_LANES > 1

static inline flow_u32 encap_big16(flow_u32 v) { return (v << 8 & 0xFF00) | v >> 8; }

static inline flow_u32 encap_big32(flow_u32 v)
{
    v = (v << 8 & 0xFF00FF00) | (v >> 8 & 0x00FF00FF);
    return v << 16 | v >> 16;
}

/* The headers: `first` and `second` at `place` and `place + step`, `third` and `fourth` are UDP's. */
static inline __attribute__((always_inline)) void encap_write(
    uint8_t *memory, const uint32_t *offset, const struct encap_lanes *t, uint32_t size, uint32_t step,
    const uint32_t *first, const uint32_t *second, const uint32_t *third, const uint32_t *fourth)
{
    const uint32_t place = step == 8 ? 36 : 56;
    for (int j = 0; j < FLOW_LANES; j++) {
        uint8_t *at = memory + offset[j];
        memcpy(at - size, t->header[j], size);
        memcpy(at - place, first + j, 4);
        memcpy(at - place + step, second + j, 4);
        memcpy(at - 16, third + j, 4);
        memcpy(at - 12, fourth + j, 4);
    }
}

/* The columns point at the block's first packet, whose slot begins at `slot_start` if nothing was compacted.
 * Returns 1, or 0 and has done nothing. */
static inline __attribute__((always_inline)) int encap_block(
    uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
    uint32_t *layers, uint32_t *hash, uint32_t slot_start, uint32_t slot, const struct encap_lanes *t,
    const uint32_t *k, uint64_t factor)
{
    const flow_u32 lane = {
        0, 1, 2, 3,
#if FLOW_LANES == 8
        4, 5, 6, 7,
#endif
    };
    flow_u32 column[4], wrong, bad4, bad6, size, total, sum, port, protocol, mark, starts, hashed;
    uint32_t word[4][FLOW_LANES];
    int six;

    starts = flow_load(offset);
    size = flow_load(length);
    wrong = flow_load(verdict) | (flow_load(tunnel) ^ flow_load(t->number));
    wrong |= (flow_u32)(size > flow_load(t->most));
    /* The room before the packet: at least the header, and no more than its own slot has. */
    wrong |= (flow_u32)(starts - slot_start - lane * slot - t->size > slot - t->size);

    flow_turn(memory + 12, offset, column);
    total = (column[1] & 0xFF) << 8 | (column[1] >> 8 & 0xFF);
    bad4 = (column[0] << 8 ^ 0x45000800) & 0xFFFFFF00;
    bad4 |= (column[2] & 0xFF3F) | ((size - total - 14) | (total - 24)) >> 31;
    protocol = column[2] >> 24;
    bad4 |= ~((flow_u32)(protocol == 6) | (flow_u32)(protocol == 17));
    if (FLOW_ZEROS(wrong | bad4) == FLOW_ALL) {
        six = 0;
        mark = column[0] >> 24;
        hashed = flow_hash4(memory, offset, protocol, k, factor);
    } else {
        total = column[1] >> 24 | (column[1] >> 8 & 0xFF00);
        protocol = column[2] & 0xFF;
        bad6 = ((column[0] ^ 0x0060DD86) & 0x00F0FFFF) | ((size - total - 54) | (total - 4)) >> 31;
        bad6 |= ~((flow_u32)(protocol == 6) | (flow_u32)(protocol == 17));
        if (FLOW_ZEROS(wrong | bad6) != FLOW_ALL)
            return 0;
        six = 20;
        mark = column[0] >> 28;
        hashed = flow_hash6(memory, offset, protocol, k, factor);
    }
    mark &= flow_load(t->mark);
    flow_store(hash, hashed);
    port = encap_big16((hashed & 0x3FFF) | 0xC000);
    flow_store(word[2], port | flow_load(t->word[2]));
    flow_store(word[3], encap_big16(size + 16));
    if (t->size < 70) {
        sum = size + 36 + mark + flow_load(t->ip_sum);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        flow_store(word[0], flow_load(t->word[0]) | mark << 8 | encap_big16(size + 36) << 16);
        flow_store(word[1], flow_load(t->word[1]) | encap_big16(sum ^ 0xFFFF) << 16);
        if (t->size == 50)
            encap_write(memory, offset, t, 50, 8, word[0], word[1], word[2], word[3]);
        else
            encap_write(memory, offset, t, 54, 8, word[0], word[1], word[2], word[3]);
    } else {
        flow_store(word[0], flow_load(t->word[0]) | encap_big32(mark << 20 | (hashed >> 12 & flow_load(t->label))));
        flow_store(word[1], flow_load(t->word[1]) | encap_big16(size + 16));
        if (t->size == 70)
            encap_write(memory, offset, t, 70, 4, word[0], word[1], word[2], word[3]);
        else
            encap_write(memory, offset, t, 74, 4, word[0], word[1], word[2], word[3]);
    }
    flow_store(layers, (flow_u32){0} + (14 + t->size) + ((34 + six + t->size) << 16));
    flow_store(offset, starts - t->size);
    flow_store(length, size + t->size);
    return 1;
}

#endif

static inline void encap_fetch(const uint8_t *at)
{
    __builtin_prefetch(at);
    __builtin_prefetch(at - 1, 1);
}

/* Packets through one tunnel from `start` on, block by block, until one has others in it; returns where that begins.
 * Asks for the memory of later packets. */
static __attribute__((noinline, unused)) uint32_t encap_blocks(
    uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
    uint32_t *layers, uint32_t *hash, uint32_t slot, const struct encap_lanes *t, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end)
{
#if FLOW_LANES > 1
    while (start + FLOW_LANES <= end) {
        if (start + ENCAP_AHEAD + FLOW_LANES <= end)
            for (int j = 0; j < FLOW_LANES; j++)
                encap_fetch(memory + offset[start + ENCAP_AHEAD + j]);
        if (!encap_block(memory, offset + start, length + start, verdict + start, tunnel + start, layers + start,
                         hash + start, start * slot, slot, t, k, factor))
            break;
        start += FLOW_LANES;
    }
#endif
    return start;
}

/* One block from `start` on, each packet through its own tunnel; 1 if that is done. */
static __attribute__((noinline, unused)) int encap_mixed(
    uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
    uint32_t *layers, uint32_t *hash, uint32_t slot, const struct encap_lanes *t, const uint32_t *k, uint64_t factor,
    uint32_t start)
{
#if FLOW_LANES > 1
    return encap_block(memory, offset + start, length + start, verdict + start, tunnel + start, layers + start,
                       hash + start, start * slot, slot, t, k, factor);
#else
    return 0;
#endif
}

#endif

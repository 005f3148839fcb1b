/* Outer headers for FLOW_LANES packets at once, where all go through one plain tunnel and all have a common shape: see
 * flow.h. `_encap.pxd` does everything else, and says what the bytes are.
 *
 * What differs from packet to packet, lengths, checksum, source port, congestion mark, is worked out in one register
 * for all of them; then each gets the tunnel's header and its four words.
 */
#ifndef NODEPLANE_ENCAP_H
#define NODEPLANE_ENCAP_H

#include "flow.h"

#define ENCAP_AHEAD 16      /* packets */

/* A plain tunnel: nothing is inherited but the ECN field, and UDP has no checksum. */
struct encap_plain {
    const uint8_t *header;
    uint32_t size;              /* bytes of the header: 50, 54, 70 or 74 */
    uint32_t number;
    uint32_t most;              /* the longest inner frame */
    uint32_t ip_sum;            /* IPv4: the sum of its header's words */
    uint32_t mark;              /* 3: the inner ECN field is copied; 0: it is not */
    uint32_t label;             /* IPv6: the bits of the flow label that come from the hash */
};

#if FLOW_LANES > 1

static inline flow_u32 encap_big16(flow_u32 v) { return (v << 8 & 0xFF00) | v >> 8; }

static inline flow_u32 encap_big32(flow_u32 v)
{
    v = (v << 8 & 0xFF00FF00) | (v >> 8 & 0x00FF00FF);
    return v << 16 | v >> 16;
}

static inline uint32_t encap_word(const uint8_t *at) { uint32_t word; memcpy(&word, at, 4); return word; }

/* The headers: `first` and `second` at `place` and `place + step`, `third` and `fourth` are UDP's. */
static inline __attribute__((always_inline)) void encap_write(
    uint8_t *memory, const uint32_t *offset, const struct encap_plain *t, uint32_t size, uint32_t step,
    const uint32_t *first, const uint32_t *second, const uint32_t *third, const uint32_t *fourth)
{
    const uint32_t place = step == 8 ? 36 : 56;
    for (int j = 0; j < FLOW_LANES; j++) {
        uint8_t *at = memory + offset[j];
        memcpy(at - size, t->header, size);
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
    uint32_t *layers, uint32_t *hash, uint32_t slot_start, uint32_t slot, const struct encap_plain *t,
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
    const uint8_t *header = t->header;
    int six;

    starts = flow_load(offset);
    size = flow_load(length);
    wrong = flow_load(verdict) | (flow_load(tunnel) ^ t->number);
    wrong |= (flow_u32)(size > t->most);
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
    mark &= t->mark;
    flow_store(hash, hashed);
    port = encap_big16((hashed & 0x3FFF) | 0xC000);
    flow_store(word[2], port | encap_word(header + t->size - 16));
    flow_store(word[3], encap_big16(size + 16));
    if (t->size < 70) {
        sum = size + 36 + mark + t->ip_sum;
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        flow_store(word[0], encap_word(header + t->size - 36) | mark << 8 | encap_big16(size + 36) << 16);
        flow_store(word[1], encap_word(header + t->size - 28) | encap_big16(sum ^ 0xFFFF) << 16);
        if (t->size == 50)
            encap_write(memory, offset, t, 50, 8, word[0], word[1], word[2], word[3]);
        else
            encap_write(memory, offset, t, 54, 8, word[0], word[1], word[2], word[3]);
    } else {
        flow_store(word[0], encap_word(header + t->size - 56) | encap_big32(mark << 20 | (hashed >> 12 & t->label)));
        flow_store(word[1], encap_word(header + t->size - 52) | encap_big16(size + 16));
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

#else

#define encap_block(...) 0

#endif

/* Plain packets from `start` on, block by block, until one has others in it; returns where that begins. Asks for the
 * memory of later packets. */
static __attribute__((noinline, unused)) uint32_t encap_blocks(
    uint8_t *memory, uint32_t *offset, uint32_t *length, const uint32_t *verdict, const uint32_t *tunnel,
    uint32_t *layers, uint32_t *hash, uint32_t slot, const struct encap_plain *t, const uint32_t *k, uint64_t factor,
    uint32_t start, uint32_t end)
{
#if FLOW_LANES > 1
    const struct encap_plain own = *t;
    while (start + FLOW_LANES <= end) {
        if (start + ENCAP_AHEAD + FLOW_LANES <= end)
            for (int j = 0; j < FLOW_LANES; j++) {
                __builtin_prefetch(memory + offset[start + ENCAP_AHEAD + j]);
                __builtin_prefetch(memory + offset[start + ENCAP_AHEAD + j] - 1, 1);
            }
        if (!encap_block(memory, offset + start, length + start, verdict + start, tunnel + start, layers + start,
                         hash + start, start * slot, slot, &own, k, factor))
            break;
        start += FLOW_LANES;
    }
#endif
    return start;
}

#endif

/* What plain C makes of the same packets in the same memory: the mark for encap, decap, five-tuple and checksum.
 *
 * One function per stage over a batch's columns, as a C programmer writes it who knows his traffic: one tunnel over
 * IPv4, no tables, no counters, no levels; built with -O3 -march=native for this machine. Bench only.
 *
 * encap   five-tuple, CRC-32C of it, 50-byte header from a template with lengths, IPv4 checksum and source port
 * decap   EtherType, version, IHL, protocol, fragment, total length, header checksum, UDP port and length, I flag
 * tuple   Ethernet, 802.1Q, IPv4 with options and fragments, IPv6; TCP and UDP ports; into 40 bytes
 * sum     RFC 1071
 * segment a TCP super-frame over IPv4: copy, headers, checksums
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE4_2__)
#include <nmmintrin.h>
#endif

enum { OUTER = 50, AHEAD = 16 };

struct key {
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    uint8_t protocol, version;
    uint16_t zone;
};

/* Laid out as in stopwatch.pyx. */
struct columns {
    uint8_t *memory;
    uint32_t *offset, *length, *vni, *hash, *verdict;
    struct key *key;
    uint32_t count;
};

struct tunnel {
    uint8_t header[64];
    uint32_t sum; /* of the IPv4 header's words as they lie in memory, without length and checksum */
};

#define ALWAYS static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define BIG(x) ((uint16_t)__builtin_bswap16(x))

ALWAYS uint16_t load16(const void *at) { uint16_t v; memcpy(&v, at, 2); return v; }
ALWAYS uint32_t load32(const void *at) { uint32_t v; memcpy(&v, at, 4); return v; }
ALWAYS uint64_t load64(const void *at) { uint64_t v; memcpy(&v, at, 8); return v; }
ALWAYS void store16(void *at, uint16_t v) { memcpy(at, &v, 2); }

ALWAYS uint32_t fold32(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

ALWAYS uint32_t crc(uint32_t state, uint64_t word) {
#if defined(__SSE4_2__)
    return (uint32_t)_mm_crc32_u64(state, word);
#else
    word = (word ^ state) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(word >> 32);
#endif
}

/* The key of a frame; 0 if it is neither IPv4 nor IPv6 or does not hold what it announces. */
ALWAYS int parse(const uint8_t *at, uint32_t length, struct key *key) {
    uint32_t l3 = 14, l4;
    uint16_t type;
    if (length < 34) return 0;
    type = load16(at + 12);
    if (__builtin_expect(type == BIG(0x8100), 0)) {
        if (length < 38) return 0;
        type = load16(at + 16);
        l3 = 18;
    }
    const uint8_t *ip = at + l3;
    if (LIKELY(type == BIG(0x0800))) {
        uint32_t header = (ip[0] & 15u) * 4, total = BIG(load16(ip + 2));
        if (ip[0] >> 4 != 4 || header < 20 || total < header || l3 + total > length) return 0;
        memset(key, 0, 32);
        memcpy(key->source, ip + 12, 4);
        memcpy(key->destination, ip + 16, 4);
        key->protocol = ip[9];
        key->version = 4;
        l4 = l3 + header;
        if (load16(ip + 6) & BIG(0x1fff)) l4 = length;
    } else if (type == BIG(0x86dd)) {
        if (l3 + 40 > length || ip[0] >> 4 != 6) return 0;
        memcpy(key->source, ip + 8, 32);
        key->protocol = ip[6];
        key->version = 6;
        l4 = l3 + 40;
    } else {
        return 0;
    }
    key->zone = 0;
    uint32_t ports = 0;
    if (LIKELY((key->protocol == 6 || key->protocol == 17) && l4 + 4 <= length)) ports = load32(at + l4);
    memcpy(&key->source_port, &ports, 4);
    return 1;
}

ALWAYS uint32_t hash(const struct key *key) {
    uint64_t addresses;
    if (key->version == 4)
        addresses = load32(key->source) | (uint64_t)load32(key->destination) << 32;
    else
        addresses = load64(key->source) ^ load64(key->source + 8) * 0x9E3779B97F4A7C15ull ^
                    load64(key->destination) * 0xC2B2AE3D27D4EB4Full ^
                    load64(key->destination + 8) * 0x165667B19E3779F9ull;
    uint64_t rest = (uint64_t)load32(&key->source_port) << 8 | key->protocol;
    return crc(crc(0x1234567, addresses), rest);
}

ALWAYS uint64_t encap(struct columns *c, const struct tunnel *tunnel, uint32_t ahead) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (ahead) {
            const uint8_t *next = c->memory + c->offset[i + ahead < c->count ? i + ahead : c->count - 1];
            __builtin_prefetch(next - OUTER, 1);
            __builtin_prefetch(next + 40, 1);
        }
        uint8_t *at = c->memory + c->offset[i];
        uint32_t length = c->length[i], mixed;
        struct key key;
        if (LIKELY(parse(at, length, &key)))
            mixed = hash(&key);
        else
            mixed = crc(crc(1, load64(at)), load32(at + 8));
        uint8_t *out = at - OUTER;
        uint16_t total = BIG((uint16_t)(length + OUTER - 14));
        memcpy(out, tunnel->header, OUTER);
        store16(out + 16, total);
        store16(out + 24, (uint16_t)~fold32(tunnel->sum + total));
        store16(out + 34, BIG((uint16_t)(49152 | (mixed & 0x3fff))));
        store16(out + 38, BIG((uint16_t)(length + 16)));
        c->offset[i] -= OUTER;
        c->length[i] = length + OUTER;
    }
    return c->count;
}

ALWAYS int check(const uint8_t *at, uint32_t length) {
    if (length < OUTER + 14 || load16(at + 12) != BIG(0x0800) || at[14] != 0x45 || at[23] != 17) return 0;
    uint32_t total = BIG(load16(at + 16));
    if (total + 14 > length || total < OUTER || load16(at + 20) & BIG(0x3fff)) return 0;
    uint64_t sum = (uint64_t)load32(at + 14) + load32(at + 18) + load32(at + 22) + load32(at + 26) + load32(at + 30);
    sum = (sum & 0xffffffff) + (sum >> 32);
    if (fold32((uint32_t)(sum & 0xffff) + (uint32_t)(sum >> 16)) != 0xffff) return 0;
    return load16(at + 36) == BIG(4789) && BIG(load16(at + 38)) == total - 20 && at[42] & 0x08;
}

ALWAYS uint64_t decap(struct columns *c, uint32_t ahead) {
    uint64_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (ahead) __builtin_prefetch(c->memory + c->offset[i + ahead < c->count ? i + ahead : c->count - 1]);
        const uint8_t *at = c->memory + c->offset[i];
        if (LIKELY(check(at, c->length[i]))) {
            c->vni[i] = __builtin_bswap32(load32(at + 46)) >> 8;
            c->length[i] = BIG(load16(at + 16)) - 36u;
            c->offset[i] += OUTER;
            kept++;
        } else {
            c->verdict[i] = 1;
        }
    }
    return kept;
}

ALWAYS uint64_t tuple(struct columns *c, uint32_t ahead) {
    uint64_t known = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (ahead) __builtin_prefetch(c->memory + c->offset[i + ahead < c->count ? i + ahead : c->count - 1]);
        if (LIKELY(parse(c->memory + c->offset[i], c->length[i], c->key + i)))
            known++;
        else
            memset(c->key + i, 0, sizeof *c->key);
    }
    return known;
}

uint64_t anchor_encap(struct columns *c, const void *tunnel) { return encap(c, tunnel, 0); }
uint64_t anchor_encap_ahead(struct columns *c, const void *tunnel) { return encap(c, tunnel, AHEAD); }
uint64_t anchor_decap(struct columns *c, const void *unused) { (void)unused; return decap(c, 0); }
uint64_t anchor_decap_ahead(struct columns *c, const void *unused) { (void)unused; return decap(c, AHEAD); }
uint64_t anchor_tuple(struct columns *c, const void *unused) { (void)unused; return tuple(c, 0); }
uint64_t anchor_tuple_ahead(struct columns *c, const void *unused) { (void)unused; return tuple(c, AHEAD); }

/* `header` is the tunnel's outer header with length, checksum and port still zero. */
void anchor_tunnel(struct tunnel *tunnel, const uint8_t *header) {
    memset(tunnel, 0, sizeof *tunnel);
    memcpy(tunnel->header, header, OUTER);
    for (int i = 14; i < 34; i += 2) tunnel->sum += load16(header + i);
}

/* A TCP segment over IPv4 without options, cut into segments of `mss` bytes, each a frame at a multiple of `stride`;
 * FIN and PSH stay with the last. Copies first, then sums what it has copied. The number of segments. */
uint32_t anchor_sum(const uint8_t *at, size_t size);

uint32_t anchor_segment(const uint8_t *frame, uint32_t length, uint8_t *to, uint32_t stride, uint32_t mss) {
    enum { HEADERS = 54 };
    uint32_t made = 0, sequence = __builtin_bswap32(load32(frame + 38));
    uint16_t number = BIG(load16(frame + 18));
    for (uint32_t at = HEADERS; at < length; at += mss, made++, to += stride) {
        uint32_t size = length - at < mss ? length - at : mss, next = __builtin_bswap32(sequence + at - HEADERS);
        memcpy(to, frame, HEADERS);
        memcpy(to + HEADERS, frame + at, size);
        store16(to + 16, BIG((uint16_t)(size + 40)));
        store16(to + 18, BIG((uint16_t)(number + made)));
        store16(to + 24, 0);
        store16(to + 24, BIG((uint16_t)anchor_sum(to + 14, 20)));
        memcpy(to + 38, &next, 4);
        if (at + size < length) to[47] &= 0xf6;
        store16(to + 50, 0);
        /* The pseudo header: addresses, protocol and length. */
        uint32_t sum = (uint16_t)~anchor_sum(to + 34, size + 20);
        sum += (uint16_t)~anchor_sum(to + 26, 8) + 6u + size + 20u;
        store16(to + 50, BIG((uint16_t)~fold32(sum)));
    }
    return made;
}

uint32_t anchor_tunnel_bytes(void) { return sizeof(struct tunnel); }

uint32_t anchor_sum(const uint8_t *at, size_t size) {
    uint64_t sum = 0;
    size_t words = size / 4;
    for (size_t i = 0; i < words; i++) sum += load32(at + 4 * i);
    at += words * 4;
    if (size & 2) sum += load16(at), at += 2;
    if (size & 1) sum += *at;
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    return BIG((uint16_t)~fold32((uint32_t)(sum & 0xffff) + (uint32_t)(sum >> 16)));
}

# Five-tuples of frames and their hash, per packet; `_flow_py` says what every case gives, and why.
#
# No function reads at or behind `at + length`.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport batch_t, flow_key
from fastpath._hasher_c cimport hash_keys

cdef extern from "endian.h" nogil:
    uint32_t le32toh(uint32_t word)
    uint64_t le64toh(uint64_t word)
    uint16_t le16toh(uint16_t word)
    uint16_t be16toh(uint16_t word)

cdef extern from "flow.h" nogil:
    enum:
        FLOW_RUN            # packets that one call of the next two takes at most
        FLOW_KEPT           # flags that are not parsing's
    uint64_t flow_keys(
        const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
        uint8_t *key, uint32_t *flags, uint32_t *layers,
        uint32_t start, uint32_t end, uint32_t count, uint64_t *others
    )
    uint64_t flow_hashes(
        const uint8_t *memory, const uint32_t *offset, const uint32_t *length, const uint32_t *verdict,
        uint8_t *key, uint32_t *flags, uint32_t *layers, uint32_t *hash, const uint32_t *k, uint64_t factor,
        uint32_t start, uint32_t end, uint32_t count, uint64_t *others
    )

cdef extern from *:
    uint32_t popcount "__builtin_popcountll"(uint64_t word) nogil
    uint32_t ctz "__builtin_ctzll"(uint64_t word) nogil

cdef enum:
    # `fastpath.flags.Flags`
    IPV4 = 1 << 0
    IPV6 = 1 << 1
    VLAN = 1 << 2
    QINQ = 1 << 3
    FRAGMENT = 1 << 4
    LATER_FRAGMENT = 1 << 5
    OPTIONS = 1 << 6
    PORTS = 1 << 7
    ICMP = 1 << 8
    TRUNCATED = 1 << 9
    MALFORMED = 1 << 10
    NOT_IP = 1 << 11
    TCP = 1 << 12
    UDP = 1 << 13

cdef enum:
    MAX_TAGS = 4
    MAX_EXTENSIONS = 8

cdef inline uint32_t load16(const uint8_t *at) noexcept nogil:
    # Two bytes in network order as an integer.
    cdef uint16_t word = 0
    memcpy(&word, at, 2)
    return be16toh(word)

cdef inline uint32_t word32(const uint8_t *at) noexcept nogil:
    # Four bytes in little-endian order: the hash's words.
    cdef uint32_t word = 0
    memcpy(&word, at, 4)
    return le32toh(word)

cdef inline uint64_t word64(const uint8_t *at) noexcept nogil:
    cdef uint64_t word = 0
    memcpy(&word, at, 8)
    return le64toh(word)

cdef inline bint is_tag(uint32_t kind) noexcept nogil:
    # 802.1Q, 802.1ad, and the number that QinQ had before it.
    return kind == 0x8100 or kind == 0x88A8 or kind == 0x9100

cdef inline bint is_extension(uint32_t protocol) noexcept nogil:
    # Headers of IPv6 with a next header (IANA's list, without ESP, which hides its own): hop-by-hop, routing,
    # fragment, authentication, destination, mobility, HIP, Shim6.
    if protocol >= 64:
        return protocol == 135 or protocol == 139 or protocol == 140
    return (<uint64_t> 1 << protocol) & (
        <uint64_t> 1 | <uint64_t> 1 << 43 | <uint64_t> 1 << 44 | <uint64_t> 1 << 51 | <uint64_t> 1 << 60
    ) != 0

cdef inline bint is_query4(uint32_t kind) noexcept nogil:
    # ICMP messages that carry an identifier: echo, timestamp, information, mask (RFC 792, 950), extended echo (8335).
    return kind == 8 or kind == 0 or 13 <= kind <= 18 or kind == 42 or kind == 43

cdef inline bint is_query6(uint32_t kind) noexcept nogil:
    return kind == 128 or kind == 129 or kind == 160 or kind == 161

cdef inline uint32_t parse_ports(const uint8_t *at, uint32_t start, uint32_t end, flow_key *key) noexcept nogil:
    # The layer 4 header at `start`, for the protocol in `key`; start <= end.
    cdef uint32_t protocol = key.protocol
    if protocol == 6 or protocol == 17 or protocol == 132 or protocol == 136 or protocol == 33:
        if end - start < 4:
            return TRUNCATED
        memcpy(&key.source_port, at + start, 2)
        memcpy(&key.destination_port, at + start + 2, 2)
        return PORTS | (TCP if protocol == 6 else 0) | (UDP if protocol == 17 else 0)
    if (protocol == 1 and key.version == 4) or (protocol == 58 and key.version == 6):
        if end - start < 8:
            return TRUNCATED
        memcpy(&key.source_port, at + start, 2)
        if is_query4(at[start]) if protocol == 1 else is_query6(at[start]):
            memcpy(&key.destination_port, at + start + 4, 2)
        return ICMP
    return 0

cdef inline uint32_t parse_ip4(
    const uint8_t *at, uint32_t start, uint32_t length, bint embedded, flow_key *key, uint32_t *layers
) noexcept nogil:
    cdef const uint8_t *ip = at + start
    cdef uint32_t flags = IPV4
    cdef uint32_t header, total, end, fragment
    if length < start + 20:
        return IPV4 | TRUNCATED
    header = (ip[0] & 15) * 4
    total = load16(ip + 2)
    if ip[0] >> 4 != 4 or header < 20 or total < header:
        return IPV4 | MALFORMED
    memcpy(key.source, ip + 12, 4)
    memcpy(key.destination, ip + 16, 4)
    key.protocol = ip[9]
    key.version = 4
    end = start + total
    if end > length:
        end = length
        if not embedded:
            flags |= TRUNCATED
    if header > 20:
        flags |= OPTIONS
    fragment = load16(ip + 6)
    if fragment & 0x3FFF:
        flags |= FRAGMENT
        if fragment & 0x1FFF:
            return flags | LATER_FRAGMENT
    start += header
    if start > end:
        return flags | TRUNCATED
    layers[0] |= start << 16
    return flags | parse_ports(at, start, end, key)

cdef inline uint32_t parse_ip6(
    const uint8_t *at, uint32_t start, uint32_t length, bint embedded, flow_key *key, uint32_t *layers
) noexcept nogil:
    cdef const uint8_t *ip = at + start
    cdef uint32_t flags = IPV6
    cdef uint32_t protocol, end, fragment, size, headers = 0
    if length < start + 40:
        return IPV6 | TRUNCATED
    if ip[0] >> 4 != 6:
        return IPV6 | MALFORMED
    memcpy(key.source, ip + 8, 16)
    memcpy(key.destination, ip + 24, 16)
    protocol = ip[6]
    key.protocol = <uint8_t> protocol
    key.version = 6
    start += 40
    end = start + load16(ip + 4)
    if end == start and protocol == 0:
        end = length            # a jumbogram (RFC 2675) says its length in an option
    elif end > length:
        end = length
        if not embedded:
            flags |= TRUNCATED
    while is_extension(protocol):
        flags |= OPTIONS
        if headers == MAX_EXTENSIONS:
            memset(key, 0, sizeof(flow_key))
            return IPV6 | OPTIONS | MALFORMED
        headers += 1
        if end - start < 8:
            return flags | TRUNCATED
        if protocol == 44:
            size = 8
            fragment = load16(at + start + 2)
            if fragment & 0xFFF9:
                flags |= FRAGMENT
                if fragment & 0xFFF8:
                    key.protocol = at[start]
                    return flags | LATER_FRAGMENT
        elif protocol == 51:
            size = (at[start + 1] + <uint32_t> 2) * 4
        else:
            size = (at[start + 1] + <uint32_t> 1) * 8
        if end - start < size:
            return flags | TRUNCATED
        protocol = at[start]
        key.protocol = <uint8_t> protocol
        start += size
    layers[0] |= start << 16
    return flags | parse_ports(at, start, end, key)

cdef inline uint32_t parse(
    const uint8_t *at, uint32_t length, flow_key *key, uint32_t *layers
) noexcept nogil:
    # The key of the Ethernet frame at `at`, wholly written, and its layers; returns the flags.
    cdef uint32_t start = 14, flags = 0, kind, tags = 0
    memset(key, 0, sizeof(flow_key))
    layers[0] = 0
    if length < 14:
        return NOT_IP | TRUNCATED
    kind = load16(at + 12)
    while is_tag(kind) and tags < MAX_TAGS:
        flags |= QINQ | VLAN if tags else VLAN
        if length < start + 4:
            return flags | NOT_IP | TRUNCATED
        kind = load16(at + start + 2)
        start += 4
        tags += 1
    layers[0] = start
    if kind == 0x0800:
        return flags | parse_ip4(at, start, length, False, key, layers)
    if kind == 0x86DD:
        return flags | parse_ip6(at, start, length, False, key, layers)
    return flags | NOT_IP

cdef inline uint32_t parse_embedded(
    const uint8_t *at, uint32_t length, const flow_key *outer, uint32_t outer_layers, flow_key *key, uint32_t *layers
) noexcept nogil:
    # The key of the packet that an ICMP error quotes, as it was sent; `outer` and `outer_layers` as `parse` left them.
    # Returns its flags, 0 with a zero key if the frame is no ICMP error. A quoted packet may be cut short.
    cdef uint32_t ip = outer_layers & 0xFFFF
    cdef uint32_t start = outer_layers >> 16
    cdef uint32_t end
    memset(key, 0, sizeof(flow_key))
    layers[0] = 0
    if not start or start + 8 > length:
        return 0
    if outer.version == 4 and outer.protocol == 1:
        if at[start] != 3 and at[start] != 4 and at[start] != 5 and at[start] != 11 and at[start] != 12:
            return 0
        end = ip + load16(at + ip + 2)
        length = end if end < length else length
        start += 8
        layers[0] = start
        return parse_ip4(at, start, length, True, key, layers)
    if outer.version == 6 and outer.protocol == 58:
        if not 1 <= at[start] <= 4:
            return 0
        end = ip + 40 + load16(at + ip + 4)
        length = end if end < length else length
        start += 8
        layers[0] = start
        return parse_ip6(at, start, length, True, key, layers)
    return 0

cdef inline bint is_icmp(const flow_key *key) noexcept nogil:
    return (key.protocol == 1 and key.version == 4) or (key.protocol == 58 and key.version == 6)

cdef inline uint32_t finish(const hash_keys *h, uint64_t sum) noexcept nogil:
    return <uint32_t> (((sum ^ (sum >> 32)) * h.odd) >> 32)

cdef inline uint64_t times(uint32_t one, uint32_t other) noexcept nogil:
    return <uint64_t> one * other

cdef inline uint32_t hash_key(const hash_keys *h, const flow_key *key, uint32_t flags) noexcept nogil:
    # The hash of a key with a version, the same in both directions.
    cdef uint32_t source_port = 0, destination_port = 0, low_port, high_port, rest
    cdef uint64_t low, high, tail
    cdef uint64_t sum
    cdef const uint8_t *one
    cdef const uint8_t *other
    cdef int i
    rest = key.version << <uint32_t> 8 | <uint32_t> le16toh(key.zone) << 16
    # Fragments of a datagram have to stay together, and only the first one knows ports, and in IPv6 the protocol.
    if not flags & FRAGMENT:
        destination_port = le16toh(key.destination_port)
        # Query and reply differ in their type, which must not count.
        source_port = destination_port if is_icmp(key) else le16toh(key.source_port)
        rest |= key.protocol
    if key.version == 4:
        low = word32(key.source) | <uint64_t> source_port << 32
        high = word32(key.destination) | <uint64_t> destination_port << 32
        if low > high:
            low, high = high, low
        sum = times(<uint32_t> low + h.k[0], <uint32_t> high + h.k[1])
        tail = times(<uint32_t> (low >> 32 | high >> 32 << 16) + h.k[2], rest + h.k[3])
        return finish(h, sum + tail)
    one, other = <const uint8_t *> key.source, <const uint8_t *> key.destination
    low_port, high_port = source_port, destination_port
    if less16(other, one) or (not less16(one, other) and destination_port < source_port):
        one, other = other, one
        low_port, high_port = high_port, low_port
    sum = times((low_port | high_port << 16) + h.k[12], rest + h.k[13])
    for i in range(4):
        sum += times(word32(one + 4 * i) + h.k[4 + 2 * i], word32(other + 4 * i) + h.k[5 + 2 * i])
    return finish(h, sum)

cdef inline bint less16(const uint8_t *one, const uint8_t *other) noexcept nogil:
    # 16 bytes as a little-endian number.
    cdef uint64_t a = word64(one + 8), b = word64(other + 8)
    return a < b or (a == b and word64(one) < word64(other))

cdef inline uint32_t hash_frame(const hash_keys *h, const uint8_t *at, uint32_t layers) noexcept nogil:
    # The hash of a frame without a key, over its MAC addresses and EtherType, the same in both directions;
    # 0 of a frame that is cut before layer 3.
    cdef uint64_t low, high
    cdef uint16_t kind = 0
    if not layers:
        return 0
    memcpy(&kind, at + (layers & 0xFFFF) - 2, 2)
    low = word32(at) | <uint64_t> (at[4] | <uint32_t> at[5] << 8) << 32
    high = word32(at + 6) | <uint64_t> (at[10] | <uint32_t> at[11] << 8) << 32
    if low > high:
        low, high = high, low
    return finish(h, times(<uint32_t> low + h.k[14], <uint32_t> high + h.k[15])
                  + times(<uint32_t> (low >> 32 | high >> 32 << 16) + h.k[16], <uint32_t> le16toh(kind) + h.k[17]))

cdef inline uint32_t hash_packet(
    const hash_keys *h, const uint8_t *at, const flow_key *key, uint32_t flags, uint32_t layers
) noexcept nogil:
    # The hash of what `parse` found.
    if key.version:
        return hash_key(h, key, flags)
    return hash_frame(h, at, layers)

cdef inline uint32_t entropy_port(uint32_t hash) noexcept nogil:
    # The source port of a tunnel's datagram, host order (RFC 7348 section 5: 49152 to 65535).
    return 49152 + (hash & 0x3FFF)

cdef inline uint32_t parse_one(batch_t *b, uint32_t i, const hash_keys *h) noexcept nogil:
    # Key, layers, flags, and hash unless `h` is NULL, of packet i; returns 1 if it has a key.
    cdef const uint8_t *at = b.memory + b.offset[i]
    cdef uint32_t flags = parse(at, b.length[i], &b.key[i], &b.layers[i])
    b.flags[i] = b.flags[i] & FLOW_KEPT | flags
    if h != NULL:
        b.hash[i] = hash_packet(h, at, &b.key[i], flags, b.layers[i])
    return b.key[i].version != 0

cdef inline uint32_t parse_run(batch_t *b, uint32_t start, uint32_t end, const hash_keys *h) noexcept nogil:
    # The same of the packets from `start` to `end`, at most FLOW_RUN, that are not dropped; returns how many have a key.
    # Asks for the memory of later ones.
    cdef uint64_t done, others = 0
    cdef uint32_t found
    if h == NULL:
        done = flow_keys(
            b.memory, b.offset, b.length, b.verdict, <uint8_t *> b.key, b.flags, b.layers, start, end, b.count, &others
        )
    else:
        done = flow_hashes(
            b.memory, b.offset, b.length, b.verdict, <uint8_t *> b.key, b.flags, b.layers, b.hash, &h.k[0], h.odd,
            start, end, b.count, &others,
        )
    found = popcount(done)
    while others:
        found += parse_one(b, start + ctz(others), h)
        others &= others - 1
    return found

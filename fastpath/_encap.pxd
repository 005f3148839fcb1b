# The outer headers of one VXLAN frame, written before the inner one; `_encap_py` says what goes where.
#
# Nothing is read at or behind `at + length`, and nothing written but the tunnel's `size` bytes before `end`.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath._batch_c cimport batch_t, flow_key
from fastpath._checksum cimport fold16, load16, store16, sum16
from fastpath._decap cimport few16
from fastpath._flow cimport FRAGMENT, OPTIONS, entropy_port, finish, hash_packet, less16, parse, times, word32, word64
from fastpath._hasher_c cimport hash_keys
from fastpath._tunnels_c cimport (
    CHECKSUM, COPY_ECN, HASH_LABEL, IDENTIFY, INHERIT_DF, INHERIT_DSCP, INHERIT_TTL, IP6, TRUST_INNER, tunnel_t,
)

cdef extern from "endian.h" nogil:
    uint64_t htobe64(uint64_t word)
    uint32_t htobe32(uint32_t word)

cdef extern from *:
    void __builtin_prefetch(const void *at, int write, int locality) nogil

cdef enum:
    # `fastpath.reasons.Reason`
    SHORT = 21
    TUNNEL_UNKNOWN = 23
    TOO_LONG = 24
    NO_HEADROOM = 25
    HOP_LIMIT = 26

cdef enum:
    # `fastpath.flags.Flags`
    PARTIAL = 1 << 24
    VALID = 1 << 25

cdef enum:
    WITHOUT_IP = 64             # an inherited TTL, where there is none inside
    IN_TUNNELS = INHERIT_TTL | INHERIT_DSCP | INHERIT_DF | COPY_ECN

ctypedef struct cargo:
    # What the inner frame says.
    uint32_t hash
    uint32_t layers             # as in the batch's column
    uint32_t flags              # FRAGMENT and OPTIONS are of interest
    uint8_t version             # 4, 6 or 0
    uint8_t protocol

cdef inline void store64(uint8_t *at, uint64_t number) noexcept nogil:
    number = htobe64(number)
    memcpy(at, &number, 8)

cdef inline void store32(uint8_t *at, uint32_t number) noexcept nogil:
    number = htobe32(number)
    memcpy(at, &number, 4)

cdef inline void look(const hash_keys *h, const uint8_t *at, uint32_t length, cargo *c) noexcept nogil:
    # The shorter ways give what `parse` and `hash_packet` give for TCP and UDP without options or fragments.
    cdef flow_key key
    cdef uint64_t low, high, sum
    cdef uint32_t ports, low_port, high_port
    cdef const uint8_t *one
    cdef const uint8_t *other
    if length >= 38 and load16(at + 12) == 0x0800 and at[14] == 0x45 and load16(at + 20) & 0x3FFF == 0:
        if (at[23] == 17 or at[23] == 6) and load16(at + 16) >= 24:
            ports = word32(at + 34)
            low = word32(at + 26) | <uint64_t> (ports & 0xFFFF) << 32
            high = word32(at + 30) | <uint64_t> (ports >> 16) << 32
            if low > high:
                low, high = high, low
            sum = times(<uint32_t> low + h.k[0], <uint32_t> high + h.k[1])
            sum += times(<uint32_t> (low >> 32 | high >> 32 << 16) + h.k[2], (at[23] | <uint32_t> 0x400) + h.k[3])
            c.hash = finish(h, sum)
            c.layers = 34 << 16 | 14
            c.flags, c.version, c.protocol = 0, 4, at[23]
            return
    elif length >= 58 and load16(at + 12) == 0x86DD and at[14] >> 4 == 6:
        if (at[20] == 17 or at[20] == 6) and load16(at + 18) >= 4:
            one, other = at + 22, at + 38
            ports = word32(at + 54)
            low_port, high_port = ports & 0xFFFF, ports >> 16
            if less16(other, one) or (high_port < low_port and not less16(one, other)):
                one, other = other, one
                low_port, high_port = high_port, low_port
            sum = times((low_port | high_port << 16) + h.k[12], (at[20] | <uint32_t> 0x600) + h.k[13])
            sum += times(word32(one) + h.k[4], word32(other) + h.k[5])
            sum += times(word32(one + 4) + h.k[6], word32(other + 4) + h.k[7])
            sum += times(word32(one + 8) + h.k[8], word32(other + 8) + h.k[9])
            sum += times(word32(one + 12) + h.k[10], word32(other + 12) + h.k[11])
            c.hash = finish(h, sum)
            c.layers = 54 << 16 | 14
            c.flags, c.version, c.protocol = 0, 6, at[20]
            return
    c.flags = parse(at, length, &key, &c.layers)
    c.hash = hash_packet(h, at, &key, c.flags, c.layers)
    c.version, c.protocol = key.version, key.protocol

cdef inline uint32_t inner_sum(const uint8_t *at, uint32_t length, const cargo *c, uint32_t state) noexcept nogil:
    # The sum of the inner frame as it will be once its own checksum is complete. Where a TCP or UDP checksum is partial,
    # or known to be right (VALID in `state`), that follows from the headers alone (Local Checksum Offload).
    cdef uint32_t ip = c.layers & 0xFFFF, start = c.layers >> 16, end, field, tail
    cdef uint64_t total
    if not state or not c.version or not start or c.flags & FRAGMENT or (c.protocol != 6 and c.protocol != 17):
        return sum16(at, length)
    end = ip + load16(at + ip + 2) if c.version == 4 else ip + 40 + load16(at + ip + 4)
    field = start + (16 if c.protocol == 6 else 6)
    if end > length or end < start + (20 if c.protocol == 6 else 8):
        return sum16(at, length)
    if state & PARTIAL:
        # The field holds the pseudo header's sum: what makes the segment's sum its complement.
        total = 0xFFFF - load16(at + field)
    else:
        if c.flags & OPTIONS or (c.protocol == 17 and (load16(at + field) == 0 or load16(at + start + 4) != end - start)):
            return sum16(at, length)
        total = few16(at + ip + 12, 8) if c.version == 4 else few16(at + ip + 8, 32)
        total = 0xFFFF - fold16(total + c.protocol + (end - start))
    total += few16(at, start)
    if end < length:
        # Padding behind the segment; behind an odd length, bytes change their place in the word.
        tail = sum16(at + end, length - end)
        total += (tail << 8 | tail >> 8) & 0xFFFF if end & 1 else tail
    return fold16(total)

cdef inline uint32_t encode(
    const tunnel_t *t, const hash_keys *h, const uint8_t *at, uint32_t length, uint8_t *end, uint32_t state,
    uint32_t identification, cargo *c
) noexcept nogil:
    # Write the headers for the frame at `at` to what ends at `end`: there, or where it is copied to. `state` has PARTIAL
    # or VALID. The length was checked.
    cdef uint8_t *to = end - t.size
    cdef uint8_t *udp = end - 16
    cdef uint32_t mode = t.mode, traffic = 0, hops = 0, fragment = 0, label = 0, checksum = 0, size, sum, port
    cdef const uint8_t *inner
    look(h, at, length, c)
    inner = at + (c.layers & 0xFFFF)
    if mode & IN_TUNNELS:
        if c.version == 4:
            traffic, hops, fragment = inner[1], inner[8], load16(inner + 6) & 0x4000
        elif c.version == 6:
            traffic, hops, fragment = load16(inner) >> 4 & 0xFF, inner[7], 0x4000
        else:
            hops = WITHOUT_IP
        traffic &= (0xFC if mode & INHERIT_DSCP else 0) | (3 if mode & COPY_ECN else 0)
        if not mode & INHERIT_TTL:
            hops = 0
        elif hops == 0:
            return HOP_LIMIT
    if t.size == 50:
        memcpy(to, t.header, 50)
    elif t.size == 70:
        memcpy(to, t.header, 70)
    elif t.size == 54:
        memcpy(to, t.header, 54)
    else:
        memcpy(to, t.header, 74)
    port = entropy_port(c.hash)
    size = length + 16
    if mode & CHECKSUM:
        checksum = 0xFFFF - fold16(
            <uint64_t> t.udp_sum + 2 * size + port
            + inner_sum(at, length, c, state & (PARTIAL | VALID if mode & TRUST_INNER else PARTIAL))
        )
        if checksum == 0:
            checksum = 0xFFFF
    store64(udp, t.udp + (<uint64_t> port << 48) + (size << 16) + checksum)
    if mode & IP6:
        if mode & HASH_LABEL:
            label = c.hash >> 12
        store64(
            udp - 40, t.ip_first + (<uint64_t> traffic << 52) + (<uint64_t> label << 32) + (size << 16) + hops
        )
        return 0
    size += 20
    if not mode & INHERIT_DF:
        fragment = 0
    if not mode & IDENTIFY and (fragment or not mode & INHERIT_DF):
        identification = 0
    identification &= 0xFFFF
    sum = t.ip_sum + traffic + size + identification + fragment + (hops << 8)
    store64(
        udp - 20,
        t.ip_first + (<uint64_t> traffic << 48) + (<uint64_t> size << 32) + (identification << 16) + fragment
    )
    store32(udp - 12, t.ip_rest + (hops << 24) + (0xFFFF - fold16(sum)))
    return 0

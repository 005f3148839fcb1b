# Where the layers of a frame lie and what its layer 4 checksum covers; `_transport_py` is the specification.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath._checksum cimport htons, load16, nodeplane_fold, nodeplane_sum

# Of fastpath.reasons.Reason.
cdef enum:
    PASS = 0
    TRUNCATED = 1
    NOT_IP = 2
    IP_VERSION = 3
    IP_HEADER_LENGTH = 4
    IP_TOTAL_LENGTH = 5
    IP_OPTIONS = 6
    IP_FRAGMENT = 7
    UDP_LENGTH = 10
    TCP_HEADER_LENGTH = 28

cdef enum:
    TCP = 6
    UDP = 17
    ICMP = 1
    ICMP6 = 58

ctypedef struct transport:
    uint32_t ip         # offsets from the frame's first byte
    uint32_t at         # of layer 4
    uint32_t end        # of the IP datagram; a frame may be padded behind it
    uint32_t header     # bytes of a whole IPv4 header that lies in the frame; 0 of others
    uint32_t version    # 4, 6, or 0 if the IP header is not sound
    uint32_t protocol
    uint32_t size       # bytes that the layer 4 checksum covers
    uint32_t field      # of the checksum, from `at`; 0: a protocol that we know no checksum of


cdef inline uint32_t locate(const uint8_t *frame, uint32_t length, transport *t) noexcept nogil:
    # PASS and everything in `t`, or why layer 4 cannot be reached; `ip`, `header`, `version`, `end` may be set then.
    cdef uint32_t at = 14, kind, total, tags, i
    t.ip = t.at = t.end = t.header = t.version = t.protocol = t.size = t.field = 0
    if length < 14:
        return TRUNCATED
    kind = load16(frame + 12)
    for tags in range(4):
        if kind != 0x8100 and kind != 0x88A8:
            break
        if length < at + 4:
            return TRUNCATED
        kind = load16(frame + at + 2)
        at += 4
    t.ip = at
    if kind == 0x0800:
        if length < at + 20:
            return TRUNCATED
        if frame[at] >> 4 != 4:
            return IP_VERSION
        total = (frame[at] & 15) * 4
        if total < 20 or length < at + total:
            return IP_HEADER_LENGTH
        t.header = total
        t.version = 4
        total = load16(frame + at + 2)
        if total < t.header or length < at + total:
            return IP_TOTAL_LENGTH
        t.end = at + total
        if load16(frame + at + 6) & 0x3FFF:
            return IP_FRAGMENT
        t.protocol = frame[at + 9]
        at += t.header
    elif kind == 0x86DD:
        if length < at + 40:
            return TRUNCATED
        if frame[at] >> 4 != 6:
            return IP_VERSION
        t.version = 6
        total = 40 + load16(frame + at + 4)
        if length < at + total:
            return IP_TOTAL_LENGTH
        t.end = at + total
        t.protocol = frame[at + 6]
        at += 40
        for i in range(8):
            if t.protocol != 0 and t.protocol != 60 and t.protocol != 43 and t.protocol != 44:
                break
            if t.end < at + 8:
                return TRUNCATED
            if t.protocol == 44:
                if load16(frame + at + 2) & 0xFFF9:
                    return IP_FRAGMENT
                total = 8
            else:
                # With segments left, the checksum is over another destination than the header's (RFC 8200, 8.1).
                if t.protocol == 43 and frame[at + 3]:
                    return IP_OPTIONS
                total = (<uint32_t> frame[at + 1] + 1) * 8
            if t.end < at + total:
                return TRUNCATED
            t.protocol = frame[at]
            at += total
        else:
            return IP_OPTIONS
    else:
        return NOT_IP
    t.at = at
    total = t.end - at
    t.size = total
    if t.protocol == TCP:
        if total < 20:
            return TRUNCATED
        i = (frame[at + 12] >> 4) * 4
        if i < 20 or i > total:
            return TCP_HEADER_LENGTH
        t.field = 16
    elif t.protocol == UDP:
        if total < 8:
            return TRUNCATED
        i = load16(frame + at + 4)
        if i < 8 or i > total:
            return UDP_LENGTH
        t.size = i
        t.field = 6
    elif (t.protocol == ICMP and t.version == 4) or (t.protocol == ICMP6 and t.version == 6):
        if total < 4:
            return TRUNCATED
        t.field = 2
    return PASS


cdef inline uint64_t pseudo_sum(const uint8_t *frame, const transport *t, uint32_t size) noexcept nogil:
    # The pseudo header's words as they lie in memory (RFC 9293, 3.1; RFC 8200, 8.1) for `size` bytes of layer 4.
    if t.protocol == ICMP:
        return 0
    if t.version == 4:
        return nodeplane_sum(frame + t.ip + 12, 8) + htons(<uint16_t> t.protocol) + htons(<uint16_t> size)
    return nodeplane_sum(frame + t.ip + 8, 32) + htons(<uint16_t> t.protocol) + htons(<uint16_t> size)


cdef inline void store_sum(uint8_t *to, uint32_t protocol, uint64_t total) noexcept nogil:
    # The checksum for the sum of everything else; UDP's never is 0, which means that there is none.
    cdef uint16_t word = <uint16_t> (0xFFFF - nodeplane_fold(total))
    if word == 0 and protocol == UDP:
        word = 0xFFFF
    memcpy(to, &word, 2)


cdef inline void header_checksum(uint8_t *ip, uint32_t size) noexcept nogil:
    # The checksum of an IPv4 header of `size` bytes.
    ip[10] = ip[11] = 0
    store_sum(ip + 10, 0, nodeplane_sum(ip, size))


cdef inline void complete(uint8_t *frame, const transport *t) noexcept nogil:
    # The layer 4 checksum of a located packet with a checksum field.
    cdef uint8_t *at = frame + t.at
    at[t.field] = at[t.field + 1] = 0
    store_sum(at + t.field, t.protocol, pseudo_sum(frame, t, t.size) + nodeplane_sum(at, t.size))

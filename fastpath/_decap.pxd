# One VXLAN frame from the underlay: every check, in the order that `_decap_py` says.
#
# No function reads at or behind `at + length`.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath._checksum cimport fold16, load16, ntohs, store16, sum16
from fastpath._vtep_c cimport (
    COUNT, IGNORE, OF_ADDRESS4, OF_ADDRESS6, OF_PAIR4, OF_PAIR6, OF_VNI, OPEN, STRICT, entry_t, look_up, vtep_t,
)

cdef enum:
    # `fastpath.reasons.Reason`
    PASS = 0
    TRUNCATED = 1
    NOT_IP = 2
    IP_VERSION = 3
    IP_HEADER_LENGTH = 4
    IP_TOTAL_LENGTH = 5
    IP_OPTIONS = 6
    IP_FRAGMENT = 7
    IP_CHECKSUM = 8
    NOT_UDP = 9
    UDP_LENGTH = 10
    UDP_CHECKSUM = 11
    UDP_ZERO_CHECKSUM = 12
    UDP_PORT = 13
    VXLAN_FLAGS = 14
    VXLAN_RESERVED = 15
    VXLAN_GPE = 16
    VXLAN_GBP = 17
    VNI_UNKNOWN = 18
    VTEP_NOT_ALLOWED = 19
    ECN = 20
    INNER_SHORT = 21
    INNER_SOURCE_MAC = 22
    DESTINATION = 27

cdef enum:
    # `fastpath.flags.Flags`
    FOUND_GBP = 1 << 16
    FOUND_GPE = 1 << 17
    FOUND_CE = 1 << 18
    FOUND_RESERVED = 1 << 19
    PARTIAL_CHECKSUM = 1 << 24

cdef enum:
    OUTER_TAGS = 2
    INNER_TAGS = 4
    EXTENSIONS = 4

ctypedef struct arrival:
    uint32_t start              # of the inner frame, bytes from the outer one's first
    uint32_t length             # of the inner frame
    uint32_t vni
    uint32_t network
    uint32_t flags
    uint32_t ecn                # what the inner header's ECN field has to become; 0: it stays

cdef inline uint64_t raw64(const uint8_t *at) noexcept nogil:
    cdef uint64_t word = 0
    memcpy(&word, at, 8)
    return word

cdef inline uint32_t raw32(const uint8_t *at) noexcept nogil:
    cdef uint32_t word = 0
    memcpy(&word, at, 4)
    return word

cdef inline uint64_t add(uint64_t one, uint64_t other) noexcept nogil:
    # Modulo 2^64 - 1, a multiple of 65535.
    one += other
    return one + (one < other)

cdef inline uint32_t few16(const uint8_t *at, uint32_t size) noexcept nogil:
    # `sum16` of a header: less to begin with than its wide registers want.
    cdef uint64_t total = 0
    cdef uint16_t half = 0
    while size >= 8:
        total = add(total, raw64(at))
        at += 8
        size -= 8
    if size & 4:
        total = add(total, raw32(at))
        at += 4
    if size & 2:
        memcpy(&half, at, 2)
        total = add(total, half)
        at += 2
    if size & 1:
        half = 0
        memcpy(&half, at, 1)
        total = add(total, half)
    return ntohs(<uint16_t> fold16(total))

cdef inline bint tagged(uint32_t kind) noexcept nogil:
    return kind == 0x8100 or kind == 0x88A8 or kind == 0x9100

cdef inline uint32_t inner_ip(const uint8_t *at, uint32_t length, uint32_t *start) noexcept nogil:
    # 4 or 6 and where the IP header of the Ethernet frame begins, if all of it is there; else 0. length >= 14
    cdef uint32_t kind = load16(at + 12), tags = 0
    start[0] = 14
    while tagged(kind) and tags < INNER_TAGS and length >= start[0] + 4:
        kind = load16(at + start[0] + 2)
        start[0] += 4
        tags += 1
    if kind == 0x0800 and length >= start[0] + 20 and at[start[0]] >> 4 == 4:
        return 4
    if kind == 0x86DD and length >= start[0] + 40 and at[start[0]] >> 4 == 6:
        return 6
    return 0

cdef inline void set_ecn(uint8_t *at, uint32_t length, uint32_t ecn) noexcept nogil:
    # Write the ECN field of the IP packet in an Ethernet frame; IPv4's checksum follows (RFC 1624 equation 3).
    cdef uint32_t start = 0, was, now
    cdef uint32_t version = inner_ip(at, length, &start)
    at += start
    if version == 6:
        at[1] = <uint8_t> (at[1] & 0xCF | ecn << 4)
    elif version == 4:
        was = load16(at)
        now = was & 0xFFFC | ecn
        at[1] = <uint8_t> now
        store16(at + 10, 0xFFFF - fold16(<uint64_t> (0xFFFF - load16(at + 10)) + (0xFFFF - was) + now))

cdef inline uint32_t decide_ecn(const uint8_t *at, uint32_t length, uint32_t outer, arrival *out) noexcept nogil:
    # RFC 6040 section 4.2 for an outer field of ECT(1) or CE; the others change nothing.
    cdef uint32_t start = 0, inner
    cdef uint32_t version = inner_ip(at, length, &start)
    if version == 0:
        return PASS
    inner = at[start + 1] & 3 if version == 4 else at[start + 1] >> 4 & 3
    if outer == 3:
        if inner == 0:
            return ECN
        if inner != 3:
            out.ecn = 3
            out.flags |= FOUND_CE
    elif inner == 2:
        out.ecn = 1
    return PASS

cdef inline uint32_t decide_flags(const vtep_t *v, const uint8_t *at, arrival *out) noexcept nogil:
    # The VXLAN header's flags and reserved bits.
    cdef uint32_t first = at[0], known = 0x08000000, found
    if not first & 0x08:
        return VXLAN_FLAGS
    if first & 0x04:
        # Whatever the policy: a payload that is no Ethernet frame, or is for the endpoint itself, must not go on.
        if first & 0x31 or at[3] != 3:
            return VXLAN_GPE
        if v.gpe:
            known = 0x0C0000FF
            out.flags |= FOUND_GPE
        elif v.reserved == STRICT:
            return VXLAN_GPE
    elif first & 0x80:
        if v.gbp:
            known = 0x8848FFFF
            out.flags |= FOUND_GBP
        elif v.reserved == STRICT:
            return VXLAN_GBP
    found = load16(at) << 16 | load16(at + 2)
    if found & ~known or at[7]:
        if v.reserved == STRICT:
            return VXLAN_RESERVED
        if v.reserved == COUNT:
            out.flags |= FOUND_RESERVED
    return PASS

cdef inline uint32_t decide_source(
    const vtep_t *v, uint64_t a, uint64_t b, uint32_t kind, arrival *out
) noexcept nogil:
    # Whether this source may send for the VNI, and which network that is.
    cdef const entry_t *entry = look_up(v, a, b, kind | out.vni)
    if entry.tag:
        out.network = entry.network
        return PASS
    entry = look_up(v, 0, 0, OF_VNI | out.vni)
    if entry.tag == 0:
        out.network = out.vni
        return PASS if v.any_vni else VNI_UNKNOWN
    out.network = entry.network
    return PASS if entry.flags & OPEN else VTEP_NOT_ALLOWED

cdef inline uint32_t decode(
    const vtep_t *v, const uint8_t *at, uint32_t length, bint local, arrival *out
) noexcept nogil:
    # Returns a reason, or PASS and what there is inside. `local`: the checksum is not complete yet, do not verify it.
    cdef uint32_t start = 14, kind, tags = 0, rest, size, udp, header, traffic, reason, word, headers = 0
    cdef uint64_t total, a = 0, b = 0
    cdef const uint8_t *ip
    cdef const uint8_t *u
    cdef uint8_t protocol
    cdef bint six = False
    out.flags = out.ecn = 0
    if length < 14:
        return TRUNCATED
    kind = load16(at + 12)
    while tagged(kind) and tags < OUTER_TAGS:
        if length < start + 4:
            return TRUNCATED
        kind = load16(at + start + 2)
        start += 4
        tags += 1
    ip = at + start
    rest = length - start
    if kind == 0x0800:
        if rest < 20:
            return TRUNCATED
        if ip[0] >> 4 != 4:
            return IP_VERSION
        header = (ip[0] & 15) * 4
        if header < 20 or header > rest:
            return IP_HEADER_LENGTH
        size = load16(ip + 2)
        if size < header or size > rest:
            return IP_TOTAL_LENGTH
        if header > 20:
            if not v.options:
                return IP_OPTIONS
            if sum16(ip, header) != 0xFFFF:
                return IP_CHECKSUM
        else:
            total = <uint64_t> raw32(ip) + raw32(ip + 4) + raw32(ip + 8) + raw32(ip + 12) + raw32(ip + 16)
            if total % 0xFFFF:
                return IP_CHECKSUM
        if load16(ip + 6) & 0x3FFF:
            return IP_FRAGMENT
        protocol = ip[9]
        traffic = ip[1]
        size -= header
        u = ip + header
    elif kind == 0x86DD:
        six = True
        if rest < 40:
            return TRUNCATED
        if ip[0] >> 4 != 6:
            return IP_VERSION
        size = load16(ip + 4)
        if size > rest - 40:
            return IP_TOTAL_LENGTH
        protocol = ip[6]
        traffic = load16(ip) >> 4 & 0xFF
        u = ip + 40
        while protocol == 0 or protocol == 60:
            # Hop-by-hop and destination options.
            if not v.options or headers == EXTENSIONS:
                return IP_OPTIONS
            headers += 1
            if size < 8:
                return IP_TOTAL_LENGTH
            word = (u[1] + <uint32_t> 1) * 8
            if word > size:
                return IP_TOTAL_LENGTH
            protocol = u[0]
            u += word
            size -= word
        if protocol == 44:
            return IP_FRAGMENT
        if protocol == 43 or protocol == 51 or protocol == 135 or protocol == 139 or protocol == 140:
            return IP_OPTIONS
    else:
        return NOT_IP
    if protocol != 17:
        return NOT_UDP
    if size < 16:
        return UDP_LENGTH
    udp = load16(u + 4)
    if udp != size:
        return UDP_LENGTH
    if six:
        a, b = raw64(ip + 8), raw64(ip + 16)
        if v.own4 | v.own6 and look_up(v, raw64(ip + 24), raw64(ip + 32), OF_ADDRESS6).tag == 0:
            return DESTINATION
    else:
        a = raw32(ip + 12)
        word = raw32(ip + 16)
        if v.own4 == 1:
            if word != v.only4:
                return DESTINATION
        elif v.own4 | v.own6 and look_up(v, word, 0, OF_ADDRESS4).tag == 0:
            return DESTINATION
    if load16(u + 2) != v.port:
        return UDP_PORT
    if load16(u + 6) == 0:
        if six and not v.zero6:
            return UDP_ZERO_CHECKSUM
    elif v.verify and not local:
        total = few16(ip + (8 if six else 12), 32 if six else 8)
        if fold16(total + 17 + udp + sum16(u, udp)) != 0xFFFF:
            return UDP_CHECKSUM
    reason = decide_flags(v, u + 8, out)
    if reason:
        return reason
    out.vni = load16(u + 12) << 8 | u[14]
    reason = decide_source(v, a, b, OF_PAIR6 if six else OF_PAIR4, out)
    if reason:
        return reason
    if udp < 30:
        return INNER_SHORT
    out.length = udp - 16
    out.start = <uint32_t> (u + 16 - at)
    u += 16
    if u[6] & 1 or not (load16(u + 6) | load16(u + 8) | load16(u + 10)):
        return INNER_SOURCE_MAC
    if traffic & 1:
        return decide_ecn(u, out.length, traffic & 3, out)
    return PASS

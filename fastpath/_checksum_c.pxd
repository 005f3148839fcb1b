# The contract of the compiled checksum: inline functions without Python objects, for the other compiled modules.
# Every `size` is in bytes and must be covered by the pointer; nothing here needs alignment.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "arpa/inet.h" nogil:
    uint16_t ntohs(uint16_t word)


cdef inline uint32_t load16(const unsigned char *at) noexcept nogil:
    # Two bytes in network order as an integer.
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline void store16(unsigned char *at, uint32_t word) noexcept nogil:
    # The low 16 bits of `word` in network order.
    at[0] = <unsigned char> (word >> 8)
    at[1] = <unsigned char> word


cdef inline uint32_t fold16(uint64_t total) noexcept nogil:
    # A sum with its carries added back (RFC 1071 section 2): 0 only if it was 0.
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <uint32_t> total


cdef inline uint32_t sum16(const unsigned char *at, Py_ssize_t size) noexcept nogil:
    # The ones' complement sum of the 16-bit words in network order, folded; an odd last byte is a high byte.
    # The machine's byte order cancels out: words are added as they lie in memory, four bytes at a time, and the
    # two bytes of the folded sum are brought in order once (RFC 1071 section 2, B and C).
    cdef uint64_t total = 0
    cdef uint32_t word = 0
    cdef uint16_t half = 0
    while size >= 4:
        memcpy(&word, at, 4)
        total += word
        at += 4
        size -= 4
    if size >= 2:
        memcpy(&half, at, 2)
        total += half
        at += 2
        size -= 2
    if size > 0:
        half = 0
        memcpy(&half, at, 1)
        total += half
    return ntohs(<uint16_t> fold16(total))


cdef inline uint32_t udp4_sum(
    const unsigned char *addresses,  # source and destination, 8 bytes, as they lie in the IPv4 header
    uint32_t ports,                  # source port + destination port
    const unsigned char *payload,
    Py_ssize_t size,                 # of the payload, at most 65527
) noexcept nogil:
    # The UDP checksum over IPv4 (RFC 768) with a zero checksum field; 0xffff stands for 0.
    cdef uint64_t total = sum16(addresses, 8)
    total += ports
    # The length counts twice: in the pseudo header and in UDP's own.
    total += 17 + 2 * <uint64_t> (size + 8)
    total += sum16(payload, size)
    cdef uint32_t checksum = 0xFFFF - fold16(total)
    return checksum if checksum else 0xFFFF


cdef long bounded(object number, long most, str message) except -1

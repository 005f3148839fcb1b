# The contract of the compiled checksum: inline functions for the other compiled modules, each compiled with the flags
# of the module that takes it. Every `size` is in bytes and must be covered by the pointer; nothing here needs alignment.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "arpa/inet.h" nogil:
    uint16_t ntohs(uint16_t word)
    uint16_t htons(uint16_t word)

cdef extern from "Python.h":
    long PyLong_AsLongAndOverflow(object number, int *overflow) except? -1

cdef extern from "checksum.h" nogil:
    # Sums of the words as they lie in memory, not folded; `nodeplane_fold` gives 16 bits that can be stored so.
    uint64_t nodeplane_sum(const uint8_t *at, size_t size) noexcept
    uint64_t nodeplane_copy_sum(uint8_t *to, const uint8_t *at, size_t size) noexcept
    uint32_t nodeplane_fold(uint64_t total) noexcept


cdef inline uint32_t load16(const uint8_t *at) noexcept nogil:
    # Two bytes in network order as an integer.
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline void store16(uint8_t *at, uint32_t word) noexcept nogil:
    # The low 16 bits of `word` in network order.
    at[0] = <uint8_t> (word >> 8)
    at[1] = <uint8_t> word


cdef inline uint32_t fold16(uint64_t total) noexcept nogil:
    # A sum with its carries added back (RFC 1071 section 2): 0 only if it was 0.
    return nodeplane_fold(total)


cdef inline uint32_t sum16(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    # The ones' complement sum of the 16-bit words in network order, folded; an odd last byte is a high byte.
    return ntohs(<uint16_t> nodeplane_fold(nodeplane_sum(at, <size_t> size)))


cdef inline uint32_t udp4_sum(
    const uint8_t *addresses,   # source and destination, 8 bytes, as they lie in the IPv4 header
    uint32_t ports,             # source port + destination port
    const uint8_t *payload,
    Py_ssize_t size,            # of the payload, at most 65527
) noexcept nogil:
    # The UDP checksum over IPv4 (RFC 768) with a zero checksum field; 0xffff stands for 0.
    cdef uint64_t total = sum16(addresses, 8)
    total += ports
    # The length counts twice: in the pseudo header and in UDP's own.
    total += 17 + 2 * <uint64_t> (size + 8)
    total += sum16(payload, size)
    cdef uint32_t checksum = 0xFFFF - fold16(total)
    return checksum if checksum else 0xFFFF


cdef inline long bounded(object number, long most, str message) except -1:
    # `number` as a C integer if it is 0 to `most`, else ValueError; cheaper than two Python comparisons.
    cdef int overflow = 0
    cdef long value = PyLong_AsLongAndOverflow(number, &overflow)
    if overflow or value < 0 or value > most:
        raise ValueError(message)
    return value

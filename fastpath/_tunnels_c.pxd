# Prepared outer headers, for the stages that write them; one type for every level.

from cpython.array cimport array
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    HEADER_MOST = 74            # Ethernet, 802.1Q, IPv6, UDP, VXLAN: bytes
    COUNTERS = 64               # room for every `fastpath.reasons.Reason`

cdef enum:
    # Bits of a mode; `fastpath._template` has the same.
    IP6 = 1 << 0
    INHERIT_TTL = 1 << 1
    INHERIT_DSCP = 1 << 2
    COPY_ECN = 1 << 3
    INHERIT_DF = 1 << 4
    IDENTIFY = 1 << 5
    HASH_LABEL = 1 << 6
    CHECKSUM = 1 << 7
    TRUST_INNER = 1 << 8

ctypedef struct tunnel_t:       # 128 bytes; all numbers in host order
    uint8_t header[80]          # `size` bytes of it; lengths, identification, checksums and source port are zero
    uint64_t ip_first           # the IP header's first 8 bytes
    uint64_t udp                # the UDP header
    uint32_t ip_rest            # IPv4: bytes 8 to 11 of the IP header
    uint32_t ip_sum             # IPv4: the sum of the header's words
    uint32_t udp_sum            # the UDP checksum's constant part
    uint32_t most               # the longest inner frame, bytes
    uint32_t vni
    uint16_t size               # bytes of the headers; 0: there is no such tunnel
    uint16_t mode

cdef class TunnelTable:
    # What a stage works on. It does not change while a stage has it: an update meanwhile makes another.
    cdef tunnel_t *tunnels
    cdef uint32_t capacity
    cdef Py_ssize_t users

cdef class Tunnels:
    cdef TunnelTable table
    cdef list _free
    cdef uint32_t _next         # the first number that was never given
    cdef uint32_t _used
    cdef array _counters
    cdef uint32_t identification

    cdef TunnelTable acquire(self, uint32_t packets, uint32_t *identification)
    cdef void release(self, TunnelTable table, const uint64_t *counts)
    cdef _write(self, uint32_t index, object prepared)

cdef void fill_tunnel(tunnel_t *tunnel, object prepared) except *

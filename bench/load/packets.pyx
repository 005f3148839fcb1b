"""What the per-packet cases need at C speed: packets made from templates.

Bench only: built on demand into .cache/bench (bench/compile.py), never part of the wheel.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport pow
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath._batch_c cimport Batch, flow_key

ETHERNET = 14
cdef enum:
    TCP = 6
    UDP = 17


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    # splitmix64: one number of its sequence.
    x += 0x9E3779B97F4A7C15ULL
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL
    return x ^ (x >> 31)


cdef inline uint32_t fold(uint64_t total) noexcept nogil:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <uint32_t> total


cdef inline uint32_t get16(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline void put16(uint8_t *at, uint32_t word) noexcept nogil:
    at[0] = <uint8_t> (word >> 8)
    at[1] = <uint8_t> word


cdef uint32_t words(const uint8_t *at, uint32_t size) noexcept nogil:
    # The ones' complement sum of an even number of bytes.
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(0, size, 2):
        total += get16(at + i)
    return fold(total)


cdef void header_checksum(uint8_t *ip) noexcept nogil:
    cdef uint32_t size = (ip[0] & 15) * 4
    put16(ip + 10, 0)
    put16(ip + 10, words(ip, size) ^ 0xFFFF)


cdef void personalise(uint8_t *frame, uint32_t l3, uint32_t l4, int version, int protocol, uint64_t flow,
                      uint64_t seed) noexcept nogil:
    # Addresses, ports and source MAC of `flow`; different for every flow below 2^24. The layer 4 checksum is
    # brought up to date by the difference (RFC 1624), the header's is made anew.
    cdef uint64_t r = mix(seed ^ mix(flow))
    cdef uint32_t number = <uint32_t> ((flow * 0x9E3779B1ULL + seed) & 0xFFFFFF)
    cdef uint32_t before, after
    cdef uint8_t *addresses = frame + l3 + (12 if version == 4 else 8)
    cdef uint32_t size = 8 if version == 4 else 32
    cdef uint8_t *check = frame + l4 + (16 if protocol == TCP else 6)
    before = words(addresses, size) + words(frame + l4, 4)
    frame[9], frame[10], frame[11] = <uint8_t> (number >> 16), <uint8_t> (number >> 8), <uint8_t> number
    if version == 4:
        addresses[0] = 10
        addresses[4] = 10
        addresses[1], addresses[2], addresses[3] = frame[9], frame[10], frame[11]
        addresses[5], addresses[6], addresses[7] = <uint8_t> (r >> 16), <uint8_t> (r >> 8), <uint8_t> r
    else:
        addresses[13], addresses[14], addresses[15] = frame[9], frame[10], frame[11]
        addresses[29], addresses[30], addresses[31] = <uint8_t> (r >> 16), <uint8_t> (r >> 8), <uint8_t> r
    # Ports that no protocol is known for: scapy would take the payload for one.
    put16(frame + l4, 49152 + ((r >> 24) & 0x3FFF))
    put16(frame + l4 + 2, 20000 + ((r >> 40) & 0x3FFF))
    after = words(addresses, size) + words(frame + l4, 4)
    after = fold(<uint64_t> (get16(check) ^ 0xFFFF) + (fold(before) ^ 0xFFFF) + fold(after)) ^ 0xFFFF
    if protocol == UDP and after == 0:
        after = 0xFFFF
    put16(check, after)
    if version == 4:
        header_checksum(frame + l3)


cdef void wrap(uint8_t *frame, uint32_t outer, uint32_t length, uint32_t port) noexcept nogil:
    # The lengths, source port and checksum of an outer header (Ethernet, IPv4 or IPv6, UDP, VXLAN) that lies there.
    cdef uint8_t *ip = frame + 14
    cdef uint8_t *udp
    if ip[0] >> 4 == 4:
        udp = ip + 20
        put16(ip + 2, length + outer - 14)
        header_checksum(ip)
    else:
        udp = ip + 40
        put16(ip + 4, length + outer - 54)
    put16(udp, port)
    put16(udp + 4, length + 16)


cdef class Flows:
    """Numbers of flows below `flows`, drawn uniformly or, with `exponent` > 0, by Zipf's law."""

    cdef double *bounds
    cdef uint32_t flows

    def __cinit__(self, uint32_t flows, double exponent=0.0):
        cdef uint32_t i
        cdef double total = 0.0
        if not 1 <= flows <= 1 << 24:
            raise ValueError("1 to 16777216 flows")
        self.flows = flows
        if exponent <= 0.0:
            return
        self.bounds = <double *> PyMem_Malloc(flows * sizeof(double))
        if self.bounds == NULL:
            raise MemoryError
        for i in range(flows):
            total += 1.0 / pow(i + 1, exponent)
            self.bounds[i] = total
        for i in range(flows):
            self.bounds[i] /= total

    def __dealloc__(self):
        PyMem_Free(self.bounds)

    cdef uint32_t draw(self, uint64_t random) noexcept nogil:
        cdef uint32_t low = 0, high, middle
        cdef double wanted
        if self.bounds == NULL:
            return <uint32_t> (((random >> 32) * self.flows) >> 32)
        wanted = (random >> 11) * (1.0 / 9007199254740992.0)
        high = self.flows - 1
        while low < high:
            middle = (low + high) // 2
            if self.bounds[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        return low


def draws(Flows flows not None, uint32_t count, uint64_t seed):
    """`count` numbers of flows, as the bytes of 32-bit integers."""
    cdef bytearray made = bytearray(count * 4)
    cdef uint8_t[::1] view = made
    cdef uint32_t *at = <uint32_t *> &view[0]
    cdef uint32_t i
    for i in range(count):
        at[i] = flows.draw(mix(seed + i))
    return bytes(made)


def expand(Batch batch not None, list templates not None, uint32_t groups, Flows flows, uint32_t count,
           uint64_t seed, bytes outer not None=b""):
    """Fill `batch` with `count` packets made from `templates`.

    A template is (frame, layer 3 offset, layer 4 offset, IP version or 0, protocol); one with version 0 is copied as
    it is. They are `groups` groups of equally many: the flow decides the group, the packet's number the member.
    `flows` draws the flow of each packet; None: packet i is of flow i. With `outer`, each packet is wrapped in that
    header, whose lengths, checksum and source port are filled in. Raises ValueError if a packet does not fit a slot.
    """
    cdef uint32_t i, size, l3, l4, longest = 0, members, head = <uint32_t> len(outer)
    cdef uint64_t flow, random
    cdef uint8_t *at
    cdef const uint8_t *header = outer
    cdef const uint8_t *frame
    cdef int version, protocol
    cdef size_t chosen
    if not templates or groups == 0 or len(templates) % groups:
        raise ValueError("templates are groups of equally many")
    if not 1 <= count <= batch.b.capacity:
        raise ValueError(f"1 to {batch.b.capacity} packets")
    for template in templates:
        longest = max(longest, len(template[0]))
    if batch.b.headroom + head + longest > batch.b.slot:
        raise ValueError(f"{head + longest} bytes do not fit a slot of {batch.b.slot} with {batch.b.headroom} before")
    members = <uint32_t> (len(templates) // groups)
    batch.enter()
    try:
        batch._fresh(count)
        for i in range(count):
            random = mix(seed + i)
            flow = i if flows is None else flows.draw(random)
            chosen = (flow % groups) * members + (mix(random) >> 32) % members
            frame_bytes, l3, l4, version, protocol = templates[chosen]
            frame = <bytes> frame_bytes
            size = <uint32_t> len(<bytes> frame_bytes)
            at = batch.b.memory + batch.b.offset[i]
            memcpy(at, header, head)
            memcpy(at + head, frame, size)
            if version:
                personalise(at + head, l3, l4, version, protocol, flow, seed)
            if head:
                wrap(at, head, size, 49152 + (<uint32_t> (mix(seed ^ mix(flow + 1)) >> 32) & 0x3FFF))
            batch.b.length[i] = head + size
        batch.b.count = count
    finally:
        batch.leave()


def turn(Batch batch not None):
    """Every key as that of its packet's answer; of ICMP the types stay."""
    cdef uint32_t i
    cdef flow_key *key
    cdef uint8_t address[16]
    for i in range(batch.b.count):
        key = &batch.b.key[i]
        memcpy(address, key.source, 16)
        memcpy(key.source, key.destination, 16)
        memcpy(key.destination, address, 16)
        key.source_port, key.destination_port = key.destination_port, key.source_port

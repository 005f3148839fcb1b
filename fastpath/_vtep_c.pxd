# What an endpoint takes from the underlay, for the stages that ask; one type for every level.

from cpython.array cimport array
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    # Kinds of entries, in the high byte of a tag; the VNI is below. Never 0: that is an empty place.
    OF_VNI = 1 << 24            # the VNI's network; OPEN: from whatever source
    OF_PAIR4 = 2 << 24          # VNI and source, allowed
    OF_PAIR6 = 3 << 24
    OF_ADDRESS4 = 4 << 24       # an address of the endpoint
    OF_ADDRESS6 = 5 << 24

cdef enum:
    OPEN = 1

cdef enum:
    # What happens to reserved bits.
    STRICT = 0
    IGNORE = 1
    COUNT = 2

ctypedef struct entry_t:        # 32 bytes
    uint64_t a                  # of an address: the first 8 bytes, or all 4, as they lie in memory
    uint64_t b
    uint32_t tag
    uint32_t network
    uint32_t flags
    uint32_t spare

ctypedef struct vtep_t:
    uint64_t odd                # of the table's hash
    entry_t *entries            # open addressing, a power of two places, at most half of them taken
    uint32_t shift              # 64 - bits of a place's number
    uint32_t last               # places - 1
    uint32_t own4, own6         # how many addresses; both 0: any destination is taken
    uint32_t only4              # the address, if own4 is 1, as it lies in memory
    uint32_t port
    uint64_t want[4]            # the usual frame's bytes 12, 20, 34 and 42, eight from each, under the masks
    uint64_t mask[4]
    uint8_t reserved
    bint zero6, gbp, gpe, verify, options, any_vni

cdef inline uint64_t place(const vtep_t *v, uint64_t a, uint64_t b, uint32_t tag) noexcept nogil:
    # Where an entry is looked for first.
    return ((a ^ (b << 32 | b >> 32) ^ <uint64_t> tag << 32) * v.odd) >> v.shift

cdef inline const entry_t *look_up(const vtep_t *v, uint64_t a, uint64_t b, uint32_t tag) noexcept nogil:
    # The entry, or the empty place where it would be: its tag is 0.
    cdef uint64_t i = place(v, a, b, tag)
    cdef const entry_t *entry
    while True:
        entry = &v.entries[i]
        if entry.tag == 0 or (entry.tag == tag and entry.a == a and entry.b == b):
            return entry
        i = (i + 1) & v.last

cdef class VtepTable:
    # What a stage works on. It does not change while a stage has it: an update meanwhile makes another.
    cdef vtep_t v
    cdef uint32_t used          # entries
    cdef Py_ssize_t users

    cdef void put(self, const entry_t *entry) noexcept
    cdef void delete(self, uint64_t a, uint64_t b, uint32_t tag) noexcept

cdef class Vtep:
    cdef VtepTable table
    cdef readonly uint32_t capacity
    cdef dict _networks         # VNI: network, sources or None
    cdef array _counters

    cdef VtepTable acquire(self)
    cdef void release(self, VtepTable table, const uint64_t *counts)
    cdef void _room(self, Py_ssize_t more) except *
    cdef void _put(self, uint32_t tag, bytes address, uint32_t network, uint32_t flags) noexcept
    cdef void _forget(self, object vni) except *

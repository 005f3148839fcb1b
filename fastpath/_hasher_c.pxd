# The keys of the flow hash; one type for every level, so that levelled stages can share a hasher.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    HASH_KEYS = 18

ctypedef struct hash_keys:
    uint64_t odd                # of the last multiplication
    uint32_t k[HASH_KEYS]       # 0-3 IPv4, 4-13 IPv6, 14-17 other frames

cdef class Hasher:
    cdef hash_keys h
    cdef readonly object seed

cdef Hasher default_hasher      # of DEFAULT_SEED

# Which messages of ICMP and ICMPv6 ask and answer: `fastpath.connection_records.INVERSE`.

from libc.stdint cimport uint32_t

cdef inline int inverse(uint32_t version, uint32_t kind) noexcept nogil:
    # The reply's type of a query's and the other way round; -1 of others.
    if version == 4:
        if kind == 8 or kind == 0:
            return 8 - <int> kind
        if 13 <= kind <= 18:
            return <int> (kind + 1 if kind & 1 else kind - 1)
        if kind == 42 or kind == 43:
            return 85 - <int> kind
        return -1
    if kind == 128 or kind == 129:
        return 257 - <int> kind
    if kind == 160 or kind == 161:
        return 321 - <int> kind
    return -1

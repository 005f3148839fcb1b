"""Prepared outer headers of many tunnels, compiled; `_tunnels_py` is the specification."""

from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastpath._tables import by_reason, fresh_counters
from fastpath._template import check, template
from fastpath.reasons import Reason
from fastpath.vxlan_errors import TableFullError


cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **at, size_t alignment, size_t size)

cdef extern from "endian.h" nogil:
    uint64_t be64toh(uint64_t word)
    uint32_t be32toh(uint32_t word)

cdef int reasons = len(Reason)
CAPACITY = 4096


cdef class TunnelTable:
    """The tunnels as the stages see them."""

    def __cinit__(self, uint32_t capacity):
        cdef void *at = NULL
        if posix_memalign(&at, 128, <size_t> capacity * sizeof(tunnel_t)):
            raise MemoryError(f"{capacity} tunnels")
        memset(at, 0, <size_t> capacity * sizeof(tunnel_t))
        self.tunnels = <tunnel_t *> at
        self.capacity = capacity

    def __dealloc__(self):
        free(self.tunnels)


cdef void fill_tunnel(tunnel_t *tunnel, object prepared) except *:
    # One entry from a `fastpath._template.Template`.
    cdef bytes header = prepared.header
    cdef uint32_t at = prepared.ip_at
    cdef uint32_t size = <uint32_t> len(header)
    cdef uint64_t first = 0, udp = 0
    cdef uint32_t rest = 0
    if size > HEADER_MOST:
        raise ValueError("the headers are too long")
    memset(tunnel, 0, sizeof(tunnel_t))
    memcpy(tunnel.header, <const uint8_t *> header, size)
    memcpy(&first, tunnel.header + at, 8)
    memcpy(&rest, tunnel.header + at + 8, 4)
    memcpy(&udp, tunnel.header + size - 16, 8)
    tunnel.ip_first, tunnel.ip_rest, tunnel.udp = be64toh(first), be32toh(rest), be64toh(udp)
    tunnel.ip_sum, tunnel.udp_sum = prepared.ip_sum, prepared.udp_sum
    tunnel.most, tunnel.vni, tunnel.mode = prepared.most, prepared.vni, prepared.mode
    tunnel.size = <uint16_t> size


cdef class Tunnels:
    """See `fastpath._tunnels_py.Tunnels`."""

    def __cinit__(self, capacity=CAPACITY):
        self.table = TunnelTable.__new__(TunnelTable, check("capacity", capacity, 1, 1 << 20))
        self._free = []
        self._counters = fresh_counters()

    cdef TunnelTable acquire(self, uint32_t packets, uint32_t *identification):
        # The table for one call of a stage, and the first identification of that many.
        identification[0] = self.identification
        self.identification += packets
        self.table.users += 1
        return self.table

    cdef void release(self, TunnelTable table, const uint64_t *counts):
        cdef int i
        cdef uint64_t *totals = <uint64_t *> self._counters.data.as_ulonglongs
        table.users -= 1
        for i in range(reasons):
            totals[i] += counts[i]

    cdef _write(self, uint32_t index, object prepared):
        # `prepared` None: no tunnel.
        cdef TunnelTable copy
        cdef tunnel_t entry
        memset(&entry, 0, sizeof(entry))
        if prepared is not None:
            fill_tunnel(&entry, prepared)
        if self.table.users:
            copy = TunnelTable.__new__(TunnelTable, self.table.capacity)
            memcpy(copy.tunnels, self.table.tunnels, <size_t> self._next * sizeof(tunnel_t))
            self.table = copy
        self.table.tunnels[index] = entry

    def __len__(self):
        return self._used

    def __contains__(self, index):
        return isinstance(index, int) and 0 <= index < self._next and self.table.tunnels[<uint32_t> index].size != 0

    @property
    def capacity(self):
        return self.table.capacity

    @property
    def counters(self):
        return memoryview(self._counters).toreadonly()

    def counts(self):
        return by_reason(self._counters)

    def add(self, **fields):
        cdef uint32_t index
        prepared = template(**fields)
        if self._free:
            index = self._free[len(self._free) - 1]
        elif self._next < self.table.capacity:
            index = self._next
        else:
            raise TableFullError(self.table.capacity)
        if index == self._next:
            self._next += 1
            self._write(index, prepared)
        else:
            self._write(index, prepared)
            self._free.pop()
        self._used += 1
        return index

    def replace(self, index, **fields):
        if index not in self:
            raise KeyError(index)
        self._write(index, template(**fields))

    def remove(self, index):
        if index not in self:
            raise KeyError(index)
        self._free.append(index)
        self._write(index, None)
        self._used -= 1

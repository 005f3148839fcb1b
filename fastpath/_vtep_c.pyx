"""What an endpoint takes from the underlay, compiled; `_vtep_py` is the specification."""

from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastpath._tables import by_reason, fresh_counters, random_odd
from fastpath._template import address, check
from fastpath.reasons import Reason
from fastpath.vxlan_errors import TableFullError


cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **at, size_t alignment, size_t size)

cdef int reasons = len(Reason)
CAPACITY = 1 << 17
RESERVED = ("strict", "ignore", "count")


cdef void key_of(bytes address, uint64_t *a, uint64_t *b) noexcept:
    cdef uint32_t word = 0
    a[0] = b[0] = 0
    if len(address) == 4:
        memcpy(&word, <const uint8_t *> address, 4)
        a[0] = word
    elif len(address) == 16:
        memcpy(a, <const uint8_t *> address, 8)
        memcpy(b, <const uint8_t *> address + 8, 8)


cdef void prepare(vtep_t *v) noexcept:
    # What the usual frames have in common: untagged, IPv4 without options, no fragment, no mark, UDP, plain VXLAN.
    cdef uint8_t[64] want, mask
    cdef int i
    memset(want, 0, 64)
    memset(mask, 0, 64)
    want[12], want[14], want[23], want[42] = 8, 0x45, 17, 8
    want[36], want[37] = v.port >> 8, v.port & 0xFF
    mask[12] = mask[13] = mask[14] = mask[21] = mask[23] = mask[36] = mask[37] = 0xFF
    mask[15] = 1                # ECT(1) and CE need a look inside
    mask[20] = 0x3F
    if v.verify:
        mask[40] = mask[41] = 0xFF
    mask[42] = mask[43] = mask[44] = mask[45] = mask[49] = 0xFF
    for i in range(4):
        memcpy(&v.want[i], &want[(12, 20, 34, 42)[i]], 8)
        memcpy(&v.mask[i], &mask[(12, 20, 34, 42)[i]], 8)


cdef class VtepTable:
    """The table as the stages see it, with 2 to the power of `bits` places."""

    def __cinit__(self, uint32_t bits):
        cdef size_t size = sizeof(entry_t) << bits
        cdef void *at = NULL
        if posix_memalign(&at, 64, size):
            raise MemoryError(f"{size} bytes for a table")
        memset(at, 0, size)
        self.v.entries = <entry_t *> at
        self.v.shift, self.v.last = 64 - bits, <uint32_t> ((<uint64_t> 1 << bits) - 1)

    def __dealloc__(self):
        free(self.v.entries)

    cdef void put(self, const entry_t *entry) noexcept:
        # There is room: the caller has seen to it.
        cdef entry_t *to = <entry_t *> look_up(&self.v, entry.a, entry.b, entry.tag)
        if not to.tag:
            self.used += 1
        to[0] = entry[0]

    cdef void delete(self, uint64_t a, uint64_t b, uint32_t tag) noexcept:
        # What follows moves up, so that nothing is cut off from the place where its search begins.
        cdef entry_t *hole = <entry_t *> look_up(&self.v, a, b, tag)
        cdef entry_t *entry
        cdef uint64_t at, next, home, last = self.v.last
        if not hole.tag:
            return
        self.used -= 1
        at = next = <uint64_t> (hole - self.v.entries)
        while True:
            next = (next + 1) & last
            entry = &self.v.entries[next]
            if not entry.tag:
                break
            home = place(&self.v, entry.a, entry.b, entry.tag)
            if ((next - home) & last) >= ((next - at) & last):
                self.v.entries[at] = entry[0]
                at = next
        memset(&self.v.entries[at], 0, sizeof(entry_t))


cdef class Vtep:
    """See `fastpath._vtep_py.Vtep`."""

    def __cinit__(self, *, addresses=(), port=4789, reserved="strict", zero_checksum6=False, gbp=False, gpe=False,
                  verify_checksum=True, options=False, any_vni=False, capacity=CAPACITY):
        cdef bytes each
        cdef vtep_t *v
        self._networks = {}
        self._counters = fresh_counters()
        self.capacity = check("capacity", capacity, 1, 1 << 22)
        self.table = VtepTable.__new__(VtepTable, 6)
        v = &self.table.v
        v.odd = random_odd()
        v.port = check("port", port, 1, 0xFFFF)
        if reserved not in RESERVED:
            raise ValueError(f"reserved is 'strict', 'ignore' or 'count', not {reserved!r}")
        v.reserved = RESERVED.index(reserved)
        v.zero6, v.gbp, v.gpe, v.verify = zero_checksum6, gbp, gpe, verify_checksum
        v.options, v.any_vni = options, any_vni
        prepare(v)
        own = sorted({address("addresses", given) for given in addresses})
        self._room(len(own))
        v = &self.table.v
        for each in own:
            if len(each) == 4:
                v.own4 += 1
                memcpy(&v.only4, <const uint8_t *> each, 4)
                self._put(OF_ADDRESS4, each, 0, 0)
            else:
                v.own6 += 1
                self._put(OF_ADDRESS6, each, 0, 0)

    cdef VtepTable acquire(self):
        self.table.users += 1
        return self.table

    cdef void release(self, VtepTable table, const uint64_t *counts):
        cdef int i
        cdef uint64_t *totals = <uint64_t *> self._counters.data.as_ulonglongs
        table.users -= 1
        for i in range(reasons):
            totals[i] += counts[i]

    cdef void _room(self, Py_ssize_t more) except *:
        # A table that may be written, with room for so many entries more.
        cdef VtepTable table, old = self.table
        cdef uint32_t bits = 64 - old.v.shift
        cdef uint64_t i
        if old.used + more > self.capacity:
            raise TableFullError(self.capacity)
        while (old.used + more) * 2 > <Py_ssize_t> 1 << bits:
            bits += 1
        if not old.users and bits == 64 - old.v.shift:
            return
        table = VtepTable.__new__(VtepTable, bits)
        cdef entry_t *entries = table.v.entries
        cdef uint32_t shift = table.v.shift, last = table.v.last
        table.v = old.v
        table.v.entries, table.v.shift, table.v.last = entries, shift, last
        if shift == old.v.shift:
            memcpy(entries, old.v.entries, sizeof(entry_t) << bits)
            table.used = old.used
        else:
            for i in range(<uint64_t> old.v.last + 1):
                if old.v.entries[i].tag:
                    table.put(&old.v.entries[i])
        self.table = table

    cdef void _put(self, uint32_t tag, bytes address, uint32_t network, uint32_t flags) noexcept:
        cdef entry_t entry
        memset(&entry, 0, sizeof(entry))
        key_of(address, &entry.a, &entry.b)
        entry.tag, entry.network, entry.flags = tag, network, flags
        self.table.put(&entry)

    cdef void _forget(self, object vni) except *:
        cdef uint32_t number = vni
        cdef uint64_t a = 0, b = 0
        cdef bytes source
        for source in self._networks.pop(vni)[1] or ():
            key_of(source, &a, &b)
            self.table.delete(a, b, number | (OF_PAIR4 if len(source) == 4 else OF_PAIR6))
        self.table.delete(0, 0, number | OF_VNI)

    def __len__(self):
        return len(self._networks)

    def __contains__(self, vni):
        return vni in self._networks

    @property
    def counters(self):
        return memoryview(self._counters).toreadonly()

    @property
    def entries(self):
        return self.table.used

    def counts(self):
        return by_reason(self._counters)

    def allow(self, vni, network, sources=None):
        cdef uint32_t number = check("vni", vni, 0, 0xFFFFFF)
        cdef uint32_t value = check("network", network, 0, 0xFFFFFFFF)
        cdef bytes source
        allowed = None if sources is None else tuple(sorted({address("sources", given) for given in sources}))
        before = self._networks.get(vni)
        fewer = 0 if before is None else 1 + len(before[1] or ())
        # Nothing has changed yet if there is no room.
        self._room(max(0, 1 + len(allowed or ()) - fewer))
        if before is not None:
            self._forget(vni)
        self._networks[vni] = (network, allowed)
        self._put(number | OF_VNI, b"", value, OPEN if allowed is None else 0)
        for source in allowed or ():
            self._put(number | (OF_PAIR4 if len(source) == 4 else OF_PAIR6), source, value, 0)

    def forbid(self, vni):
        if vni not in self._networks:
            raise KeyError(vni)
        self._room(0)
        self._forget(vni)

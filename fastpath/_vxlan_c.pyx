"""VXLAN over batches, compiled; `_vxlan_py` is the specification. Built once for each level."""

cimport cython
from cpython.array cimport array, clone
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport Batch
from fastpath._decap cimport arrival, decode, set_ecn
from fastpath._decap_batch cimport decap_batch, decode_usual
from fastpath._encap cimport SHORT, TOO_LONG, __builtin_prefetch, cargo, encode
from fastpath._encap_batch cimport encap_batch
from fastpath._hasher_c cimport Hasher, default_hasher
from fastpath._tunnels_c cimport COUNTERS, Tunnels, TunnelTable, fill_tunnel, tunnel_t
from fastpath._vtep_c cimport Vtep, VtepTable, vtep_t

from fastpath._tables import column
from fastpath._template import template
from fastpath.vxlan_errors import DroppedError

# Of every call's counters, bytes. A size that the compiler knows would become a slower loop of microcode.
cdef size_t counted = COUNTERS * sizeof(uint64_t)


def decap(Batch batch not None, Vtep vtep not None):
    """See `fastpath._vxlan_py.decap`."""
    cdef uint64_t[COUNTERS] counts
    cdef VtepTable table
    memset(counts, 0, counted)
    batch.enter()
    table = vtep.acquire()
    try:
        with nogil:
            decap_batch(&batch.b, &table.v, counts)
    finally:
        vtep.release(table, counts)
        batch.leave()
    return counts[0]


def encap(Batch batch not None, Tunnels tunnels not None, Hasher hasher=None):
    """See `fastpath._vxlan_py.encap`."""
    cdef uint64_t[COUNTERS] counts
    cdef uint32_t identification = 0
    cdef TunnelTable table
    memset(counts, 0, counted)
    if hasher is None:
        hasher = default_hasher
    batch.enter()
    table = tunnels.acquire(batch.b.count, &identification)
    try:
        with nogil:
            encap_batch(&batch.b, table.tunnels, table.capacity, &hasher.h, identification, counts)
    finally:
        tunnels.release(table, counts)
        batch.leave()
    return counts[0]


cdef class Tunnel:
    """See `fastpath._vxlan_py.Tunnel`."""

    cdef tunnel_t tunnel
    cdef Hasher hasher
    cdef uint32_t identification

    def __cinit__(self, *, Hasher hasher=None, **fields):
        fill_tunnel(&self.tunnel, template(**fields))
        self.hasher = default_hasher if hasher is None else hasher

    # A plain built-in method: the interpreter calls those with the fewest steps.
    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def encap(self, frame):
        """See `fastpath._vxlan_py.Tunnel.encap`."""
        return encap_one(self, frame)

    def encap_list(self, frames):
        """See `fastpath._vxlan_py.Tunnel.encap_list`."""
        return [encap_one(self, frame) for frame in frames]


cdef bytes encap_one(Tunnel tunnel, object frame):
    cdef cargo inner
    cdef Py_ssize_t length, size = tunnel.tunnel.size
    cdef uint32_t reason
    cdef const uint8_t *at
    cdef uint8_t *to
    cdef bytes whole
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    length = PyBytes_GET_SIZE(frame)
    if length < 14:
        raise DroppedError(SHORT)
    if length > tunnel.tunnel.most:
        raise DroppedError(TOO_LONG)
    whole = PyBytes_FromStringAndSize(NULL, size + length)
    at, to = <const uint8_t *> PyBytes_AS_STRING(frame), <uint8_t *> PyBytes_AS_STRING(whole) + size
    if 64 <= length <= 128:
        # Two stores that may overlap, for the frames whose headers are most of the work.
        memcpy(to, at, 64)
        memcpy(to + length - 64, at + length - 64, 64)
    else:
        memcpy(to, at, length)
    reason = encode(&tunnel.tunnel, &tunnel.hasher.h, at, <uint32_t> length, to, 0, tunnel.identification, &inner)
    if reason:
        raise DroppedError(reason)
    tunnel.identification += 1
    return whole


@cython.binding(False)
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def encapsulate(frame, Tunnel tunnel not None):
    """See `fastpath._vxlan_py.encapsulate`."""
    return encap_one(tunnel, frame)


cdef inline uint32_t open_frame(const vtep_t *v, bytes frame, arrival *found) noexcept:
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(frame)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
    cdef uint32_t length = <uint32_t> (size if size < 0x7FFFFFFF else 0x7FFFFFFF)
    if decode_usual(v, at, length, found):
        return 0
    return decode(v, at, length, False, found)


cdef Vtep easy = Vtep(reserved="ignore", zero_checksum6=True, gbp=True, gpe=True, options=True, any_vni=True)
cdef array columns = column(0)


def decapsulate(frame, Vtep vtep=None):
    """See `fastpath._vxlan_py.decapsulate`."""
    cdef arrival found
    cdef uint32_t reason
    cdef bytes inner
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    # The table cannot change meanwhile: nothing here gives the GIL away.
    reason = open_frame(&(easy if vtep is None else vtep).table.v, frame, &found)
    if reason:
        raise DroppedError(reason)
    inner = PyBytes_FromStringAndSize(PyBytes_AS_STRING(frame) + found.start, found.length)
    if found.ecn:
        set_ecn(<uint8_t *> PyBytes_AS_STRING(inner), found.length, found.ecn)
    return found.vni, inner


def decap_list(frames, Vtep vtep=None):
    """See `fastpath._vxlan_py.decap_list`."""
    cdef list items = frames if type(frames) is list else list(frames)
    cdef Py_ssize_t i, count = len(items)
    cdef array vnis = clone(columns, count, False)
    cdef array offsets = clone(columns, count, False)
    cdef array lengths = clone(columns, count, False)
    cdef uint32_t *vni = vnis.data.as_uints
    cdef uint32_t *offset = offsets.data.as_uints
    cdef uint32_t *length = lengths.data.as_uints
    cdef arrival found
    cdef uint32_t reason
    cdef VtepTable table = (easy if vtep is None else vtep).table
    for i in range(count):
        if i + 8 < count:
            __builtin_prefetch(<const uint8_t *> <PyObject *> items[i + 8], 0, 3)
            __builtin_prefetch(<const uint8_t *> <PyObject *> items[i + 8] + 64, 0, 3)
        frame = items[i]
        if type(frame) is not bytes:
            raise TypeError("a frame is bytes")
        reason = open_frame(&table.v, frame, &found)
        vni[i] = 0 if reason else found.vni
        offset[i] = reason if reason else found.start
        length[i] = 0 if reason else found.length
    return vnis, offsets, lengths

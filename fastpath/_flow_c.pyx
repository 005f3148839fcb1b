"""Five-tuples of frames and their hash, compiled; `_flow_py` is the specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath._batch_c cimport Batch, batch_t, flow_key
from fastpath._flow cimport MAX_EXTENSIONS as _MAX_EXTENSIONS, MAX_TAGS as _MAX_TAGS
from fastpath._flow cimport be16toh, hash_packet, parse as parse_frame
from fastpath._hasher_c cimport Hasher, default_hasher, hash_keys
from fastpath.endpoints import FiveTuple

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) nogil

cdef enum:
    AHEAD = 12          # packets; enough to hide a miss, few enough for the outstanding ones of a core

MAX_TAGS = _MAX_TAGS
MAX_EXTENSIONS = _MAX_EXTENSIONS


cdef uint32_t run(batch_t *b, const hash_keys *h) noexcept nogil:
    cdef uint32_t i, flags, found = 0
    cdef uint32_t ahead = AHEAD if b.count > AHEAD else 0
    cdef const uint8_t *at
    for i in range(b.count):
        if i + ahead < b.count:
            prefetch(b.memory + b.offset[i + ahead])
        if b.verdict[i]:
            continue
        at = b.memory + b.offset[i]
        flags = parse_frame(at, b.length[i], &b.key[i], &b.layers[i])
        b.flags[i] = flags
        found += b.key[i].version != 0
        if h != NULL:
            b.hash[i] = hash_packet(h, at, &b.key[i], flags, b.layers[i])
    return found


def extract(Batch batch not None, Hasher hasher=None):
    """See `fastpath._flow_py.extract`."""
    cdef uint32_t found
    if hasher is None:
        hasher = default_hasher
    batch.enter()
    try:
        with nogil:
            found = run(&batch.b, &hasher.h)
    finally:
        batch.leave()
    return found


def keys(Batch batch not None):
    """See `fastpath._flow_py.keys`."""
    cdef uint32_t found
    batch.enter()
    try:
        with nogil:
            found = run(&batch.b, NULL)
    finally:
        batch.leave()
    return found


cdef object tuple_of(object frame):
    cdef flow_key key
    cdef uint32_t layers = 0
    cdef Py_ssize_t size
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    size = PyBytes_GET_SIZE(frame)
    parse_frame(<const uint8_t *> PyBytes_AS_STRING(frame), <uint32_t> min(size, <Py_ssize_t> 0x7FFFFFFF), &key, &layers)
    if not key.version:
        return None
    size = 4 if key.version == 4 else 16
    return FiveTuple(
        PyBytes_FromStringAndSize(<char *> key.source, size), PyBytes_FromStringAndSize(<char *> key.destination, size),
        key.protocol, be16toh(key.source_port), be16toh(key.destination_port),
    )


def five_tuple(frame):
    """See `fastpath._flow_py.five_tuple`."""
    return tuple_of(frame)


def five_tuples(frames):
    """See `fastpath._flow_py.five_tuples`."""
    return [tuple_of(frame) for frame in frames]

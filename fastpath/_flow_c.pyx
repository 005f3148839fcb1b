"""Five-tuples of frames and their hash, compiled; `_flow_py` is the specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath._batch_c cimport Batch, batch_t, flow_key
from fastpath._flow cimport MAX_EXTENSIONS as _MAX_EXTENSIONS, MAX_TAGS as _MAX_TAGS
from fastpath._flow cimport FLOW_RUN, be16toh, parse as parse_frame, parse_run
from fastpath._hasher_c cimport Hasher, default_hasher, hash_keys
from fastpath.endpoints import FiveTuple

MAX_TAGS = _MAX_TAGS
MAX_EXTENSIONS = _MAX_EXTENSIONS


cdef uint32_t run(batch_t *b, const hash_keys *h) noexcept nogil:
    cdef uint32_t start = 0, found = 0
    while start < b.count:
        found += parse_run(b, start, min(start + FLOW_RUN, b.count), h)
        start += FLOW_RUN
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


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_alloc)(PyTypeObject *kind, Py_ssize_t items)
    void PyTuple_SET_ITEM(object tuple, Py_ssize_t at, PyObject *item)
    PyObject *PyBytes_FromStringAndSize(const char *at, Py_ssize_t size) except NULL
    PyObject *PyLong_FromLong(long number) except NULL

cdef PyTypeObject *FIVE_TUPLE = <PyTypeObject *> FiveTuple


cdef object tuple_of(object frame):
    cdef flow_key key
    cdef uint32_t layers = 0
    cdef Py_ssize_t size
    cdef object made
    if type(frame) is not bytes:
        raise TypeError("a frame is bytes")
    # No header lies behind what 32 bits can count.
    size = min(PyBytes_GET_SIZE(frame), <Py_ssize_t> 0x7FFFFFFF)
    parse_frame(<const uint8_t *> PyBytes_AS_STRING(frame), <uint32_t> size, &key, &layers)
    if not key.version:
        return None
    size = 4 if key.version == 4 else 16
    # A named tuple is a tuple of its type; its own constructor, written in Python, would take most of the time.
    made = FIVE_TUPLE.tp_alloc(FIVE_TUPLE, 5)
    PyTuple_SET_ITEM(made, 0, PyBytes_FromStringAndSize(<char *> key.source, size))
    PyTuple_SET_ITEM(made, 1, PyBytes_FromStringAndSize(<char *> key.destination, size))
    PyTuple_SET_ITEM(made, 2, PyLong_FromLong(key.protocol))
    PyTuple_SET_ITEM(made, 3, PyLong_FromLong(be16toh(key.source_port)))
    PyTuple_SET_ITEM(made, 4, PyLong_FromLong(be16toh(key.destination_port)))
    return made


def five_tuple(frame):
    """See `fastpath._flow_py.five_tuple`."""
    return tuple_of(frame)


def five_tuples(frames):
    """See `fastpath._flow_py.five_tuples`."""
    cdef list found = []
    for frame in frames:
        found.append(tuple_of(frame))
    return found

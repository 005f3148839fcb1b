"""The Internet checksum, compiled; `_checksum_py` is the specification."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef extern from "Python.h":
    long PyLong_AsLongAndOverflow(object number, int *overflow) except? -1


cdef extern from *:
    """
    #ifndef NODEPLANE_BUILD
    #define NODEPLANE_BUILD "unknown"
    #endif
    """
    const char *NODEPLANE_BUILD


BUILD = NODEPLANE_BUILD.decode("ascii")


cdef long bounded(object number, long most, str message) except -1:
    # `number` as a C integer if it is 0 to `most`, else ValueError; cheaper than two Python comparisons.
    cdef int overflow = 0
    cdef long value = PyLong_AsLongAndOverflow(number, &overflow)
    if overflow or value < 0 or value > most:
        raise ValueError(message)
    return value


def internet_checksum(data, initial=0):
    """Return the RFC 1071 checksum of `data`; see `fastpath._checksum_py.internet_checksum`."""
    cdef uint64_t start, total
    cdef Py_buffer view
    if type(data) is bytes:
        # The common case, without the cost of a buffer request.
        start = _initial(initial)
        total = sum16(<const unsigned char *> <bytes> data, len(<bytes> data))
    else:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            start = _initial(initial)
            total = sum16(<const unsigned char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
    return 0xFFFF - fold16(total + start)


cdef long long _initial(object number) except -1:
    cdef int overflow = 0
    cdef long value = PyLong_AsLongAndOverflow(number, &overflow)
    if overflow or value < 0 or value > 0xFFFFFFFFLL:
        raise OverflowError("initial does not fit 32 bits")
    return value


def udp4_checksum(bytes src_ip not None, bytes dst_ip not None, src_port, dst_port, bytes payload not None):
    """Return the UDP checksum over IPv4; see `fastpath._checksum_py.udp4_checksum`."""
    cdef unsigned char[8] addresses
    cdef long source, destination
    if len(src_ip) != 4 or len(dst_ip) != 4:
        raise ValueError("an IPv4 address has 4 bytes")
    source = bounded(src_port, 0xFFFF, "a port is 0 to 65535")
    destination = bounded(dst_port, 0xFFFF, "a port is 0 to 65535")
    if len(payload) > 0xFFFF - 8:
        raise ValueError("the payload does not fit a UDP datagram")
    memcpy(addresses, <const unsigned char *> src_ip, 4)
    memcpy(&addresses[4], <const unsigned char *> dst_ip, 4)
    return udp4_sum(addresses, source + destination, <const unsigned char *> payload, len(payload))

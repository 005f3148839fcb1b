"""The Internet checksum of bytes and of batches, compiled; `_checksum_py` is the specification."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath._batch_c cimport Batch, batch_t
from fastpath._checksum cimport (
    PyLong_AsLongAndOverflow, bounded, fold16, load16, nodeplane_fold, nodeplane_sum, sum16, udp4_sum,
)
from fastpath._transport cimport (
    IP_FRAGMENT, IP_OPTIONS, NOT_IP, PASS, TCP, UDP, complete, header_checksum, locate, pseudo_sum, transport,
)


cdef extern from *:
    """
    #ifndef NODEPLANE_BUILD
    #define NODEPLANE_BUILD "unknown"
    #endif
    """
    const char *NODEPLANE_BUILD

cdef extern from *:
    void __builtin_prefetch(const void *at) noexcept nogil

# Of fastpath.reasons.Reason and fastpath.flags.Flags.
cdef enum:
    IP_CHECKSUM = 8
    UDP_ZERO_CHECKSUM = 12
    LAYER4_CHECKSUM = 29
    PARTIAL_CHECKSUM = 1 << 24
    VALID_CHECKSUM = 1 << 25
    AHEAD = 8           # packets whose headers are fetched early


BUILD = NODEPLANE_BUILD.decode("ascii")


cdef object NO_INITIAL = 0


# A plain built-in function: the interpreter calls those with the fewest steps.
@cython.binding(False)
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def internet_checksum(data, initial=0):
    """Return the RFC 1071 checksum of `data`; see `fastpath._checksum_py.internet_checksum`."""
    cdef uint64_t start = 0, total
    cdef Py_buffer view
    if type(data) is bytes:
        # The common case, without the cost of a buffer request.
        if initial is not NO_INITIAL:
            start = _initial(initial)
        total = sum16(<const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    else:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            start = _initial(initial)
            total = sum16(<const uint8_t *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
    return <long> (0xFFFF - fold16(total + start))


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


def update(checksum, bytes old not None, bytes new not None):
    """Return the checksum after `old` became `new`; see `fastpath._checksum_py.update`."""
    cdef const uint8_t *at
    cdef Py_ssize_t i
    cdef uint64_t total = 0xFFFF - <uint64_t> bounded(checksum, 0xFFFF, "a checksum is 0 to 65535")
    if len(old) % 2 or len(new) % 2:
        raise ValueError("what is replaced is whole 16-bit words")
    at = <const uint8_t *> old
    for i in range(0, len(old), 2):
        total += 0xFFFF - load16(at + i)
    total += sum16(<const uint8_t *> new, len(new))
    return 0xFFFF - fold16(total)


def fill(Batch batch not None, bint partial=False):
    """Write the checksums of every packet; see `fastpath._checksum_py.fill`."""
    cdef batch_t *b
    cdef transport t
    cdef uint32_t i, reason, filled = 0
    cdef uint16_t word
    cdef uint8_t *frame
    batch.enter()
    try:
        b = &batch.b
        with nogil:
            for i in range(b.count):
                if i + AHEAD < b.count:
                    __builtin_prefetch(b.memory + b.offset[i + AHEAD])
                if b.verdict[i]:
                    continue
                frame = b.memory + b.offset[i]
                reason = locate(frame, b.length[i], &t)
                if t.header:
                    header_checksum(frame + t.ip, t.header)
                if reason != PASS or not t.field:
                    continue
                filled += 1
                if partial and (t.protocol == TCP or t.protocol == UDP):
                    word = <uint16_t> nodeplane_fold(pseudo_sum(frame, &t, t.size))
                    memcpy(frame + t.at + t.field, &word, 2)
                    b.flags[i] = b.flags[i] & ~<uint32_t> VALID_CHECKSUM | PARTIAL_CHECKSUM
                else:
                    complete(frame, &t)
                    b.flags[i] &= ~<uint32_t> PARTIAL_CHECKSUM
    finally:
        batch.leave()
    return filled


cdef inline uint32_t judge(const uint8_t *frame, uint32_t length, uint32_t *flags) noexcept nogil:
    # PASS, or why the frame is dropped; VALID_CHECKSUM is set if its layer 4 checksum is right, else cleared.
    cdef transport t
    cdef bint partial = flags[0] & PARTIAL_CHECKSUM != 0
    cdef uint32_t reason = locate(frame, length, &t)
    flags[0] &= ~<uint32_t> VALID_CHECKSUM
    if reason not in (PASS, NOT_IP, IP_FRAGMENT, IP_OPTIONS):
        return reason
    if t.header and nodeplane_fold(nodeplane_sum(frame + t.ip, t.header)) != 0xFFFF:
        return IP_CHECKSUM
    if reason != PASS or not t.field:
        return PASS
    if partial and (t.protocol == TCP or t.protocol == UDP):
        return PASS
    if t.protocol == UDP and not (frame[t.at + 6] | frame[t.at + 7]):
        return PASS if t.version == 4 else UDP_ZERO_CHECKSUM
    if nodeplane_fold(pseudo_sum(frame, &t, t.size) + nodeplane_sum(frame + t.at, t.size)) != 0xFFFF:
        return LAYER4_CHECKSUM
    flags[0] |= VALID_CHECKSUM
    return PASS


def verify(Batch batch not None):
    """Drop the packets whose checksums are wrong; see `fastpath._checksum_py.verify`."""
    cdef batch_t *b
    cdef uint32_t i, kept = 0
    batch.enter()
    try:
        b = &batch.b
        with nogil:
            for i in range(b.count):
                if i + AHEAD < b.count:
                    __builtin_prefetch(b.memory + b.offset[i + AHEAD])
                if b.verdict[i]:
                    continue
                b.verdict[i] = judge(b.memory + b.offset[i], b.length[i], &b.flags[i])
                kept += b.verdict[i] == PASS
    finally:
        batch.leave()
    return kept

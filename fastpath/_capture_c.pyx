"""The formats pcap and pcapng, compiled; `_capture_py` is the specification."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strcmp

from fastpath._batch_c cimport Batch, batch_t

from fastpath.capture_errors import PCAP_HEADER, PCAPNG_HEADER
from fastpath.capture_errors import CaptureError


cdef extern from *:
    """
    /* `time` in units of 10^-n (n: `resolution`) or, with its highest bit, 2^-n seconds, as nanoseconds. */
    static inline uint64_t nodeplane_nanoseconds(uint64_t time, unsigned resolution) {
        unsigned digits = resolution & 0x7f, i;
        uint64_t factor = 1;
        if (resolution & 0x80) {
            uint64_t part = time & ((((uint64_t)1) << digits) - 1);
            return (time >> digits) * 1000000000u + (uint64_t)(((unsigned __int128)part * 1000000000u) >> digits);
        }
        for (i = digits < 9 ? digits : 9; i < (digits < 9 ? 9 : digits); i++)
            factor *= 10;
        return digits <= 9 ? time * factor : time / factor;
    }
    """
    uint64_t nodeplane_nanoseconds(uint64_t time, uint32_t resolution) noexcept nogil
    uint16_t __builtin_bswap16(uint16_t word) noexcept nogil
    uint32_t __builtin_bswap32(uint32_t word) noexcept nogil
    uint64_t __builtin_bswap64(uint64_t word) noexcept nogil

cdef extern from "endian.h" nogil:
    uint16_t le16toh(uint16_t word)
    uint32_t le32toh(uint32_t word)
    uint32_t htole32(uint32_t word)
    uint64_t le64toh(uint64_t word)

cdef enum:
    LONGEST = 262144
    INTERFACES = 4096
    SECOND = 1000000000
    ETHERNET = 1
    SECTION = 0x0A0D0D0A
    INTERFACE = 1
    OLD_PACKET = 2
    SIMPLE_PACKET = 3
    PACKET = 6

# What a step found; faults are above END, in the order of FAULTS.
cdef enum Outcome:
    FRAME
    OTHER
    END
    RECORD_SHORT
    RECORD_LENGTH
    BLOCK_LENGTH
    BYTE_ORDER
    VERSION
    OPTION_LENGTH
    TIME_RESOLUTION
    TOO_MANY
    INTERFACE_UNKNOWN
    PACKET_LENGTH
    NO_MEMORY

cdef tuple NAMES = (
    "record_short", "record_length", "block_length", "byte_order", "version", "option_length", "time_resolution",
    "interfaces", "interface_unknown", "packet_length",
)

ctypedef struct interface_t:
    uint32_t link
    uint32_t snap
    uint32_t resolution
    uint64_t offset         # seconds, modulo 2^64


cdef class Records:
    """See `fastpath._capture_py.Records`."""

    cdef Py_buffer view
    cdef const uint8_t *data
    cdef uint64_t size
    cdef uint64_t at            # where the next record begins
    cdef uint64_t unit          # nanoseconds of a pcap time's unit; 0: pcapng
    cdef bint big
    cdef bint held
    cdef int busy
    cdef interface_t *interfaces
    cdef uint32_t known
    cdef uint32_t room
    cdef readonly uint64_t skipped
    cdef readonly uint64_t too_long
    # Of the last FRAME.
    cdef uint64_t start
    cdef uint32_t length
    cdef uint64_t time

    def __init__(self, data):
        cdef uint32_t magic
        if self.held:
            raise ValueError("already open")
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.held = True
        self.data = <const uint8_t *> self.view.buf
        self.size = <uint64_t> self.view.len
        fault = self._begin()
        if fault is not None:
            self.close()
            raise CaptureError(fault, 0)

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)
        free(self.interfaces)

    cdef object _begin(self):
        cdef uint32_t magic
        if self.size < 4:
            return "header_short"
        magic = self.word(0)
        if magic == SECTION:
            return None
        if magic in (0xD4C3B2A1, 0x4D3CB2A1):
            self.big = True
            magic = __builtin_bswap32(magic)
        if magic == 0xA1B2C3D4:
            self.unit = 1000
        elif magic == 0xA1B23C4D:
            self.unit = 1
        else:
            return "not_a_capture"
        if self.size < 24:
            return "header_short"
        if self.half(4) != 2:
            return "version"
        if self.word(20) & 0xFFFF != ETHERNET:
            return "link_type"
        self.at = 24
        return None

    cdef inline uint32_t half(self, uint64_t at) noexcept nogil:
        cdef uint16_t word = 0
        memcpy(&word, self.data + at, 2)
        return __builtin_bswap16(le16toh(word)) if self.big else le16toh(word)

    cdef inline uint32_t word(self, uint64_t at) noexcept nogil:
        cdef uint32_t word = 0
        memcpy(&word, self.data + at, 4)
        return __builtin_bswap32(le32toh(word)) if self.big else le32toh(word)

    cdef inline uint64_t double(self, uint64_t at) noexcept nogil:
        cdef uint64_t word = 0
        memcpy(&word, self.data + at, 8)
        return __builtin_bswap64(le64toh(word)) if self.big else le64toh(word)

    @property
    def pcapng(self):
        return not self.unit

    @property
    def position(self):
        return self.at

    cdef Outcome record(self) noexcept nogil:
        cdef uint64_t left = self.size - self.at
        if not left:
            return END
        if left < 16:
            return RECORD_SHORT
        self.length = self.word(self.at + 8)
        if self.length > LONGEST:
            return RECORD_LENGTH
        if left - 16 < self.length:
            return RECORD_SHORT
        self.time = self.word(self.at) * <uint64_t> SECOND + self.word(self.at + 4) * self.unit
        self.start = self.at + 16
        self.at += 16 + self.length
        return FRAME

    cdef Outcome block(self) noexcept nogil:
        # One block; `at` moves behind it unless there is a fault.
        cdef uint64_t left = self.size - self.at
        cdef uint32_t kind, size, mark
        cdef Outcome outcome = OTHER
        if not left:
            return END
        if left < 12:
            return RECORD_SHORT
        kind = self.word(self.at)
        if kind == SECTION:
            if left < 28:
                return RECORD_SHORT
            self.big = False
            mark = self.word(self.at + 8)
            if mark == 0x4D3C2B1A:
                self.big = True
            elif mark != 0x1A2B3C4D:
                return BYTE_ORDER
        size = self.word(self.at + 4)
        if size < <uint32_t> (28 if kind == SECTION else 12) or size % 4:
            return BLOCK_LENGTH
        if size > left:
            return RECORD_SHORT
        if self.word(self.at + size - 4) != size:
            return BLOCK_LENGTH
        if kind == SECTION:
            if self.half(self.at + 12) != 1:
                return VERSION
            self.known = 0
        elif kind == INTERFACE:
            outcome = self.describe(size)
        elif kind == PACKET or kind == OLD_PACKET or kind == SIMPLE_PACKET:
            outcome = self.packet(kind, size)
        if outcome < END:
            self.at += size
        return outcome

    cdef Outcome describe(self, uint32_t size) noexcept nogil:
        cdef uint64_t at = self.at + 16, end = self.at + size - 4
        cdef uint32_t code, length, room
        cdef interface_t found
        cdef interface_t *grown
        if size < 20:
            return BLOCK_LENGTH
        if self.known == INTERFACES:
            return TOO_MANY
        found.link = self.half(self.at + 8)
        found.snap = self.word(self.at + 12)
        found.resolution = 6
        found.offset = 0
        while at + 4 <= end:
            code = self.half(at)
            length = self.half(at + 2)
            if not code:
                break
            if length > end - at - 4 or (code == 9 and length != 1) or (code == 14 and length != 8):
                return OPTION_LENGTH
            if code == 9:
                found.resolution = self.data[at + 4]
                if (found.resolution & 0x7F) > <uint32_t> (63 if found.resolution & 0x80 else 19):
                    return TIME_RESOLUTION
            elif code == 14:
                found.offset = self.double(at + 4)
            at += 4 + (length + 3) // 4 * 4
        if self.known == self.room:
            room = 2 * self.room if self.room else 8
            grown = <interface_t *> realloc(self.interfaces, room * sizeof(interface_t))
            if grown == NULL:
                return NO_MEMORY
            self.interfaces = grown
            self.room = room
        self.interfaces[self.known] = found
        self.known += 1
        return OTHER

    cdef Outcome packet(self, uint32_t kind, uint32_t size) noexcept nogil:
        cdef uint32_t head = 12 if kind == SIMPLE_PACKET else 28, number = 0
        cdef interface_t *interface
        if size < head + 4:
            return BLOCK_LENGTH
        if kind == PACKET:
            number = self.word(self.at + 8)
        elif kind == OLD_PACKET:
            number = self.half(self.at + 8)
        if number >= self.known:
            return INTERFACE_UNKNOWN
        interface = &self.interfaces[number]
        if kind == SIMPLE_PACKET:
            self.length = self.word(self.at + 8)
            self.time = 0
            if interface.snap and self.length > interface.snap:
                self.length = interface.snap
        else:
            self.length = self.word(self.at + 20)
            self.time = nodeplane_nanoseconds(
                <uint64_t> self.word(self.at + 12) << 32 | self.word(self.at + 16), interface.resolution
            ) + interface.offset * <uint64_t> SECOND
        if self.length > LONGEST:
            return RECORD_LENGTH
        if self.length > size - head - 4:
            return PACKET_LENGTH
        if interface.link != ETHERNET:
            self.skipped += 1
            return OTHER
        self.start = self.at + head
        return FRAME

    cdef Outcome read(self, batch_t *b, uint64_t *times) noexcept nogil:
        # Packets until the batch is full; the outcome that ended it.
        cdef uint32_t room = b.slot - b.headroom, n = 0
        cdef Outcome outcome = OTHER
        b.count = 0
        while n < b.capacity:
            outcome = self.record() if self.unit else self.block()
            if outcome >= END:
                break
            if outcome == OTHER:
                continue
            if self.length > room:
                self.too_long += 1
                continue
            b.offset[n] = n * b.slot + b.headroom
            b.length[n] = self.length
            memcpy(b.memory + b.offset[n], self.data + self.start, self.length)
            if times != NULL:
                times[n] = self.time
            n += 1
        b.count = n
        return outcome

    def fill(self, Batch batch not None, times=None):
        """See `fastpath._capture_py.Records.fill`."""
        cdef Py_buffer view
        cdef uint64_t *stamps = NULL
        cdef Outcome outcome
        cdef uint32_t count
        if not self.held:
            raise ValueError("the capture is closed")
        if times is not None:
            request(times, &view, batch.b.capacity, True)
            stamps = <uint64_t *> view.buf
        try:
            if self.busy:
                raise ValueError("another thread reads this capture")
            self.busy = True
            try:
                batch.enter()
                try:
                    with nogil:
                        outcome = self.read(&batch.b, stamps)
                    batch._fresh(batch.b.count)
                    count = batch.b.count
                finally:
                    batch.leave()
            finally:
                self.busy = False
        finally:
            if times is not None:
                PyBuffer_Release(&view)
        if outcome == NO_MEMORY:
            raise MemoryError("interfaces of a capture")
        if outcome > END and not count:
            raise CaptureError(NAMES[<int> outcome - <int> RECORD_SHORT], self.at)
        return count

    def close(self):
        """See `fastpath._capture_py.Records.close`."""
        if self.busy:
            raise ValueError("another thread reads this capture")
        if self.held:
            self.held = False
            self.data = NULL
            PyBuffer_Release(&self.view)


cdef inline uint8_t *put(uint8_t *at, uint64_t word) noexcept nogil:
    cdef uint32_t little = htole32(<uint32_t> word)
    memcpy(at, &little, 4)
    return at + 4


def records(Batch batch not None, times=None, bint pcapng=True):
    """See `fastpath._capture_py.records`."""
    cdef Py_buffer view
    cdef const uint64_t *stamps = NULL
    cdef batch_t *b = &batch.b
    cdef uint64_t total = 0, time
    cdef uint32_t i, whole = 0, length
    cdef uint8_t *at
    batch.enter()
    try:
        if times is not None:
            request(times, &view, b.count, False)
            stamps = <const uint64_t *> view.buf
        try:
            for i in range(b.count):
                if not b.verdict[i]:
                    total += 32 + (b.length[i] + 3) // 4 * 4 if pcapng else 16 + b.length[i]
            made = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> total)
            at = <uint8_t *> PyBytes_AS_STRING(made)
            for i in range(b.count):
                if b.verdict[i]:
                    continue
                length = b.length[i]
                time = stamps[i] if stamps != NULL else 0
                if pcapng:
                    whole = 32 + (length + 3) // 4 * 4
                    at = put(put(put(at, PACKET), whole), 0)
                    at = put(put(put(put(at, time >> 32), time), length), length)
                else:
                    at = put(put(put(put(at, time // <uint64_t> SECOND), time % <uint64_t> SECOND), length), length)
                memcpy(at, b.memory + b.offset[i], length)
                at += length
                if pcapng:
                    memset(at, 0, whole - 32 - length)
                    at = put(at + (whole - 32 - length), whole)
        finally:
            if times is not None:
                PyBuffer_Release(&view)
    finally:
        batch.leave()
    return made


cdef int request(object times, Py_buffer *view, uint32_t count, bint writable) except -1:
    # The buffer of `times`, checked; to be released by the caller.
    cdef str problem = None
    PyObject_GetBuffer(times, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    if (
        view.format == NULL or (strcmp(view.format, b"Q") and strcmp(view.format, b"L")) or view.itemsize != 8
        or view.ndim != 1 or not PyBuffer_IsContiguous(view, c"C")
    ):
        problem = "times are a contiguous buffer of uint64"
    elif writable and view.readonly:
        problem = "times are a writable buffer of uint64"
    elif view.len // 8 < count:
        problem = f"times for {view.len // 8} of {count} packets"
    if problem is not None:
        PyBuffer_Release(view)
        raise ValueError(problem)
    return 0

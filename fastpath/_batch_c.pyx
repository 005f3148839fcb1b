"""Packets in one contiguous memory with columns beside it, compiled; `_batch_py` is the specification."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memmove, memset

from fastpath.batch_errors import BatchInUseError, FrameTooLongError


cdef extern from "sys/mman.h" nogil:
    void *mmap(void *at, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void *at, size_t size)
    int madvise(void *at, size_t size, int advice)
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MAP_FAILED
        MADV_HUGEPAGE

SLOT = 2048
HEADROOM = 128

cdef enum:
    COLUMNS_U32 = 9
    HUGE = 1 << 21


cdef class Column:
    """One column, or the memory, as a buffer; keeps its batch alive and from being closed."""

    cdef Batch batch
    cdef void *at
    cdef const char *format
    cdef Py_ssize_t itemsize
    cdef Py_ssize_t[2] shape
    cdef Py_ssize_t[2] strides
    cdef int dimensions
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.batch is None:
            raise ValueError("a column without a batch")
        if self.batch.b.memory == NULL:
            raise ValueError("the batch is closed")
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("offset and length are written by place() and fill() only")
        view.buf = self.at
        view.obj = self
        view.len = self.itemsize * self.shape[0] * (self.shape[1] if self.dimensions == 2 else 1)
        view.itemsize = self.itemsize
        view.readonly = self.readonly
        view.ndim = self.dimensions
        view.format = <char *> self.format if flags & PyBUF_FORMAT else NULL
        view.shape = self.shape if flags & PyBUF_ND else NULL
        view.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL
        self.batch.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.batch.exports -= 1


cdef class Batch:
    """See `fastpath._batch_py.Batch`."""

    def __cinit__(self, capacity, *, slot=SLOT, headroom=HEADROOM, huge=True):
        cdef size_t memory, column, keys, total
        cdef uint8_t *at
        cdef uint32_t *columns[COLUMNS_U32]
        cdef int i
        if not 1 <= capacity <= 1 << 22:
            raise ValueError("capacity is 1 to 4194304 packets")
        if not 256 <= slot <= 1 << 20 or slot % 64:
            raise ValueError("slot is 256 to 1048576 bytes, a multiple of 64")
        if not 0 <= headroom <= slot - 64 or headroom % 64:
            raise ValueError("headroom is a multiple of 64 that leaves at least 64 bytes of the slot")
        if capacity * slot > 0xFFFF0000:  # offsets are 32 bits
            raise ValueError("capacity times slot exceeds 4 GiB")
        self.b.slot = slot
        self.b.headroom = headroom
        self.b.capacity = capacity
        self.b.padded = (self.b.capacity + LANES - 1) // LANES * LANES
        # Behind the last slot, LANES bytes may be read, so that vector loads need no check.
        memory = (<size_t> self.b.capacity * self.b.slot + LANES + 4095) & ~<size_t> 4095
        column = <size_t> self.b.padded * 4
        # The key column is padded by one line for the same reason.
        keys = (<size_t> self.b.padded * KEY_BYTES + LANES + 63) & ~<size_t> 63
        total = (memory + (COLUMNS_U32 + 1) * column + keys + 4095) & ~<size_t> 4095
        at = <uint8_t *> mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if at == <uint8_t *> MAP_FAILED:
            raise MemoryError(f"{total} bytes for {capacity} packets")
        if huge and total >= HUGE:
            madvise(at, total, MADV_HUGEPAGE)
        self.mapped = total
        self.b.memory = at
        at += memory
        for i in range(COLUMNS_U32):
            columns[i] = <uint32_t *> at
            at += column
        self.b.offset, self.b.length, self.b.tunnel, self.b.vni = columns[0], columns[1], columns[2], columns[3]
        self.b.hash, self.b.flags, self.b.layers, self.b.verdict = columns[4], columns[5], columns[6], columns[7]
        self.b.ct = columns[8]
        self.b.rule = <int32_t *> at
        at += column
        self.b.key = <flow_key *> at
        self._reset()

    def __dealloc__(self):
        if self.b.memory != NULL:
            munmap(self.b.memory, self.mapped)

    cdef int enter(self) except -1:
        if self.b.memory == NULL:
            raise ValueError("the batch is closed")
        if self.busy:
            raise BatchInUseError("another thread runs a stage on this batch")
        self.busy = 1
        return 0

    cdef void leave(self) noexcept:
        self.busy = 0

    cdef void _reset(self) noexcept:
        # Every packet back to the start of its own slot, every column to its neutral value.
        cdef uint32_t i
        self.b.count = 0
        for i in range(self.b.padded):
            self.b.offset[i] = (i if i < self.b.capacity else self.b.capacity - 1) * self.b.slot + self.b.headroom
            self.b.length[i] = 0
            self.b.rule[i] = -1
        memset(self.b.tunnel, 0, <size_t> self.b.padded * 4 * 7)
        memset(self.b.key, 0, <size_t> self.b.padded * KEY_BYTES)

    cdef void _fresh(self, uint32_t count) noexcept:
        # The columns of the first `count` packets as after `clear`, without touching the rest.
        cdef uint32_t i
        cdef size_t size = <size_t> count * 4
        for i in range(count):
            self.b.offset[i] = i * self.b.slot + self.b.headroom
            self.b.rule[i] = -1
        memset(self.b.tunnel, 0, size)
        memset(self.b.vni, 0, size)
        memset(self.b.hash, 0, size)
        memset(self.b.flags, 0, size)
        memset(self.b.layers, 0, size)
        memset(self.b.verdict, 0, size)
        memset(self.b.ct, 0, size)

    cdef object _export(self, void *at, const char *format, Py_ssize_t itemsize, Py_ssize_t rows, Py_ssize_t row,
                        bint readonly):
        cdef Column column = Column.__new__(Column)
        if self.b.memory == NULL:
            raise ValueError("the batch is closed")
        column.batch = self
        column.at = at
        column.format = format
        column.itemsize = itemsize
        column.shape[0], column.shape[1] = rows, row
        column.strides[0], column.strides[1] = itemsize * (row if row else 1), itemsize
        column.dimensions = 2 if row else 1
        column.readonly = readonly
        return memoryview(column)

    def __len__(self):
        return self.b.count

    @property
    def count(self):
        return self.b.count

    @property
    def capacity(self):
        return self.b.capacity

    @property
    def slot(self):
        return self.b.slot

    @property
    def headroom(self):
        return self.b.headroom

    @property
    def memory(self):
        return self._export(self.b.memory, "B", 1, <Py_ssize_t> self.b.capacity * self.b.slot, 0, False)

    @property
    def offset(self):
        return self._export(self.b.offset, "I", 4, self.b.padded, 0, True)

    @property
    def length(self):
        return self._export(self.b.length, "I", 4, self.b.padded, 0, True)

    @property
    def tunnel(self):
        return self._export(self.b.tunnel, "I", 4, self.b.padded, 0, False)

    @property
    def vni(self):
        return self._export(self.b.vni, "I", 4, self.b.padded, 0, False)

    @property
    def hash(self):
        return self._export(self.b.hash, "I", 4, self.b.padded, 0, False)

    @property
    def flags(self):
        return self._export(self.b.flags, "I", 4, self.b.padded, 0, False)

    @property
    def layers(self):
        return self._export(self.b.layers, "I", 4, self.b.padded, 0, False)

    @property
    def verdict(self):
        return self._export(self.b.verdict, "I", 4, self.b.padded, 0, False)

    @property
    def ct(self):
        return self._export(self.b.ct, "I", 4, self.b.padded, 0, False)

    @property
    def rule(self):
        return self._export(self.b.rule, "i", 4, self.b.padded, 0, False)

    @property
    def key(self):
        return self._export(self.b.key, "B", 1, self.b.padded, KEY_BYTES, False)

    def clear(self):
        self.enter()
        try:
            self._reset()
        finally:
            self.leave()

    def fill(self, frames):
        cdef uint32_t i = 0
        cdef uint32_t room = self.b.slot - self.b.headroom
        cdef uint8_t *at
        cdef Py_ssize_t size
        cdef Py_buffer view
        self.enter()
        try:
            at = self.b.memory + self.b.headroom
            self.b.count = 0
            for frame in frames:
                if i == self.b.capacity:
                    break
                if type(frame) is bytes:
                    size = PyBytes_GET_SIZE(frame)
                    if size > room:
                        raise FrameTooLongError(i, size, room)
                    memmove(at, PyBytes_AS_STRING(frame), size)
                else:
                    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
                    try:
                        size = view.len
                        if size > room:
                            raise FrameTooLongError(i, size, room)
                        memmove(at, view.buf, size)
                    finally:
                        PyBuffer_Release(&view)
                self.b.length[i] = <uint32_t> size
                at += self.b.slot
                i += 1
            self._fresh(i)
            self.b.count = i
        finally:
            self.leave()
        return i

    def place(self, index, offset, length):
        cdef Py_ssize_t i = index, start = offset, size = length, slot
        self.enter()
        try:
            if not 0 <= i < self.b.count:
                raise IndexError(f"packet {index} of {self.b.count}")
            slot = slot_start(&self.b, <uint32_t> i)
            # Also an empty packet begins within its slot: by its offset, the slot is found again.
            if not (slot <= start < slot + self.b.slot and 0 <= size and start + size <= slot + self.b.slot):
                raise ValueError(f"offset {offset} and length {length} leave the slot of packet {index}")
            self.b.offset[i] = <uint32_t> start
            self.b.length[i] = <uint32_t> size
        finally:
            self.leave()

    def frame(self, index):
        cdef Py_ssize_t i = index
        if self.b.memory == NULL:
            raise ValueError("the batch is closed")
        if not 0 <= i < self.b.count:
            raise IndexError(f"packet {index} of {self.b.count}")
        return PyBytes_FromStringAndSize(<char *> self.b.memory + self.b.offset[i], self.b.length[i])

    def frames(self):
        cdef uint32_t i
        if self.b.memory == NULL:
            raise ValueError("the batch is closed")
        return [
            PyBytes_FromStringAndSize(<char *> self.b.memory + self.b.offset[i], self.b.length[i])
            for i in range(self.b.count)
        ]

    def views(self):
        cdef uint32_t i
        memory = self.memory
        return [memory[self.b.offset[i]:self.b.offset[i] + self.b.length[i]] for i in range(self.b.count)]

    def compact(self):
        # Every column of a packet that goes on moves down, in order; a dropped packet's slot goes to the end.
        cdef uint32_t i, kept = 0
        cdef uint32_t offset
        self.enter()
        try:
            for i in range(self.b.count):
                if self.b.verdict[i]:
                    continue
                if i != kept:
                    offset = self.b.offset[kept]
                    self.b.offset[kept] = self.b.offset[i]
                    self.b.offset[i] = offset
                    self.b.length[kept] = self.b.length[i]
                    self.b.tunnel[kept] = self.b.tunnel[i]
                    self.b.vni[kept] = self.b.vni[i]
                    self.b.hash[kept] = self.b.hash[i]
                    self.b.flags[kept] = self.b.flags[i]
                    self.b.layers[kept] = self.b.layers[i]
                    self.b.rule[kept] = self.b.rule[i]
                    self.b.key[kept] = self.b.key[i]
                    self.b.verdict[kept] = 0
                    self.b.ct[kept] = self.b.ct[i]
                kept += 1
            self.b.count = kept
        finally:
            self.leave()
        return kept

    def close(self):
        if self.b.memory == NULL:
            return
        if self.exports or self.busy:
            raise BatchInUseError("views of this batch are still held")
        munmap(self.b.memory, self.mapped)
        self.b.memory = NULL
        self.b.count = 0

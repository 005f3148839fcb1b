"""Token buckets and marking, compiled; `_meter_py` is the specification."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock,
)
from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastpath._batch_c cimport Batch, batch_t

from fastpath.flags import Flags
from fastpath.meters import BILLION, CAPACITY, Counts, Meter, MeterError, Tokens
from fastpath.reasons import Reason

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **at, size_t alignment, size_t size)

cdef extern from *:
    bint mul_overflow "__builtin_mul_overflow"(uint64_t a, uint64_t b, uint64_t *product) nogil
    void __builtin_prefetch(const void *at, int write) nogil

cdef enum:
    # Bits of a mode.
    LIVE = 1 << 0
    TWO_RATES = 1 << 1
    PACKETS = 1 << 2
    AWARE = 1 << 3
    DROP_RED = 1 << 4
    DROP_YELLOW = 1 << 5
    GREEN = 0
    YELLOW = 1
    RED = 2
    AHEAD = 8               # packets whose meters are fetched early

cdef uint32_t YELLOW_BIT = Flags.YELLOW, RED_BIT = Flags.RED, METERED = Reason.METERED
cdef uint64_t UNIT = BILLION

ctypedef struct meter_t:    # 64 bytes; amounts in billionths of a byte or packet
    uint64_t last           # ns
    uint64_t committed      # what is in the buckets
    uint64_t other
    uint64_t most_committed # what fits
    uint64_t most_other
    uint64_t rate           # a second in bytes or packets: a nanosecond in billionths
    uint64_t peak
    uint32_t mode
    int32_t overhead        # bytes

ctypedef struct counts_t:
    uint64_t packets[3]
    uint64_t bytes[3]
    uint64_t spare[2]

COLUMNS = ("tunnel", "vni", "rule")


cdef inline void refill(meter_t *m, uint64_t elapsed) noexcept nogil:
    # A product beyond 64 bits fills any bucket.
    cdef uint64_t more = 0, room = m.most_committed - m.committed, over = 0
    cdef bint endless = mul_overflow(m.rate, elapsed, &more)
    if endless or more > room:
        over = more - room
        m.committed = m.most_committed
    else:
        m.committed += more
    if m.mode & TWO_RATES:
        endless = mul_overflow(m.peak, elapsed, &over)
    room = m.most_other - m.other
    m.other = m.most_other if endless or over > room else m.other + over


cdef inline int colour_of(meter_t *m, uint64_t cost, int floor) noexcept nogil:
    cdef bint fits = m.committed >= cost
    if not m.mode & TWO_RATES:
        if floor == GREEN and fits:
            m.committed -= cost
            return GREEN
        if floor <= YELLOW and m.other >= cost:
            m.other -= cost
            return YELLOW
        return RED
    if floor == RED or m.other < cost:
        return RED
    m.other -= cost
    if floor == GREEN and fits:
        m.committed -= cost
        return GREEN
    return YELLOW


cdef uint32_t run(
    batch_t *b, meter_t *table, counts_t *counts, uint32_t capacity, const uint32_t *numbers, const uint32_t *mapping,
    size_t mapped, uint64_t now
) noexcept nogil:
    cdef uint32_t i, ahead, index, passed = 0
    cdef uint64_t size
    cdef int colour, floor
    cdef meter_t *m
    for i in range(b.count):
        if i + AHEAD < b.count:
            ahead = numbers[i + AHEAD]
            if mapping != NULL:
                ahead = mapping[ahead] if ahead < mapped else capacity
            if ahead < capacity:
                __builtin_prefetch(&table[ahead], 1)
        if b.verdict[i]:
            continue
        index = numbers[i]
        if mapping != NULL:
            index = mapping[index] if index < mapped else capacity
        if index >= capacity or not table[index].mode:
            passed += 1
            continue
        m = &table[index]
        if now > m.last:
            refill(m, now - m.last)
            m.last = now
        size = b.length[i] + <uint64_t> m.overhead
        if <long long> size < 0:
            size = 0
        floor = GREEN
        if m.mode & AWARE:
            floor = RED if b.flags[i] & RED_BIT else YELLOW if b.flags[i] & YELLOW_BIT else GREEN
        colour = colour_of(m, UNIT if m.mode & PACKETS else size * UNIT, floor)
        counts[index].packets[colour] += 1
        counts[index].bytes[colour] += size
        b.flags[i] = b.flags[i] & ~(YELLOW_BIT | RED_BIT)
        if colour != GREEN:
            b.flags[i] |= RED_BIT if colour == RED else YELLOW_BIT
            if m.mode & (DROP_RED if colour == RED else DROP_YELLOW):
                b.verdict[i] = METERED
                continue
        passed += 1
    return passed


cdef class Meters:
    """See `fastpath._meter_py.Meters`."""

    cdef meter_t *table
    cdef counts_t *counted
    cdef uint32_t _capacity
    cdef uint32_t _used
    cdef list _free
    cdef PyThread_type_lock lock    # held while a meter is read or written

    def __cinit__(self, capacity=CAPACITY):
        cdef void *at = NULL
        cdef size_t size
        if not 1 <= capacity <= 1 << 20:
            raise MeterError("capacity", f"{capacity} is not 1 to {1 << 20}")
        self._capacity = capacity
        self._free = []
        size = <size_t> self._capacity * (sizeof(meter_t) + sizeof(counts_t))
        if posix_memalign(&at, 64, size):
            raise MemoryError(f"{capacity} meters")
        memset(at, 0, size)
        self.table = <meter_t *> at
        self.counted = <counts_t *> (self.table + self._capacity)
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError("a lock")

    def __dealloc__(self):
        free(self.table)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    def __len__(self):
        return self._used

    def __contains__(self, index):
        return isinstance(index, int) and 0 <= index < self._capacity and self.table[<uint32_t> index].mode != 0

    @property
    def capacity(self):
        return self._capacity

    cdef meter_t _read(self, index) except *:
        cdef uint32_t i
        cdef meter_t found
        if index not in self:
            raise KeyError(index)
        i = index
        with nogil:
            PyThread_acquire_lock(self.lock, 1)
            found = self.table[i]
            PyThread_release_lock(self.lock)
        return found

    cdef bint _write(self, uint32_t index, meter, bint keep) except -1:
        # False: the meter that was to be replaced is not there.
        cdef meter_t m
        cdef bint there
        memset(&m, 0, sizeof(m))
        m.most_committed = meter.burst * BILLION
        m.most_other = (meter.excess if meter.peak_burst is None else meter.peak_burst) * BILLION
        m.rate = meter.rate
        m.peak = meter.peak or 0
        m.mode = (
            LIVE | (TWO_RATES if meter.peak is not None else 0) | (PACKETS if meter.unit == "packets" else 0)
            | (AWARE if meter.aware else 0) | (0 if meter.drop is None else DROP_RED)
            | (DROP_YELLOW if meter.drop == "yellow" else 0)
        )
        m.overhead = meter.overhead
        m.committed, m.other = m.most_committed, m.most_other
        with nogil:
            PyThread_acquire_lock(self.lock, 1)
            there = self.table[index].mode != 0
            if keep:
                m.last = self.table[index].last
                m.committed = min(m.committed, self.table[index].committed)
                m.other = min(m.other, self.table[index].other)
            else:
                memset(&self.counted[index], 0, sizeof(counts_t))
            if there == keep:
                self.table[index] = m
            PyThread_release_lock(self.lock)
        return there == keep

    def add(self, meter):
        cdef uint32_t index
        if not isinstance(meter, Meter):
            raise TypeError("a meter is a fastpath.meter.Meter")
        if self._used == self._capacity:
            raise MeterError("capacity", f"the table takes {self._capacity} meters")
        # The number is taken before `_write` lets other threads run.
        index = self._free.pop() if self._free else self._used
        self._used += 1
        try:
            self._write(index, meter, False)
        except BaseException:
            self._free.append(index)
            self._used -= 1
            raise
        return index

    def replace(self, index, meter):
        if not isinstance(meter, Meter):
            raise TypeError("a meter is a fastpath.meter.Meter")
        if index not in self or not self._write(index, meter, True):
            raise KeyError(index)

    def remove(self, index):
        cdef uint32_t i
        cdef bint there
        if index not in self:
            raise KeyError(index)
        i = index
        with nogil:
            PyThread_acquire_lock(self.lock, 1)
            there = self.table[i].mode != 0
            self.table[i].mode = 0
            PyThread_release_lock(self.lock)
        if not there:
            raise KeyError(index)       # another thread was first
        self._free.append(index)
        self._used -= 1

    def meter(self, index):
        cdef meter_t m = self._read(index)
        two = bool(m.mode & TWO_RATES)
        return Meter(
            rate=m.rate, burst=m.most_committed // UNIT, excess=0 if two else m.most_other // UNIT,
            peak=m.peak if two else None, peak_burst=m.most_other // UNIT if two else None,
            unit="packets" if m.mode & PACKETS else "bytes", aware=bool(m.mode & AWARE),
            drop="yellow" if m.mode & DROP_YELLOW else "red" if m.mode & DROP_RED else None, overhead=m.overhead,
        )

    def counts(self, index):
        cdef counts_t c
        cdef uint32_t i
        if index not in self:
            raise KeyError(index)
        i = index
        with nogil:
            PyThread_acquire_lock(self.lock, 1)
            c = self.counted[i]
            PyThread_release_lock(self.lock)
        return Counts(c.packets[0], c.packets[1], c.packets[2], c.bytes[0], c.bytes[1], c.bytes[2])

    def tokens(self, index):
        cdef meter_t m = self._read(index)
        return Tokens(m.last, m.committed, m.other)


cdef words(str field, buffer, Py_buffer *view):
    # A buffer of 32-bit integers.
    PyObject_GetBuffer(buffer, view, PyBUF_SIMPLE | PyBUF_FORMAT)
    if view.itemsize != 4 or <size_t> view.buf % 4:
        PyBuffer_Release(view)
        raise ValueError(f"{field}: is not a buffer of 32-bit integers")


def meter(Batch batch not None, Meters meters not None, now, *, by="tunnel", mapping=None):
    cdef Py_buffer numbers, table
    cdef const uint32_t *column
    cdef uint64_t time
    cdef uint32_t passed
    cdef size_t mapped = 0
    cdef bint held = False, mapped_held = False
    if not 0 <= now < 1 << 64:
        raise ValueError("now is nanoseconds, 64 bits")
    time = now
    if isinstance(by, str) and by not in COLUMNS:
        raise ValueError(f"by: {by!r} is not {', '.join(COLUMNS)} or a buffer")
    batch.enter()
    try:
        table.buf = NULL
        try:
            if isinstance(by, str):
                column = batch.b.tunnel if by == "tunnel" else batch.b.vni if by == "vni" else <uint32_t *> batch.b.rule
            else:
                words("by", by, &numbers)
                held = True
                column = <const uint32_t *> numbers.buf
                if <size_t> numbers.len // 4 < batch.b.count:
                    raise ValueError(f"by: {batch.b.count} packets need as many numbers")
            if mapping is not None:
                words("mapping", mapping, &table)
                mapped_held = True
                mapped = <size_t> table.len // 4
            with nogil:
                PyThread_acquire_lock(meters.lock, 1)
                passed = run(
                    &batch.b, meters.table, meters.counted, meters._capacity, column, <const uint32_t *> table.buf,
                    mapped, time,
                )
                PyThread_release_lock(meters.lock)
        finally:
            if held:
                PyBuffer_Release(&numbers)
            if mapped_held:
                PyBuffer_Release(&table)
    finally:
        batch.leave()
    return passed


cdef inline bint mark_one(uint8_t *ip, uint32_t room, uint32_t dscp) noexcept nogil:
    # The field is bits 8 to 13 of the header's first word in IPv4, 4 to 9 of it in IPv6.
    cdef uint32_t version = ip[0] >> 4, shift = 2 if version == 4 else 6, before, after, total
    if (version != 4 and version != 6) or room < <uint32_t> (20 if version == 4 else 40):
        return False
    before = <uint32_t> ip[0] << 8 | ip[1]
    after = (before & ~(<uint32_t> 0x3F << shift)) | dscp << shift
    if after == before:
        return False
    ip[0], ip[1] = <uint8_t> (after >> 8), <uint8_t> after
    if version == 4:
        total = (~(<uint32_t> ip[10] << 8 | ip[11]) & 0xFFFF) + (~before & 0xFFFF) + after
        total = (total & 0xFFFF) + (total >> 16)
        total = ~((total & 0xFFFF) + (total >> 16))
        ip[10], ip[11] = <uint8_t> (total >> 8), <uint8_t> total
    return True


cdef uint32_t mark_all(batch_t *b, const int *wanted) noexcept nogil:
    cdef uint32_t i, start, changed = 0
    cdef int dscp
    for i in range(b.count):
        dscp = wanted[RED if b.flags[i] & RED_BIT else YELLOW if b.flags[i] & YELLOW_BIT else GREEN]
        start = b.layers[i] & 0xFFFF
        if b.verdict[i] or dscp < 0 or not start or start >= b.length[i]:
            continue
        changed += mark_one(b.memory + b.offset[i] + start, b.length[i] - start, <uint32_t> dscp)
    return changed


def mark(Batch batch not None, *, green=None, yellow=None, red=None):
    cdef int[3] wanted
    cdef uint32_t changed
    cdef int i = 0
    for name, value in (("green", green), ("yellow", yellow), ("red", red)):
        if value is not None and not 0 <= value <= 63:
            raise ValueError(f"{name}: a DSCP is 0 to 63")
        wanted[i] = -1 if value is None else value
        i += 1
    batch.enter()
    try:
        with nogil:
            changed = mark_all(&batch.b, wanted)
    finally:
        batch.leave()
    return changed

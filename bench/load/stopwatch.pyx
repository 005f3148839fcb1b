"""What the per-packet cases need at C speed: a clock around calls, and the packets that they find.

Bench only: built on demand into .cache/bench (bench/compile.py), never part of the wheel.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from fastpath._batch_c cimport Batch, flow_key

cdef extern from *:
    """
    #include <time.h>
    #if defined(__x86_64__)
    #include <x86intrin.h>
    /* Fenced on both sides: a short call must not run into the reading of the clock. */
    static inline uint64_t ticks_before(void) {
        _mm_lfence(); uint64_t ticks = __rdtsc(); _mm_lfence(); return ticks;
    }
    static inline uint64_t ticks_after(void) {
        unsigned int core; uint64_t ticks = __rdtscp(&core); _mm_lfence(); return ticks;
    }
    #else
    static inline uint64_t ticks_before(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
    }
    #define ticks_after ticks_before
    #endif
    static inline uint64_t nanoseconds(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC_RAW, &t);
        return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
    }
    /* Laid out as in anchor.c. */
    struct columns {
        uint8_t *memory; uint32_t *offset; uint32_t *length; uint32_t *vni; uint32_t *hash; uint32_t *verdict;
        void *key; uint32_t count;
    };
    typedef uint64_t (*anchor_stage)(struct columns *, const void *);
    typedef uint32_t (*anchor_sum)(const uint8_t *, size_t);
    typedef uint32_t (*anchor_cut)(const uint8_t *, uint32_t, uint8_t *, uint32_t, uint32_t);
    """
    uint64_t ticks_before() noexcept nogil
    uint64_t ticks_after() noexcept nogil
    uint64_t nanoseconds() noexcept nogil
    struct columns:
        uint8_t *memory
        uint32_t *offset
        uint32_t *length
        uint32_t *vni
        uint32_t *hash
        uint32_t *verdict
        void *key
        uint32_t count
    ctypedef uint64_t (*anchor_stage)(columns *, const void *) noexcept nogil
    ctypedef uint32_t (*anchor_sum)(const uint8_t *, size_t) noexcept nogil
    ctypedef uint32_t (*anchor_cut)(const uint8_t *, uint32_t, uint8_t *, uint32_t, uint32_t) noexcept nogil

cdef extern from "Python.h":
    object PyObject_Vectorcall(object call, void *const *arguments, size_t count, void *names)

cdef enum:
    MOST_ARGUMENTS = 4
    KEPT = 1 << 14
    GROUP = 2048        # packets


cdef int _compare(const void *one, const void *other) noexcept nogil:
    cdef uint64_t a = (<const uint64_t *> one)[0], b = (<const uint64_t *> other)[0]
    return (a > b) - (a < b)


cdef class Ticks:
    """What calls took, as sums of `group` calls, the last KEPT of them; the median is that of the groups.

    It is free of what an interrupt or another process took. A group is long against the counter's steps, which can be
    10 ns wide.
    """

    cdef uint64_t *kept
    cdef uint64_t count, sum
    cdef uint32_t group, have

    def __cinit__(self, uint32_t group=1):
        self.group = max(1, group)
        self.kept = <uint64_t *> PyMem_Malloc(KEPT * sizeof(uint64_t))
        if self.kept == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.kept)

    cdef inline void add(self, uint64_t ticks) noexcept:
        self.sum += ticks
        self.have += 1
        if self.have == self.group:
            self.kept[self.count % KEPT] = self.sum
            self.count += 1
            self.sum = self.have = 0

    cdef double median(self) noexcept:
        # Of one call. Less than a group is better than nothing.
        cdef uint64_t groups = min(self.count, <uint64_t> KEPT)
        if groups == 0:
            return self.sum / <double> max(1, self.have)
        qsort(self.kept, groups, sizeof(uint64_t), _compare)
        return self.kept[groups // 2] / <double> self.group


cdef class Schedule:
    """The packets of a batch as they lie now, given to a stage in chunks, again and again.

    `order` (bytes of 32-bit packet numbers; None: all in turn) may name packets in any order and more than once.
    Before each call the chunk's offsets and lengths are put back and its verdicts cleared, outside the clock.
    """

    cdef Batch batch
    cdef bytes before
    cdef uint32_t *offset
    cdef uint32_t *length
    cdef readonly uint32_t packets
    cdef readonly uint32_t chunk

    def __cinit__(self, Batch batch not None, uint32_t chunk, bytes order=None):
        cdef const uint8_t *text
        cdef uint32_t i, number
        self.batch = batch
        self.before = (<char *> batch.b.offset)[:batch.b.count * 4] + (<char *> batch.b.length)[:batch.b.count * 4]
        self.packets = batch.b.count if order is None else <uint32_t> (len(order) // 4)
        if not 1 <= chunk <= batch.b.capacity or self.packets == 0 or self.packets % chunk:
            raise ValueError(f"{self.packets} packets are no multiple of {chunk}, or the batch is smaller")
        self.chunk = chunk
        self.offset = <uint32_t *> PyMem_Malloc(self.packets * 4)
        self.length = <uint32_t *> PyMem_Malloc(self.packets * 4)
        if self.offset == NULL or self.length == NULL:
            raise MemoryError
        text = NULL if order is None else <const uint8_t *> order
        for i in range(self.packets):
            number = i
            if text != NULL:
                memcpy(&number, text + i * 4, 4)
                if number >= batch.b.count:
                    raise ValueError(f"packet {number} of {batch.b.count}")
            self.offset[i] = batch.b.offset[number]
            self.length[i] = batch.b.length[number]

    def __dealloc__(self):
        PyMem_Free(self.offset)
        PyMem_Free(self.length)

    cdef void _put(self, uint32_t first) noexcept:
        cdef size_t size = <size_t> self.chunk * 4
        memcpy(self.batch.b.offset, self.offset + first, size)
        memcpy(self.batch.b.length, self.length + first, size)
        memset(self.batch.b.verdict, 0, size)
        self.batch.b.count = self.chunk

    def restore(self):
        """The whole batch as it was when the schedule was made, every other column cleared."""
        cdef uint32_t count = <uint32_t> (len(self.before) // 8)
        cdef const char *at = self.before
        self.batch._fresh(count)
        memset(self.batch.b.key, 0, count * sizeof(flow_key))
        memcpy(self.batch.b.offset, at, <size_t> count * 4)
        memcpy(self.batch.b.length, at + <size_t> count * 4, <size_t> count * 4)
        self.batch.b.count = count

    def rewind(self, uint32_t first=0):
        """Put the chunk that begins with packet `first` of the order into the batch, every other column cleared."""
        if first + self.chunk > self.packets:
            raise ValueError(f"packet {first} of {self.packets}")
        self.batch._fresh(self.chunk)
        memset(self.batch.b.key, 0, self.chunk * sizeof(flow_key))
        self._put(first)

    def time(self, call, tuple arguments not None, uint64_t passes):
        """TSC ticks of one call of `call(*arguments)` for a chunk: the median over all chunks, `passes` times."""
        cdef Ticks ticks = Ticks(GROUP // self.chunk)
        cdef uint64_t before, turn
        cdef uint32_t first
        cdef void *values[MOST_ARGUMENTS]
        cdef size_t count = len(arguments)
        if count > MOST_ARGUMENTS:
            raise ValueError("too many arguments")
        for i in range(len(arguments)):
            values[i] = <void *> arguments[i]
        for turn in range(passes):
            for first in range(0, self.packets, self.chunk):
                self._put(first)
                before = ticks_before()
                result = PyObject_Vectorcall(call, values, count, NULL)
                ticks.add(ticks_after() - before)
        return ticks.median()

    def time_stages(self, list calls not None, uint64_t passes):
        """TSC ticks of calling all of `calls`, without arguments, one after the other for a chunk: all, then each."""
        cdef Ticks whole = Ticks(GROUP // self.chunk)
        cdef list each = [Ticks(GROUP // self.chunk) for _ in calls]
        cdef uint64_t began, before, now, turn
        cdef uint32_t first
        for turn in range(passes):
            for first in range(0, self.packets, self.chunk):
                self._put(first)
                began = before = ticks_before()
                for call, ticks in zip(calls, each):
                    PyObject_Vectorcall(call, NULL, 0, NULL)
                    now = ticks_after()
                    (<Ticks> ticks).add(now - before)
                    before = now
                whole.add(before - began)
        return whole.median(), tuple((<Ticks> ticks).median() for ticks in each)

    def time_anchor(self, uintptr_t function, uintptr_t state, uint64_t passes):
        """As `time`, of a function of anchor.c."""
        cdef Ticks ticks = Ticks(GROUP // self.chunk)
        cdef uint64_t before, turn
        cdef uint32_t first
        cdef columns c = self._columns()
        for turn in range(passes):
            for first in range(0, self.packets, self.chunk):
                self._put(first)
                before = ticks_before()
                (<anchor_stage> function)(&c, <const void *> state)
                ticks.add(ticks_after() - before)
        return ticks.median()

    def run_anchor(self, uintptr_t function, uintptr_t state):
        """One call of a function of anchor.c on the batch as it is: how many packets it let go on."""
        cdef columns c = self._columns()
        return (<anchor_stage> function)(&c, <const void *> state)

    cdef columns _columns(self) noexcept:
        cdef columns c
        c.memory, c.offset, c.length, c.vni = (
            self.batch.b.memory, self.batch.b.offset, self.batch.b.length, self.batch.b.vni
        )
        c.hash, c.verdict, c.key, c.count = self.batch.b.hash, self.batch.b.verdict, self.batch.b.key, self.chunk
        return c


def time_calls(call, list arguments not None, uint64_t passes):
    """Ticks of calling `call` with each of `arguments` in turn, from C: without the interpreter's own loop.

    The median of `passes`; so of the next two.
    """
    cdef Ticks ticks = Ticks()
    cdef uint64_t before, turn
    cdef void *value
    for turn in range(passes):
        before = ticks_before()
        for argument in arguments:
            value = <void *> argument
            PyObject_Vectorcall(call, &value, 1, NULL)
        ticks.add(ticks_after() - before)
    return ticks.median()


def time_sum(uintptr_t function, const uint8_t[::1] data not None, uint32_t times, uint64_t passes):
    """Ticks of `times` checksums of `data` by anchor.c."""
    cdef Ticks ticks = Ticks()
    cdef uint64_t before, turn, total = 0
    cdef const uint8_t *at = &data[0]
    cdef size_t size = data.shape[0]
    cdef uint32_t i
    for turn in range(passes):
        before = ticks_before()
        for i in range(times):
            total += (<anchor_sum> function)(at, size)
        ticks.add(ticks_after() - before)
    # Never: it keeps the compiler from dropping the loop.
    return 0 if total == 1 else ticks.median()


def time_segment(uintptr_t function, const uint8_t[::1] frame not None, uint8_t[::1] target not None, uint32_t stride,
                 uint32_t mss, uint64_t passes):
    """Ticks of cutting `frame` by anchor.c, into `target`; that must have room."""
    cdef Ticks ticks = Ticks()
    cdef uint64_t before, turn
    cdef uint32_t size = <uint32_t> frame.shape[0]
    if target.shape[0] < (size // mss + 1) * <Py_ssize_t> stride:
        raise ValueError("the target is too small")
    for turn in range(passes):
        before = ticks_before()
        (<anchor_cut> function)(&frame[0], size, &target[0], stride, mss)
        ticks.add(ticks_after() - before)
    return ticks.median()


def clock(uint32_t milliseconds=50):
    """(ticks per nanosecond, ticks of an interval in which nothing happens)."""
    cdef uint64_t before = nanoseconds(), ticks = ticks_before(), start
    cdef Ticks empty = Ticks(1000)
    cdef int i
    while nanoseconds() - before < <uint64_t> milliseconds * 1000000:
        pass
    rate = (ticks_after() - ticks) / <double> (nanoseconds() - before)
    for i in range(100000):
        start = ticks_before()
        empty.add(ticks_after() - start)
    return rate, empty.median()

"""What the per-packet cases need at C speed: packets made from templates, and a clock around one call.

Bench only: built on demand into .cache/bench (bench/compile.py), never part of the wheel.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport pow
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
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

ETHERNET = 14
cdef enum:
    TCP = 6
    UDP = 17
    MOST_ARGUMENTS = 4
    KEPT = 1 << 14
    GROUP = 2048        # packets


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    # splitmix64: one number of its sequence.
    x += 0x9E3779B97F4A7C15ULL
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL
    return x ^ (x >> 31)


cdef inline uint32_t fold(uint64_t total) noexcept nogil:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <uint32_t> total


cdef inline uint32_t get16(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 8) | at[1]


cdef inline void put16(uint8_t *at, uint32_t word) noexcept nogil:
    at[0] = <uint8_t> (word >> 8)
    at[1] = <uint8_t> word


cdef uint32_t words(const uint8_t *at, uint32_t size) noexcept nogil:
    # The ones' complement sum of an even number of bytes.
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(0, size, 2):
        total += get16(at + i)
    return fold(total)


cdef void header_checksum(uint8_t *ip) noexcept nogil:
    cdef uint32_t size = (ip[0] & 15) * 4
    put16(ip + 10, 0)
    put16(ip + 10, words(ip, size) ^ 0xFFFF)


cdef void personalise(uint8_t *frame, uint32_t l3, uint32_t l4, int version, int protocol, uint64_t flow,
                      uint64_t seed) noexcept nogil:
    # Addresses, ports and source MAC of `flow`; different for every flow below 2^24. The layer 4 checksum is
    # brought up to date by the difference (RFC 1624), the header's is made anew.
    cdef uint64_t r = mix(seed ^ mix(flow))
    cdef uint32_t number = <uint32_t> ((flow * 0x9E3779B1ULL + seed) & 0xFFFFFF)
    cdef uint32_t before, after
    cdef uint8_t *addresses = frame + l3 + (12 if version == 4 else 8)
    cdef uint32_t size = 8 if version == 4 else 32
    cdef uint8_t *check = frame + l4 + (16 if protocol == TCP else 6)
    before = words(addresses, size) + words(frame + l4, 4)
    frame[9], frame[10], frame[11] = <uint8_t> (number >> 16), <uint8_t> (number >> 8), <uint8_t> number
    if version == 4:
        addresses[0] = 10
        addresses[4] = 10
        addresses[1], addresses[2], addresses[3] = frame[9], frame[10], frame[11]
        addresses[5], addresses[6], addresses[7] = <uint8_t> (r >> 16), <uint8_t> (r >> 8), <uint8_t> r
    else:
        addresses[13], addresses[14], addresses[15] = frame[9], frame[10], frame[11]
        addresses[29], addresses[30], addresses[31] = <uint8_t> (r >> 16), <uint8_t> (r >> 8), <uint8_t> r
    # Ports that no protocol is known for: scapy would take the payload for one.
    put16(frame + l4, 49152 + ((r >> 24) & 0x3FFF))
    put16(frame + l4 + 2, 20000 + ((r >> 40) & 0x3FFF))
    after = words(addresses, size) + words(frame + l4, 4)
    after = fold(<uint64_t> (get16(check) ^ 0xFFFF) + (fold(before) ^ 0xFFFF) + fold(after)) ^ 0xFFFF
    if protocol == UDP and after == 0:
        after = 0xFFFF
    put16(check, after)
    if version == 4:
        header_checksum(frame + l3)


cdef void wrap(uint8_t *frame, uint32_t outer, uint32_t length, uint32_t port) noexcept nogil:
    # The lengths, source port and checksum of an outer header (Ethernet, IPv4 or IPv6, UDP, VXLAN) that lies there.
    cdef uint8_t *ip = frame + 14
    cdef uint8_t *udp
    if ip[0] >> 4 == 4:
        udp = ip + 20
        put16(ip + 2, length + outer - 14)
        header_checksum(ip)
    else:
        udp = ip + 40
        put16(ip + 4, length + outer - 54)
    put16(udp, port)
    put16(udp + 4, length + 16)


cdef class Flows:
    """Numbers of flows below `flows`, drawn uniformly or, with `exponent` > 0, by Zipf's law."""

    cdef double *bounds
    cdef uint32_t flows

    def __cinit__(self, uint32_t flows, double exponent=0.0):
        cdef uint32_t i
        cdef double total = 0.0
        if not 1 <= flows <= 1 << 24:
            raise ValueError("1 to 16777216 flows")
        self.flows = flows
        if exponent <= 0.0:
            return
        self.bounds = <double *> PyMem_Malloc(flows * sizeof(double))
        if self.bounds == NULL:
            raise MemoryError
        for i in range(flows):
            total += 1.0 / pow(i + 1, exponent)
            self.bounds[i] = total
        for i in range(flows):
            self.bounds[i] /= total

    def __dealloc__(self):
        PyMem_Free(self.bounds)

    cdef uint32_t draw(self, uint64_t random) noexcept nogil:
        cdef uint32_t low = 0, high, middle
        cdef double wanted
        if self.bounds == NULL:
            return <uint32_t> (((random >> 32) * self.flows) >> 32)
        wanted = (random >> 11) * (1.0 / 9007199254740992.0)
        high = self.flows - 1
        while low < high:
            middle = (low + high) // 2
            if self.bounds[middle] < wanted:
                low = middle + 1
            else:
                high = middle
        return low


def draws(Flows flows not None, uint32_t count, uint64_t seed):
    """`count` numbers of flows, as the bytes of 32-bit integers."""
    cdef bytearray made = bytearray(count * 4)
    cdef uint8_t[::1] view = made
    cdef uint32_t *at = <uint32_t *> &view[0]
    cdef uint32_t i
    for i in range(count):
        at[i] = flows.draw(mix(seed + i))
    return bytes(made)


def expand(Batch batch not None, list templates not None, uint32_t groups, Flows flows, uint32_t count,
           uint64_t seed, bytes outer not None=b""):
    """Fill `batch` with `count` packets made from `templates`.

    A template is (frame, layer 3 offset, layer 4 offset, IP version or 0, protocol); one with version 0 is copied as
    it is. They are `groups` groups of equally many: the flow decides the group, the packet's number the member.
    `flows` draws the flow of each packet; None: packet i is of flow i. With `outer`, each packet is wrapped in that
    header, whose lengths, checksum and source port are filled in. Raises ValueError if a packet does not fit a slot.
    """
    cdef uint32_t i, size, l3, l4, longest = 0, members, head = <uint32_t> len(outer)
    cdef uint64_t flow, random
    cdef uint8_t *at
    cdef const uint8_t *header = outer
    cdef const uint8_t *frame
    cdef int version, protocol
    cdef size_t chosen
    if not templates or groups == 0 or len(templates) % groups:
        raise ValueError("templates are groups of equally many")
    if not 1 <= count <= batch.b.capacity:
        raise ValueError(f"1 to {batch.b.capacity} packets")
    for template in templates:
        longest = max(longest, len(template[0]))
    if batch.b.headroom + head + longest > batch.b.slot:
        raise ValueError(f"{head + longest} bytes do not fit a slot of {batch.b.slot} with {batch.b.headroom} before")
    members = <uint32_t> (len(templates) // groups)
    batch.enter()
    try:
        batch._fresh(count)
        for i in range(count):
            random = mix(seed + i)
            flow = i if flows is None else flows.draw(random)
            chosen = (flow % groups) * members + (mix(random) >> 32) % members
            frame_bytes, l3, l4, version, protocol = templates[chosen]
            frame = <bytes> frame_bytes
            size = <uint32_t> len(<bytes> frame_bytes)
            at = batch.b.memory + batch.b.offset[i]
            memcpy(at, header, head)
            memcpy(at + head, frame, size)
            if version:
                personalise(at + head, l3, l4, version, protocol, flow, seed)
            if head:
                wrap(at, head, size, 49152 + (<uint32_t> (mix(seed ^ mix(flow + 1)) >> 32) & 0x3FFF))
            batch.b.length[i] = head + size
        batch.b.count = count
    finally:
        batch.leave()


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


def turn(Batch batch not None):
    """Every key as that of its packet's answer; of ICMP the types stay."""
    cdef uint32_t i
    cdef flow_key *key
    cdef uint8_t address[16]
    for i in range(batch.b.count):
        key = &batch.b.key[i]
        memcpy(address, key.source, 16)
        memcpy(key.source, key.destination, 16)
        memcpy(key.destination, address, 16)
        key.source_port, key.destination_port = key.destination_port, key.source_port


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

"""Segmentation and coalescing of super-frames, compiled; `_segment_py` is the specification."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strcmp

from fastpath._batch_c cimport Batch, batch_t
from fastpath._checksum cimport (
    bounded, load16, nodeplane_copy_sum, nodeplane_fold, nodeplane_sum, store16,
)
from fastpath._transport cimport (
    PASS, TCP, UDP, complete, header_checksum, locate, pseudo_sum, store_sum, transport,
)

cdef extern from *:
    void __builtin_prefetch(const void *at) noexcept nogil
    uint16_t __builtin_bswap16(uint16_t word) noexcept nogil

cdef str FIRST = "first is 0 to the number of packets in source"

# TOO_LONG is of fastpath.reasons.Reason, the others of fastpath.flags.Flags.
cdef enum:
    TOO_LONG = 24
    PARTIAL_CHECKSUM = 1 << 24
    VALID_CHECKSUM = 1 << 25
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    URG = 0x20
    CWR = 0x80
    BUCKETS = 64
    UDP_SEGMENTS = 64

# A super-frame that is being made in the target's slot.
ctypedef struct train_t:
    transport found
    uint32_t open
    uint32_t slot
    uint32_t body           # where its payload begins
    uint32_t length         # of the frame so far
    uint32_t size           # of the first segment's payload
    uint32_t segments
    uint64_t total          # sum of the payload's words as they lie in memory


cdef inline uint32_t body_of(const uint8_t *at, const transport *t) noexcept nogil:
    # Where the payload of a located packet that can be cut or joined begins; else 0.
    cdef uint32_t body
    if t.at + t.size != t.end:
        return 0
    if t.protocol == TCP:
        # Checked again: another thread may write into the frame meanwhile, and the length is read a second time.
        body = t.at + (at[t.at + 12] >> 4) * 4
        return body if t.at + 20 <= body <= t.end else 0
    return t.at + 8 if t.protocol == UDP else 0


cdef inline uint8_t *take(
    const batch_t *source, uint32_t i, batch_t *target, uint32_t slot, uint32_t length
) noexcept nogil:
    # The next slot of the target, with the columns of the packet that it is made from.
    cdef uint32_t start = slot * target.slot + target.headroom
    target.offset[slot] = start
    target.length[slot] = length
    target.tunnel[slot] = source.tunnel[i]
    target.vni[slot] = source.vni[i]
    target.hash[slot] = source.hash[i]
    target.flags[slot] = source.flags[i]
    target.layers[slot] = source.layers[i]
    target.verdict[slot] = PASS
    target.ct[slot] = source.ct[i]
    target.rule[slot] = source.rule[i]
    target.key[slot] = source.key[i]
    return target.memory + start


cdef inline uint32_t load32(const uint8_t *at) noexcept nogil:
    return (load16(at) << 16) | load16(at + 2)


cdef inline void store32(uint8_t *at, uint32_t word) noexcept nogil:
    store16(at, word >> 16)
    store16(at + 2, word)


cdef inline void store_lengths(uint8_t *to, const transport *t, uint32_t length) noexcept nogil:
    # The IP header's length, with IPv4's checksum, and UDP's, of a frame of `length` bytes.
    if t.version == 4:
        store16(to + t.ip + 2, length - t.ip)
        header_checksum(to + t.ip, t.header)
    else:
        store16(to + t.ip + 4, length - t.ip - 40)
    if t.protocol == UDP:
        store16(to + t.at + 4, length - t.at)


cdef inline void store_checksum(
    uint8_t *to, const transport *t, uint32_t body, uint32_t length, uint64_t payload
) noexcept nogil:
    # The layer 4 checksum of a frame whose payload has the sum `payload`.
    cdef uint8_t *field = to + t.at + t.field
    field[0] = field[1] = 0
    store_sum(field, t.protocol, pseudo_sum(to, t, length - t.at) + nodeplane_sum(to + t.at, body - t.at) + payload)


cdef inline void cut(
    const batch_t *source, uint32_t i, batch_t *target, uint32_t slot, const transport *t, uint32_t body, uint32_t size
) noexcept nogil:
    # All segments of one super-frame; there is room for them.
    cdef const uint8_t *at = source.memory + source.offset[i]
    cdef const uint8_t *payload = at + body
    cdef uint32_t left = t.at + t.size - body, done = 0, chunk, length
    cdef uint32_t ident = load16(at + t.ip + 4), seq = load32(at + t.at + 4)
    cdef bint summed = t.protocol == TCP or source.flags[i] & PARTIAL_CHECKSUM or load16(at + t.at + 6)
    cdef uint8_t *to
    cdef uint64_t total
    while left:
        chunk = size if left > size else left
        left -= chunk
        length = body + chunk
        to = take(source, i, target, slot, length)
        target.flags[slot] &= ~<uint32_t> PARTIAL_CHECKSUM
        memcpy(to, at, body)
        total = nodeplane_copy_sum(to + body, payload + done, chunk)
        if t.version == 4:
            store16(to + t.ip + 4, ident)
        if t.protocol == TCP:
            store32(to + t.at + 4, seq + done)
            if left:
                to[t.at + 13] &= ~<uint8_t> (FIN | PSH) & 0xFF
            if done:
                to[t.at + 13] &= ~<uint8_t> CWR & 0xFF
        store_lengths(to, t, length)
        if summed:
            store_checksum(to, t, body, length, total)
        ident += 1
        done += chunk
        slot += 1


def segment(Batch source not None, Batch target not None, size, first=0):
    """Cut super-frames into segments; see `fastpath._segment_py.segment`."""
    cdef batch_t *b = &source.b
    cdef batch_t *to = &target.b
    cdef Py_buffer view
    cdef const uint32_t *sizes = NULL
    cdef uint32_t one = 0, i, n = 0, mss, body, count, room, start, reason
    cdef transport t
    cdef uint8_t *copy
    if isinstance(size, int):
        one = bounded(size, 0xFFFF, "size is 1 to 65535 bytes")
        if not one:
            raise ValueError("size is 1 to 65535 bytes")
    else:
        request(size, &view, False)
        sizes = <const uint32_t *> view.buf
    try:
        check(source, target)
        enter(source, target)
        try:
            if sizes != NULL and view.len // 4 < b.count:
                raise ValueError(f"sizes for {view.len // 4} of {b.count} packets")
            start = bounded(first, b.count, FIRST)
            room = to.slot - to.headroom
            with nogil:
                i = start
                while i < b.count:
                    if b.verdict[i]:
                        i += 1
                        continue
                    if i + 1 < b.count:
                        __builtin_prefetch(b.memory + b.offset[i + 1])
                    reason = locate(b.memory + b.offset[i], b.length[i], &t)
                    mss = one if sizes == NULL else sizes[i]
                    body = body_of(b.memory + b.offset[i], &t) if reason == PASS else 0
                    if mss and body and t.at + t.size - body > mss:
                        count = (t.at + t.size - body + mss - 1) // mss
                        if body + mss > room or count > to.capacity:
                            b.verdict[i] = TOO_LONG
                            i += 1
                            continue
                        if n + count > to.capacity:
                            break
                        cut(b, i, to, n, &t, body, mss)
                        n += count
                    elif b.length[i] > room:
                        b.verdict[i] = TOO_LONG
                    elif n == to.capacity:
                        break
                    else:
                        copy = take(b, i, to, n, b.length[i])
                        memcpy(copy, b.memory + b.offset[i], b.length[i])
                        if not b.flags[i] & PARTIAL_CHECKSUM:
                            pass
                        elif reason == PASS and (t.protocol == TCP or t.protocol == UDP):
                            complete(copy, &t)
                            to.flags[n] &= ~<uint32_t> PARTIAL_CHECKSUM
                        n += 1
                    i += 1
                to.count = n
        finally:
            target.leave()
            source.leave()
    finally:
        if sizes != NULL:
            PyBuffer_Release(&view)
    return i


cdef inline uint32_t bucket_of(const uint8_t *at, const transport *t) noexcept nogil:
    # Which open super-frame a packet may belong to.
    cdef const uint8_t *addresses = at + t.ip + (12 if t.version == 4 else 8)
    cdef uint32_t mixed = 0, word = 0, i, count = 2 if t.version == 4 else 8
    memcpy(&mixed, at + t.at, 4)
    for i in range(count):
        memcpy(&word, addresses + 4 * i, 4)
        mixed ^= word
    return (mixed * <uint32_t> 0x9E3779B1) >> 26


cdef inline bint joinable(
    const uint8_t *at, uint32_t length, const transport *t, uint32_t body, bint partial
) noexcept nogil:
    # Whether a TCP or UDP packet may be part of a super-frame, as far as it alone tells.
    if not body or t.end != length or body == length:
        return False
    if t.header and nodeplane_fold(nodeplane_sum(at + t.ip, t.header)) != 0xFFFF:
        return False
    if t.protocol == TCP:
        if at[t.at + 13] & (SYN | RST | URG):
            return False
    elif not partial and not load16(at + t.at + 6):
        return False
    return partial or nodeplane_fold(pseudo_sum(at, t, t.size) + nodeplane_sum(at + t.at, t.size)) == 0xFFFF


cdef inline bint takes(
    const train_t *train, const uint8_t *mine, const uint8_t *at, uint32_t length, const transport *t, uint32_t body,
    uint32_t room,
) noexcept nogil:
    # Whether a sound segment comes next.
    cdef uint32_t chunk = length - body, ip = t.ip, l4 = t.at
    if body != train.body or ip != train.found.ip or l4 != train.found.at or t.version != train.found.version:
        return False
    if t.protocol != train.found.protocol or chunk > train.size or memcmp(at, mine, ip):
        return False
    if train.length + chunk > room or train.length + chunk - ip - (0 if t.version == 4 else 40) > 0xFFFF:
        return False
    if t.version == 4:
        if (
            memcmp(at + ip, mine + ip, 2)
            or load16(at + ip + 4) != ((load16(mine + ip + 4) + train.segments) & 0xFFFF)
            or memcmp(at + ip + 6, mine + ip + 6, 4)
            or memcmp(at + ip + 12, mine + ip + 12, l4 - ip - 12)
        ):
            return False
    elif memcmp(at + ip, mine + ip, 4) or memcmp(at + ip + 6, mine + ip + 6, l4 - ip - 6):
        return False
    if memcmp(at + l4, mine + l4, 4):
        return False
    if t.protocol == UDP:
        return train.segments < UDP_SEGMENTS
    return not (
        load32(at + l4 + 4) != load32(mine + l4 + 4) + train.length - body
        or memcmp(at + l4 + 8, mine + l4 + 8, 5)
        or at[l4 + 13] & CWR
        or (at[l4 + 13] ^ mine[l4 + 13]) & ~(CWR | FIN | PSH)
        or memcmp(at + l4 + 14, mine + l4 + 14, 2)
        or memcmp(at + l4 + 18, mine + l4 + 18, body - l4 - 18)
    )


cdef inline void append(
    train_t *train, uint8_t *mine, const uint8_t *at, uint32_t length, const transport *t
) noexcept nogil:
    cdef uint32_t chunk = length - train.body, ends = 0
    cdef uint32_t total = nodeplane_fold(nodeplane_copy_sum(mine + train.length, at + train.body, chunk))
    # Words that begin at an odd distance are the others' with their bytes swapped (RFC 1071 section 2, B).
    train.total += __builtin_bswap16(<uint16_t> total) if (train.length - train.body) & 1 else total
    train.length += chunk
    train.segments += 1
    if t.protocol == TCP:
        ends = at[t.at + 13] & (FIN | PSH)
        mine[t.at + 13] |= <uint8_t> ends
    if ends or chunk < train.size:
        train.open = 0


cdef inline void finish(train_t *train, batch_t *to, uint32_t *sizes, bint partial) noexcept nogil:
    # The lengths and checksums of the whole; nothing to do for a packet that stayed alone.
    cdef uint8_t *mine
    cdef uint16_t word
    train.open = 0
    if train.segments < 2:
        return
    mine = to.memory + to.offset[train.slot]
    to.length[train.slot] = train.length
    if sizes != NULL:
        sizes[train.slot] = train.size
    store_lengths(mine, &train.found, train.length)
    if partial:
        word = <uint16_t> nodeplane_fold(pseudo_sum(mine, &train.found, train.length - train.found.at))
        memcpy(mine + train.found.at + train.found.field, &word, 2)
        to.flags[train.slot] = to.flags[train.slot] & ~<uint32_t> VALID_CHECKSUM | PARTIAL_CHECKSUM
    else:
        store_checksum(mine, &train.found, train.body, train.length, train.total)
        to.flags[train.slot] &= ~<uint32_t> PARTIAL_CHECKSUM
    train.segments = 0


cdef uint32_t join(
    batch_t *b, batch_t *to, uint32_t *sizes, uint32_t i, bint udp, bint partial
) noexcept nogil:
    cdef train_t[BUCKETS] trains
    cdef train_t *train
    cdef transport t
    cdef uint32_t n = 0, reason, body, length, k, room = to.slot - to.headroom
    cdef bint known, sound
    cdef const uint8_t *at
    cdef uint8_t *copy
    for k in range(<uint32_t> BUCKETS):
        trains[k].open = trains[k].segments = 0
    while i < b.count:
        if b.verdict[i]:
            i += 1
            continue
        if i + 4 < b.count:
            __builtin_prefetch(b.memory + b.offset[i + 4])
        at = b.memory + b.offset[i]
        length = b.length[i]
        reason = locate(at, length, &t)
        known = reason == PASS and (t.protocol == TCP or t.protocol == UDP)
        sound = False
        train = NULL
        body = 0
        if known:
            body = body_of(at, &t)
            sound = (udp or t.protocol == TCP) and joinable(at, length, &t, body, b.flags[i] & PARTIAL_CHECKSUM)
            train = &trains[bucket_of(at, &t)]
            if (
                sound and train.open and to.vni[train.slot] == b.vni[i] and to.tunnel[train.slot] == b.tunnel[i]
                and takes(train, to.memory + to.offset[train.slot], at, length, &t, body, room)
            ):
                append(train, to.memory + to.offset[train.slot], at, length, &t)
                if not train.open:
                    finish(train, to, sizes, partial)
                i += 1
                continue
        if length > room:
            if train != NULL:
                finish(train, to, sizes, partial)
            b.verdict[i] = TOO_LONG
            i += 1
            continue
        if n == to.capacity:
            break
        if train != NULL:
            finish(train, to, sizes, partial)
        copy = take(b, i, to, n, length)
        if sizes != NULL:
            sizes[n] = 0
        if sound and not (t.protocol == TCP and at[t.at + 13] & (FIN | PSH)):
            memcpy(copy, at, body)
            train.total = nodeplane_copy_sum(copy + body, at + body, length - body)
            train.found = t
            train.open = 1
            train.slot = n
            train.body = body
            train.length = length
            train.size = length - body
            train.segments = 1
        else:
            memcpy(copy, at, length)
        n += 1
        i += 1
    for k in range(<uint32_t> BUCKETS):
        if trains[k].open:
            finish(&trains[k], to, sizes, partial)
    to.count = n
    return i


def coalesce(
    Batch source not None, Batch target not None, sizes=None, first=0, bint udp=False, bint partial=False
):
    """Join segments to super-frames; see `fastpath._segment_py.coalesce`."""
    cdef Py_buffer view
    cdef uint32_t *entries = NULL
    cdef uint32_t i
    if sizes is not None:
        request(sizes, &view, True)
        entries = <uint32_t *> view.buf
    try:
        check(source, target)
        enter(source, target)
        try:
            if entries != NULL and view.len // 4 < target.b.capacity:
                raise ValueError(f"sizes for {view.len // 4} of {target.b.capacity} packets")
            i = bounded(first, source.b.count, FIRST)
            with nogil:
                i = join(&source.b, &target.b, entries, i, udp, partial)
        finally:
            target.leave()
            source.leave()
    finally:
        if entries != NULL:
            PyBuffer_Release(&view)
    return i


cdef int check(Batch source, Batch target) except -1:
    if source is target:
        raise ValueError("source and target are one batch")
    return 0


cdef int enter(Batch source, Batch target) except -1:
    source.enter()
    try:
        target.enter()
    except BaseException:
        source.leave()
        raise
    return 0


cdef int request(object sizes, Py_buffer *view, bint writable) except -1:
    # The buffer of `sizes`, checked; to be released by the caller.
    PyObject_GetBuffer(sizes, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    if (
        view.format == NULL or strcmp(view.format, b"I") or view.ndim != 1
        or not PyBuffer_IsContiguous(view, c"C") or (writable and view.readonly)
    ):
        PyBuffer_Release(view)
        raise ValueError(f"sizes are a contiguous{', writable' if writable else ''} buffer of uint32")
    return 0

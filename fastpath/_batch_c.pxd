# The contract of a batch for the other compiled modules: plain memory and columns, usable without the GIL.
#
# `offset` and `length` are trustworthy: only checked code writes them, so that for every packet below `count` the
# bytes offset[i] - headroom_of(i) .. offset[i] + length[i] lie in its own slot. Every other column can hold anything
# that Python wrote there: check `tunnel` before it is an index.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LANES = 64          # columns are padded to a multiple of this, so that vector code needs no tail
    KEY_BYTES = 40
    ALIGNMENT = 64      # of the memory and of every column, bytes

# A flow's key, compared and hashed as 40 bytes; unused bytes are zero. Addresses and ports in network order; an IPv4
# address is the first 4 bytes of its field.
ctypedef struct flow_key:
    uint8_t source[16]
    uint8_t destination[16]
    uint16_t source_port        # of ICMP: type << 8 | code as they lie in memory; 0 where there are no ports
    uint16_t destination_port   # of ICMP echo: the identifier
    uint8_t protocol            # the last header's number; 0 if unknown
    uint8_t version             # 4, 6, or 0: no IP
    uint16_t zone               # 0, for tables that key on more than the packet

ctypedef struct batch_t:
    uint8_t *memory             # capacity slots of `slot` bytes, and LANES bytes that may be read behind them
    uint32_t slot               # bytes, a multiple of 64
    uint32_t headroom           # bytes before a packet as it is filled in
    uint32_t capacity           # packets
    uint32_t padded             # capacity rounded up to LANES: what every column has room for
    uint32_t count              # packets in use
    uint32_t *offset            # of the packet's first byte, bytes from `memory`
    uint32_t *length            # bytes
    uint32_t *tunnel            # encap: which template; decap: which network the VNI belongs to
    uint32_t *vni               # host order
    uint32_t *hash              # of the five-tuple
    uint32_t *flags             # what parsing found: fastpath.flags
    uint32_t *layers            # offsets from the packet's start: layer 3 | layer 4 << 16; 0 unknown
    uint32_t *verdict           # 0: goes on; else why it was dropped (fastpath.reasons)
    uint32_t *ct                # what connection tracking said: fastpath.connections.Ct
    int32_t *rule               # the classifier's answer; -1 none
    flow_key *key

cdef inline uint32_t slot_start(const batch_t *b, uint32_t i) noexcept nogil:
    # The first byte of packet i's slot, bytes from `memory`.
    return b.offset[i] - b.offset[i] % b.slot

cdef class Batch:
    cdef batch_t b
    cdef size_t mapped          # bytes of the one mapping that holds memory and columns
    cdef Py_ssize_t exports     # buffers that somebody still holds
    cdef int busy               # a stage runs on it without the GIL

    cdef int enter(self) except -1      # BatchInUseError if another thread runs a stage; ValueError if closed
    cdef void leave(self) noexcept
    cdef void _reset(self) noexcept
    cdef void _fresh(self, uint32_t count) noexcept
    cdef object _export(
        self, void *at, const char *format, Py_ssize_t itemsize, Py_ssize_t rows, Py_ssize_t row, bint readonly
    )

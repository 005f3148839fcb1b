# The memory of a table of connections. A connection is a number, 1 to `capacity`, into arrays of lines.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath._batch_c cimport flow_key
from fastpath._hasher_c cimport hash_keys

cdef enum:
    TICKS = 17
    WHEEL = 1024        # four levels of 256
    ZONES = 65536

ctypedef struct entry_t:
    # One cache line: all that a packet of an established connection needs.
    flow_key key                # normal: the lower endpoint first; version 0: not in use
    uint32_t expires            # tick
    uint32_t policy
    uint32_t generation         # of its zone when it was made
    uint32_t last_end           # TCP: where the remembered segment ends; UDP: the tick from which it is a stream
    uint8_t state
    uint8_t marks
    uint8_t last
    uint8_t spare               # UDP's packets write here what TCP's write into `last`
    uint32_t next               # behind it in its bucket's chain, or in the list of free ones

ctypedef struct side_t:
    uint32_t end
    uint32_t most_end
    uint32_t window
    uint32_t acked
    uint8_t scale
    uint8_t bits
    uint16_t spare

ctypedef struct window_t:
    side_t sides[2]
    uint32_t last_seq
    uint32_t last_ack
    uint16_t last_window
    uint8_t last_scale
    uint8_t last_bits
    uint8_t retransmissions
    uint8_t spare[11]

ctypedef struct count_t:
    uint64_t packets[2]
    uint64_t octets[2]

ctypedef struct link_t:
    uint32_t wheel_next
    uint32_t wheel_before       # HEAD | slot for the first one
    uint32_t armed              # the tick it lies in the wheel for, not behind `expires`
    uint32_t zone_next          # in its zone's list of droppable or firm ones, or of dead ones
    uint32_t zone_before
    uint32_t order_next         # droppable ones of all zones, oldest first
    uint32_t order_before
    uint32_t droppable

ctypedef struct bucket_t:
    uint16_t tags[8]
    uint32_t entries[8]
    uint32_t chain              # those that found no place here
    uint32_t spare[3]

ctypedef struct list_t:
    uint32_t first
    uint32_t last

ctypedef struct zone_t:
    list_t lists[2]             # firm, droppable; oldest first
    uint32_t generation
    uint32_t count
    uint32_t droppable
    uint32_t limit              # NO_LIMIT: the table's

ctypedef struct record_t:
    # `fastpath.connection_records.RECORD`
    flow_key key
    uint32_t policy
    uint32_t left
    uint32_t last_end
    uint8_t state
    uint8_t marks
    uint8_t last
    uint8_t spare
    side_t sides[2]
    uint32_t last_seq
    uint32_t last_ack
    uint16_t last_window
    uint8_t last_scale
    uint8_t last_bits
    uint8_t retransmissions
    uint8_t spare2[3]
    uint64_t packets[2]
    uint64_t octets[2]

ctypedef struct table_t:
    entry_t *entries
    window_t *windows           # NULL: sequence numbers are not checked
    count_t *counts             # NULL: nothing is counted
    link_t *links
    bucket_t *buckets
    zone_t *zones
    uint32_t mask               # buckets less one
    uint32_t capacity
    uint32_t used               # numbers that were ever given
    uint32_t free               # first of those given back
    uint32_t dead               # first of those of flushed zones, which still are in the buckets and the wheel
    uint32_t live
    uint32_t droppable
    list_t order
    uint32_t tick               # the latest
    uint32_t turned             # the wheel's
    uint32_t zone_limit
    bint pick_up
    int32_t ticks[TICKS]
    uint64_t created, expired, evicted, closed, flushed, denied, invalid, full, limited
    hash_keys h
    uint32_t wheel[WHEEL]

# The contract of the compiled framing: where the parts of a datagram lie in a frame, without Python objects.

# The outcome of `locate`: FRAME_OK, else the place of the drop reason in `fastpath.frame.DROP_REASONS`, from 1.
cdef enum Outcome:
    FRAME_OK = 0
    FRAME_SHORT
    NOT_IPV4
    IPV4_HEADER_LENGTH
    IPV4_TOTAL_LENGTH
    IPV4_CHECKSUM
    IPV4_FRAGMENT
    NOT_UDP
    UDP_LENGTH
    UDP_CHECKSUM


# Offsets are bytes from the start of the frame; all are valid only after FRAME_OK.
cdef struct Located:
    Py_ssize_t addresses     # IPv4 source, then destination, 4 bytes each
    Py_ssize_t ports         # UDP source port, then destination port, 2 bytes each in network order
    Py_ssize_t payload
    Py_ssize_t payload_size


cdef Outcome locate(const unsigned char *frame, Py_ssize_t size, bint check_udp, Located *found) noexcept nogil

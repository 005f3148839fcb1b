"""Ethernet, IPv4 and UDP framing, compiled; `_framing_py` is the specification."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from fastpath._checksum cimport bounded, fold16, load16, store16, sum16, udp4_sum

from fastpath.frame import DROP_REASONS, FrameError, Udp4

# Sizes of the headers of Ethernet II, IPv4 without options and UDP.
cdef enum:
    ETHERNET = 14
    IPV4 = 20
    UDP = 8
    PAYLOAD_MAX = 0xFFFF - IPV4 - UDP

cdef tuple REASONS = tuple(DROP_REASONS)
cdef object new_tuple = tuple.__new__


def udp4_frame(
    bytes dst_mac not None,
    bytes src_mac not None,
    bytes src_ip not None,
    bytes dst_ip not None,
    src_port,
    dst_port,
    bytes payload not None,
    ttl=64,
    ident=0,
):
    """Return an Ethernet II frame with an IPv4 UDP datagram; see `fastpath._framing_py.udp4_frame`."""
    cdef Py_ssize_t size = len(payload)
    cdef long source, destination, hops, identification
    cdef bytes frame
    cdef unsigned char *at
    if len(dst_mac) != 6 or len(src_mac) != 6:
        raise ValueError("a MAC address has 6 bytes")
    hops = bounded(ttl, 0xFF, "a time to live is 0 to 255")
    identification = bounded(ident, 0xFFFF, "an identification is 0 to 65535")
    if size > PAYLOAD_MAX:
        raise ValueError("the payload does not fit an IPv4 datagram")
    if len(src_ip) != 4 or len(dst_ip) != 4:
        raise ValueError("an IPv4 address has 4 bytes")
    source = bounded(src_port, 0xFFFF, "a port is 0 to 65535")
    destination = bounded(dst_port, 0xFFFF, "a port is 0 to 65535")

    frame = PyBytes_FromStringAndSize(NULL, ETHERNET + IPV4 + UDP + size)
    at = <unsigned char *> PyBytes_AS_STRING(frame)
    memcpy(at, <const unsigned char *> dst_mac, 6)
    memcpy(at + 6, <const unsigned char *> src_mac, 6)
    store16(at + 12, 0x0800)
    at += ETHERNET
    store16(at, 0x4500)
    store16(at + 2, <uint32_t> (IPV4 + UDP + size))
    store16(at + 4, <uint32_t> identification)
    store16(at + 6, 0x4000)
    at[8] = <unsigned char> hops
    at[9] = 17
    store16(at + 10, 0)
    memcpy(at + 12, <const unsigned char *> src_ip, 4)
    memcpy(at + 16, <const unsigned char *> dst_ip, 4)
    store16(at + 10, 0xFFFF - sum16(at, IPV4))
    store16(at + 20, <uint32_t> source)
    store16(at + 22, <uint32_t> destination)
    store16(at + 24, <uint32_t> (UDP + size))
    store16(at + 26, udp4_sum(at + 12, <uint32_t> (source + destination), <const unsigned char *> payload, size))
    memcpy(at + 28, <const unsigned char *> payload, size)
    return frame


cdef Outcome locate(const unsigned char *frame, Py_ssize_t size, bint check_udp, Located *found) noexcept nogil:
    # Every field is read only after the check that it lies inside the frame; the order is that of the plain twin.
    cdef const unsigned char *ip = frame + ETHERNET
    cdef const unsigned char *udp
    cdef Py_ssize_t header, total, length
    cdef uint32_t checksum
    if size < ETHERNET:
        return FRAME_SHORT
    if load16(frame + 12) != 0x0800:
        return NOT_IPV4
    if size < ETHERNET + IPV4:
        return FRAME_SHORT
    size -= ETHERNET
    if ip[0] >> 4 != 4:
        return NOT_IPV4
    header = (ip[0] & 0x0F) * 4
    if header < IPV4 or header > size:
        return IPV4_HEADER_LENGTH
    total = load16(ip + 2)
    if total < header or total > size:
        return IPV4_TOTAL_LENGTH
    if sum16(ip, header) != 0xFFFF:
        return IPV4_CHECKSUM
    if load16(ip + 6) & 0x3FFF:
        return IPV4_FRAGMENT
    if ip[9] != 17:
        return NOT_UDP
    if total < header + UDP:
        return UDP_LENGTH
    udp = ip + header
    length = load16(udp + 4)
    if length < UDP or header + length > total:
        return UDP_LENGTH
    checksum = load16(udp + 6)
    if (
        check_udp
        and checksum
        and checksum != udp4_sum(ip + 12, load16(udp) + load16(udp + 2), udp + UDP, length - UDP)
    ):
        return UDP_CHECKSUM
    found.addresses = ETHERNET + 12
    found.ports = ETHERNET + header
    found.payload = ETHERNET + header + UDP
    found.payload_size = length - UDP
    return FRAME_OK


cdef object refuse(Outcome outcome):
    # Out of line: the hot path has no exception set-up in it.
    raise FrameError(REASONS[<int> outcome - 1])


def parse_udp4(bytes frame not None, bint check_udp=True):
    """Take an Ethernet II frame with an IPv4 UDP datagram apart; see `fastpath._framing_py.parse_udp4`."""
    cdef const unsigned char *at = <const unsigned char *> frame
    cdef Located found
    cdef Outcome outcome = locate(at, len(frame), check_udp, &found)
    if outcome != FRAME_OK:
        refuse(outcome)
    # The named tuple's own constructor is a Python function and costs more than all the rest.
    return new_tuple(
        Udp4,
        (
            at[0:6],
            at[6:12],
            at[found.addresses : found.addresses + 4],
            at[found.addresses + 4 : found.addresses + 8],
            load16(at + found.ports),
            load16(at + found.ports + 2),
            at[found.payload : found.payload + found.payload_size],
        ),
    )

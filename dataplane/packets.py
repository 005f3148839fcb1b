"""The sockets on which a network is served, and how a frame is read from one.

The openers are called in the network's namespace; the sockets keep it for life. All are non-blocking, and bound to
the device: what comes from elsewhere is not heard.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from struct import Struct

from dataplane.model import METADATA_IPV4, METADATA_IPV6, METADATA_IPV6_LINK, METADATA_PORT

DHCP_SERVER_PORT = 67

# linux/tcp.h, linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h: not named by the socket module everywhere
_TCP_SAVE_SYN = 27
_SO_ATTACH_FILTER = 26
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_ETH_P_IP = 0x0800
_TP_STATUS_CSUMNOTREADY = 1 << 3
_AUXDATA = Struct("=IIIHHHH")

# 2: the saved SYN begins with the Ethernet header, which holds the sender's MAC.
_SAVE_SYN_WITH_MAC = 2

# Chosen: Linux' own bound. When the queue is full, connections come without the MAC of their SYN (SYN cookies), and who
# they are of cannot be told; so it should take more than one guest that connects and says nothing.
BACKLOG = 4096
# Chosen: some 100 DISCOVERs; the most kernel memory that a flooding network can hold.
_DHCP_RECEIVE_BUFFER = 64 << 10
_SMALLEST_BUFFER = 1
# Longer frames can be no DHCP message (RFC 2131 section 2: option 57 is at most 65,535, but a link's MTU bounds it,
# and fragments are not heard).
MAX_FRAME = 16 << 10
_ANCILLARY = socket.CMSG_SPACE(_AUXDATA.size)


class _Instruction(ctypes.Structure):
    """struct sock_filter"""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


_LD_W_ABS, _LD_H_ABS, _LD_B_ABS, _LD_H_IND, _LDX_MSH = 0x20, 0x28, 0x30, 0x48, 0xB1
_JEQ, _JGT, _JSET, _RET = 0x15, 0x25, 0x45, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_TO_US = 2  # PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST; 3 is for another MAC, or in a VLAN

_DROP_ALL = ((_RET, 0, 0, 0),)
# Offsets are those of an untagged Ethernet frame. Tagged frames come without their tag as "for another host".
_DHCP_TO_SERVER = (
    (_LD_B_ABS, 0, 0, _PACKET_TYPE),
    (_JGT, 10, 0, _TO_US),
    (_LD_H_ABS, 0, 0, 12),
    (_JEQ, 0, 8, _ETH_P_IP),
    (_LD_B_ABS, 0, 0, 23),
    (_JEQ, 0, 6, socket.IPPROTO_UDP),
    (_LD_H_ABS, 0, 0, 20),
    (_JSET, 4, 0, 0x3FFF),  # more fragments, or not the first one
    (_LDX_MSH, 0, 0, 14),
    (_LD_H_IND, 0, 0, 16),
    (_JEQ, 0, 1, DHCP_SERVER_PORT),
    (_RET, 0, 0, 0xFFFF),
    (_RET, 0, 0, 0),
)


def _attach_filter(sock: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    fprog = _Program(len(program), instructions)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(fprog))


@dataclass(frozen=True, slots=True)
class NetworkSockets:
    """What a network is served on."""

    metadata: tuple[socket.socket, ...]
    """TCP listeners on port 80 of 169.254.169.254, and with IPv6 of fe80::a9fe:a9fe and fd00:ec2::254; accepted
    connections have their SYN saved."""
    dhcp: socket.socket
    """Packet socket: Ethernet frames to UDP port 67 of any address, see `receive`. Frames are sent with `send`."""
    guard: socket.socket | None
    """Holds UDP port 67 so that the kernel sends no ICMP error to a client; never read. None: somebody else has it."""

    def all(self) -> tuple[socket.socket, ...]:
        """Those that there are."""
        return (*self.metadata, self.dhcp, *(() if self.guard is None else (self.guard,)))

    def close(self) -> None:
        """Close all of them."""
        for sock in self.all():
            sock.close()


def has_ipv6() -> bool:
    """Whether the kernel has IPv6, and not switched off at boot."""
    return os.path.exists("/proc/net/if_inet6")


def metadata_addresses() -> tuple[str, ...]:
    """The addresses that a network has a metadata listener on."""
    return (METADATA_IPV4, METADATA_IPV6_LINK, METADATA_IPV6) if has_ipv6() else (METADATA_IPV4,)


def open_sockets(device: str) -> NetworkSockets:
    """Open all sockets of a network on a device of the current namespace. Raises OSError, and then leaves none open."""
    with ExitStack() as stack:
        metadata = [stack.enter_context(open_metadata_listener(device, address)) for address in metadata_addresses()]
        dhcp = stack.enter_context(open_dhcp_socket(device))
        guard = open_dhcp_guard(device)
        stack.pop_all()
    return NetworkSockets(tuple(metadata), dhcp, guard)


def open_metadata_listener(device: str, address: str) -> socket.socket:
    """A metadata listener; the address need not exist yet. Raises OSError."""
    ipv6 = ":" in address
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, _SAVE_SYN_WITH_MAC)
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        # The device it is bound to is the zone of a link-local address as well.
        sock.bind((address, METADATA_PORT))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def open_dhcp_socket(device: str) -> socket.socket:
    """The DHCP packet socket: unfragmented IPv4 UDP to port 67, by broadcast or to our MAC. Raises OSError."""
    # Protocol 0 hears nothing: the filter is there before the first frame.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        _attach_filter(sock, _DHCP_TO_SERVER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DHCP_RECEIVE_BUFFER)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        sock.bind((device, _ETH_P_IP))
    except OSError:
        sock.close()
        raise
    return sock


def open_dhcp_guard(device: str) -> socket.socket | None:
    """The UDP socket that only holds port 67; None when another server in the namespace holds it. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _attach_filter(sock, _DROP_ALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.bind(("0.0.0.0", DHCP_SERVER_PORT))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return sock


def receive(sock: socket.socket) -> tuple[bytes, bool]:
    """One frame of the DHCP socket, and True when its UDP checksum is not filled in (a guest's offload).

    Raises BlockingIOError when there is none, and OSError (ENETDOWN) once when the device has gone or is down.
    """
    frame, ancillary, _flags, _address = sock.recvmsg(MAX_FRAME, _ANCILLARY)
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= _AUXDATA.size:
            return frame, bool(_AUXDATA.unpack_from(data)[0] & _TP_STATUS_CSUMNOTREADY)
    return frame, False

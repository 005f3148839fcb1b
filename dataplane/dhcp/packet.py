"""What goes through the core: a received message with where it came from, and what comes out."""

from __future__ import annotations

import msgspec

from dataplane.dhcp.constants import ANY
from dataplane.dhcp.wire import Message
from dataplane.leases import LeaseEvent


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send this Ethernet frame on the device of the network."""

    frame: bytes


Output = Send | LeaseEvent


class Packet:
    """A well-formed message and the facts of the frame that brought it. Addresses and MACs are raw bytes."""

    __slots__ = ("message", "relayed", "src_ip", "src_mac", "src_port")

    def __init__(self, message: Message, src_mac: bytes, src_ip: bytes, src_port: int) -> None:
        self.message = message
        self.src_mac = src_mac
        self.src_ip = src_ip
        self.src_port = src_port
        self.relayed = message.giaddr != ANY

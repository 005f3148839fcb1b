"""Who is asking: the network of the listener, the MAC of the caller's SYN and its source address.

The listener belongs to a network, the kernel saved the SYN with its Ethernet header (TCP_SAVE_SYN = 2), and the peer
address comes from the kernel: nothing a guest writes into a request takes part. All three must belong to one port.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import msgspec

from metadata.access import OPEN, Access
from metadata.backend import Backend

ETHERNET_HEADER = 14
"""Bytes of destination MAC, source MAC and type."""
_TYPES = frozenset((b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\xa8"))
"""IPv4, IPv6, and the two VLAN tags: what can follow the addresses of a saved SYN."""


class Caller(msgspec.Struct, frozen=True, gc=False):
    """The peer of one connection."""

    network_id: str
    mac: str | None
    """Source MAC of its SYN; None: the kernel did not save it (SYN cookies, a device without Ethernet)."""
    address: str
    """Source address, canonical; IPv4-mapped IPv6 reduced to IPv4, without a zone."""


class Known(msgspec.Struct, frozen=True):
    """The caller is this port; make one per port and hand out the same object again."""

    port_id: str
    backend: Backend
    """Where its answers come from."""
    access: Access = OPEN
    """What its instance allows."""
    gated: bool = False
    """It does not allow everything to everybody on it (`Access.free`): every request has to pass the gate."""

    def __post_init__(self) -> None:
        if not self.access.free:
            msgspec.structs.force_setattr(self, "gated", True)


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """No port fits yet: the request is held, then answered 503. `reason` is a short stable word."""

    reason: str


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The caller is not who its address says: answered 403 at once. `reason` is a short stable word."""

    reason: str


Verdict = Known | Unknown | Refused

NO_MAC = Unknown("no_mac")
NO_PORT = Unknown("no_port")
NOT_ITS_ADDRESS = Unknown("address_not_of_port")
SHARED_MAC = Unknown("shared_mac")
NO_INSTANCE = Unknown("no_instance")
"""For the owner of the model: the port is known, its instance's document is not there yet."""
SPOOFED = Refused("address_of_other_port")
SEVERAL_PORTS = Refused("several_ports")
"""For the owner of the model: a router's guests have addresses of several networks, and this one is in two."""
NO_NOVA = Unknown("no_nova")
OTHER_PROJECT = Refused("instance_of_other_project")

REASONS: dict[str, str] = {
    "no_mac": "The kernel kept no Ethernet header of the SYN, and the network asks for it: answered 503 at once.",
    "no_port": "No port of the network has the caller's MAC (or, without a MAC, its address).",
    "address_not_of_port": "The port with the caller's MAC does not have the caller's address.",
    "shared_mac": "The MAC is no port's own, and several ports of the network may use it by an allowed address pair.",
    "no_instance": "The port is known, its instance is not.",
    "no_nova": "The network's documents are Nova's, and the node has no `[nova]`.",
    "instance_of_other_project": "The port names an instance of another project than its own: refused.",
    "address_of_other_port": "The caller's address belongs to a port with another MAC: refused.",
    "several_ports": "A routed caller's address belongs to ports of several networks of the router: refused.",
}
"""Every reason of `Unknown` and `Refused` made here, with its meaning."""


class CallerLookup(Protocol):
    """The owner of the model answers who a caller is; called on the event loop for every request, so it is quick."""

    def lookup(self, caller: Caller) -> Verdict:
        """The port that is calling, or why there is none."""


PortT = TypeVar("PortT")
PortOut = TypeVar("PortOut")


class PortIndex(Protocol[PortT]):
    """The two unique indexes of ports that `identify` needs."""

    def by_mac(self, network_id: str, mac: str) -> PortT | Unknown | None:
        """The port of the network with this MAC; SHARED_MAC if it could be one of several."""

    def by_address(self, network_id: str, address: str) -> PortT | None:
        """The port of the network with this fixed address."""

    def may_use(self, port: PortT, address: str) -> bool:
        """Whether the address is a fixed one of the port or one of its allowed address pairs."""


class Match(Generic[PortOut]):
    """`identify` found the caller's port."""

    __slots__ = ("port",)

    def __init__(self, port: PortOut) -> None:
        self.port = port


def identify(caller: Caller, index: PortIndex[PortT], *, by_address: bool = False) -> Match[PortT] | Unknown | Refused:
    """The one port that the caller's network, MAC and address belong to.

    A MAC that no port has is not refused even when its address is another port's: an address is often given to a new
    port before the deletion of the old one is known here, so the caller may become known in a moment. IPv6 callers
    choose addresses themselves (link-local, privacy extensions), so their MAC alone identifies them, unless the
    address is known to be another port's. `by_address` is for a network that is reached through a router: the MAC is
    the router's there, and the address alone counts.
    """
    if by_address:
        addressed = index.by_address(caller.network_id, caller.address)
        return NO_PORT if addressed is None else Match(addressed)
    if caller.mac is None:
        return NO_MAC
    port = index.by_mac(caller.network_id, caller.mac)
    if port is None:
        return NO_PORT
    if isinstance(port, Unknown):
        return port
    if index.may_use(port, caller.address):
        return Match(port)
    if index.by_address(caller.network_id, caller.address) is not None:
        return SPOOFED
    return Match(port) if ":" in caller.address else NOT_ITS_ADDRESS


def syn_source(saved: bytes) -> str | None:
    """The source MAC of a saved SYN (`getsockopt(IPPROTO_TCP, TCP_SAVED_SYN)`), lower case with colons.

    None when the bytes do not begin with an Ethernet header: nothing was saved, or only the IP and TCP headers.
    """
    if len(saved) < ETHERNET_HEADER or saved[12:14] not in _TYPES:
        return None
    return saved[6:12].hex(":")


@lru_cache(4096)
def caller_of(network_id: str, syn: bytes, peer: str) -> Caller:
    """Who connects: the listener's network, the saved SYN or at least its Ethernet header, and the peer's name.

    Remembered, since most guests ask many times; bounded, since they choose their IPv6 addresses.
    """
    return Caller(network_id, syn_source(syn), peer_address(peer))


def peer_address(text: str) -> str:
    """The address part of a peer name in the form of `Caller.address`."""
    if ":" not in text:
        return text
    address = ipaddress.IPv6Address(text.partition("%")[0])
    return str(address.ipv4_mapped or address)

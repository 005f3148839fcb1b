"""What ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861) say of their sender, read from messages."""

from __future__ import annotations

from struct import Struct
from typing import Final, Literal, NamedTuple

from dataplane.model import Mac
from fastpath.rules import Header

ARP: Final = 0x0806
SOLICIT_ROUTER, SOLICIT, ADVERTISE = 133, 135, 136
_ARP: Final = Struct("!HHBBH6s4s6s4s")
_ETHERNET_IPV4: Final = (1, 0x0800, 6, 4)
_OPTIONS: Final = {SOLICIT_ROUTER: 8, SOLICIT: 24, ADVERTISE: 24}
"""Where the options begin, by ICMPv6 type."""
_SOURCE_MAC, _TARGET_MAC = 1, 2


class MalformedError(ValueError):
    """An ARP or neighbour discovery message that nobody has to understand."""


class Claim(NamedTuple):
    """That an address is, or is about to be, the sender's, and at which MAC."""

    version: Literal[4, 6]
    address: int | None
    """None: that of the packet's source and no other."""
    mac: Mac | None
    """None: the message says none."""


def arp_claim(message: bytes) -> Claim:
    """What an ARP message (behind the EtherType) claims: its sender, of a probe its target. Raises MalformedError."""
    if len(message) < _ARP.size:
        raise MalformedError(f"an ARP message has {_ARP.size} bytes, not {len(message)}")
    *kinds, _operation, mac, sender, _, target = _ARP.unpack_from(message)
    if tuple(kinds) != _ETHERNET_IPV4:
        raise MalformedError("the ARP message is not about IPv4 over Ethernet")
    # A probe (RFC 5227 section 2.1.1) makes others believe that its target is being taken.
    return Claim(4, int.from_bytes(sender, "big") or int.from_bytes(target, "big"), _mac(mac))


def discovery_claim(header: Header, message: bytes) -> Claim | None:
    """What an ICMPv6 message (the header and all behind it, without padding) claims; None: nothing.

    Raises MalformedError for what RFC 4861 lets receivers discard because of its length or its options.
    """
    kind = header.source_port >> 8
    if kind not in _OPTIONS:
        return None
    at = _OPTIONS[kind]
    if len(message) < at:
        raise MalformedError(f"an ICMPv6 message of type {kind} has {at} bytes, not {len(message)}")
    address = None
    if kind == ADVERTISE or (kind == SOLICIT and header.source == 0):
        address = int.from_bytes(message[8:24], "big")
    wanted = _TARGET_MAC if kind == ADVERTISE else _SOURCE_MAC
    macs: dict[bytes, None] = {}
    while at < len(message):
        size = message[at + 1] * 8 if at + 1 < len(message) else 0
        if not size or at + size > len(message):
            raise MalformedError("an option runs past the message or is empty")
        if message[at] == wanted:
            macs[message[at + 2 : at + size]] = None
        at += size
    # Of several, some receivers take the first and some the last.
    if len(macs) > 1 or any(len(mac) != 6 for mac in macs):
        raise MalformedError("the link-layer addresses are several, or not Ethernet's")
    return Claim(6, address, next(map(_mac, macs), None))


def _mac(octets: bytes) -> Mac:
    return Mac(octets.hex(":"))

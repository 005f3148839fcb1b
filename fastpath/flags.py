"""What is known of a packet: the bits of a batch's `flags` column. The lower 16 are what parsing found."""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Flags(IntFlag):
    """Bits of one packet."""

    IPV4 = 1 << 0
    IPV6 = 1 << 1
    VLAN = 1 << 2
    """At least one 802.1Q or 802.1ad tag."""
    QINQ = 1 << 3
    """Two tags or more."""
    FRAGMENT = 1 << 4
    LATER_FRAGMENT = 1 << 5
    """A fragment without the layer 4 header: its key has no ports."""
    OPTIONS = 1 << 6
    """IPv4 options or IPv6 extension headers."""
    PORTS = 1 << 7
    """The key's ports are real (TCP, UDP, SCTP, UDP-Lite, DCCP)."""
    ICMP = 1 << 8
    TRUNCATED = 1 << 9
    """The frame ends inside a header, or before its IP length says."""
    MALFORMED = 1 << 10
    """A length or version contradicts another, or more IPv6 extension headers follow than are looked at."""
    NOT_IP = 1 << 11
    TCP = 1 << 12
    UDP = 1 << 13
    GBP = 1 << 16
    """Decap: the frame carried a group policy (its 16 bits are not kept)."""
    GPE = 1 << 17
    CE = 1 << 18
    """Decap: congestion was marked on the way and copied into the inner header."""
    RESERVED_BITS = 1 << 19
    """Decap: reserved bits were set, and the policy only counts them."""
    PARTIAL_CHECKSUM = 1 << 24
    """The layer 4 checksum field holds only the pseudo header's sum; the rest is still to be done."""
    VALID_CHECKSUM = 1 << 25
    """The layer 4 checksum is known to be right: `fastpath.checksum.verify` looked, or a device, as the caller says."""
    YELLOW = 1 << 28
    """A meter found the packet above its committed rate (RFC 2697, RFC 2698)."""
    RED = 1 << 29
    """A meter found it above the excess burst or the peak rate; with neither bit, a packet is green."""


OTHERS: Final = 0xFFFF0000
"""Bits that parsing leaves as they are."""

"""What a DHCPv4 core counts, and the complete table of reasons for which a packet is dropped."""

from __future__ import annotations

from typing import Final

from dataplane.dhcp import wire
from fastpath import framing

CORE_DROP_REASONS: Final[dict[str, str]] = {
    "not_server_port": "the UDP destination port is not 67",
    "rate_limited": "the port, or all unknown MACs of the network, sent more packets than the token bucket allows",
    "rogue_server": "a guest sent a message that only servers send",
    "unknown_type": "the message type is none that clients send to servers",
    "leasequery": "lease queries are not answered",
    "bootp_disabled": "a BOOTP message, and the policy does not answer those",
    "unknown_relay": "giaddr is not one of the network's dhcp_relays",
    "chaddr_spoofed": "the hardware address inside the message is not the one that sent the frame",
    "unknown_mac": "no port of this network has the MAC, and none appeared while the packet was held",
    "not_served": "the port has no IPv4 address in a subnet with DHCP",
    "hold_overflow": "a held packet gave way to a newer one",
    "client_id_mismatch": "the port has an explicit client-id and the message carries another",
    "other_server": "the guest speaks to another server",
    "no_server_id": "a RELEASE without a server identifier",
    "no_address": "the message names no address where it must",
    "wrong_address": "a DECLINE or RELEASE of an address that is not the port's",
    "foreign_address": "an INFORM from an address outside the port's subnets",
}
"""Reasons of the core itself."""

DROP_REASONS: Final[dict[str, str]] = {**framing.DROP_REASONS, **wire.DROP_REASONS, **CORE_DROP_REASONS}
"""Every drop reason of a packet on its way through framing, codec and core, with its one-line meaning."""

NOTES: Final[dict[str, str]] = {
    "held": "packets of an unknown MAC that were held",
    "answered_from_hold": "held packets that were answered when their port appeared",
    "decline_without_server_id": "DECLINEs without option 54 that were accepted",
    "option_dropped": "options that did not fit a reply",
    "relay_option_dropped": "replies sent without option 82 because it did not fit",
}
"""What else is counted: nothing is lost, but an operator may want to know."""


class Counters:
    """Plain counters of one network; a key appears with its first event."""

    __slots__ = ("dropped", "noted", "received", "sent")

    def __init__(self) -> None:
        self.received: dict[str, int] = {}
        """By message type (`discover`, `request`, ...), every well-formed message."""
        self.sent: dict[str, int] = {}
        """By message type (`offer`, `ack`, `nak`, `bootp`)."""
        self.dropped: dict[str, int] = {}
        """By reason, a key of `DROP_REASONS`."""
        self.noted: dict[str, int] = {}
        """By a key of `NOTES`."""

    def drop(self, reason: str) -> None:
        """Count a dropped packet."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def note(self, what: str, times: int = 1) -> None:
        """Count something of `NOTES`."""
        self.noted[what] = self.noted.get(what, 0) + times

    def add(self, other: Counters) -> None:
        """Add all counts of `other`."""
        for own, theirs in (
            (self.received, other.received),
            (self.sent, other.sent),
            (self.dropped, other.dropped),
            (self.noted, other.noted),
        ):
            for key, count in theirs.items():
                own[key] = own.get(key, 0) + count

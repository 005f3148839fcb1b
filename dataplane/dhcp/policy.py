"""What the operator and the node decide about DHCPv4: the switches, and who the server is."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from dataplane.dhcp.constants import INFINITE_LEASE, LEASE_SECONDS, MAC_BYTES, MIN_LEASE_SECONDS
from dataplane.model import METADATA_IPV4, Ip

# The `dns_domain` that Neutron uses unless it is told otherwise.
DEFAULT_DOMAIN: Final = "openstacklocal"


class Policy(msgspec.Struct, frozen=True):
    """The switches of a DHCPv4 server. Raises ValueError for values that cannot work."""

    lease_time: int = LEASE_SECONDS
    """Seconds; -1 means for ever. A port's option `lease-time` beats it."""
    min_lease_time: int = MIN_LEASE_SECONDS
    """A client that asks for fewer seconds gets these."""
    hold_seconds: float = 8.0
    """How long a packet of an unknown MAC waits for its port. 0: it is dropped at once."""
    hold_limit: int = 256
    """Held packets per network; the oldest goes first."""
    rate: float = 10.0
    """Packets per second and port in the long run; 0 means no limit."""
    burst: int = 20
    """Packets that a port may send at once."""
    rapid_commit: bool = False
    """Answer a DISCOVER with option 80 by an ACK (RFC 4039)."""
    bootp: bool = False
    """Answer messages without option 53."""
    echo_client_id: bool = True
    """Return option 61 (RFC 6842); False for very old clients that reject it."""
    accept_bare_request: bool = True
    """ACK a REQUEST that names neither address nor server, as Kea does; False: NAK, as RFC 2131 says."""
    metadata_route: bool = True
    """Announce 169.254.169.254/32 on the link."""
    domain: str = DEFAULT_DOMAIN
    """Option 15 for networks without `dns_domain`; empty: none."""

    def __post_init__(self) -> None:
        if self.lease_time != -1 and not 0 < self.lease_time <= INFINITE_LEASE:
            raise ValueError(f"lease_time is 1 to {INFINITE_LEASE} seconds, or -1")
        if self.hold_seconds < 0 or self.hold_limit < 1:
            raise ValueError("hold_seconds is 0 or more, hold_limit 1 or more")
        if self.rate < 0 or self.burst < 1:
            raise ValueError("rate is 0 or more, burst 1 or more")

    @property
    def lease_seconds(self) -> int:
        """The lease time as option 51 carries it."""
        return INFINITE_LEASE if self.lease_time == -1 else self.lease_time


class ServerIdentity(msgspec.Struct, frozen=True):
    """Who answers in a network: the same on every node, so that a renewal after a live migration finds its server."""

    mac: bytes
    """Source MAC of replies, 6 bytes."""
    server_id: Ip = Ip(METADATA_IPV4)
    """Option 54 and source address of replies."""

    def __post_init__(self) -> None:
        if len(self.mac) != MAC_BYTES:
            raise ValueError("a MAC address has 6 bytes")
        ipaddress.IPv4Address(self.server_id)

    @property
    def address(self) -> bytes:
        """`server_id` as 4 bytes."""
        return ipaddress.IPv4Address(self.server_id).packed

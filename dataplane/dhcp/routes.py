"""Classless static routes: the wire form (RFC 3442) and the routes of a subnet in Neutron's order."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from dataplane.model import METADATA_IPV4, Ip, Network, Subnet

Route = tuple[str, str]
"""Destination in CIDR form and gateway address, both as text."""

ON_LINK: Final = "0.0.0.0"
"""The gateway of a destination that is on the link itself (RFC 3442, "local subnet routes")."""
DEFAULT: Final = "0.0.0.0/0"
METADATA: Final = f"{METADATA_IPV4}/32"


def encode_route(destination: str, gateway: str) -> bytes:
    """Width, the significant octets of the destination, gateway (RFC 3442). Host bits are cleared.

    Raises ValueError for text that is no IPv4 prefix or address.
    """
    prefix = ipaddress.IPv4Network(destination, strict=False)
    octets = prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    return bytes((prefix.prefixlen,)) + octets + ipaddress.IPv4Address(gateway).packed


def encode_routes(routes: Iterable[Route]) -> bytes:
    """The value of option 121. Raises ValueError as `encode_route` does."""
    return b"".join(encode_route(destination, gateway) for destination, gateway in routes)


def gateway_of(subnet: Subnet) -> Ip | None:
    """The subnet's gateway, else the next hop of its first host route to 0.0.0.0/0, else None."""
    if subnet.gateway_ip is not None:
        return subnet.gateway_ip
    return next((route.nexthop for route in subnet.host_routes if route.destination == DEFAULT), None)


def announced_routes(network: Network, subnet: Subnet, *, metadata: bool, gateway: Ip | None) -> list[Route]:
    """The routes of option 121 for guests of `subnet`, in Neutron's order; empty: send no option.

    1. on-link routes to the network's other IPv4 subnets of the same segment,
    2. the subnet's host routes without the default one,
    3. with `metadata`, 169.254.169.254/32 on the link, unless a host route already leads there,
    4. the default route by `gateway`: clients ignore option 3 when option 121 is there (RFC 3442).
    """
    routes: list[Route] = [
        (other.cidr, ON_LINK)
        for other in network.subnets
        if other.id != subnet.id and ":" not in other.cidr and other.segment_id == subnet.segment_id
    ]
    routes += [(route.destination, route.nexthop) for route in subnet.host_routes if route.destination != DEFAULT]
    if metadata and not any(destination == METADATA for destination, _ in routes):
        routes.append((METADATA, ON_LINK))
    if routes and gateway is not None:
        routes.append((DEFAULT, gateway))
    return routes

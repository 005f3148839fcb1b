"""Who a caller is that a trusted proxy names: by network or router and address, without the MAC of its SYN."""

from __future__ import annotations

from dataplane.desired import Desired
from dataplane.model import NetworkId, Port
from metadata.dropin import Forwarded
from metadata.identity import NO_PORT, SEVERAL_PORTS, Caller, Match, PortIndex, Refused, Unknown, identify

ROUTER_INTERFACES = frozenset((
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
))  # fmt: skip
"""`device_owner` of a router's ports in tenants' networks, as Neutron names them; `device_id` is the router's id."""


def identify_forwarded(caller: Forwarded, index: PortIndex[Port], desired: Desired) -> Match[Port] | Unknown | Refused:
    """The one port that the caller's network or router and its address belong to.

    Of a routed caller every subnet with an interface of the router counts; another subnet of such a network may have
    the same range as one that is routed. A link-local caller is on the link of an interface, whatever subnets its port
    has: its MAC is looked for in the whole network, as Neutron's agent does. Where two ports fit nobody can say who
    calls, and nobody is answered.
    """
    if not caller.router_id:
        return identify(caller, index, by_address=caller.mac is None)
    found: Match[Port] | Unknown | Refused = NO_PORT
    for network_id, subnets in _routed(caller.router_id, desired).items():
        routed = Caller(network_id, caller.mac, caller.address)
        match = identify(routed, index, by_address=caller.mac is None)
        if isinstance(match, Match):
            if caller.mac is None and not _has(match.port, caller.address, subnets):
                continue
            if isinstance(found, Match):
                return SEVERAL_PORTS
            found = match
        elif not isinstance(found, Match) and match is not NO_PORT:
            found = match
    return found


def _routed(router_id: str, desired: Desired) -> dict[NetworkId, set[str]]:
    """The subnets that the router has an interface in, by network."""
    found: dict[NetworkId, set[str]] = {}
    for port in desired.ports_of_instance(router_id):
        if port.device_owner in ROUTER_INTERFACES:
            found.setdefault(port.network_id, set()).update(fixed.subnet_id for fixed in port.fixed_ips)
    return found


def _has(port: Port, address: str, subnets: set[str]) -> bool:
    return any(fixed.ip_address == address and fixed.subnet_id in subnets for fixed in port.fixed_ips)

"""Rules inside one network: its subnets, their addresses and modes. Between objects: see `relations`."""

from __future__ import annotations

from ipaddress import IPv6Network

from dataplane import fields
from dataplane.fields import Findings, Prefix
from dataplane.model import (
    METADATA_IPV4,
    METADATA_IPV6,
    METADATA_IPV6_LINK,
    Adopt,
    AllocationPool,
    HostRoute,
    Network,
    Subnet,
)

# What standards say.
MAX_VNI = 2**24 - 1  # RFC 7348 5
MIN_MTU, MAX_MTU = 576, 65535  # RFC 791: every host takes 576
MIN_MTU_IPV6 = 1280  # RFC 8200 5
AUTOCONF_PREFIX_LENGTH = 64  # RFC 4862 with RFC 7136 interface identifiers
# What the Neutron API says: of the two modes, either one is unset or both are the same, and a router advertisement
# mode alone is refused (the document names the sender of addresses).
_AUTOCONF = ("slaac", "dhcpv6-stateless")

_NETWORK = {
    "id": fields.identifier,
    "name": fields.text,
    "vni": fields.between(1, MAX_VNI),
    "mtu": fields.between(MIN_MTU, MAX_MTU),
    "dns_domain": fields.domain,
    "dhcp_relays": fields.ipv4,
}
_SUBNET = {
    "id": fields.identifier,
    "cidr": fields.prefix,
    "name": fields.text,
    "gateway_ip": fields.ip,
    "dns_nameservers": fields.ip,
    "segment_id": fields.identifier,
}
_POOL = {"start": fields.ip, "end": fields.ip}
_ROUTE = {"destination": fields.prefix, "nexthop": fields.ip}
_ADOPT = {"netns": fields.namespace, "device": fields.device}


def canonical(findings: Findings, network: Network, path: str) -> Network:
    """The network with canonical values; every broken rule is noted in `findings`."""
    network = findings.fields(network, path, _NETWORK)
    network = findings.each(network, path, "subnets", _subnet)
    if isinstance(network.adopt, Adopt):
        findings.fields(network.adopt, f"{path}.adopt", _ADOPT)
    prefixes = [_parsed(subnet.cidr) for subnet in network.subnets]
    for index, this in enumerate(prefixes):
        for other in range(index):
            if _overlap(this, prefixes[other]):
                findings.add(
                    f"{path}.subnets[{index}].cidr", f"{this} overlaps {prefixes[other]} of {path}.subnets[{other}]"
                )
    if network.mtu < MIN_MTU_IPV6 and any(isinstance(prefix, IPv6Network) for prefix in prefixes):
        findings.add(f"{path}.mtu", f"{network.mtu} is less than {MIN_MTU_IPV6}, which a network with IPv6 needs")
    return network


def _subnet(findings: Findings, subnet: Subnet, path: str) -> Subnet:
    subnet = findings.fields(subnet, path, _SUBNET)
    subnet = findings.each(subnet, path, "host_routes", lambda f, r, p: f.fields(r, p, _ROUTE))
    subnet = findings.each(subnet, path, "allocation_pools", lambda f, r, p: f.fields(r, p, _POOL))
    prefix = _parsed(subnet.cidr)
    if prefix is None:
        return subnet
    if prefix.is_multicast or prefix.is_loopback or prefix.prefixlen == 0:
        findings.add(f"{path}.cidr", f"{prefix} cannot be a subnet")
    elif service := [each for each in (METADATA_IPV4, METADATA_IPV6_LINK, METADATA_IPV6) if _inside(each, prefix)]:
        findings.add(f"{path}.cidr", f"{prefix} contains the metadata address {service[0]}")
    _check_gateway(findings, subnet, prefix, path)
    for index, server in enumerate(subnet.dns_nameservers):
        _check_family(findings, server, prefix, f"{path}.dns_nameservers[{index}]")
    for index, route in enumerate(subnet.host_routes):
        _check_route(findings, route, prefix, f"{path}.host_routes[{index}]")
    _check_pools(findings, subnet, prefix, path)
    _check_modes(findings, subnet, prefix, path)
    return subnet


def _check_gateway(findings: Findings, subnet: Subnet, prefix: Prefix, path: str) -> None:
    gateway = subnet.gateway_ip
    if gateway is None or _family(gateway) is None:
        return
    link_local = prefix.version == 6 and fields.parse_ip(gateway).is_link_local
    if not _inside(gateway, prefix) and not link_local:
        findings.add(f"{path}.gateway_ip", f"{gateway} is not in subnet {prefix}")
    elif reason := unusable(gateway, prefix):
        findings.add(f"{path}.gateway_ip", reason)


def _check_family(findings: Findings, address: str, prefix: Prefix, path: str) -> None:
    if _family(address) not in (None, prefix.version):
        findings.add(path, f"{address} is not an IPv{prefix.version} address, as {prefix} is")


def _check_route(findings: Findings, route: HostRoute, prefix: Prefix, path: str) -> None:
    destination = _parsed(route.destination)
    if destination is not None and destination.version != prefix.version:
        findings.add(f"{path}.destination", f"{destination} is not an IPv{prefix.version} range, as {prefix} is")
    _check_family(findings, route.nexthop, prefix, f"{path}.nexthop")


def _check_pools(findings: Findings, subnet: Subnet, prefix: Prefix, path: str) -> None:
    ranges: list[tuple[int, int] | None] = []
    for index, pool in enumerate(subnet.allocation_pools):
        here = f"{path}.allocation_pools[{index}]"
        bounds = _check_pool(findings, pool, prefix, here)
        for other, earlier in enumerate(ranges):
            if bounds and earlier and bounds[0] <= earlier[1] and earlier[0] <= bounds[1]:
                findings.add(here, f"overlaps {path}.allocation_pools[{other}]")
        ranges.append(bounds)
        gateway = subnet.gateway_ip
        same = gateway is not None and _family(gateway) == prefix.version
        if bounds and gateway and same and bounds[0] <= int(fields.parse_ip(gateway)) <= bounds[1]:
            findings.add(here, f"contains the gateway {gateway}")


def _check_pool(findings: Findings, pool: AllocationPool, prefix: Prefix, path: str) -> tuple[int, int] | None:
    """First and last address of a pool that is right, as numbers."""
    right = True
    for name, address in (("start", pool.start), ("end", pool.end)):
        if _family(address) is None:
            right = False
        elif not _inside(address, prefix):
            findings.add(f"{path}.{name}", f"{address} is not in subnet {prefix}")
            right = False
    if not right:
        return None
    first, last = int(fields.parse_ip(pool.start)), int(fields.parse_ip(pool.end))
    if first > last:
        findings.add(f"{path}.end", f"{pool.end} is before {pool.start}")
        return None
    return first, last


def _check_modes(findings: Findings, subnet: Subnet, prefix: Prefix, path: str) -> None:
    sender, assigner = subnet.ipv6_ra_mode, subnet.ipv6_address_mode
    if sender is None and assigner is None:
        return
    if prefix.version == 4:
        name = "ipv6_ra_mode" if sender else "ipv6_address_mode"
        findings.add(f"{path}.{name}", f"{prefix} is not an IPv6 subnet")
    elif not subnet.enable_dhcp:
        findings.add(f"{path}.enable_dhcp", "must be true when an IPv6 mode is set")
    elif sender is not None and sender != assigner:
        findings.add(f"{path}.ipv6_address_mode", f"must be {sender}, as ipv6_ra_mode is, not {assigner or 'unset'}")
    elif assigner in _AUTOCONF and prefix.prefixlen != AUTOCONF_PREFIX_LENGTH:
        findings.add(f"{path}.cidr", f"{assigner} needs a /{AUTOCONF_PREFIX_LENGTH}, not a /{prefix.prefixlen}")


def unusable(address: str, prefix: Prefix) -> str:
    """Why an address of an IPv4 subnet can be no host's (it names the range, or is its broadcast), or nothing."""
    if prefix.version == 4 and prefix.prefixlen < 31:  # RFC 3021: a /31 has neither
        number = fields.parse_ip(address)
        if number == prefix.network_address:
            return f"{address} is the network address of {prefix}"
        if number == prefix.broadcast_address:
            return f"{address} is the broadcast address of {prefix}"
    return ""


def _parsed(cidr: str) -> Prefix | None:
    """The range, or None where its own rule has already been broken."""
    try:
        return fields.parse_prefix(cidr)
    except ValueError:
        return None


def _family(address: str) -> int | None:
    """4 or 6, or None where the address' own rule has already been broken."""
    try:
        return fields.parse_ip(address).version
    except ValueError:
        return None


def _inside(address: str, prefix: Prefix) -> bool:
    return fields.parse_ip(address) in prefix


def _overlap(this: Prefix | None, other: Prefix | None) -> bool:
    return this is not None and other is not None and this.version == other.version and this.overlaps(other)

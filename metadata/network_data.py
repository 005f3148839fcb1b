"""network_data.json: the instance's links, networks and DNS services, as Nova renders them.

Only the first IPv4 and the first IPv6 subnet of a link appear. A link's mtu is null when one of its subnets has a DHCP
server, which then announces it. Networks of an IPv6 address mode carry the mode in their type (`ipv6_slaac`,
`ipv6_dhcpv6-stateful`, ...), which is what cloud-init reads.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from metadata.records import InstanceDocument, LinkRecord, SubnetRecord


def network_data(document: InstanceDocument) -> dict[str, Any]:
    """The document's content; empty when the instance has no address at all."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for link in document.links:
        if not link.subnets:
            continue
        identifier = link.device or f"interface{len(links)}"
        links.append(_link(link, identifier))
        for version in (4, 6):
            subnet = next((subnet for subnet in link.subnets if _version(subnet) == version), None)
            if subnet is not None:
                networks.append(_network(link, subnet, version, f"network{len(networks)}", identifier))
                services += [service for service in _services(subnet) if service not in services]
    return {"links": links, "networks": networks, "services": services} if links else {}


def _version(subnet: SubnetRecord) -> int:
    return 6 if ":" in subnet.address else 4


def _link(link: LinkRecord, identifier: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "vif_id": link.port_id,
        "type": link.type,
        "mtu": None if any(subnet.dhcp for subnet in link.subnets) else link.mtu,
        "ethernet_mac_address": link.mac,
    }


def _network(link: LinkRecord, subnet: SubnetRecord, version: int, identifier: str, link_id: str) -> dict[str, Any]:
    network = {"id": identifier, "link": link_id, "network_id": link.network_id}
    if subnet.ipv6_address_mode is None and subnet.dhcp:
        return network | {"type": f"ipv{version}_dhcp"}
    suffix = f"_{subnet.ipv6_address_mode}" if subnet.ipv6_address_mode else ""
    return network | {
        "type": f"ipv{version}{suffix}",
        "ip_address": subnet.address,
        "netmask": str(ipaddress.ip_network(subnet.cidr, strict=False).netmask),
        "routes": _routes(subnet, version),
        "services": _services(subnet),
    }


def _routes(subnet: SubnetRecord, version: int) -> list[dict[str, str]]:
    routes: list[dict[str, str]] = []
    if subnet.gateway:
        anywhere = "::" if version == 6 else "0.0.0.0"
        routes.append({"network": anywhere, "netmask": anywhere, "gateway": subnet.gateway})
    for route in subnet.routes:
        prefix = ipaddress.ip_network(route.destination, strict=False)
        routes.append(
            {"network": str(prefix.network_address), "netmask": str(prefix.netmask), "gateway": route.gateway}
        )
    return routes


def _services(subnet: SubnetRecord) -> list[dict[str, str]]:
    return [{"type": "dns", "address": address} for address in subnet.dns_nameservers]

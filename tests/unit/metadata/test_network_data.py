"""network_data.json: links, networks, services."""

from __future__ import annotations

import msgspec

from metadata.network_data import network_data
from metadata.records import InstanceDocument, LinkRecord, SubnetRecord
from tests.unit.metadata.sample import BARE, FULL, LINK


def with_links(*links: LinkRecord) -> InstanceDocument:
    return msgspec.structs.replace(BARE, links=links)


def test_a_dhcp_network_carries_only_its_names() -> None:
    assert network_data(FULL) == {
        "links": [
            {
                "id": "tapport-1",
                "vif_id": "port-1",
                "type": "phy",
                "mtu": None,
                "ethernet_mac_address": "fa:16:3e:00:00:01",
            }
        ],
        "networks": [{"id": "network0", "type": "ipv4_dhcp", "link": "tapport-1", "network_id": "net-1"}],
        "services": [{"type": "dns", "address": "10.0.0.2"}, {"type": "dns", "address": "10.0.0.3"}],
    }


def test_a_static_network_has_everything_default_route_first() -> None:
    subnet = msgspec.structs.replace(LINK.subnets[0], dhcp=False)
    data = network_data(with_links(msgspec.structs.replace(LINK, subnets=(subnet,))))
    assert data["links"][0]["mtu"] == 1450
    assert data["networks"] == [
        {
            "id": "network0",
            "type": "ipv4",
            "link": "tapport-1",
            "network_id": "net-1",
            "ip_address": "10.0.0.5",
            "netmask": "255.255.255.0",
            "routes": [
                {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
                {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"},
            ],
            "services": [{"type": "dns", "address": "10.0.0.2"}, {"type": "dns", "address": "10.0.0.3"}],
        }
    ]


def test_ipv6_types_follow_the_address_mode() -> None:
    types = []
    for mode, dhcp in [
        (None, False),
        (None, True),
        ("slaac", False),
        ("dhcpv6-stateful", True),
        ("dhcpv6-stateless", True),
    ]:
        subnet = SubnetRecord(address="fd00::5", cidr="fd00::/64", gateway="fd00::1", dhcp=dhcp, ipv6_address_mode=mode)
        data = network_data(with_links(msgspec.structs.replace(LINK, subnets=(subnet,))))
        types.append(data["networks"][0]["type"])
        if mode:
            assert data["networks"][0]["netmask"] == "ffff:ffff:ffff:ffff::"
            assert data["networks"][0]["routes"] == [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]
    assert types == ["ipv6", "ipv6_dhcp", "ipv6_slaac", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless"]


def test_only_the_first_subnet_of_each_family() -> None:
    more = (
        SubnetRecord(address="fd00::5", cidr="fd00::/64", dns_nameservers=("10.0.0.2",)),
        SubnetRecord(address="10.1.0.5", cidr="10.1.0.0/24", dns_nameservers=("10.9.9.9",)),
        SubnetRecord(address="fd01::5", cidr="fd01::/64"),
    )
    data = network_data(with_links(msgspec.structs.replace(LINK, subnets=(*LINK.subnets, *more))))
    assert [network["type"] for network in data["networks"]] == ["ipv4_dhcp", "ipv6_dhcp"]
    assert [service["address"] for service in data["services"]] == ["10.0.0.2", "10.0.0.3"]


def test_several_links_are_numbered_and_empty_ones_left_out() -> None:
    unnamed = msgspec.structs.replace(LINK, device="", port_id="port-2")
    empty = msgspec.structs.replace(LINK, subnets=())
    data = network_data(with_links(LINK, empty, unnamed))
    assert [link["id"] for link in data["links"]] == ["tapport-1", "interface1"]
    assert [(network["id"], network["link"]) for network in data["networks"]] == [
        ("network0", "tapport-1"),
        ("network1", "interface1"),
    ]
    assert network_data(with_links(empty)) == {}

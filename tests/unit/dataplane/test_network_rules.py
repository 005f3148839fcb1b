"""network_rules: what one network may say."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents
from tests.unit.dataplane.states import document, mistakes, network, of_subnet, of_v6, subnet


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (document([network("a/b", subnet())]), ["networks[0].id: an id is 1 to 64 letters"]),
        (document([network("n", vni=0)]), ["networks[0].vni: 0 is not between 1 and 16777215"]),
        (document([network("n", vni=2**24)]), ["networks[0].vni: 16777216 is not between 1 and 16777215"]),
        (document([network("n", mtu=575)]), ["networks[0].mtu: 575 is not between 576 and 65535"]),
        (document([network("n", dns_domain="a b")]), ["networks[0].dns_domain: 'a b' is not a host or domain name"]),
        (document([network("n", name="a\nb")]), ["networks[0].name: contains a control character"]),
        (document([network("n", dhcp_relays=["::1"])]), ["networks[0].dhcp_relays[0]: '::1' is not an IPv4 address"]),
        (
            document([network("n", adopt={"netns": "../1/ns", "device": "averylongdevicename"})]),
            [
                "networks[0].adopt.netns: '../1/ns' is not a namespace name",
                "networks[0].adopt.device: a device name has at most 15 characters",
            ],
        ),
        (
            document([network("n", mtu=1279), network("m", subnet("s6", "2001:db8::/64"), mtu=1279)]),
            ["networks[1].mtu: 1279 is less than 1280, which a network with IPv6 needs"],
        ),
        (
            document([network("n", subnet("a"), subnet("b", "10.1.0.0/24"), subnet("c", "10.0.0.128/25"))]),
            ["networks[0].subnets[2].cidr: 10.0.0.128/25 overlaps 10.0.0.0/24 of networks[0].subnets[0]"],
        ),
        (of_subnet(cidr="10.0.0.1/24"), ["networks[0].subnets[0].cidr: 10.0.0.1/24 has host bits set, did you mean"]),
        (of_subnet(cidr="10.0.0.0"), ["networks[0].subnets[0].cidr: '10.0.0.0' has no prefix length"]),
        (of_subnet(cidr="ten/8"), ["networks[0].subnets[0].cidr: 'ten/8' is not an address range"]),
        (of_subnet(cidr="224.0.0.0/24"), ["networks[0].subnets[0].cidr: 224.0.0.0/24 cannot be a subnet"]),
        (of_subnet(cidr="0.0.0.0/0"), ["networks[0].subnets[0].cidr: 0.0.0.0/0 cannot be a subnet"]),
        (of_subnet(cidr="169.254.0.0/16"), ["networks[0].subnets[0].cidr: 169.254.0.0/16 contains the metadata"]),
        (of_subnet(cidr="fe80::/64"), ["networks[0].subnets[0].cidr: fe80::/64 contains the metadata"]),
        (of_subnet(cidr="fd00:ec2::/64"), ["networks[0].subnets[0].cidr: fd00:ec2::/64 contains the metadata"]),
        (of_subnet(gateway_ip="10.0.1.1"), ["networks[0].subnets[0].gateway_ip: 10.0.1.1 is not in subnet 10.0.0.0"]),
        (of_subnet(gateway_ip="10.0.0.0"), ["networks[0].subnets[0].gateway_ip: 10.0.0.0 is the network address"]),
        (of_subnet(gateway_ip="10.0.0.255"), ["networks[0].subnets[0].gateway_ip: 10.0.0.255 is the broadcast"]),
        (of_subnet(gateway_ip="fe80::1"), ["networks[0].subnets[0].gateway_ip: fe80::1 is not in subnet 10.0.0.0/24"]),
        (of_subnet(gateway_ip="10.0.0.01"), ["networks[0].subnets[0].gateway_ip: '10.0.0.01' is not an IP address"]),
        (of_v6(gateway_ip="fe80::1%eth0"), ["networks[0].subnets[0].gateway_ip: 'fe80::1%eth0': zones and"]),
        (
            of_subnet(dns_nameservers=["8.8.8.8", "::"]),
            ["networks[0].subnets[0].dns_nameservers[1]: :: is not"],
        ),
        (
            of_subnet(host_routes=[{"destination": "10.9.0.1/16", "nexthop": "::1"}]),
            [
                "networks[0].subnets[0].host_routes[0].destination: 10.9.0.1/16 has host bits set",
                "networks[0].subnets[0].host_routes[0].nexthop: ::1 is not an IPv4 address",
            ],
        ),
        (
            of_subnet(host_routes=[{"destination": "2001:db8::/32", "nexthop": "10.0.0.1"}]),
            ["networks[0].subnets[0].host_routes[0].destination: 2001:db8::/32 is not an IPv4 range"],
        ),
        (
            of_subnet(allocation_pools=[{"start": "10.0.0.9", "end": "10.0.0.8"}]),
            ["networks[0].subnets[0].allocation_pools[0].end: 10.0.0.8 is before 10.0.0.9"],
        ),
        (
            of_subnet(
                gateway_ip="10.0.0.30",
                allocation_pools=[
                    {"start": "10.0.0.9", "end": "10.0.0.20"},
                    {"start": "10.0.0.20", "end": "10.0.0.40"},
                ],
            ),
            [
                "networks[0].subnets[0].allocation_pools[1]: overlaps networks[0].subnets[0].allocation_pools[0]",
                "networks[0].subnets[0].allocation_pools[1]: contains the gateway 10.0.0.30",
            ],
        ),
        (of_subnet(ipv6_ra_mode="slaac"), ["networks[0].subnets[0].ipv6_ra_mode: 10.0.0.0/24 is not an IPv6 subnet"]),
        (of_v6(ipv6_ra_mode="slaac"), ["networks[0].subnets[0].ipv6_address_mode: must be slaac, as ipv6_ra_mode is"]),
        (
            of_v6(ipv6_ra_mode="slaac", ipv6_address_mode="dhcpv6-stateful"),
            ["networks[0].subnets[0].ipv6_address_mode: must be slaac, as ipv6_ra_mode is, not dhcpv6-stateful"],
        ),
        (
            of_v6(cidr="2001:db8::/60", ipv6_address_mode="slaac"),
            ["networks[0].subnets[0].cidr: slaac needs a /64, not a /60"],
        ),
        (
            of_v6(ipv6_address_mode="slaac", enable_dhcp=False),
            ["networks[0].subnets[0].enable_dhcp: must be true when an IPv6 mode is set"],
        ),
        (of_v6(ipv6_address_mode="auto"), ["networks[0].subnets[0].ipv6_address_mode: invalid enum value 'auto'"]),
    ],
)
def test_refusals(data: dict[str, Any], expected: list[str]) -> None:
    found = mistakes(data)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(
    "data",
    [
        of_subnet(cidr="10.0.0.0/31", gateway_ip="10.0.0.0"),
        of_subnet(dns_nameservers=["0.0.0.0"]),
        of_v6(gateway_ip="fe80::1", dns_nameservers=["::"]),
        of_v6(ipv6_ra_mode="dhcpv6-stateful", ipv6_address_mode="dhcpv6-stateful", cidr="2001:db8::/80"),
        of_v6(ipv6_address_mode="dhcpv6-stateless"),
    ],
)
def test_permitted(data: dict[str, Any]) -> None:
    documents.decode(data)

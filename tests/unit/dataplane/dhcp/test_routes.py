from __future__ import annotations

import pytest

from dataplane.dhcp.routes import announced_routes, encode_route, encode_routes, gateway_of
from dataplane.model import HostRoute, Ip, SubnetId
from tests.unit.dataplane.dhcp import guest

META = ("169.254.169.254/32", "0.0.0.0")


def host_route(destination: str, nexthop: str) -> HostRoute:
    return HostRoute(destination=destination, nexthop=Ip(nexthop))


@pytest.mark.parametrize(
    ("destination", "data"),
    [  # RFC 3442's own table
        ("0.0.0.0/0", b"\0"),
        ("10.0.0.0/8", b"\x08\x0a"),
        ("10.0.0.0/24", b"\x18\x0a\0\0"),
        ("10.17.0.0/16", b"\x10\x0a\x11"),
        ("10.27.129.0/24", b"\x18\x0a\x1b\x81"),
        ("10.229.0.128/25", b"\x19\x0a\xe5\0\x80"),
        ("10.198.122.47/32", b"\x20\x0a\xc6\x7a\x2f"),
        ("10.1.2.3/8", b"\x08\x0a"),
    ],
)
def test_encoding(destination: str, data: bytes) -> None:
    assert encode_route(destination, "10.0.0.1") == data + b"\x0a\0\0\1"


def test_routes_follow_each_other() -> None:
    assert encode_routes([("0.0.0.0/0", "10.0.0.1"), META]) == b"\0\x0a\0\0\1\x20\xa9\xfe\xa9\xfe\0\0\0\0"


@pytest.mark.parametrize(("destination", "gateway"), [("10.0.0.0/33", "10.0.0.1"), ("10.0.0.0/8", "x")])
def test_what_is_no_route(destination: str, gateway: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the text is ipaddress')
        encode_route(destination, gateway)


def test_neutrons_order() -> None:
    others = (
        guest.subnet(id=SubnetId("s2"), cidr="10.2.0.0/24", gateway_ip=None, host_routes=()),
        guest.subnet(id=SubnetId("s3"), cidr="10.3.0.0/24", enable_dhcp=False),
        guest.subnet(id=SubnetId("s4"), cidr="10.4.0.0/24", segment_id="elsewhere"),
        guest.subnet(id=SubnetId("s6"), cidr="2001:db8::/64", gateway_ip=None),
    )
    network = guest.network(guest.SUBNET, *others)
    assert announced_routes(network, guest.SUBNET, metadata=True, gateway=guest.SUBNET.gateway_ip) == [
        ("10.2.0.0/24", "0.0.0.0"),
        ("10.3.0.0/24", "0.0.0.0"),
        ("192.0.2.0/24", "10.0.0.254"),
        META,
        ("0.0.0.0/0", "10.0.0.1"),
    ]


def test_without_routes_there_is_no_option_and_no_default() -> None:
    subnet = guest.subnet(host_routes=())
    assert announced_routes(guest.network(subnet), subnet, metadata=False, gateway=subnet.gateway_ip) == []


def test_without_a_gateway_there_is_no_default() -> None:
    subnet = guest.subnet(host_routes=(), gateway_ip=None)
    assert announced_routes(guest.network(subnet), subnet, metadata=True, gateway=None) == [META]


def test_a_host_route_to_the_metadata_address_stands() -> None:
    subnet = guest.subnet(host_routes=(host_route("169.254.169.254/32", "10.0.0.9"),))
    routes = announced_routes(guest.network(subnet), subnet, metadata=True, gateway=None)
    assert routes == [("169.254.169.254/32", "10.0.0.9")]


def test_a_default_host_route_is_the_gateway_of_a_subnet_without_one() -> None:
    routes = (host_route("192.0.2.0/24", "10.0.0.254"), host_route("0.0.0.0/0", "10.0.0.8"))
    subnet = guest.subnet(gateway_ip=None, host_routes=routes)
    assert gateway_of(subnet) == "10.0.0.8"
    announced = announced_routes(guest.network(subnet), subnet, metadata=False, gateway=gateway_of(subnet))
    assert announced == [("192.0.2.0/24", "10.0.0.254"), ("0.0.0.0/0", "10.0.0.8")]


def test_the_gateway_wins_over_a_default_host_route() -> None:
    subnet = guest.subnet(host_routes=(host_route("0.0.0.0/0", "10.0.0.8"),))
    assert gateway_of(subnet) == "10.0.0.1"

from __future__ import annotations

from typing import Any

import pytest

from dataplane.dhcp.policy import Policy
from dataplane.dhcp.served import ServedPort, TokenBucket, template_at, template_for_offer
from dataplane.dhcp.template import PortTemplate
from dataplane.dhcp.wire import decode
from dataplane.model import FixedIp, Ip, Network, Port, SubnetId
from tests.unit.dataplane.dhcp import guest

SECOND = guest.subnet(id=SubnetId("s2"), cidr="10.2.0.0/24", gateway_ip=None)
TWO = guest.network(guest.SUBNET, SECOND)
BOTH = (
    FixedIp(subnet_id=guest.SUBNET.id, ip_address=Ip("10.0.0.5")),
    FixedIp(subnet_id=SECOND.id, ip_address=Ip("10.2.0.5")),
)


def templates(port: Port, network: Network = guest.NETWORK) -> tuple[PortTemplate, ...]:
    return ServedPort(port, TokenBucket(0, 1)).templates(network, guest.IDENTITY, Policy())


class TestTokenBucket:
    def test_burst_then_rate(self) -> None:
        bucket = TokenBucket(2.0, 3)
        assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
        assert [bucket.take(100.5), bucket.take(100.5)] == [True, False]
        assert [bucket.take(101.5), bucket.take(101.5), bucket.take(101.5)] == [True, True, False]

    def test_it_never_holds_more_than_the_burst(self) -> None:
        bucket = TokenBucket(10.0, 2)
        assert bucket.take(0.0)
        assert [bucket.take(1e6) for _ in range(3)] == [True, True, False]

    def test_a_clock_that_steps_back_adds_nothing(self) -> None:
        bucket = TokenBucket(1.0, 1)
        assert bucket.take(100.0)
        assert not bucket.take(50.0)
        assert bucket.take(51.0)

    def test_no_limit(self) -> None:
        bucket = TokenBucket(0.0, 1)
        assert all(bucket.take(0.0) for _ in range(100))


@pytest.mark.parametrize(
    "changes",
    [
        {"fixed_ips": ()},
        {"fixed_ips": (FixedIp(subnet_id=SubnetId("gone"), ip_address=Ip("10.0.0.5")),)},
        {"fixed_ips": (FixedIp(subnet_id=guest.SUBNET.id, ip_address=Ip("2001:db8::5")),)},
        {"device_owner": "network:dhcp"},
        {"device_owner": "network:router_ha_interface"},
        {"device_owner": "network:floatingip"},
        {"device_owner": "network:distributed"},
    ],
)
def test_ports_that_are_not_served(changes: dict[str, Any]) -> None:
    assert templates(guest.port(**changes)) == ()


def test_ports_without_dhcp() -> None:
    assert templates(guest.port(("dhcp_disabled", "true"))) == ()
    assert templates(guest.port(), guest.network(guest.subnet(enable_dhcp=False))) == ()


def test_one_template_for_each_address() -> None:
    found = templates(guest.port(fixed_ips=BOTH), TWO)
    assert [template.ip for template in found] == ["10.0.0.5", "10.2.0.5"]
    assert template_at(found, guest.ip("10.2.0.5")) is found[1]
    assert template_at(found, guest.ip("10.2.0.6")) is None


@pytest.mark.parametrize(
    ("giaddr", "options", "index"),
    [
        ("0.0.0.0", (), 0),
        ("10.2.0.1", (), 1),
        ("10.9.0.1", (), 0),
        ("10.0.0.1", ((82, b"\5\4\x0a\2\0\0"),), 1),
    ],
)
def test_the_relays_link_chooses_the_address(giaddr: str, options: tuple[tuple[int, bytes], ...], index: int) -> None:
    found = templates(guest.port(fixed_ips=BOTH), TWO)
    message = decode(guest.frame(guest.DISCOVER, *options, giaddr=giaddr)[42:])
    assert template_for_offer(found, message) is found[index]


def test_templates_are_kept_until_the_network_changes() -> None:
    port = ServedPort(guest.port(), TokenBucket(0, 1))
    first = port.templates(guest.NETWORK, guest.IDENTITY, Policy())
    assert port.templates(guest.NETWORK, guest.IDENTITY, Policy()) is first
    port.forget_templates()
    assert port.templates(guest.NETWORK, guest.IDENTITY, Policy()) is not first


def test_an_explicit_client_id() -> None:
    assert ServedPort(guest.port(("client-id", "ff:01")), TokenBucket(0, 1)).client_id == b"\xff\1"
    assert ServedPort(guest.port(("tag:x,61", "ff:01")), TokenBucket(0, 1)).client_id is None
    assert ServedPort(guest.port(), TokenBucket(0, 1)).client_id is None


def test_problems() -> None:
    assert "bootfil" in ServedPort(guest.port(("bootfil", "x")), TokenBucket(0, 1)).problems[0]

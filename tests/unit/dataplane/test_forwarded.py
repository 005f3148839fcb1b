"""Callers whom a proxy names: by network and address, or by a router's networks."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.metadata_view import Defaults
from metadata.dropin import Forwarded, link_local_mac
from metadata.identity import NO_INSTANCE, NO_PORT, SEVERAL_PORTS, Known, Verdict
from tests.unit.dataplane.states import UUID, document, instance, network, port, subnet

ROUTER = "network:router_interface"


def guest(key: str, network_id: str, number: int, owner: int, **more: Any) -> dict[str, Any]:
    return port(key, number, network_id, device_id=f"{UUID}{owner}", **more)


def interface(key: str, network_id: str, owner: str = ROUTER, router: str = "r1", number: int = 1) -> dict[str, Any]:
    return port(key, number, network_id, device_id=router, device_owner=owner)


def asked(
    ports: list[dict[str, Any]],
    address: str,
    network_id: str = "",
    router: str = "",
    networks: list[dict[str, Any]] | None = None,
) -> Verdict:
    networks = networks or [network("blue"), network("green"), network("red")]
    state = documents.decode(document(networks, ports, [instance(1), instance(2)]))
    callers = Callers(Desired.of(state), Defaults(domain=""))
    return callers.lookup(Forwarded(network_id, link_local_mac(address), address, router))


def of(verdict: Verdict) -> str:
    assert isinstance(verdict, Known), verdict
    return verdict.port_id


def test_by_network_and_address() -> None:
    ports = [guest("b", "blue", 5, 1), guest("g", "green", 5, 2)]
    assert of(asked(ports, "10.0.0.5", "blue")) == "b"
    assert of(asked(ports, "10.0.0.5", "green")) == "g"
    assert asked(ports, "10.0.0.5", "red") is NO_PORT
    assert asked(ports, "10.0.0.6", "blue") is NO_PORT
    assert asked(ports, "10.0.0.5", "nowhere") is NO_PORT


def test_allowed_pairs_say_nothing_without_a_mac() -> None:
    ports = [guest("b", "blue", 5, 1, allowed_address_pairs=[{"ip_address": "10.0.0.9"}])]
    assert asked(ports, "10.0.0.9", "blue") is NO_PORT


def test_link_local_addresses_are_the_macs_they_were_made_from() -> None:
    ports = [guest("b", "blue", 5, 1), guest("g", "green", 5, 2)]
    assert of(asked(ports, "fe80::f816:3eff:fe00:5", "blue")) == "b"
    assert asked(ports, "fe80::f816:3eff:fe00:6", "blue") is NO_PORT
    assert asked(ports, "fe80::1234", "blue") is NO_PORT


def test_a_port_without_its_instance() -> None:
    assert asked([guest("b", "blue", 5, 7)], "10.0.0.5", "blue") is NO_INSTANCE


@pytest.mark.parametrize(
    "owner", [ROUTER, "network:router_interface_distributed", "network:ha_router_replicated_interface"]
)
def test_by_router(owner: str) -> None:
    ports = [
        guest("b", "blue", 5, 1),
        guest("g", "green", 6, 2),
        interface("i", "blue", owner),
        interface("j", "green"),
    ]
    assert of(asked(ports, "10.0.0.5", router="r1")) == "b"
    assert of(asked(ports, "10.0.0.6", router="r1")) == "g"
    assert of(asked(ports, "fe80::f816:3eff:fe00:6", router="r1")) == "g"
    assert asked(ports, "10.0.0.7", router="r1") is NO_PORT
    assert asked(ports, "10.0.0.5", router="r2") is NO_PORT


def test_networks_without_an_interface_of_the_router_do_not_count() -> None:
    ports = [guest("b", "blue", 5, 1), guest("g", "green", 5, 2), interface("i", "blue"),
             interface("gw", "green", "network:router_gateway"),
             interface("o", "green", router="r2", number=2)]  # fmt: skip
    assert of(asked(ports, "10.0.0.5", router="r1")) == "b"


def test_an_address_in_two_networks_of_the_router_is_nobodys() -> None:
    ports = [guest("b", "blue", 5, 1), guest("g", "green", 5, 2), interface("i", "blue"), interface("j", "green")]
    assert asked(ports, "10.0.0.5", router="r1") is SEVERAL_PORTS


def test_link_local_callers_are_on_the_routers_link_whatever_their_subnets() -> None:
    """Neutron, too, looks for their MAC in the router's networks; an address of the link is not one of a subnet."""
    green = network("green", subnet("green-subnet"), subnet("green-other", "10.0.1.0/24"))
    j = {**interface("j", "green"), "fixed_ips": [{"subnet_id": "green-other", "ip_address": "10.0.1.1"}]}
    g = guest("g", "green", 5, 2)
    networks = [network("blue"), green]
    assert of(asked([g, j], "fe80::f816:3eff:fe00:5", router="r1", networks=networks)) == "g"
    assert asked([g], "fe80::f816:3eff:fe00:5", router="r1", networks=networks) is NO_PORT
    # Two of the router's links have the same MAC: nobody can say on which the caller is.
    both = [g, j, guest("b", "blue", 5, 1), interface("i", "blue")]
    assert asked(both, "fe80::f816:3eff:fe00:5", router="r1", networks=networks) is SEVERAL_PORTS


def test_addresses_of_subnets_without_an_interface_of_the_router_do_not_count() -> None:
    """Green has the same range as blue, but the router only has green's other subnet."""
    green = network("green", subnet("green-subnet"), subnet("green-other", "10.0.1.0/24"))
    fixed = [{"subnet_id": "green-other", "ip_address": "10.0.1.1"}]
    j = {**interface("j", "green"), "fixed_ips": fixed}
    g, b = guest("g", "green", 5, 2), guest("b", "blue", 5, 1)
    i = interface("i", "blue")
    assert asked([g, i, j], "10.0.0.5", router="r1", networks=[network("blue"), green]) is NO_PORT
    assert of(asked([g, b, i, j], "10.0.0.5", router="r1", networks=[network("blue"), green])) == "b"

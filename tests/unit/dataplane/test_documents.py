"""documents: what is refused, with which path and words, and what comes out of what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dataplane import documents
from dataplane.model import DesiredState
from tests.unit.dataplane.states import UUID, document, instance, mistakes, network, of_instance, port, subnet

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_examples_are_right() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        state = documents.decode(yaml.safe_load(path.read_text()))
        assert state.networks


def test_an_empty_document_is_right_but_nothing_is_not() -> None:
    assert documents.decode({}) == DesiredState()
    assert mistakes(None) == ["expected a mapping, got null"]


def test_values_become_canonical() -> None:
    data = document(
        [network("n", subnet("s", "2001:DB8:0::/64", gateway_ip="FE80:0::1", dns_nameservers=["2001:db8:0:0::53"]))],
        [
            {
                "id": "p",
                "network_id": "n",
                "mac_address": "FA-16-3E-00-00-0A",
                "fixed_ips": [{"subnet_id": "s", "ip_address": "2001:DB8::0:A"}],
                "device_id": f"{UUID}a".upper(),
                "allowed_address_pairs": [{"ip_address": "2001:DB8:1::/48", "mac_address": "FA:16:3E:00:00:0B"}],
            }
        ],
        [instance(10, id=f"{UUID}a".upper(), ec2_id="i-0000ABCD", user_data_base64="aGVs\nbG8=\n")],
    )
    state = documents.decode(data)
    [net], [one], [vm] = state.networks, state.ports, state.instances
    assert net.subnets[0].cidr == "2001:db8::/64"
    assert net.subnets[0].gateway_ip == "fe80::1"
    assert net.subnets[0].dns_nameservers == ("2001:db8::53",)
    assert one.mac_address == "fa:16:3e:00:00:0a"
    assert one.fixed_ips[0].ip_address == "2001:db8::a"
    assert one.device_id == vm.id == f"{UUID}a"
    assert one.allowed_address_pairs[0].ip_address == "2001:db8:1::/48"
    assert one.allowed_address_pairs[0].mac_address == "fa:16:3e:00:00:0b"
    assert (vm.ec2_id, vm.user_data_base64) == ("i-0000abcd", "aGVsbG8=")
    assert documents.decode(data) == state


def test_mistakes_of_every_sort_come_together_in_order() -> None:
    data = {
        "networks": [network("blue", vni=-1), {"id": "green", "sbunets": []}],
        "ports": [
            port("p1", 5, fixed_ips=[{"subnet_id": "blue-subnet", "ip_address": "10.0.9.5"}]),
            {"id": "p2"},
            port("p3", 6, "green"),
            port("p4", 7, "grey"),
        ],
        "instances": [instance(1, user_data=5)],
    }
    assert mistakes(data) == [
        "networks[0].vni: -1 is not between 1 and 16777215",
        'networks[1].sbunets: unknown key, did you mean "subnets"?',
        "ports[0].fixed_ips[0].ip_address: 10.0.9.5 is not in subnet 10.0.0.0/24",
        "ports[1].network_id: is required",
        "ports[1].mac_address: is required",
        "ports[3].network_id: there is no network grey",
        "instances[0].user_data: expected text or null, got a whole number (put it in quotes)",
    ]


@pytest.mark.parametrize(
    "networks", [5, [5], [{"ib": "blue"}]], ids=["not a list", "not a mapping", "id cannot be told"]
)
def test_references_are_not_judged_when_networks_are_unreadable(networks: Any) -> None:
    assert not any("ports" in line for line in mistakes({"networks": networks, "ports": [port()]}))


def test_a_misspelt_kind_does_not_make_every_reference_wrong() -> None:
    found = mistakes({"network": [network()], "ports": [port()]})
    assert found == ['network: unknown key, did you mean "networks"?']


def test_deep_nesting_is_a_mistake_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert mistakes(of_instance(vendor_data={"x": deep})) == ["instances[0]: is nested too deeply"]

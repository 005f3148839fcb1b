"""The plan on a kernel of dictionaries: what is made, what is left alone, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dataplane import names
from dataplane.errors import ForeignObjectError, KernelError
from dataplane.model import Adopt, NetworkId
from dataplane.plan import (
    PLUGGED_COST,
    DeleteLink,
    DesiredNetwork,
    EnsureBridge,
    EnsureVeth,
    NetworkState,
    Plan,
    SetService,
    Unplug,
    plan,
    serving_on,
    waiting_for,
)
from tests.fake_kernel import FakeKernel

BLUE, GREEN = NetworkId("blue"), NetworkId("green")


def want(*networks: DesiredNetwork) -> dict[NetworkId, DesiredNetwork]:
    return {network.id: network for network in networks}


def observed_plan(kernel: FakeKernel, desired: dict[NetworkId, DesiredNetwork], *gone: NetworkId) -> Plan:
    return plan({each: kernel.state(each, desired.get(each)) for each in (*desired, *gone)}, desired)


def settle(kernel: FakeKernel, desired: dict[NetworkId, DesiredNetwork], *gone: NetworkId) -> Plan:
    """Apply the plan, see that a second one is empty, and return the first."""
    first = observed_plan(kernel, desired, *gone)
    assert kernel.do(first.actions) == {}
    assert observed_plan(kernel, desired, *gone).actions == {}
    return first


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


TENANTS = want(DesiredNetwork(BLUE), DesiredNetwork(GREEN, mtu=1450))


def test_two_networks_from_nothing(kernel: FakeKernel) -> None:
    first = settle(kernel, TENANTS)
    for network_id in TENANTS:
        kinds = [type(action).__name__ for action in first.actions[network_id]]
        assert kinds == ["CreateNamespace", "EnsureBridge", "EnsureVeth", "SetService"]
        namespace = kernel.namespaces[names.namespace(network_id)]
        assert namespace.addresses == {"169.254.169.254/32", "fe80::a9fe:a9fe/128", "fd00:ec2::254/128"}
        assert namespace.ipv6_route
        assert namespace.route_source == "169.254.169.254"
    assert plan({}, TENANTS).actions == first.actions


def test_no_network_needs_nothing(kernel: FakeKernel) -> None:
    kernel.add_device("eth0", up=True)
    assert observed_plan(kernel, {}) == Plan({}, {})


def test_teardown_leaves_nothing_of_ours_and_all_of_others(kernel: FakeKernel) -> None:
    kernel.add_device("tap0")
    kernel.add_namespace("np-somebody")
    settle(kernel, want(DesiredNetwork(BLUE, devices=frozenset({"tap0"}))))
    settle(kernel, {}, BLUE)
    assert [link.name for link in kernel.links.values()] == ["tap0"]
    assert kernel.find("tap0").master == 0  # type: ignore[union-attr]
    assert list(kernel.namespaces) == ["np-somebody"]


def test_a_device_is_plugged_when_it_appears_and_forgotten_when_it_goes(kernel: FakeKernel) -> None:
    desired = want(DesiredNetwork(BLUE, devices=frozenset({"tap0", "tap1"})))
    settle(kernel, desired)
    assert waiting_for(kernel.state(BLUE, desired[BLUE]), desired[BLUE]) == ("device tap0", "device tap1")
    kernel.add_device("tap0")
    settle(kernel, desired)
    tap, bridge = kernel.find("tap0"), kernel.find(names.bridge(BLUE))
    assert tap is not None
    assert bridge is not None
    assert (tap.master, tap.up, tap.port_cost) == (bridge.index, True, PLUGGED_COST)
    kernel.remove_device("tap0")
    settle(kernel, desired)
    assert waiting_for(kernel.state(BLUE, desired[BLUE]), desired[BLUE]) == ("device tap0", "device tap1")


def test_a_port_that_is_removed_is_unplugged(kernel: FakeKernel) -> None:
    kernel.add_device("tap0")
    settle(kernel, want(DesiredNetwork(BLUE, devices=frozenset({"tap0"}))))
    index = kernel.find("tap0").index  # type: ignore[union-attr]
    assert settle(kernel, want(DesiredNetwork(BLUE))).actions == {BLUE: (Unplug("tap0", index),)}


def test_a_device_moves_to_another_network_in_one_plan(kernel: FakeKernel) -> None:
    kernel.add_device("tap0")
    settle(kernel, want(DesiredNetwork(BLUE, devices=frozenset({"tap0"})), DesiredNetwork(GREEN)))
    settle(kernel, want(DesiredNetwork(BLUE), DesiredNetwork(GREEN, devices=frozenset({"tap0"}))))
    assert kernel.find("tap0").master == kernel.find(names.bridge(GREEN)).index  # type: ignore[union-attr]


def test_a_device_of_a_deleted_network_moves_in_one_plan(kernel: FakeKernel) -> None:
    kernel.add_device("tap0")
    settle(kernel, want(DesiredNetwork(BLUE, devices=frozenset({"tap0"}))))
    settle(kernel, want(DesiredNetwork(GREEN, devices=frozenset({"tap0"}))), BLUE)
    assert kernel.find("tap0").master == kernel.find(names.bridge(GREEN)).index  # type: ignore[union-attr]


def test_a_device_that_two_networks_want_is_not_fought_for(kernel: FakeKernel) -> None:
    kernel.add_device("tap0")
    both = want(DesiredNetwork(BLUE, devices=frozenset({"tap0"})), DesiredNetwork(GREEN, devices=frozenset({"tap0"})))
    kernel.do(observed_plan(kernel, both).actions)
    assert observed_plan(kernel, both).actions == {}


def test_what_others_plugged_into_our_bridge_stays(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    uplink = kernel.add_device("uplink0", master=kernel.find(names.bridge(BLUE)).index)  # type: ignore[union-attr]
    settle(kernel, TENANTS)
    assert kernel.links[uplink.index] == uplink


def test_a_device_in_a_foreign_bridge_is_left_there(kernel: FakeKernel) -> None:
    foreign = kernel.add_device("br-int", kind="openvswitch")
    kernel.add_device("tap0", master=foreign.index)
    desired = want(DesiredNetwork(BLUE, devices=frozenset({"tap0"})))
    settle(kernel, desired)
    assert "tap0" not in kernel.touched
    lacking = waiting_for(kernel.state(BLUE, desired[BLUE]), desired[BLUE])
    assert lacking == ("device tap0, which is plugged into something else",)


def test_no_port_can_name_a_device_of_ours(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    desired = want(DesiredNetwork(BLUE, devices=frozenset({names.veth(GREEN), names.bridge(GREEN)})), TENANTS[GREEN])
    assert observed_plan(kernel, desired).actions == {}


@pytest.mark.parametrize("desired", [{}, {BLUE: DesiredNetwork(BLUE)}])
def test_nothing_is_done_to_a_network_that_could_not_be_read(desired: dict[NetworkId, DesiredNetwork]) -> None:
    error = KernelError("open namespace", names.namespace(BLUE), 24)
    assert plan({BLUE: NetworkState(BLUE, unreadable=error)}, desired) == Plan({}, {BLUE: error})


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("namespace", lambda kernel: kernel.add_namespace(names.namespace(BLUE))),
        ("namespace", lambda kernel: kernel.add_namespace(names.namespace(BLUE), owner=GREEN)),
        ("bridge", lambda kernel: kernel.add_device(names.bridge(BLUE), kind="bridge", alias="mine")),
        ("bridge", lambda kernel: kernel.add_device(names.bridge(BLUE), kind="bridge", address=b"\2\0\0\0\0\1")),
        ("bridge", lambda kernel: kernel.add_device(names.bridge(BLUE), alias=names.mark(BLUE))),
        ("device", lambda kernel: kernel.add_device(names.veth(BLUE), kind="veth", alias=names.mark(GREEN))),
    ],
)
def test_a_foreign_object_fails_its_network_only(kernel: FakeKernel, kind: str, make: Any) -> None:
    foreign = make(kernel)
    before = (dict(kernel.links), dict(kernel.namespaces))
    first = observed_plan(kernel, TENANTS)
    error = first.errors[BLUE]
    assert isinstance(error, ForeignObjectError)
    assert (error.kind, error.name) == (kind, foreign.name)
    assert BLUE not in first.actions
    assert kernel.do(first.actions) == {}
    assert foreign.name not in kernel.touched
    assert before[0].items() <= kernel.links.items()
    assert before[1].items() <= kernel.namespaces.items()
    assert observed_plan(kernel, {}, BLUE).actions == {}


def test_a_half_made_bridge_and_veth_are_known_by_their_mac(kernel: FakeKernel) -> None:
    kernel.add_device(names.bridge(BLUE), kind="bridge", address=names.bridge_mac(BLUE))
    kernel.add_device(names.veth(BLUE), kind="veth", address=names.veth_mac(BLUE))
    settle(kernel, want(DesiredNetwork(BLUE)))
    settle(kernel, {}, BLUE)
    assert kernel.links == {}


@pytest.mark.parametrize(
    "damage",
    [
        {"up": False},
        {"mtu": 1500},
        {"rp_filter": 0},
        {"ipv6_disabled": False},
        {"addr_gen_none": False},
        {"plain_bridge": False},
    ],
)
def test_a_bridge_gets_its_settings_back_in_place(kernel: FakeKernel, damage: dict[str, Any]) -> None:
    settle(kernel, TENANTS)
    bridge = kernel.find(names.bridge(BLUE))
    assert bridge is not None
    kernel.links[bridge.index] = replace(bridge, **damage)
    assert settle(kernel, TENANTS).actions == {BLUE: (EnsureBridge(bridge.name, BLUE, bridge.index),)}
    assert kernel.find(names.bridge(BLUE)) == bridge


@pytest.mark.parametrize("damage", [{"up": False}, {"mtu": 9000}, {"master": 0}, {"addr_gen_none": False}])
def test_a_veth_gets_its_settings_back_in_place(kernel: FakeKernel, damage: dict[str, Any]) -> None:
    settle(kernel, TENANTS)
    veth = kernel.find(names.veth(BLUE))
    assert veth is not None
    kernel.links[veth.index] = replace(veth, **damage)
    first = settle(kernel, TENANTS).actions[BLUE]
    assert [type(action) for action in first] == [EnsureVeth]
    assert kernel.find(names.veth(BLUE)) == veth


@pytest.mark.parametrize(
    "damage",
    [
        {"addresses": frozenset()},
        {"addresses": frozenset({"10.0.0.2/24"})},
        {"addresses": frozenset({"169.254.169.254/32", "fe80::5/64"})},
        {"route_source": ""},
        {"ipv6_route": False},
    ],
)
def test_the_service_gets_its_address_and_route_back(kernel: FakeKernel, damage: dict[str, Any]) -> None:
    settle(kernel, TENANTS)
    right = kernel.namespaces[names.namespace(BLUE)]
    kernel.namespaces[right.name] = replace(right, **damage)
    first = settle(kernel, TENANTS).actions[BLUE]
    assert [type(action) for action in first] == [SetService]
    assert kernel.namespaces[right.name] == right


def test_a_new_mtu_changes_both_ends_in_place(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    settle(kernel, want(DesiredNetwork(BLUE, mtu=8950), TENANTS[GREEN]))
    assert kernel.find(names.veth(BLUE)).mtu == 8950  # type: ignore[union-attr]
    assert kernel.namespaces[names.namespace(BLUE)].device.mtu == 8950  # type: ignore[union-attr]


def test_a_namespace_that_lost_its_name_is_made_anew_with_its_veth(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    before = serving_on(kernel.state(BLUE), TENANTS[BLUE])
    del kernel.namespaces[names.namespace(BLUE)]
    first = settle(kernel, TENANTS)
    assert isinstance(first.actions[BLUE][0], DeleteLink)
    assert serving_on(kernel.state(BLUE), TENANTS[BLUE]) not in (before, None)


def test_a_veth_that_was_deleted_is_made_again(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    kernel.remove_device(names.veth(BLUE))
    settle(kernel, TENANTS)


def test_an_adopted_network_needs_no_action(kernel: FakeKernel) -> None:
    desired = want(DesiredNetwork(BLUE, adopt=Adopt(netns="qdhcp-1", device="tap9")))
    assert observed_plan(kernel, desired) == Plan({}, {})
    assert waiting_for(kernel.state(BLUE, desired[BLUE]), desired[BLUE]) == ("namespace qdhcp-1",)
    namespace = kernel.add_namespace("qdhcp-1")
    assert observed_plan(kernel, desired) == Plan({}, {})
    state = kernel.state(BLUE, desired[BLUE])
    assert waiting_for(state, desired[BLUE]) == ("device tap9 in namespace qdhcp-1",)
    assert serving_on(state, desired[BLUE]) is None
    tap = kernel.add_device("tap9")
    kernel.namespaces["qdhcp-1"] = replace(namespace, device=tap)
    state = kernel.state(BLUE, desired[BLUE])
    assert waiting_for(state, desired[BLUE]) == ()
    assert serving_on(state, desired[BLUE]) == (namespace.inode, tap.index)


def test_a_network_that_becomes_adopted_gives_up_its_own_objects(kernel: FakeKernel) -> None:
    settle(kernel, TENANTS)
    kernel.add_namespace("qdhcp-1")
    settle(kernel, want(DesiredNetwork(BLUE, adopt=Adopt(netns="qdhcp-1", device="tap9")), TENANTS[GREEN]))
    assert set(kernel.namespaces) == {"qdhcp-1", names.namespace(GREEN)}
    assert kernel.find(names.bridge(BLUE)) is None

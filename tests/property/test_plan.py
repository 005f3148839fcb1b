"""From any state the world may be in, one plan reaches what is wanted, and never concerns what is foreign."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dataplane import names
from dataplane.model import Adopt, NetworkId
from dataplane.plan import DesiredNetwork, plan
from tests.fake_kernel import FakeKernel

NETWORKS = [NetworkId("blue"), NetworkId("green"), NetworkId("red")]
TAPS = ["tap0", "tap1", "tap2", "tap3"]

Desired = dict[NetworkId, DesiredNetwork]


@st.composite
def desired_states(draw: st.DrawFn) -> Desired:
    """Some of the networks; a device belongs to one network at most, as documents are checked for it."""
    chosen = draw(st.lists(st.sampled_from(NETWORKS), unique=True))
    owners = {tap: draw(st.sampled_from([*chosen, None])) for tap in TAPS}
    desired: Desired = {}
    for network_id in chosen:
        desired[network_id] = DesiredNetwork(
            network_id,
            mtu=draw(st.sampled_from([1450, 1500, 8950])),
            devices=frozenset(tap for tap, owner in owners.items() if owner == network_id),
            adopt=Adopt(netns="qdhcp-x", device="tap9") if draw(st.integers(0, 4)) == 0 else None,
        )
    return desired


def disturb(kernel: FakeKernel, data: st.DataObject) -> None:
    """What the world does between two plans."""
    for tap in TAPS:
        link, there = kernel.find(tap), data.draw(st.booleans())
        if there and link is None:
            kernel.add_device(tap)
        elif not there and link is not None:
            kernel.remove_device(tap)
    for network_id in NETWORKS:
        change = data.draw(
            st.sampled_from(["nothing", "no veth", "no bridge", "no namespace", "down", "address", "mtu"])
        )
        bridge, veth = kernel.find(names.bridge(network_id)), kernel.find(names.veth(network_id))
        namespace = kernel.namespaces.get(names.namespace(network_id))
        if change == "no veth" and veth:
            kernel.remove_device(veth.name)
        elif change == "no bridge" and bridge:
            kernel.remove_device(bridge.name)
        elif change == "no namespace" and namespace:
            del kernel.namespaces[namespace.name]
        elif change == "down" and bridge:
            kernel.links[bridge.index] = replace(bridge, up=False)
        elif change == "mtu" and veth:
            kernel.links[veth.index] = replace(veth, mtu=1280)
        elif change == "address" and namespace and namespace.device:
            kernel.namespaces[namespace.name] = replace(namespace, addresses=frozenset({"10.9.9.9/24"}))


def check(kernel: FakeKernel, desired: Desired) -> None:
    for network_id in NETWORKS:
        wanted = desired.get(network_id)
        bridge, veth = kernel.find(names.bridge(network_id)), kernel.find(names.veth(network_id))
        namespace = kernel.namespaces.get(names.namespace(network_id))
        if wanted is None or wanted.adopt is not None:
            assert bridge is None
            assert veth is None
            assert namespace is None
            continue
        assert bridge is not None
        assert veth is not None
        assert namespace is not None
        assert namespace.device is not None
        assert (veth.master, veth.mtu, veth.up, veth.peer) == (bridge.index, wanted.mtu, True, namespace.device.index)
        assert (namespace.device.peer, namespace.device.mtu) == (veth.index, wanted.mtu)
        assert namespace.addresses == set(wanted.service_addresses)
        for tap in TAPS:
            link = kernel.find(tap)
            if link is not None:
                assert (link.master == bridge.index) == (tap in wanted.devices)


@given(st.lists(desired_states(), min_size=1, max_size=4), st.data())
def test_one_plan_reaches_what_is_wanted_and_a_second_is_empty(steps: list[Desired], data: st.DataObject) -> None:
    kernel = FakeKernel()
    kernel.add_namespace("qdhcp-x")
    switch = kernel.add_device("br-int", kind="bridge", alias="neutron")
    foreign = kernel.add_device("eth0", master=switch.index)
    for desired in [*steps, {}]:
        disturb(kernel, data)
        states = {network_id: kernel.state(network_id, desired.get(network_id)) for network_id in NETWORKS}
        todo = plan(states, desired)
        assert todo.errors == {}
        assert kernel.do(todo.actions) == {}
        check(kernel, desired)
        states = {network_id: kernel.state(network_id, desired.get(network_id)) for network_id in NETWORKS}
        assert plan(states, desired).actions == {}
    assert kernel.links[switch.index] == switch
    assert kernel.links[foreign.index] == foreign
    assert not {"br-int", "eth0", "qdhcp-x"}.intersection(kernel.touched)
    assert list(kernel.namespaces) == ["qdhcp-x"]


@given(desired_states(), st.sets(st.sampled_from(NETWORKS)), st.data())
def test_foreign_objects_with_our_names_are_in_no_action(
    desired: Desired, taken: set[NetworkId], data: st.DataObject
) -> None:
    kernel = FakeKernel()
    for network_id in taken:
        kind = data.draw(st.sampled_from(["bridge", "veth", "namespace"]))
        if kind == "namespace":
            kernel.add_namespace(names.namespace(network_id))
        else:
            name = names.bridge(network_id) if kind == "bridge" else names.veth(network_id)
            kernel.add_device(
                name, kind=kind, alias=data.draw(st.sampled_from(["", "theirs"])), address=b"\2\1\1\1\1\1"
            )
    links, namespaces = dict(kernel.links), dict(kernel.namespaces)
    states = {network_id: kernel.state(network_id, desired.get(network_id)) for network_id in NETWORKS}
    todo = plan(states, desired)
    assert set(todo.errors) == {each for each in taken if each in desired and desired[each].adopt is None}
    assert kernel.do(todo.actions) == {}
    assert links.items() <= kernel.links.items()
    assert namespaces.items() <= kernel.namespaces.items()

"""indexes: everything can be found by what is unique about it, and is gone after it was discarded."""

from __future__ import annotations

from dataplane.desired import Desired
from dataplane.indexes import Indexes, kind_of
from dataplane.model import Ip, Mac, NetworkId, Object, SubnetId
from tests.unit.dataplane.states import UUID, instance, network, port, state

BLUE, GREEN = NetworkId("blue"), NetworkId("green")


def test_the_network_is_part_of_every_key_of_a_port() -> None:
    same = {"mac_address": "fa:16:3e:00:00:05"}
    both = state([network("blue"), network("green")], [port("b", 5, **same), port("g", 5, "green", **same)])
    indexes = Desired.of(both)
    blue, green = both.ports
    assert indexes.port_by_address == {(BLUE, "10.0.0.5"): blue, (GREEN, "10.0.0.5"): green}
    assert indexes.port_by_mac[BLUE, Mac(same["mac_address"])] is blue
    assert indexes.port_by_mac[GREEN, Mac(same["mac_address"])] is green
    assert list(indexes.ports_of(BLUE)) == [blue]
    assert list(indexes.ports_of(NetworkId("grey"))) == []


def test_every_index() -> None:
    held = Desired.of(
        state(
            [network("blue", vni=7, adopt={"netns": "qdhcp-1", "device": "tap0"})],
            [port("p1", 5, device_id=f"{UUID}1"), port("p2", 6, device_id=f"{UUID}1", device="eth9")],
            [instance(1)],
        )
    )
    blue = held.networks[BLUE]
    assert held.network_by_vni == {7: blue}
    assert held.network_by_subnet == {SubnetId("blue-subnet"): blue}
    assert held.network_by_adopt == {("qdhcp-1", "tap0"): blue}
    assert [p.id for p in held.ports_of_instance(f"{UUID}1")] == ["p1", "p2"]
    assert set(held.ports_by_device) == {"tapp1", "eth9"}
    assert held.port_by_address[BLUE, Ip("10.0.0.6")].id == "p2"
    assert held.get("instances", f"{UUID}1") == held.state().instances[0]
    assert held.get("ports", "p9") is None


def test_nothing_stays_behind() -> None:
    indexes = Indexes()
    everything = state(
        [network("blue", vni=7, adopt={"netns": "n", "device": "d"})], [port(device_id=f"{UUID}1")], [instance(1)]
    )
    items: list[Object] = [*everything.networks, *everything.ports, *everything.instances]
    for item in items:
        indexes.add(item)
    assert indexes.state() == everything
    for item in items:
        indexes.discard(item)
    assert vars(indexes) == vars(Indexes())


def test_kind_of() -> None:
    everything = state([network("blue")], [port()], [instance()])
    items: list[Object] = [*everything.networks, *everything.ports, *everything.instances]
    assert [kind_of(item) for item in items] == ["networks", "ports", "instances"]

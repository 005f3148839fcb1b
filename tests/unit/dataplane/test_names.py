"""Names are deterministic, short enough for the kernel, and different for different networks."""

from __future__ import annotations

from dataplane import names
from dataplane.model import NetworkId

BLUE, GREEN = NetworkId("blue"), NetworkId("2f5b2f3e-3c0d-4c5e-9a53-000000000001")


def test_names_are_the_same_on_every_node() -> None:
    assert names.namespace(BLUE) == "np-blue"
    assert names.bridge(BLUE) == "npb289ce1e75091"
    assert names.veth(BLUE) == "npv289ce1e75091"
    assert names.service_mac(BLUE).hex(":") == names.service_mac(NetworkId("blue")).hex(":")


def test_device_names_fit_and_differ() -> None:
    for make in (names.bridge, names.veth):
        assert len(make(BLUE)) == len(make(GREEN)) == 15
        assert make(BLUE) != make(GREEN)


def test_macs_are_locally_administered_unicast_and_all_different() -> None:
    macs = [
        make(network) for network in (BLUE, GREEN) for make in (names.service_mac, names.bridge_mac, names.veth_mac)
    ]
    assert len(set(macs)) == 6
    for mac in macs:
        assert len(mac) == 6
        assert mac[0] & 0b11 == 0b10


def test_the_mark_is_read_back_and_nothing_else_is() -> None:
    assert names.marked(names.mark(GREEN)) == GREEN
    for alias in ("", "nodeplane:", "nodeplane", "tenant nodeplane:blue"):
        assert names.marked(alias) is None

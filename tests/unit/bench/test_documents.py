"""The generated documents are ones that nodeplane takes, and the same for the same seed."""

from __future__ import annotations

from bench import documents as made
from dataplane import documents


def test_networks_are_alike_and_valid() -> None:
    document, guests = made.networks(3, 1)
    state = documents.decode(document)
    assert {port.mac_address for port in state.ports} == {guest.mac for guest in guests} == {made.MAC}
    assert {port.fixed_ips[0].ip_address for port in state.ports} == {guests[0].address}
    assert [port.device_name for port in state.ports] == [guest.tap for guest in guests]
    assert [port.device_id for port in state.ports] == [guest.instance for guest in guests]


def test_the_seed_makes_the_text() -> None:
    assert made.networks(2, 1) == made.networks(2, 1)
    assert made.networks(2, 1) != made.networks(2, 2)


def test_hosts_are_valid_and_may_change() -> None:
    state = documents.decode(made.hosts(600))
    assert (state.ports[599].mac_address, state.ports[599].fixed_ips[0].ip_address) == made.host(599)
    assert state.networks[0].dhcp_relays == (made.RELAY,)
    changed = {**made.hosts(2), "ports": [made.host_port(0, address="10.64.200.1"), made.host_port(1)]}
    assert documents.decode(changed).ports[0].fixed_ips[0].ip_address == "10.64.200.1"

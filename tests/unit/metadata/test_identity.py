"""Saved SYNs, peer addresses, and the rule that network, MAC and address belong to one port."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from metadata.identity import (
    NO_MAC,
    NO_PORT,
    NOT_ITS_ADDRESS,
    REASONS,
    SPOOFED,
    Caller,
    Match,
    Refused,
    Unknown,
    caller_of,
    identify,
    peer_address,
    syn_source,
)

IPV4 = bytes.fromhex("020000000001 fa163e000005 0800") + b"\x45" + bytes(39)


@pytest.mark.parametrize(
    ("saved", "mac"),
    [
        (IPV4, "fa:16:3e:00:00:05"),
        (IPV4[:12] + b"\x86\xdd\x60" + bytes(59), "fa:16:3e:00:00:05"),
        (IPV4[:12] + b"\x81\x00\x00\x05\x08\x00\x45" + bytes(39), "fa:16:3e:00:00:05"),
        (b"", None),
        (IPV4[:13], None),
        (IPV4[14:], None),
        (IPV4[:12] + b"\x08\x06", None),
    ],
)
def test_syn_source(saved: bytes, mac: str | None) -> None:
    assert syn_source(saved) == mac


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("fe80::1%svc0", "fe80::1"),
        ("fd00:0:0::5", "fd00::5"),
    ],
)
def test_peer_address(peer: str, address: str) -> None:
    assert peer_address(peer) == address


@dataclass(frozen=True)
class Port:
    name: str
    network: str
    mac: str
    address: str
    pairs: tuple[str, ...] = ()


class Ports:
    def __init__(self, *ports: Port) -> None:
        self.ports = ports

    def by_mac(self, network_id: str, mac: str) -> Port | None:
        return next((port for port in self.ports if (port.network, port.mac) == (network_id, mac)), None)

    def by_address(self, network_id: str, address: str) -> Port | None:
        return next((port for port in self.ports if (port.network, port.address) == (network_id, address)), None)

    def may_use(self, port: Port, address: str) -> bool:
        return address == port.address or address in port.pairs


BLUE = Port("blue", "blue", "fa:00", "10.0.0.5", pairs=("10.0.0.100",))
BLUE2 = Port("blue2", "blue", "fa:01", "10.0.0.6", pairs=("10.0.0.100",))
GREEN = Port("green", "green", "fa:00", "10.0.0.5")
PORTS = Ports(BLUE, BLUE2, GREEN)


@pytest.mark.parametrize(
    ("network", "mac", "address", "expected"),
    [
        ("blue", "fa:00", "10.0.0.5", BLUE),
        ("green", "fa:00", "10.0.0.5", GREEN),
        ("red", "fa:00", "10.0.0.5", NO_PORT),
        ("blue", "fa:00", "10.0.0.6", SPOOFED),
        ("blue", "fa:01", "10.0.0.5", SPOOFED),
        ("blue", "fa:99", "10.0.0.5", NO_PORT),  # perhaps the address's next port
        ("blue", "fa:00", "10.0.0.77", NOT_ITS_ADDRESS),
        ("blue", None, "10.0.0.5", NO_MAC),
        ("blue", "fa:00", "10.0.0.100", BLUE),
        ("blue", "fa:01", "10.0.0.100", BLUE2),
        ("blue", "fa:00", "fe80::1", BLUE),
        ("blue", "fa:99", "fe80::1", NO_PORT),
    ],
)
def test_identify(network: str, mac: str | None, address: str, expected: Port | Unknown | Refused) -> None:
    found = identify(Caller(network, mac, address), PORTS)
    assert (found.port if isinstance(found, Match) else found) == expected


def test_an_ipv6_address_of_another_port_is_refused() -> None:
    ports = Ports(BLUE, Port("six", "blue", "fa:06", "fd00::6"))
    assert identify(Caller("blue", "fa:00", "fd00::6"), ports) == SPOOFED
    assert identify(Caller("blue", "fa:99", "fd00::6"), ports) == NO_PORT


def test_behind_a_router_the_address_alone_counts() -> None:
    found = identify(Caller("blue", "aa:router", "10.0.0.6"), PORTS, by_address=True)
    assert isinstance(found, Match)
    assert found.port is BLUE2
    assert identify(Caller("red", None, "10.0.0.6"), PORTS, by_address=True) == NO_PORT


def test_every_reason_is_explained() -> None:
    from metadata import identity

    made = {value.reason for value in vars(identity).values() if isinstance(value, Unknown | Refused)}
    assert made == set(REASONS)


def test_a_caller_is_made_of_three_things_and_remembered() -> None:
    header = bytes(6) + b"\x02\x00\x00\x00\x00\x05\x08\x00"
    caller = caller_of("blue", header, "::ffff:10.0.0.5")
    assert caller == Caller("blue", "02:00:00:00:00:05", "10.0.0.5")
    assert caller_of("blue", header, "::ffff:10.0.0.5") is caller
    assert caller_of("green", header, "10.0.0.5") == Caller("green", "02:00:00:00:00:05", "10.0.0.5")
    assert caller_of("blue", b"", "fe80::5%2") == Caller("blue", None, "fe80::5")

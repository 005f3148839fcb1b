"""Identity, relays, holding, limits and the drop reasons of the core."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.dhcp.core import DROP_REASONS, STRANGERS, Dhcp4Core
from dataplane.dhcp.counters import CORE_DROP_REASONS
from dataplane.model import Ip, Port, PortId
from fastpath import framing
from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import answers, ask, core, events, frame, ip, network, port, silent, subnet

US = (54, ip(guest.SERVER_ID))
RELAY_MAC = "fa:16:3e:00:0f:fd"
RELAYS = network(dhcp_relays=(Ip("10.0.0.253"),))
DISCOVER = frame(guest.DISCOVER)
UNKNOWN = frame(guest.DISCOVER, mac=guest.OTHER_MAC)
OTHER = port(mac=guest.OTHER_MAC, address="10.0.0.6")


def relayed(kind: int, *options: tuple[int, bytes], mac: str = guest.MAC, giaddr: str = "10.0.0.253") -> bytes:
    return frame(
        kind, *options, mac=RELAY_MAC, chaddr=mac, giaddr=giaddr, src_ip="10.0.0.253", dst_ip=guest.SERVER_ID, sport=67
    )


DROPS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("frame_short", DISCOVER[:20], {}),
    ("not_ipv4", DISCOVER[:12] + b"\x86\xdd" + DISCOVER[14:], {}),
    ("udp_checksum", DISCOVER[:-1] + b"\x00", {}),
    ("short", frame(None)[:42] + b"", {}),
    ("not_server_port", frame(guest.DISCOVER, dport=68), {}),
    ("rogue_server", frame(guest.OFFER, op=2), {}),
    ("rogue_server", frame(guest.DISCOVER, op=2), {}),
    ("rogue_server", frame(guest.OFFER), {}),
    ("rogue_server", frame(guest.ACK, chaddr=guest.OTHER_MAC), {}),
    ("rogue_server", frame(guest.NAK), {}),
    ("unknown_type", frame(9), {}),
    ("unknown_type", frame(0xFF), {}),
    ("leasequery", frame(10), {}),
    ("bootp_disabled", frame(None, (12, b"vm")), {}),
    ("unknown_relay", relayed(guest.DISCOVER), {}),
    ("unknown_relay", relayed(guest.DISCOVER, giaddr="10.0.0.252"), {"of": RELAYS}),
    ("unknown_relay", frame(guest.DISCOVER, giaddr="10.0.0.252"), {"of": RELAYS}),
    ("chaddr_spoofed", frame(guest.DISCOVER, chaddr=guest.OTHER_MAC), {}),
    ("chaddr_spoofed", frame(guest.DISCOVER, mac=guest.OTHER_MAC, chaddr=guest.MAC), {}),
    ("unknown_mac", UNKNOWN, {"hold_seconds": 0}),
    ("unknown_mac", frame(guest.RELEASE, US, ciaddr="10.0.0.5", mac=guest.OTHER_MAC), {}),
    ("unknown_mac", frame(guest.DECLINE, US, mac=guest.OTHER_MAC), {}),
    ("unknown_mac", frame(None, (12, b"vm"), mac=guest.OTHER_MAC), {}),
    ("not_served", DISCOVER, {"of": network(subnet(enable_dhcp=False)), "hold_seconds": 0}),
    ("not_served", frame(guest.RELEASE, US, ciaddr="10.0.0.5"), {"of": network(subnet(enable_dhcp=False))}),
    ("other_server", frame(guest.REQUEST, (54, ip("10.0.0.2")), (50, ip("10.0.0.5"))), {}),
    ("no_server_id", frame(guest.RELEASE, ciaddr="10.0.0.5"), {}),
    ("no_address", frame(guest.DECLINE, US), {}),
    ("wrong_address", frame(guest.DECLINE, US, (50, ip("10.0.0.6"))), {}),
    ("foreign_address", frame(guest.INFORM, ciaddr="192.0.2.1"), {}),
]


@pytest.mark.parametrize(("reason", "raw", "options"), DROPS)
def test_dropped(reason: str, raw: bytes, options: dict[str, Any]) -> None:
    if reason == "short":  # a right frame around too short a message
        macs = (b"\xff" * 6, bytes.fromhex(guest.MAC.replace(":", "")))
        raw = framing.udp4_frame(*macs, bytes(4), b"\xff" * 4, 68, 67, b"\x01\x01\x06\x00")
    server = core(**options)
    silent(server, raw, reason)
    assert server.counters.sent == {}
    assert sum(server.counters.dropped.values()) == 1
    assert ask(core(), DISCOVER).kind == guest.OFFER


def test_every_reason_has_a_test() -> None:
    elsewhere = {"rate_limited", "hold_overflow", "client_id_mismatch"}
    assert {reason for reason, _, _ in DROPS} | elsewhere >= set(CORE_DROP_REASONS)
    assert {reason for reason, _, _ in DROPS} <= set(DROP_REASONS)


def test_a_checksum_that_is_not_filled_in_yet() -> None:
    raw = DISCOVER[:40] + b"\x12\x34" + DISCOVER[42:]
    silent(core(), raw, "udp_checksum")
    assert len(core().receive(raw, guest.NOW, check_udp=False)) == 2


def test_counters() -> None:
    server = core()
    ask(server, DISCOVER)
    ask(server, frame(guest.REQUEST, US, (50, ip("10.0.0.5"))))
    ask(server, frame(guest.REQUEST, US, (50, ip("10.0.0.6"))))
    server.receive(frame(guest.RELEASE, US, ciaddr="10.0.0.5"), guest.NOW)
    assert server.counters.received == {"discover": 1, "request": 2, "release": 1}
    assert server.counters.sent == {"offer": 1, "ack": 1, "nak": 1}
    assert server.counters.dropped == {}


class TestRate:
    def test_one_port_does_not_take_from_another(self) -> None:
        server = core(port(), OTHER, rate=10.0, burst=3)
        for _ in range(3):
            ask(server, DISCOVER)
        silent(server, DISCOVER, "rate_limited")
        assert ask(server, UNKNOWN).bootp.yiaddr == "10.0.0.6"
        assert ask(server, DISCOVER, guest.NOW + 0.11).kind == guest.OFFER
        silent(server, DISCOVER, "rate_limited", guest.NOW + 0.11)

    def test_malformed_packets_count_too(self) -> None:
        server = core(rate=1.0, burst=1)
        silent(server, frame(guest.DISCOVER, hlen=5), "bad_hlen")
        silent(server, DISCOVER, "rate_limited")

    def test_behind_a_relay_each_port_has_its_own(self) -> None:
        server = core(port(), OTHER, of=RELAYS, rate=1.0, burst=1)
        ask(server, relayed(guest.DISCOVER))
        silent(server, relayed(guest.DISCOVER), "rate_limited")
        ask(server, relayed(guest.DISCOVER, mac=guest.OTHER_MAC))

    def test_new_data_does_not_fill_the_bucket(self) -> None:
        server = core(rate=1.0, burst=1)
        ask(server, DISCOVER)
        server.set_port(port(), guest.NOW)
        silent(server, DISCOVER, "rate_limited")

    def test_strangers_of_a_network_share_a_limit_and_take_nothing_from_its_ports(self) -> None:
        server = core(of=RELAYS, rate=1.0, burst=1)
        strangers = [f"fa:16:3e:01:00:{number:02x}" for number in range(STRANGERS + 1)]
        for mac in strangers[1:-1]:
            server.receive(frame(guest.DISCOVER, mac=mac), guest.NOW)
        silent(server, relayed(guest.DISCOVER, giaddr="10.9.9.9"), "unknown_relay")
        silent(server, frame(guest.DISCOVER, mac=strangers[-1]), "rate_limited")
        silent(server, relayed(guest.DISCOVER, giaddr="10.9.9.9"), "rate_limited")
        ask(server, DISCOVER)
        later = guest.NOW + 1.0
        server.receive(frame(guest.DISCOVER, mac=strangers[-1]), later)
        assert ask_held(server, port(mac=strangers[-1], address="10.0.0.7", id=PortId("late")), later)

    def test_a_rate_of_zero_is_no_limit_for_strangers_either(self) -> None:
        server = core(rate=0.0, burst=1)
        for _ in range(3 * STRANGERS):
            server.receive(UNKNOWN, guest.NOW)
        assert server.counters.dropped == {}


def ask_held(server: Dhcp4Core, late: Port, now: float) -> bool:
    """Whether the packet of a port that appears now was held, and is answered."""
    return bool(answers(server.set_port(late, now)))


class TestRelay:
    def test_the_port_behind_it(self) -> None:
        server = core(port(), OTHER, of=RELAYS)
        answer = ask(server, relayed(guest.DISCOVER, (82, b"\x01\x01c"), mac=guest.OTHER_MAC))
        assert answer.bootp.yiaddr == "10.0.0.6"
        assert (answer.ether.dst, answer.ip.dst, answer.udp.dport) == (RELAY_MAC, "10.0.0.253", 67)
        assert answer.items[-1] == (82, b"\x01\x01c")

    def test_relays_follow_the_network(self) -> None:
        server = core()
        silent(server, relayed(guest.DISCOVER), "unknown_relay")
        server.set_network(RELAYS, guest.NOW)
        assert ask(server, relayed(guest.DISCOVER)).kind == guest.OFFER

    def test_a_relay_that_went_while_its_packet_was_held(self) -> None:
        server = core(of=RELAYS)
        assert server.receive(relayed(guest.DISCOVER, mac=guest.OTHER_MAC), guest.NOW) == []
        server.set_network(guest.NETWORK, guest.NOW)
        assert server.set_port(OTHER, guest.NOW) == []
        assert server.counters.dropped == {"unknown_relay": 1}


class TestHold:
    @pytest.mark.parametrize(
        ("raw", "kind"),
        [
            (UNKNOWN, guest.OFFER),
            (frame(guest.REQUEST, (50, ip("10.0.0.6")), mac=guest.OTHER_MAC), guest.ACK),
            (frame(guest.REQUEST, (50, ip("10.0.0.7")), mac=guest.OTHER_MAC), guest.NAK),
            (frame(guest.REQUEST, ciaddr="10.0.0.6", mac=guest.OTHER_MAC), guest.ACK),
            (frame(guest.INFORM, ciaddr="10.0.0.6", mac=guest.OTHER_MAC), guest.ACK),
        ],
    )
    def test_answered_when_the_port_appears(self, raw: bytes, kind: int) -> None:
        server = core()
        assert server.receive(raw, guest.NOW) == []
        assert server.held == 1
        outputs = server.set_port(OTHER, guest.NOW + 3)
        (answer,) = answers(outputs)
        assert answer.kind == kind
        assert all(event.now == guest.NOW + 3 for event in events(outputs))
        assert server.held == 0
        assert server.counters.noted == {"held": 1, "answered_from_hold": 1}
        assert server.counters.dropped == {}
        assert server.set_port(OTHER, guest.NOW + 3) == []

    def test_behind_a_relay(self) -> None:
        server = core(of=RELAYS)
        server.receive(relayed(guest.DISCOVER, mac=guest.OTHER_MAC), guest.NOW)
        (answer,) = answers(server.set_port(OTHER, guest.NOW))
        assert (answer.ether.dst, answer.bootp.yiaddr) == (RELAY_MAC, "10.0.0.6")

    def test_a_bootp_request_if_those_are_answered(self) -> None:
        server = core(bootp=True)
        server.receive(frame(None, (12, b"vm"), mac=guest.OTHER_MAC), guest.NOW)
        assert len(answers(server.set_port(OTHER, guest.NOW))) == 1

    def test_the_newest_packet_counts(self) -> None:
        server = core()
        for xid in (1, 2):
            server.receive(frame(guest.DISCOVER, mac=guest.OTHER_MAC, xid=xid), guest.NOW + xid)
        (answer,) = answers(server.set_port(OTHER, guest.NOW + 9))
        assert answer.bootp.xid == 2

    def test_not_for_ever(self) -> None:
        server = core(hold_seconds=8)
        server.receive(UNKNOWN, guest.NOW)
        server.tick(guest.NOW + 7.9)
        assert server.held == 1
        server.tick(guest.NOW + 8)
        assert server.held == 0
        assert server.counters.dropped == {"unknown_mac": 1}
        server.receive(UNKNOWN, guest.NOW + 10)
        assert server.set_port(OTHER, guest.NOW + 18) == []
        assert server.counters.dropped == {"unknown_mac": 2}

    def test_bounded(self) -> None:
        server = core(hold_limit=2)
        for last in range(3):
            server.receive(frame(guest.DISCOVER, mac=f"fa:16:3e:00:02:{last:02x}"), guest.NOW)
        assert server.held == 2
        assert server.counters.dropped == {"hold_overflow": 1}
        assert server.set_port(port(mac="fa:16:3e:00:02:00", address="10.0.0.9"), guest.NOW) == []

    def test_a_port_without_an_address_waits_for_one(self) -> None:
        server = core(port(fixed_ips=()))
        assert server.receive(DISCOVER, guest.NOW) == []
        (answer,) = answers(server.set_port(port(), guest.NOW + 1))
        assert answer.bootp.yiaddr == "10.0.0.5"

    def test_a_port_without_a_subnet_waits_for_one(self) -> None:
        server = core(of=network(subnet(enable_dhcp=False)))
        assert server.receive(DISCOVER, guest.NOW) == []
        (answer,) = answers(server.set_network(guest.NETWORK, guest.NOW + 1))
        assert answer.bootp.yiaddr == "10.0.0.5"

    def test_still_no_address(self) -> None:
        server = core(port(fixed_ips=()))
        server.receive(DISCOVER, guest.NOW)
        assert server.set_port(port(fixed_ips=()), guest.NOW + 1) == []
        assert "answered_from_hold" not in server.counters.noted


class TestPorts:
    def test_removed(self) -> None:
        server = core(hold_seconds=0)
        server.remove_port(PortId("port-05"))
        server.remove_port(PortId("port-05"))
        silent(server, DISCOVER, "unknown_mac")

    def test_a_new_mac(self) -> None:
        server = core(hold_seconds=0)
        server.set_port(port(mac=guest.OTHER_MAC, id=PortId("port-05")), guest.NOW)
        silent(server, DISCOVER, "unknown_mac")
        assert ask(server, UNKNOWN).bootp.yiaddr == "10.0.0.5"

    def test_a_mac_that_changes_its_port(self) -> None:
        """Whichever of the two changes is told first."""
        server = core()
        server.set_port(port(id=PortId("new"), address="10.0.0.7"), guest.NOW)
        server.remove_port(PortId("port-05"))
        assert ask(server, DISCOVER).bootp.yiaddr == "10.0.0.7"

    def test_the_networks_data_reaches_every_port(self) -> None:
        server = core(port(), OTHER)
        ask(server, DISCOVER)
        server.set_network(network(mtu=1400, dns_domain="new."), guest.NOW)
        assert server.network.mtu == 1400
        for raw in (DISCOVER, UNKNOWN):
            options = ask(server, raw).options
            assert (options[26], options[15]) == (b"\x05\x78", b"new")

    def test_problems(self) -> None:
        server = core(port(("bootfil", "x")))
        assert "bootfil" in server.problems(PortId("port-05"))[0]
        assert server.problems(PortId("unknown")) == ()
        assert ask(server, DISCOVER).kind == guest.OFFER


class TestExplicitClientId:
    SERVER_PORT = port(("client-id", "ff:01"))

    def test_another_one_is_not_this_port(self) -> None:
        server = core(self.SERVER_PORT)
        silent(server, frame(guest.DISCOVER, (61, b"\xff\x02")), "client_id_mismatch")
        assert ask(server, frame(guest.DISCOVER, (61, b"\xff\x01"))).options[61] == b"\xff\x01"
        assert ask(server, DISCOVER).kind == guest.OFFER

    def test_otherwise_it_is_no_identity(self) -> None:
        """LP 1806770: a ROM, iPXE and the system of one VM send different ones."""
        server = core()
        for client_id in (b"\x01\x02", b"\xff\x01"):
            assert ask(server, frame(guest.DISCOVER, (61, client_id))).bootp.yiaddr == "10.0.0.5"


def test_a_core_needs_no_policy() -> None:
    assert Dhcp4Core(guest.NETWORK, guest.IDENTITY).held == 0

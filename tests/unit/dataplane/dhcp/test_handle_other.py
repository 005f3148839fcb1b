from __future__ import annotations

from typing import Any

import pytest

from dataplane.model import FixedIp, Ip, SubnetId
from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import answers, ask, core, events, frame, ip, network, port, silent, subnet

US = (54, ip(guest.SERVER_ID))
THEM = (54, ip("10.0.0.2"))
MINE = (50, ip("10.0.0.5"))


class TestInform:
    def test_options_without_address_and_times(self) -> None:
        server = core()
        raw = frame(guest.INFORM, (55, bytes((51, 58, 59, 50, 3, 6))), ciaddr="10.0.0.5", src_ip="10.0.0.5")
        outputs = server.receive(raw, guest.NOW)
        (answer,) = answers(outputs)
        assert not events(outputs)
        assert answer.kind == guest.ACK
        assert answer.options[54] == US[1]
        assert answer.codes == [53, 54, 1, 28, 26, 3, 6]
        assert answer.bootp.yiaddr == "0.0.0.0"
        assert answer.bootp.ciaddr == "10.0.0.5"
        assert (answer.ip.dst, answer.udp.dport, answer.ether.dst) == ("10.0.0.5", 68, guest.MAC)
        assert server.counters.sent == {"ack": 1}

    def test_an_address_of_the_subnet_that_is_not_the_ports(self) -> None:
        answer = ask(core(), frame(guest.INFORM, ciaddr="10.0.0.77"))
        assert (answer.ip.dst, answer.ether.dst) == ("10.0.0.77", guest.MAC)

    def test_without_ciaddr_the_source_counts(self) -> None:
        answer = ask(core(), frame(guest.INFORM, src_ip="10.0.0.5", flags=0x8000))
        assert (answer.ip.dst, answer.bootp.ciaddr) == ("10.0.0.5", "0.0.0.0")

    def test_without_both(self) -> None:
        silent(core(), frame(guest.INFORM), "no_address")

    def test_an_address_of_elsewhere(self) -> None:
        silent(core(), frame(guest.INFORM, ciaddr="192.0.2.5"), "foreign_address")

    def test_the_options_of_the_right_subnet(self) -> None:
        second = subnet(id=SubnetId("s2"), cidr="10.2.0.0/24", gateway_ip=Ip("10.2.0.1"))
        ips = (
            FixedIp(subnet_id=guest.SUBNET.id, ip_address=Ip("10.0.0.5")),
            FixedIp(subnet_id=second.id, ip_address=Ip("10.2.0.5")),
        )
        server = core(port(fixed_ips=ips), of=network(guest.SUBNET, second))
        assert ask(server, frame(guest.INFORM, ciaddr="10.2.0.5")).names["router"] == "10.2.0.1"


class TestDecline:
    def test_the_ports_address(self) -> None:
        server = core()
        outputs = server.receive(frame(guest.DECLINE, US, MINE), guest.NOW)
        assert not answers(outputs)
        (event,) = events(outputs)
        assert (event.kind, event.address, event.port_id) == ("declined", "10.0.0.5", "port-05")
        assert server.counters.dropped == server.counters.noted == {}
        assert ask(server, frame(guest.DISCOVER)).kind == guest.OFFER

    def test_without_a_server_identifier_it_is_accepted_and_counted(self) -> None:
        server = core()
        (event,) = events(server.receive(frame(guest.DECLINE, MINE), guest.NOW))
        assert event.kind == "declined"
        assert server.counters.noted == {"decline_without_server_id": 1}

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ((THEM, MINE), "other_server"),
            ((US,), "no_address"),
            # It must not take an address away from another port.
            ((US, (50, ip("10.0.0.6"))), "wrong_address"),
        ],
    )
    def test_refused(self, options: tuple[tuple[int, bytes], ...], reason: str) -> None:
        server = core(port(), port(mac=guest.OTHER_MAC, address="10.0.0.6"))
        assert silent(server, frame(guest.DECLINE, *options), reason) == []


class TestRelease:
    def test_the_ports_address(self) -> None:
        outputs = core().receive(frame(guest.RELEASE, US, ciaddr="10.0.0.5", src_ip="10.0.0.5"), guest.NOW)
        assert not answers(outputs)
        (event,) = events(outputs)
        assert (event.kind, event.address) == ("released", "10.0.0.5")

    @pytest.mark.parametrize(
        ("options", "fields", "reason"),
        [
            ((), {"ciaddr": "10.0.0.5"}, "no_server_id"),
            ((THEM,), {"ciaddr": "10.0.0.5"}, "other_server"),
            ((US,), {}, "no_address"),
            ((US,), {"ciaddr": "10.0.0.6"}, "wrong_address"),
        ],
    )
    def test_refused(self, options: tuple[tuple[int, bytes], ...], fields: dict[str, Any], reason: str) -> None:
        server = core(port(), port(mac=guest.OTHER_MAC, address="10.0.0.6"))
        assert silent(server, frame(guest.RELEASE, *options, **fields), reason) == []

    def test_with_another_mac_inside(self) -> None:
        server = core(port(), port(mac=guest.OTHER_MAC, address="10.0.0.6"))
        raw = frame(guest.RELEASE, US, chaddr=guest.OTHER_MAC, ciaddr="10.0.0.6")
        assert silent(server, raw, "chaddr_spoofed") == []

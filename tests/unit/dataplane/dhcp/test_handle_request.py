from __future__ import annotations

import pytest

from dataplane.dhcp.core import Dhcp4Core
from dataplane.model import FixedIp, Ip
from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import Answer, answers, ask, core, events, frame, ip, port, silent

US = (54, ip(guest.SERVER_ID))
THEM = (54, ip("10.0.0.2"))
MINE = (50, ip("10.0.0.5"))
WRONG = (50, ip("10.0.0.9"))


def outcome(server: Dhcp4Core, raw: bytes) -> tuple[Answer, str, str, int]:
    """The answer, and kind, address and lease time of the event."""
    outputs = server.receive(raw, guest.NOW)
    (answer,), (event,) = answers(outputs), events(outputs)
    return answer, event.kind, event.address, event.lease_seconds


def acked(server: Dhcp4Core, raw: bytes, kind: str, ciaddr: str = "0.0.0.0") -> None:
    answer, *event = outcome(server, raw)
    assert answer.kind == guest.ACK
    assert answer.bootp.yiaddr == "10.0.0.5"
    assert answer.bootp.ciaddr == ciaddr
    assert answer.options[54] == US[1]
    assert answer.options[51] == guest.u32(86400)
    assert event == [kind, "10.0.0.5", 86400]


def refused(server: Dhcp4Core, raw: bytes, address: str) -> None:
    answer, *event = outcome(server, raw)
    assert answer.kind == guest.NAK
    assert answer.options[54] == US[1]
    assert not {51, 58, 59} & set(answer.options)
    assert event == ["nak", address, 0]


class TestSelecting:
    def test_our_offer(self) -> None:
        acked(core(), frame(guest.REQUEST, US, MINE), "bound")

    def test_another_address(self) -> None:
        refused(core(), frame(guest.REQUEST, US, WRONG), "10.0.0.9")

    @pytest.mark.parametrize("option", [MINE, WRONG])
    def test_another_server(self, option: tuple[int, bytes]) -> None:
        """LP 1457900: a NAK here breaks networks with two servers."""
        (event,) = silent(core(), frame(guest.REQUEST, THEM, option), "other_server")
        assert (event.kind, event.address) == ("withdrawn", "10.0.0.5")

    def test_a_ciaddr_beside_option_50_is_ignored(self) -> None:
        acked(core(), frame(guest.REQUEST, US, MINE, ciaddr="10.0.0.9"), "bound")


class TestInitReboot:
    def test_the_right_address(self) -> None:
        acked(core(), frame(guest.REQUEST, MINE), "bound")

    @pytest.mark.parametrize("address", ["10.0.0.9", "192.0.2.5"])
    def test_another_address_or_subnet(self, address: str) -> None:
        refused(core(), frame(guest.REQUEST, (50, ip(address))), address)

    def test_an_unknown_guest_hears_nothing(self) -> None:
        server = core(hold_seconds=0)
        silent(server, frame(guest.REQUEST, WRONG, mac=guest.OTHER_MAC), "unknown_mac")


class TestRenewingAndRebinding:
    @pytest.mark.parametrize("dst_ip", [guest.SERVER_ID, "255.255.255.255", "10.0.0.1", "10.0.0.2"])
    def test_the_right_address_wherever_it_was_sent_to(self, dst_ip: str) -> None:
        """Also to a former server's address: the lease may come from another node or from dnsmasq."""
        raw = frame(guest.REQUEST, ciaddr="10.0.0.5", src_ip="10.0.0.5", dst_ip=dst_ip)
        acked(core(), raw, "renewed", "10.0.0.5")

    def test_another_address(self) -> None:
        refused(core(), frame(guest.REQUEST, ciaddr="10.0.0.9", src_ip="10.0.0.9"), "10.0.0.9")

    def test_with_our_server_identifier(self) -> None:
        acked(core(), frame(guest.REQUEST, US, ciaddr="10.0.0.5"), "renewed", "10.0.0.5")

    def test_with_another_server_identifier(self) -> None:
        silent(core(), frame(guest.REQUEST, THEM, ciaddr="10.0.0.5"), "other_server")

    def test_an_unknown_guest_hears_nothing(self) -> None:
        server = core(hold_seconds=0)
        silent(server, frame(guest.REQUEST, ciaddr="10.0.0.5", mac=guest.OTHER_MAC), "unknown_mac")

    def test_a_shorter_lease_of_the_operator_gives_no_nak(self) -> None:
        """LP 2124215."""
        server = core(port(("lease-time", "1d")))
        ask(server, frame(guest.REQUEST, MINE))
        server.set_port(port(("lease-time", "60")), guest.NOW)
        answer = ask(server, frame(guest.REQUEST, ciaddr="10.0.0.5"), guest.NOW + 40000)
        assert (answer.kind, answer.options[51]) == (guest.ACK, guest.u32(60))


class TestBareRequest:
    def test_accepted_by_default(self) -> None:
        acked(core(), frame(guest.REQUEST), "bound")
        acked(core(), frame(guest.REQUEST, US), "bound")

    def test_refused_by_the_letter(self) -> None:
        refused(core(accept_bare_request=False), frame(guest.REQUEST), "0.0.0.0")


def test_every_address_of_the_port_is_its_own() -> None:
    ips = tuple(FixedIp(subnet_id=guest.SUBNET.id, ip_address=Ip(f"10.0.0.{last}")) for last in (5, 6))
    server = core(port(fixed_ips=ips))
    assert ask(server, frame(guest.DISCOVER)).bootp.yiaddr == "10.0.0.5"
    assert ask(server, frame(guest.REQUEST, (50, ip("10.0.0.6")))).bootp.yiaddr == "10.0.0.6"
    assert ask(server, frame(guest.REQUEST, (50, ip("10.0.0.7")))).kind == guest.NAK


def test_the_lease_that_the_client_asks_for() -> None:
    answer, _, _, lease = outcome(core(), frame(guest.REQUEST, US, MINE, (51, guest.u32(600))))
    assert answer.options[51] == guest.u32(600)
    assert lease == 600


def test_the_port_moves_to_another_address() -> None:
    server = core()
    ask(server, frame(guest.REQUEST, MINE))
    server.set_port(port(address="10.0.0.9"), guest.NOW)
    assert ask(server, frame(guest.REQUEST, ciaddr="10.0.0.5", src_ip="10.0.0.5")).kind == guest.NAK
    assert ask(server, frame(guest.DISCOVER)).bootp.yiaddr == "10.0.0.9"

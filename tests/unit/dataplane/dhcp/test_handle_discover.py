from __future__ import annotations

import pytest

from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import answers, ask, core, events, frame, ip, port, silent


def test_the_ports_address_is_offered() -> None:
    outputs = core().receive(frame(guest.DISCOVER, (12, b"vm\n1"), (61, b"\x01\xfa")), guest.NOW)
    (answer,), (event,) = answers(outputs), events(outputs)
    assert answer.kind == guest.OFFER
    assert answer.bootp.yiaddr == "10.0.0.5"
    assert answer.options[54] == ip(guest.SERVER_ID)
    assert answer.options[51] == guest.u32(86400)
    assert (event.kind, event.network_id, event.port_id, event.mac, event.address, event.now, event.lease_seconds) == (
        "offered", "blue", "port-05", guest.MAC, "10.0.0.5", guest.NOW, 86400,
    )  # fmt: skip
    assert (event.hostname, event.client_id) == ("vm1", "01:fa")


@pytest.mark.parametrize("wish", ["10.0.0.77", "192.0.2.1", "10.0.0.5"])
def test_the_wished_address_and_ciaddr_are_ignored(wish: str) -> None:
    answer = ask(core(), frame(guest.DISCOVER, (50, ip(wish)), ciaddr=wish))
    assert (answer.kind, answer.bootp.yiaddr, answer.bootp.ciaddr) == (guest.OFFER, "10.0.0.5", "0.0.0.0")


def test_after_a_release_it_is_answered_as_always() -> None:
    server = core()
    server.receive(frame(guest.RELEASE, (54, ip(guest.SERVER_ID)), ciaddr="10.0.0.5"), guest.NOW)
    assert ask(server, frame(guest.DISCOVER)).kind == guest.OFFER


class TestRapidCommit:
    """RFC 4039."""

    def test_on(self) -> None:
        outputs = core(rapid_commit=True).receive(frame(guest.DISCOVER, (80, b""), (55, b"\x03")), guest.NOW)
        (answer,), (event,) = answers(outputs), events(outputs)
        assert answer.kind == guest.ACK
        assert answer.options[80] == b""
        assert answer.options[51] == guest.u32(86400)
        assert answer.bootp.yiaddr == "10.0.0.5"
        assert (event.kind, event.lease_seconds) == ("bound", 86400)

    def test_off_means_an_offer_without_option_80(self) -> None:
        """systemd issue 29904: an OFFER with option 80 is a server's mistake."""
        answer = ask(core(), frame(guest.DISCOVER, (80, b""), (55, b"\x50")))
        assert answer.kind == guest.OFFER
        assert 80 not in answer.options

    def test_not_unless_the_client_asks(self) -> None:
        answer = ask(core(rapid_commit=True), frame(guest.DISCOVER))
        assert answer.kind == guest.OFFER
        assert 80 not in answer.options


class TestBootp:
    """RFC 951 and RFC 1497: messages without option 53."""

    def test_off(self) -> None:
        silent(core(), frame(None, (12, b"vm")), "bootp_disabled")

    def test_on(self) -> None:
        server = core(port(("67", "loader"), ("server-ip-address", "10.0.0.8")), bootp=True)
        outputs = server.receive(frame(None, (12, b"vm"), (61, b"id")), guest.NOW)
        (answer,) = answers(outputs)
        assert not events(outputs)
        assert not {53, 54, 51, 52, 58, 59, 61} & set(answer.options)
        assert len(answer.payload) == 300
        assert answer.bootp.yiaddr == "10.0.0.5"
        assert answer.bootp.file.rstrip(b"\0") == b"loader"
        assert answer.bootp.siaddr == "10.0.0.8"
        assert {1, 3} <= set(answer.options)
        assert server.counters.sent == {"bootp": 1}

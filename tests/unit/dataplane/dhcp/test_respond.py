"""Header fields, echoes and the destination table of RFC 2131 section 4.1."""

from __future__ import annotations

import pytest

from dataplane.dhcp.respond import sanitise
from dataplane.model import Ip
from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import Answer, answers, ask, core, frame, ip, network, port

RELAYS = network(dhcp_relays=(Ip("10.0.0.253"),))
RELAY_MAC = "fa:16:3e:00:0f:fd"
MINE = (50, ip("10.0.0.5"))
WRONG = (50, ip("10.0.0.9"))


def nak(answer: Answer) -> Answer:
    assert answer.kind == guest.NAK
    return answer


class TestHeader:
    def test_copied_and_set_fields(self) -> None:
        answer = ask(core(), frame(guest.DISCOVER, flags=0x8000, secs=77, hops=0, ciaddr="10.0.0.99"))
        assert answer.bootp.xid == guest.XID
        assert answer.bootp.flags == "B"
        assert answer.bootp.ciaddr == "0.0.0.0"
        assert answer.bootp.yiaddr == "10.0.0.5"
        assert answer.bootp.siaddr == "0.0.0.0"
        assert answer.bootp.giaddr == "0.0.0.0"
        assert answer.bootp.chaddr[:6].hex(":") == guest.MAC
        assert not answer.payload[44:236].strip(b"\0")

    def test_siaddr_only_where_something_is_booted(self) -> None:
        server = core(port(("server-ip-address", "10.0.0.8")))
        assert ask(server, frame(guest.DISCOVER)).bootp.siaddr == "10.0.0.8"
        assert ask(server, frame(guest.REQUEST, MINE)).bootp.siaddr == "10.0.0.8"
        assert nak(ask(server, frame(guest.REQUEST, WRONG))).bootp.siaddr == "0.0.0.0"


class TestDestination:
    """The frame always goes to the port's own MAC (or back to the relay); the address is the table's."""

    def to(self, answer: Answer, address: str, mac: str = guest.MAC, dport: int = 68) -> None:
        assert (answer.ip.dst, answer.ether.dst, answer.udp.dport) == (address, mac, dport)

    def test_broadcast_flag(self) -> None:
        self.to(ask(core(), frame(guest.DISCOVER, flags=0x8000)), "255.255.255.255")

    def test_no_flag(self) -> None:
        self.to(ask(core(), frame(guest.DISCOVER)), "10.0.0.5")

    def test_other_flags_are_not_the_broadcast_flag(self) -> None:
        self.to(ask(core(), frame(guest.DISCOVER, flags=0x7FFF)), "10.0.0.5")

    def test_ciaddr(self) -> None:
        raw = frame(guest.REQUEST, ciaddr="10.0.0.5", src_ip="10.0.0.5", flags=0x8000)
        self.to(ask(core(), raw), "10.0.0.5")

    @pytest.mark.parametrize("flags", [0, 0x8000])
    def test_a_nak_is_always_broadcast(self, flags: int) -> None:
        self.to(nak(ask(core(), frame(guest.REQUEST, WRONG, flags=flags))), "255.255.255.255")
        raw = frame(guest.REQUEST, ciaddr="10.0.0.9", src_ip="10.0.0.9", flags=flags)
        self.to(nak(ask(core(), raw)), "255.255.255.255")

    def relayed(self, kind: int, *options: tuple[int, bytes], **fields: object) -> bytes:
        values = {"mac": RELAY_MAC, "chaddr": guest.MAC, "giaddr": "10.0.0.253", "hops": 1, "sport": 67} | fields
        return frame(kind, *options, src_ip="10.0.0.253", dst_ip=guest.SERVER_ID, **values)  # type: ignore[arg-type]

    @pytest.mark.parametrize("fields", [{}, {"flags": 0x8000}, {"ciaddr": "10.0.0.5"}])
    def test_a_relay(self, fields: dict[str, object]) -> None:
        answer = ask(core(of=RELAYS), self.relayed(guest.REQUEST, **fields))
        self.to(answer, "10.0.0.253", RELAY_MAC, 67)
        assert answer.bootp.giaddr == "10.0.0.253"
        assert answer.bootp.hops == 0
        assert answer.bootp.chaddr[:6].hex(":") == guest.MAC

    def test_a_nak_through_a_relay_has_the_broadcast_bit(self) -> None:
        answer = nak(ask(core(of=RELAYS), self.relayed(guest.REQUEST, WRONG)))
        self.to(answer, "10.0.0.253", RELAY_MAC, 67)
        assert answer.bootp.flags == "B"

    def test_a_relay_with_its_own_source_port(self) -> None:
        """RFC 8357."""
        raw = self.relayed(guest.DISCOVER, (82, b"\x01\x01c\x13\x00"), sport=6767)
        self.to(ask(core(of=RELAYS), raw), "10.0.0.253", RELAY_MAC, 6767)
        raw = self.relayed(guest.DISCOVER, (82, b"\x01\x01c"), sport=6767)
        self.to(ask(core(of=RELAYS), raw), "10.0.0.253", RELAY_MAC, 67)


CLIENT_ID = b"\xff\x12\x34\x56\x78\x00\x01\x00\x01"


class TestEcho:
    @pytest.mark.parametrize("request_option", [MINE, WRONG])
    @pytest.mark.parametrize("client_id", [CLIENT_ID, b"\x01", b"", b"x" * 255])
    def test_the_client_id_goes_back_byte_for_byte(self, request_option: tuple[int, bytes], client_id: bytes) -> None:
        """RFC 6842: in OFFER, ACK and NAK, if the client sent it."""
        server = core()
        for raw in (frame(guest.DISCOVER, (61, client_id)), frame(guest.REQUEST, request_option, (61, client_id))):
            assert ask(server, raw).options[61] == client_id
        assert ask(server, frame(guest.INFORM, (61, client_id), ciaddr="10.0.0.5")).options[61] == client_id

    @pytest.mark.parametrize("option", [MINE, WRONG])
    def test_not_unless_it_was_sent(self, option: tuple[int, bytes]) -> None:
        assert 61 not in ask(core(), frame(guest.DISCOVER, (55, b"\x3d"))).options
        assert 61 not in ask(core(), frame(guest.REQUEST, option)).options

    @pytest.mark.parametrize("option", [MINE, WRONG])
    def test_switched_off_for_old_clients(self, option: tuple[int, bytes]) -> None:
        server = core(echo_client_id=False)
        assert 61 not in ask(server, frame(guest.DISCOVER, (61, CLIENT_ID))).options
        assert 61 not in ask(server, frame(guest.REQUEST, option, (61, CLIENT_ID))).options

    @pytest.mark.parametrize("option", [MINE, WRONG])
    @pytest.mark.parametrize("value", [b"", b"\x01\x04port\x02\x03mac"])
    def test_option_82_is_the_last(self, option: tuple[int, bytes], value: bytes) -> None:
        server = core()
        for raw in (
            frame(guest.DISCOVER, (82, value), (61, b"id")),
            frame(guest.REQUEST, option, (82, value), (61, b"id")),
        ):
            assert ask(server, raw).items[-1] == (82, value)

    def test_a_roms_uuid_goes_back(self) -> None:
        uuid = b"\x00" + bytes(range(16))
        rom = (60, b"PXEClient:Arch:00000:UNDI:002001")
        assert ask(core(), frame(guest.DISCOVER, rom, (97, uuid))).options[97] == uuid
        assert 97 not in ask(core(), frame(guest.DISCOVER, (97, uuid))).options
        assert 97 not in ask(core(), frame(guest.DISCOVER, rom)).options


class TestNak:
    def test_only_what_a_nak_may_hold(self) -> None:
        server = core(port(("67", "pxelinux.0"), ("66", "10.0.0.9")))
        answer = nak(ask(server, frame(guest.REQUEST, WRONG, (55, bytes(range(1, 120))), (57, b"\x05\xdc"))))
        assert answer.codes == [53, 54, 56]
        assert answer.options[54] == ip(guest.SERVER_ID)
        assert answer.bootp.yiaddr == answer.bootp.ciaddr == "0.0.0.0"
        assert not answer.payload[44:236].strip(b"\0")

    def test_what_does_not_fit(self) -> None:
        server = core()
        answer = nak(ask(server, frame(guest.REQUEST, WRONG, (61, b"i" * 255), (82, b"\x01\xc8" + b"c" * 200))))
        assert answer.codes == [53, 54, 61, 56]
        assert len(answer.payload) <= 548
        assert server.counters.noted == {"relay_option_dropped": 1}
        answer = nak(ask(server, frame(guest.REQUEST, WRONG, (61, b"i" * 255), (82, b"\x01\x1e" + b"c" * 30))))
        assert answer.codes == [53, 54, 61, 82]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"web-1", "web-1"),
        (b"", ""),
        (b"web\n1\x1b[31m\x00\xff \x7f", "web1[31m"),
        (b"x" * 300, "x" * 255),
    ],
)
def test_sanitise(raw: bytes, clean: str) -> None:
    assert sanitise(raw) == clean


def test_two_tenants_with_the_same_address_and_mac() -> None:
    blue = core()
    green = core(of=network(guest.subnet(gateway_ip=Ip("10.0.0.254")), id="green"))
    raw = frame(guest.DISCOVER)
    routers = [answers(server.receive(raw, guest.NOW))[0].names["router"] for server in (blue, green)]
    assert routers == ["10.0.0.1", "10.0.0.254"]

"""Replies byte by byte: order of options, sizes, overload, padding, times (reference: RFC 2131 and RFC 2132)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dataplane.dhcp import constants as c
from dataplane.dhcp.policy import Policy
from dataplane.dhcp.served import ServedPort, TokenBucket
from dataplane.dhcp.template import MAX_BLOCKS, PortTemplate
from dataplane.dhcp.wire import decode
from dataplane.model import HostRoute
from tests.unit.dataplane.dhcp import guest
from tests.unit.dataplane.dhcp.guest import ask, core, frame, network, port

ALWAYS = [53, 54, 51, 58, 59, 1, 28, 26]


def template(*options: tuple[str, str | None], policy: Policy | None = None, mac: str = guest.MAC) -> PortTemplate:
    served = ServedPort(port(*options, mac=mac), TokenBucket(0, 1))
    return served.templates(guest.NETWORK, guest.IDENTITY, policy or Policy())[0]


def discover(*options: tuple[int, bytes], requested: bytes = b"") -> bytes:
    return frame(guest.DISCOVER, *([(55, requested)] if requested else []), *options)


class TestOrder:
    def test_requested_options_come_in_the_requested_order(self) -> None:
        answer = ask(core(), discover(requested=bytes((15, 121, 3, 6, 12))))
        assert answer.codes == [*ALWAYS, 15, 121, 3, 6, 12]

    def test_also_those_that_are_always_sent(self) -> None:
        answer = ask(core(), discover(requested=bytes((3, 59, 1, 58, 51, 6))))
        assert answer.codes == [53, 54, 28, 26, 3, 59, 1, 58, 51, 6]

    def test_a_real_list(self) -> None:
        answer = ask(core(), discover(requested=guest.UDHCPC_LIST))
        assert answer.codes == [53, 54, 51, 58, 59, 1, 28, 3, 15, 6, 12, 26, 121]

    def test_nothing_that_was_not_asked_for(self) -> None:
        assert ask(core(), discover(requested=b"\x01")).codes == [53, 54, 51, 58, 59, 28, 26, 1]

    def test_repeated_and_unknown_requests(self) -> None:
        assert ask(core(), discover(requested=b"\x03\x03\xfb\x06\x03")).codes == [*ALWAYS, 3, 6]

    def test_without_a_list_everything_is_sent_but_249(self) -> None:
        assert ask(core(), discover()).codes == [*ALWAYS, 121, 3, 6, 12, 15]

    def test_249_mirrors_121_when_requested(self) -> None:
        answer = ask(core(), discover(requested=b"\x79\xf9"))
        assert answer.codes[-2:] == [121, 249]
        assert answer.options[121] == answer.options[249]

    def test_scapy_reads_the_same(self) -> None:
        names = ask(core(), discover(requested=bytes((3, 6, 15, 12, 121)))).names
        assert names["message-type"] == guest.OFFER
        assert names["server_id"] == guest.SERVER_ID
        assert names["lease_time"] == 86400
        assert names["router"] == "10.0.0.1"
        assert names["subnet_mask"] == "255.255.255.0"
        assert names["interface-mtu"] == 1450
        assert names["domain"] == b"blue.example"
        assert names["hostname"] == b"host-10-0-0-5"
        assert names["classless_static_routes"] == [
            "192.0.2.0/24:10.0.0.254",
            "169.254.169.254/32:0.0.0.0",
            "0.0.0.0/0:10.0.0.1",
        ]

    def test_never_in_a_reply(self) -> None:
        everything = bytes(range(1, 255))
        answer = ask(core(), discover((57, b"\x05\xdc"), (50, guest.ip("10.0.0.5")), requested=everything))
        assert not {50, 55, 57, 61, 80, 82} & set(answer.options)


class TestSize:
    LONG = (("17", "r" * 200), ("18", "e" * 100), ("47", "s" * 50), ("64", "n" * 90))
    LIST = bytes((17, 18, 47, 64, 15))

    def test_short_replies_are_padded_to_300_bytes(self) -> None:
        assert len(ask(core(), discover(requested=b"\x01")).payload) == 300

    @pytest.mark.parametrize(
        ("option_57", "limit"),
        [
            (None, 548),
            (b"\x00\x00", 548),
            (b"\x02\x3f", 548),
            (b"\x02\x40", 548),
            (b"\x02\x80", 612),
            (b"\xff\xff", 1422),
        ],
    )
    def test_the_limit(self, option_57: bytes | None, limit: int) -> None:
        """Option 57 or 576, and the MTU of the network, less 28 bytes."""
        raw = tuple((str(code), "x" * 200) for code in range(224, 232))
        asked = [(57, option_57)] if option_57 is not None else []
        answer = ask(core(port(*raw)), discover(*asked, requested=bytes(range(224, 232))))
        assert limit - 202 < len(answer.payload) <= limit
        assert answer.ip.flags == "DF"

    def test_overload_file_then_sname(self) -> None:
        server = core(port(*self.LONG))
        answer = ask(server, discover(requested=self.LIST))
        assert len(answer.payload) <= 548
        assert answer.codes[0] == 52
        assert answer.options[52] == b"\x03"
        in_file, in_sname = guest.read(answer.payload[108:236]), guest.read(answer.payload[44:108])
        requested = [code for code in answer.codes if code in self.LIST]
        requested += [code for code, _ in in_file + in_sname]
        # 64 has no place; 15 goes back to the options field rather than being dropped.
        assert requested == [17, 15, 18, 47]
        assert server.counters.noted == {"option_dropped": 1}

    def test_our_own_decoder_reads_it(self) -> None:
        options = decode(ask(core(port(*self.LONG)), discover(requested=self.LIST)).payload).options
        assert (options[17], options[18], options[47]) == (b"r" * 200, b"e" * 100, b"s" * 50)

    def test_fields_in_use_for_booting_are_not_overloaded(self) -> None:
        server = core(port(*self.LONG, ("66", "boot.example"), ("67", "pxelinux.0")))
        answer = ask(server, discover(requested=self.LIST))
        assert 52 not in answer.options
        assert answer.bootp.file.rstrip(b"\0") == b"pxelinux.0"
        assert answer.bootp.sname.rstrip(b"\0") == b"boot.example"
        assert {53, 54, 51, 58, 59, 1, 28, 26} <= set(answer.codes)
        assert server.counters.noted["option_dropped"] == 3

    def test_option_82_is_last_and_never_overloaded(self) -> None:
        relay = b"\x01\x64" + b"c" * 100
        server = core(port(*self.LONG))
        answer = ask(server, discover((82, relay), requested=self.LIST))
        assert answer.items[-1] == (82, relay)

    def test_option_82_that_does_not_fit_is_left_out_and_counted(self) -> None:
        relay = b"\x01\xc8" + b"c" * 200
        server = core()
        answer = ask(server, discover((82, relay), (61, b"i" * 100), requested=b"\x03"))
        assert 82 not in answer.options
        assert answer.options[61] == b"i" * 100
        assert server.counters.noted["relay_option_dropped"] == 1

    def test_the_longest_client_id_fits_the_smallest_message(self) -> None:
        answer = ask(core(), discover((61, b"i" * 255), requested=guest.UDHCPC_LIST))
        assert answer.options[61] == b"i" * 255
        assert {53, 54, 51, 1, 28, 26, 3, 6} <= set(answer.options)

    def test_a_long_option_is_split(self) -> None:
        routes = tuple(HostRoute(destination=f"10.{n}.0.0/16", nexthop=guest.ADDRESS) for n in range(1, 50))
        server = core(of=network(guest.subnet(host_routes=routes)))
        answer = ask(server, discover((57, b"\x05\xdc"), requested=b"\x79"))
        assert answer.codes.count(121) == 2
        assert len(answer.options[121]) == 49 * 7 + 9 + 5


class TestTimes:
    @pytest.mark.parametrize("lease", [86400, 43200, 3600, 120, 60, 16])
    def test_t1_before_t2_before_the_end(self, lease: int) -> None:
        server = core(lease_time=lease)
        options = ask(server, discover()).options
        found, t1, t2 = (int.from_bytes(options[code], "big") for code in (51, 58, 59))
        assert found == lease
        assert 0 < t1 < t2 < lease
        assert lease // 2 - lease // 16 <= t1 <= lease // 2
        assert lease * 7 // 8 - lease // 16 <= t2 <= lease * 7 // 8

    def test_ports_renew_at_different_times_and_one_port_at_the_same(self) -> None:
        times = []
        for last in range(20):
            mac = f"fa:16:3e:00:01:{last:02x}"
            server = core(port(mac=mac))
            raw = frame(guest.DISCOVER, mac=mac)
            times.append(ask(server, raw).options[58])
            assert ask(server, raw).options[58] == times[-1]
        assert len(set(times)) > 15

    def test_without_an_end_there_are_no_timers(self) -> None:
        options = ask(core(lease_time=-1), discover()).options
        assert options[51] == b"\xff\xff\xff\xff"
        assert not {58, 59} & set(options)

    def test_a_lease_too_short_for_timers(self) -> None:
        assert not {58, 59} & set(ask(core(lease_time=1), discover()).options)

    @pytest.mark.parametrize(
        ("asked", "given"), [(3600, 3600), (30, 120), (0, 120), (86400, 86400), (90000, 86400), (0xFFFFFFFF, 86400)]
    )
    def test_the_client_may_ask_for_less(self, asked: int, given: int) -> None:
        assert ask(core(), discover((51, guest.u32(asked)))).options[51] == guest.u32(given)

    def test_a_short_lease_of_the_operator_is_not_made_longer(self) -> None:
        assert ask(core(lease_time=60), discover((51, guest.u32(30)))).options[51] == guest.u32(60)

    def test_less_than_for_ever(self) -> None:
        assert ask(core(lease_time=-1), discover((51, guest.u32(3600)))).options[51] == guest.u32(3600)

    def test_times_of_the_port(self) -> None:
        options = ask(core(port(("lease-time", "2h"), ("T1", "600"), ("T2", "1200"))), discover()).options
        assert [int.from_bytes(options[code], "big") for code in (51, 58, 59)] == [7200, 600, 1200]

    @pytest.mark.parametrize("own", [("1200", "600"), ("7200", "7300"), ("600", "7200")])
    def test_times_that_make_no_sense_are_not_sent(self, own: tuple[str, str]) -> None:
        """systemd-networkd and dhcpcd replace such values silently."""
        options = ask(core(port(("lease-time", "2h"), ("T1", own[0]), ("T2", own[1]))), discover()).options
        t1, t2 = (int.from_bytes(options[code], "big") for code in (58, 59))
        assert 3000 < t1 <= 3600
        assert t1 < t2 <= 6300


class TestBlocks:
    def reply(self, to: PortTemplate, requested: bytes, lease: int = 600) -> bytes:
        message = decode(discover(requested=requested)[42:])
        return to.reply(message, c.OFFER, ciaddr=c.ANY, lease=lease, limit=548, echo=(), relay=b"").payload

    def test_blocks_are_remembered_and_bounded(self) -> None:
        made = template()
        first = self.reply(made, b"\x01\x03")
        for number in range(3 * MAX_BLOCKS):
            self.reply(made, bytes((number + 1, 1)))
            assert len(made._blocks) <= MAX_BLOCKS
        assert self.reply(made, b"\x01\x03") == first

    def test_over_long_request_lists_are_answered_and_not_remembered(self) -> None:
        made = template()
        half = (55, bytes(range(1, 255)))
        message = decode(discover(half, half)[42:])
        found = made.reply(message, c.OFFER, ciaddr=c.ANY, lease=600, limit=548, echo=(), relay=b"")
        assert found.payload
        assert not made._blocks

    def test_client_classes_do_not_mix(self) -> None:
        server = core(port(("tag:ipxe,67", "script"), ("tag:!ipxe,67", "loader")))
        requested = b"\x43"
        rom = (60, b"PXEClient:Arch:00000")
        for _ in range(2):
            assert ask(server, discover(rom, requested=requested)).options[67] == b"loader\0"
            assert ask(server, discover(rom, (175, b"\1\1\1"), requested=requested)).options[67] == b"script\0"
            assert ask(server, discover((77, b"iPXE"), requested=requested)).options[67] == b"script\0"


def test_contains() -> None:
    made = template()
    inside = [made.contains(guest.ip(text)) for text in ("10.0.0.0", "10.0.0.255", "10.0.1.0", "0.0.0.0")]
    assert inside == [True, True, False, False]


def test_times_of_one_mac_do_not_depend_on_the_process() -> None:
    """The same on every node: hash() would not be."""
    leases = [ask(core(port(mac=mac)), frame(guest.DISCOVER, mac=mac)).options[58] for mac in (guest.MAC, guest.MAC)]
    assert all(one == other for one, other in pairwise(leases))

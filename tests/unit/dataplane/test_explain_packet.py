"""explain_packet over the example in examples/, and `nodeplane explain packet` against a control server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from dataplane import cli, cli_input, documents
from dataplane.desired import Desired
from dataplane.explain_packet import explain_packet
from dataplane.explanation import PacketExplanation, PacketQuestion
from dataplane.model import PortId
from tests.unit.dataplane.fake_backend import FakeBackend, config, served
from tests.unit.dataplane.states import network, port
from tests.unit.dataplane.test_control import check

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "security-groups.yaml"


@pytest.fixture(scope="module")
def example() -> Desired:
    return Desired.of(documents.decode(cli_input.read(str(EXAMPLE))))


def explained(desired: Desired, port: str, packet: str, **more: Any) -> PacketExplanation:
    return explain_packet(desired, PacketQuestion(port=PortId(port), packet=packet, **more))


@pytest.mark.parametrize(
    ("port", "packet", "direction", "verdict", "reason", "rule"),
    [
        ("shop-web", "tcp 203.0.113.9:40000 > 10.0.0.10:443", "ingress", "allow", "group_rule", "web-https"),
        ("shop-web", "tcp [2001:db8:9::9]:40000 > [2001:db8:5::10]:443", "ingress", "allow", "group_rule",
         "web-https-v6"),
        ("shop-web", "tcp 203.0.113.9 > 10.0.0.10:80", "ingress", "drop", "default_deny", ""),
        ("shop-web", "icmp 203.0.113.9 > 10.0.0.10", "ingress", "allow", "group_rule", "web-ping"),
        ("shop-web", "icmp 203.0.113.9 > 10.0.0.10 5/0", "ingress", "drop", "default_deny", ""),
        ("shop-web", "tcp 192.0.2.44 > 10.0.0.10:22", "ingress", "allow", "group_rule", "office-ssh"),
        ("shop-web", "tcp 192.0.2.200 > 10.0.0.10:22", "ingress", "drop", "default_deny", ""),
        ("shop-web", "vrrp 10.0.0.100 > 224.0.0.18", "egress", "allow", "group_rule", "web-out"),
        ("shop-db", "tcp 10.0.0.10 > 10.0.0.20:5432", "ingress", "allow", "group_rule", "db-from-web"),
        ("shop-db", "tcp 10.0.0.100 > 10.0.0.20:5432", "ingress", "allow", "group_rule", "db-from-web"),
        ("shop-db", "tcp 10.0.0.30 > 10.0.0.20:5432", "ingress", "drop", "default_deny", ""),
        ("shop-db", "tcp 10.0.0.20 > 203.0.113.9:25", "egress", "reject", "firewall_rule", "mail"),
        ("shop-db", "tcp 10.0.0.20 > 203.0.113.9:26", "egress", "allow", "group_rule", "db-out"),
        ("shop-db", "udp 0.0.0.0:68 > 255.255.255.255:67", "egress", "allow", "dhcp_client", ""),
        ("shop-test", "udp 10.0.0.30:67 > 10.0.0.20:68", "egress", "drop", "dhcp_server", ""),
        ("shop-test", "tcp 10.0.0.30 > 203.0.113.9:80", "egress", "allow", "group_rule", "egress-IPv4"),
    ],
)  # fmt: skip
def test_the_example(
    example: Desired, port: str, packet: str, direction: str, verdict: str, reason: str, rule: str
) -> None:
    found = explained(example, port, packet)
    assert (found.direction, found.verdict, found.reason, found.rule) == (direction, verdict, reason, rule)
    assert found.stateful == (reason == "group_rule")
    assert found.connection == ("invalid" if packet.endswith(" 5/0") else "new")


@pytest.mark.parametrize(
    ("packet", "stateful", "verdict", "reason", "connection"),
    [
        ("udp 10.0.0.9 > 10.0.0.5 fragment", False, "allow", "group_rule", "invalid"),
        ("udp 2001:db8::9 > 2001:db8::5 fragment", False, "allow", "group_rule", "invalid"),
        ("tcp 10.0.0.9 > 10.0.0.5 fragment", False, "drop", "default_deny", "invalid"),
        ("icmp 10.0.0.9 > 10.0.0.5 fragment", False, "drop", "default_deny", "invalid"),
        ("udp 10.0.0.9 > 10.0.0.5 fragment", True, "drop", "no_connection", "invalid"),
        ("udp 2001:db8::9 > 2001:db8::5 fragment", True, "drop", "no_connection", "invalid"),
        ("gre 10.0.0.9 > 10.0.0.5 fragment", True, "allow", "group_rule", "new"),
    ],
)
def test_later_fragments(packet: str, stateful: bool, verdict: str, reason: str, connection: str) -> None:
    """They show no ports. Rules that ask do not match, nor is a connection of a protocol with ports found."""
    rules = [
        {"id": "udp", "direction": "ingress", "protocol": "udp"},
        {"id": "udp6", "direction": "ingress", "protocol": "udp", "ethertype": "IPv6"},
        {"id": "web", "direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80},
        {"id": "ping", "direction": "ingress", "protocol": "icmp", "port_range_min": 8},
        {"id": "gre", "direction": "ingress", "protocol": "gre"},
    ]
    desired = Desired.of(documents.decode({
        "networks": [network("blue")], "ports": [port("p5", 5, security_groups=["g"])],
        "security_groups": [{"id": "g", "stateful": stateful, "security_group_rules": rules}],
    }))  # fmt: skip
    found = explained(desired, "p5", packet, direction="ingress")
    assert (found.verdict, found.reason, found.connection) == (verdict, reason, connection)
    assert found.packet == packet
    if found.reason == "no_connection":
        assert (found.group, found.rule[:3]) == ("g", "udp")


def test_who_the_other_end_is(example: Desired) -> None:
    found = explained(example, "shop-db", "tcp 10.0.0.100 > 10.0.0.20:5432")
    assert (found.group, found.group_name, found.remote_group, found.member) == ("db", "db", "web", "shop-web")
    found = explained(example, "shop-web", "tcp 192.0.2.44 > 10.0.0.10:22")
    assert (found.group, found.address_group, found.member) == ("from-office", "offices", "")


def test_direction_and_mac(example: Desired) -> None:
    packet = "tcp 10.0.0.10:1 > 10.0.0.20:5432"
    assert explained(example, "shop-web", packet).direction == "egress"
    assert explained(example, "shop-db", packet).direction == "ingress"
    spoofed = explained(example, "shop-test", packet, direction="egress")
    assert (spoofed.verdict, spoofed.reason) == ("drop", "ip_spoofed")
    with pytest.raises(ValueError, match="give the direction"):
        explained(example, "shop-test", packet)
    stolen = explained(example, "shop-web", packet, mac="fa:16:3e:00:05:20")
    assert (stolen.verdict, stolen.reason, stolen.mac) == ("drop", "mac_spoofed", "fa:16:3e:00:05:20")


@pytest.mark.parametrize(
    ("packet", "verdict", "reason", "connection"),
    [
        ("icmp 10.0.0.20 > 203.0.113.9 8/0", "allow", "group_rule", "new"),
        ("icmp 10.0.0.20 > 203.0.113.9 0/0", "drop", "no_connection", "invalid"),
        ("icmp 10.0.0.20 > 203.0.113.9 3/1", "drop", "no_connection", "invalid"),
        ("gre 10.0.0.20 > 203.0.113.9", "allow", "group_rule", "new"),
        ("sctp 10.0.0.20:1 > 203.0.113.9:2", "allow", "group_rule", "new"),
        ("icmpv6 2001:db8:5::10 > 2001:db8::1 128/0", "allow", "group_rule", "new"),
        ("icmpv6 2001:db8:5::10 > 2001:db8::1 129/0", "drop", "no_connection", "invalid"),
        ("icmpv6 2001:db8:5::10 > ff02::16 143/0", "allow", "group_rule", "untracked"),
        ("icmpv6 2001:db8:5::10 > ff02::1 136/0", "allow", "neighbour_discovery", "untracked"),
        ("arp 10.0.0.20 > 10.0.0.1", "allow", "arp", "untracked"),
        ("icmp 10.0.0.21 > 203.0.113.9 0/0", "drop", "ip_spoofed", "invalid"),
    ],
)
def test_what_connection_tracking_says(
    example: Desired, packet: str, verdict: str, reason: str, connection: str
) -> None:
    port, rule = ("shop-web", "web-out-v6") if "::" in packet else ("shop-db", "db-out")
    found = explained(example, port, packet, direction="egress")
    assert (found.verdict, found.reason, found.connection) == (verdict, reason, connection)
    assert found.stateful == (reason == "group_rule" and connection == "new")
    assert found.rule == (rule if reason in ("group_rule", "no_connection") else "")
    assert bool(found.group) == bool(found.rule)


@pytest.mark.parametrize(
    ("packet", "verdict", "reason", "text"),
    [
        ("arp 10.0.0.10 > 10.0.0.20", "allow", "arp", "arp 10.0.0.10 > 10.0.0.20"),
        ("ARP 0.0.0.0 -> 10.0.0.10", "allow", "arp", "arp 0.0.0.0 > 10.0.0.10"),
        ("arp 10.0.0.1 > 10.0.0.20", "drop", "neighbour_spoofed", "arp 10.0.0.1 > 10.0.0.20"),
        ("arp 0.0.0.0 > 10.0.0.20", "drop", "neighbour_spoofed", "arp 0.0.0.0 > 10.0.0.20"),
        (
            "icmpv6 2001:db8:5::10 > ff02::1 136/0",
            "allow",
            "neighbour_discovery",
            "ipv6-icmp 2001:db8:5::10 > ff02::1 136/0",
        ),
        (
            "icmpv6 2001:db8:5::10 > ff02::1 136/0 of 2001:db8:5:0::1",
            "drop",
            "neighbour_spoofed",
            "ipv6-icmp 2001:db8:5::10 > ff02::1 136/0 of 2001:db8:5::1",
        ),
        (
            "icmpv6 2001:db8:5::10 > ff02::1 135/0 of 2001:db8:5::1",
            "allow",
            "neighbour_discovery",
            "ipv6-icmp 2001:db8:5::10 > ff02::1 135/0 of 2001:db8:5::1",
        ),
        (
            "icmpv6 :: > ff02::1 135/0 of 2001:db8:5::1",
            "drop",
            "neighbour_spoofed",
            "ipv6-icmp :: > ff02::1 135/0 of 2001:db8:5::1",
        ),
    ],
)
def test_what_neighbours_say(example: Desired, packet: str, verdict: str, reason: str, text: str) -> None:
    found = explained(example, "shop-web", packet, direction="egress")
    assert (found.verdict, found.reason, found.packet) == (verdict, reason, text)
    assert explained(example, "shop-web", packet, direction="ingress").verdict == "allow"
    assert explained(example, "shop-web", text, direction="egress") == found


@pytest.mark.parametrize(
    ("packet", "said"),
    [("arp 10.0.0.1", "is no ARP message"), ("arp ::1 > ::2", "IPv4 addresses"), ("arp x > 10.0.0.1", "not an IP"),
     ("tcp 10.0.0.10 > 10.0.0.20:1 of ::1", "are of an address"), ("icmpv6 ::1 > ::2 136/0 of x", "not an IP"),
     ("icmpv6 ::1 > ::2 136/0 of 10.0.0.1", "are of an address"), ("icmpv6 ::1 > ::2 128/0 of ::1", "of an address")],
)  # fmt: skip
def test_what_neighbours_do_not_say(example: Desired, packet: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        explained(example, "shop-web", packet, direction="egress")


def test_groups_that_do_not_exist_are_named(example: Desired) -> None:
    desired = Desired.of(example.state())
    port = {"id": "late", "network_id": "shop", "mac_address": "fa:16:3e:00:05:40", "security_groups": ["soon", "web"],
            "device": "tap-late", "ingress_firewall_policy_id": "never",
            "fixed_ips": [{"subnet_id": "shop-v4", "ip_address": "10.0.0.40"}]}  # fmt: skip
    desired.apply(desired.stage(documents.decode({"ports": [port]}, against=desired)))
    found = explained(desired, "late", "tcp 10.0.0.9 > 10.0.0.40:443")
    assert (found.reason, found.groups, found.missing) == ("firewall_default", ("soon", "web"), ("soon", "never"))


@pytest.fixture
def socket(tmp_path: Path, example: Desired) -> Iterator[Path]:
    backend = FakeBackend()
    backend.desired = example
    path = tmp_path / "control.sock"
    with served(backend, config(path)):
        yield path


def run(socket: Path, *argv: str) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli.main, ["--socket", str(socket), "explain", "packet", *argv], prog_name="nodeplane")


def test_for_people(socket: Path) -> None:
    done = run(socket, "--network", "shop", "--port", "shop-d", "tcp 10.0.0.100:40000 > 10.0.0.20:5432")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "packet    tcp 10.0.0.100:40000 > 10.0.0.20:5432",
        "port      shop-db in network shop, ingress (to the guest)",
        "groups    db",
        "verdict   allow, tracked: answers pass",
        "why       group_rule: a rule of a security group allows it",
        "rule      db-from-web of security group db",
        "          the other end is port shop-web of security group web",
        "state     new: it begins a connection; this release carries no packets, and so knows none",
    ]


def test_what_is_dropped_ends_with_status_1(socket: Path) -> None:
    done = run(socket, "--network", "shop", "--port", "shop-db", "tcp", "10.0.0.20", ">", "203.0.113.9:25")
    assert done.exit_code == cli.REFUSED
    assert "verdict   reject" in done.stdout
    assert "rule      mail of firewall policy no-mail" in done.stdout
    assert "source    MAC fa:16:3e:00:05:20; an address of the port" in done.stdout
    done = run(socket, "--network", "shop", "--port", "shop-db", "--direction", "egress",
               "--mac", "FA-16-3E-00-05-99", "tcp 10.0.0.20 > 203.0.113.9:80")  # fmt: skip
    assert done.exit_code == cli.REFUSED
    assert "why       mac_spoofed: the source MAC is neither" in done.stdout


def test_as_json(socket: Path) -> None:
    done = run(socket, "--network", "shop", "--port", "shop-web", "-o", "json", "tcp 203.0.113.9 > 10.0.0.10:443")
    found = check("explain_packet", done.stdout.encode())
    assert (found["verdict"], found["rule"], found["connection"]) == ("allow", "web-https", "new")
    assert json.loads(done.stdout)["packet"] == "tcp 203.0.113.9:49152 > 10.0.0.10:443"


def test_wrong_questions(socket: Path) -> None:
    right = {"--network": "shop", "--port": "shop-web"}
    for change, packet, said in (
        ({"--network": "shops"}, "tcp 10.0.0.1 > 10.0.0.10:1", "there is no network shops"),
        ({"--port": "blue"}, "tcp 10.0.0.1 > 10.0.0.10:1", "there is no port blue"),
        ({"--port": "shop"}, "tcp 10.0.0.1 > 10.0.0.10:1", "3 ports begin with shop"),
        ({"--mac": "x"}, "tcp 10.0.0.10 > 10.0.0.1:1", "not a MAC address"),
        ({}, "tcp 10.0.0.10", "is no packet such as"),
        ({}, "tcp 10.0.0.1 > 10.0.0.2:1", "give the direction"),
    ):
        done = run(socket, *(word for pair in {**right, **change}.items() for word in pair), packet)
        assert done.exit_code == cli.REFUSED, done.output
        assert said in done.output
    assert run(socket, "--network", "shop", "--port", "shop-web").exit_code == 2

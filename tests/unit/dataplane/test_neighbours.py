"""neighbours and policy_frames: what ARP and neighbour discovery claim, in frames as scapy makes them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from dataplane.model import PortId
from dataplane.neighbours import Claim, MalformedError, arp_claim, discovery_claim
from dataplane.policy_frames import judge_frame
from dataplane.policy_tables import Action
from fastpath.rules import Header
from tests.unit.dataplane.states import network, port
from tests.unit.dataplane.test_policy import World

MAC, OTHER, VRRP = "fa:16:3e:00:00:05", "fa:16:3e:00:00:06", "00:00:5e:00:01:01"
LINK, ALL = "fe80::f816:3eff:fe00:5", "ff02::1"


@pytest.fixture(scope="module")
def world() -> World:
    pairs = [{"ip_address": "10.0.0.100"}, {"ip_address": "10.7.0.0/16", "mac_address": VRRP}]
    wall = {"id": "f", "firewall_rules": [{"id": "w", "action": "allow", "protocol": "udp"}]}
    return World({
        "networks": [network()], "firewall_policies": [wall],
        "ports": [port("p1", 5, allowed_address_pairs=pairs),
                  port("free", 7, port_security_enabled=False),
                  port("walled", 8, port_security_enabled=False, egress_firewall_policy_id="f")],
    })  # fmt: skip


def said(world: World, frame: Packet | bytes, direction: Any = "egress", key: str = "p1") -> tuple[str, str, str]:
    found = judge_frame(world.policies, PortId(key), direction, bytes(frame))
    return found.reason, found.source, found.action.name


def arp(sender: str = "10.0.0.5", target: str = "10.0.0.9", *, mac: str = MAC, says: str = MAC, op: int = 1) -> Packet:
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=op, hwsrc=says, psrc=sender, pdst=target)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (arp(), ("arp", "fixed_ips", "ALLOW")),
        (arp(op=2), ("arp", "fixed_ips", "ALLOW")),
        (arp("10.0.0.5", "10.0.0.5"), ("arp", "fixed_ips", "ALLOW")),  # an announcement
        (arp("0.0.0.0", "10.0.0.5"), ("arp", "fixed_ips", "ALLOW")),  # a probe
        (arp("0.0.0.0", "10.0.0.1"), ("neighbour_spoofed", "", "DROP")),  # keeps another from its address
        (arp("0.0.0.0", "0.0.0.0"), ("neighbour_spoofed", "", "DROP")),
        (arp("10.0.0.1", op=2), ("neighbour_spoofed", "", "DROP")),
        (arp(says=OTHER), ("neighbour_spoofed", "", "DROP")),
        (arp(mac=OTHER, says=OTHER), ("mac_spoofed", "", "DROP")),
        (arp("10.0.0.100"), ("arp", "allowed_address_pairs", "ALLOW")),
        (arp("10.7.1.1", mac=VRRP, says=VRRP), ("arp", "allowed_address_pairs", "ALLOW")),
        (arp("10.7.1.1"), ("neighbour_spoofed", "", "DROP")),
        (bytes(arp())[:41], ("malformed", "", "DROP")),
        (Ether(src=MAC) / ARP(hwsrc=MAC, ptype=0x86DD), ("malformed", "", "DROP")),
        (Ether(src=MAC) / Dot1Q(vlan=5) / ARP(hwsrc=MAC, psrc="10.0.0.1"), ("neighbour_spoofed", "", "DROP")),
        (Ether(src=MAC, type=0x88CC) / Raw(bytes(50)), ("not_ip", "", "DROP")),
        (b"short", ("not_ip", "", "DROP")),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else str(value),
)  # fmt: skip
def test_arp_of_a_guest(world: World, frame: Packet | bytes, expected: tuple[str, str, str]) -> None:
    assert said(world, frame) == expected


def discovery(message: Packet, source: str = LINK, mac: str = MAC) -> Packet:
    return Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src=source, dst=ALL, hlim=255) / message


TARGET, SOURCE = ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (discovery(ICMPv6ND_NA(tgt=LINK) / TARGET(lladdr=MAC)), "neighbour_discovery"),
        (discovery(ICMPv6ND_NA(tgt=LINK)), "neighbour_discovery"),
        (discovery(ICMPv6ND_NA(tgt="fe80::1") / TARGET(lladdr=MAC)), "neighbour_spoofed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / TARGET(lladdr=OTHER)), "neighbour_spoofed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / TARGET(lladdr=MAC) / TARGET(lladdr=OTHER)), "malformed"),
        (discovery(IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt="fe80::1")), "neighbour_spoofed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / Raw(b"\2\0" + bytes(6))), "malformed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / Raw(b"\2\2" + bytes(6))), "malformed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / Raw(b"\2\2" + bytes(14))), "malformed"),
        (discovery(ICMPv6ND_NA(tgt=LINK) / Raw(b"\2")), "malformed"),
        (discovery(ICMPv6ND_NS(tgt="fe80::1") / SOURCE(lladdr=MAC)), "neighbour_discovery"),
        (discovery(ICMPv6ND_NS(tgt="fe80::1") / SOURCE(lladdr=OTHER)), "neighbour_spoofed"),
        (discovery(ICMPv6ND_NS(tgt=LINK), "::"), "neighbour_discovery"),
        (discovery(ICMPv6ND_NS(tgt="fe80::1"), "::"), "neighbour_spoofed"),
        (discovery(ICMPv6ND_RS() / SOURCE(lladdr=MAC)), "neighbour_discovery"),
        (discovery(ICMPv6ND_RS() / SOURCE(lladdr=OTHER)), "neighbour_spoofed"),
        (discovery(ICMPv6ND_RA()), "router_advertisement"),
        (discovery(ICMPv6ND_NA(tgt=LINK), "fe80::1"), "ip_spoofed"),
    ],
    ids=lambda value: value.summary() if isinstance(value, Packet) else str(value),
)
def test_neighbour_discovery_of_a_guest(world: World, frame: Packet, reason: str) -> None:
    assert said(world, frame)[0] == reason
    assert said(world, bytes(frame) + b"\2\1" + bytes(6))[0] == reason  # padding of the frame says nothing


def test_other_packets_and_other_ports(world: World) -> None:
    web = Ether(src=MAC) / IP(src="10.0.0.5", dst="8.8.8.8") / TCP(dport=80)
    assert said(world, web) == ("group_rule", "fixed_ips", "TRACK")
    assert said(world, bytes(web)[:40])[0] == "malformed"
    later = Ether(src=MAC) / IP(src="10.0.0.5", dst="8.8.8.8", frag=9, proto=17) / Raw(bytes(20))
    assert said(world, later)[0] == "group_rule"
    spoofed = arp("10.0.0.1", mac=OTHER, says=VRRP)
    assert said(world, spoofed, "ingress") == ("arp", "", "ALLOW")
    assert said(world, spoofed, key="nobody")[0] == "not_here"
    for key in ("free", "walled"):
        assert said(world, spoofed, key=key) == ("not_filtered", "", "ALLOW")
    assert said(world, web, key="walled") == ("firewall_default", "", "DROP")
    assert said(world, web / IP() / UDP(), key="free") == ("not_filtered", "", "ALLOW")


def test_claims() -> None:
    assert arp_claim(bytes(ARP(hwsrc=MAC, psrc="10.0.0.1"))) == Claim(4, 0x0A000001, MAC)  # type: ignore[arg-type]
    assert discovery_claim(Header(6, 1, 2, 58, 128 << 8), b"") is None
    with pytest.raises(MalformedError, match="24 bytes, not 3"):
        discovery_claim(Header(6, 1, 2, 58, 135 << 8), b"abc")
    with pytest.raises(MalformedError, match="28 bytes, not 5"):
        arp_claim(b"short")


def test_a_claim_of_the_packets_source_needs_no_line_of_its_own(world: World) -> None:
    found = judge_frame(world.policies, PortId("p1"), "egress", bytes(discovery(ICMPv6ND_NS(tgt="::5"))))
    assert (found.action, found.source) == (Action.ALLOW, "link_local")


def test_any_bytes_are_judged(world: World) -> None:
    """No frame of a guest raises anything, and none lets it claim what is not its own."""
    chance = random.Random(4)
    seeds = [bytes(each) for each in (arp(), arp("0.0.0.0"), discovery(ICMPv6ND_NA(tgt=LINK) / TARGET(lladdr=MAC)),
                                      discovery(IPv6ExtHdrDestOpt() / ICMPv6ND_NS(tgt=LINK), "::"))]  # fmt: skip
    for _ in range(3000):
        frame = bytearray(chance.choice(seeds)[: chance.choice((20, 41, 60, 90, 200))])
        for _ in range(chance.randrange(4)):
            frame[chance.randrange(len(frame))] = chance.choice((0, 1, 6, 8, 58, 135, 136, chance.randrange(256)))
        reason, _, action = said(world, bytes(frame))
        assert action == "DROP" or frame[6:12].hex(":") in (MAC, VRRP)
        if reason == "arp" and frame[12:14] == b"\x08\x06":
            assert frame[22:28] == frame[6:12]
        assert said(world, bytes(frame), "ingress")[2] in ("ALLOW", "DROP", "TRACK")

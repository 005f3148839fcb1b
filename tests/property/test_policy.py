"""Compiled policy == the security-group model read directly, over random states, changes and packets."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import documents, five_tuple
from dataplane.desired import Desired
from dataplane.explain_packet import explain_packet
from dataplane.explanation import PacketQuestion
from dataplane.indexes import kind_of
from dataplane.model import Change, Mac, Port, PortId
from dataplane.neighbours import Claim
from dataplane.policy import Deltas, Policies
from dataplane.policy_judge import judge, judge_arp
from dataplane.policy_sets import RuleSets
from dataplane.policy_tables import Line, Table
from dataplane.security import Direction
from fastpath.rules import EGRESS, INGRESS, Header
from tests import security_reading
from tests.security_reading import Packet

NETWORKS = {
    "blue": ("10.0.0.0/28", "2001:db8:0:1::/64"),
    "green": ("10.0.0.0/28", "2001:db8:0:2::/64"),
    "red": ("10.0.1.0/28", "2001:db8:0:3::/64"),
}
GROUPS = ("g1", "g2", "g3", "g4")
PROJECTS = ("a", "b")
MACS = tuple(f"fa:16:3e:00:00:{number:02x}" for number in range(1, 6))
PAIRS = ("10.0.0.0/30", "10.0.0.0/8", "0.0.0.0/0", "10.0.1.3", "2001:db8:0:1::/64", "::/0", "fe80::/10")
REMOTES = ("10.0.0.0/29", "10.0.1.2", "0.0.0.0/0", "10.0.0.0/8")
REMOTES6 = ("2001:db8:0:1::/64", "2001:db8:0:2::3", "::/0")
ADDRESSES = (
    *(f"10.0.0.{n}" for n in range(1, 6)),
    *(f"10.0.1.{n}" for n in range(1, 6)),
    "0.0.0.0", "8.8.8.8", "169.254.169.254", "255.255.255.255",
)  # fmt: skip
ADDRESSES6 = (
    *(f"2001:db8:0:{net}::{n}" for net in (1, 2, 3) for n in range(1, 5)),
    "::", "ff02::1", "ff02::2", "2001:db8:9::9",
    *(f"fe80::f816:3eff:fe00:{n}" for n in range(1, 6)),
)  # fmt: skip
PORTS = (22, 53, 67, 68, 80, 443, 546, 547, 1024, 65535)


def some(choose: random.Random, values: tuple[Any, ...], most: int) -> list[Any]:
    return choose.sample(values, choose.randrange(min(most, len(values)) + 1))


def a_rule(choose: random.Random, number: int) -> dict[str, Any]:
    version = choose.choice((4, 4, 6))
    rule: dict[str, Any] = {
        "id": f"r{number}",
        "direction": choose.choice(("ingress", "egress")),
        "ethertype": f"IPv{version}",
    }
    protocol = choose.choice((None, "tcp", "udp", "udp", "icmp", "sctp", "gre", "89"))
    if protocol is not None:
        rule["protocol"] = protocol
    if protocol == "icmp":
        if choose.random() < 0.7:
            rule["port_range_min"] = choose.choice((0, 3, 8, 128, 134))
            if choose.random() < 0.5:
                rule["port_range_max"] = choose.choice((0, 1))
    elif protocol in ("tcp", "udp", "sctp") and choose.random() < 0.7:
        rule["port_range_min"], rule["port_range_max"] = sorted(choose.choices((1, *PORTS), k=2))
    kind = choose.randrange(5)
    if kind == 0:
        rule["remote_ip_prefix"] = choose.choice(REMOTES if version == 4 else REMOTES6)
    elif kind in (1, 2):
        rule["remote_group_id"] = choose.choice((*GROUPS, "nowhere"))
    elif kind == 3:
        rule["remote_address_group_id"] = choose.choice(("x", "y"))
    return rule


def a_group(choose: random.Random, key: str) -> dict[str, Any]:
    rules = [a_rule(choose, number) for number in range(choose.randrange(5))]
    return {
        "id": key,
        "project_id": PROJECTS[GROUPS.index(key) % 2],
        "name": "default" if GROUPS.index(key) < 2 and choose.random() < 0.5 else "",
        "stateful": choose.random() < 0.7,
        "security_group_rules": choose.choice((rules, rules, rules, None)),
    }


def a_port(choose: random.Random, number: int) -> dict[str, Any]:
    network = choose.choice(tuple(NETWORKS))
    v4, v6 = NETWORKS[network]
    fixed = [{"subnet_id": f"{network}-4", "ip_address": f"{v4[:7]}{number + 1}"}]
    fixed += [{"subnet_id": f"{network}-6", "ip_address": f"{v6.removesuffix('/64')}{number + 1}"}]
    pairs: list[dict[str, Any]] = [{"ip_address": text} for text in some(choose, PAIRS, 2) if choose.random() < 0.4]
    for pair in pairs:
        if choose.random() < 0.5:
            pair["mac_address"] = choose.choice(MACS)
    port = {
        "id": f"p{number}",
        "network_id": network,
        "mac_address": MACS[number],
        "fixed_ips": some(choose, tuple(fixed), 2),
        "allowed_address_pairs": pairs,
        "device_id": f"00000000-0000-4000-8000-00000000000{choose.randrange(3)}",
        "host": choose.choice(("here", "here", "there")),
        "port_security_enabled": choose.random() < 0.9,
        "device_owner": choose.choice(("compute:nova",) * 9 + ("network:dhcp",)),
        "ingress_firewall_policy_id": choose.choice((None, None, None, "f1", "nowhere")),
        "egress_firewall_policy_id": choose.choice((None, None, None, "f1", "f2")),
    }
    groups = choose.choice((None, some(choose, GROUPS, 3), some(choose, (*GROUPS, "nowhere"), 3)))
    return port if groups is None else {**port, "security_groups": groups}


def a_firewall_rule(choose: random.Random, number: int) -> dict[str, Any]:
    version = choose.choice((4, 6))
    rule: dict[str, Any] = {
        "id": f"w{number}",
        "action": choose.choice(("allow", "allow", "deny", "reject")),
        "ip_version": version,
        "enabled": choose.random() < 0.8,
    }
    if choose.random() < 0.7:
        rule["protocol"] = choose.choice(("tcp", "udp"))
        for end in ("source_port", "destination_port"):
            if choose.random() < 0.4:
                rule[end] = ":".join(map(str, sorted(choose.choices(PORTS, k=choose.choice((1, 2))))))
    for end in ("source_ip_address", "destination_ip_address"):
        if choose.random() < 0.3:
            rule[end] = choose.choice(REMOTES if version == 4 else REMOTES6)
    return rule


def an_object(choose: random.Random) -> tuple[str, dict[str, Any]]:
    kind = choose.randrange(12)
    if kind < 5:
        return "ports", a_port(choose, choose.randrange(5))
    if kind < 8:
        return "security_groups", a_group(choose, choose.choice(GROUPS))
    if kind == 8:
        texts = some(choose, (*ADDRESSES[:10], *ADDRESSES6[:8], *PAIRS), 4)
        return "address_groups", {"id": choose.choice(("x", "y")), "addresses": texts}
    if kind == 9:
        rules = [a_firewall_rule(choose, number) for number in range(choose.randrange(5))]
        return "firewall_policies", {"id": choose.choice(("f1", "f2")), "firewall_rules": rules}
    if kind == 10:
        key = f"00000000-0000-4000-8000-00000000000{choose.randrange(3)}"
        return "instances", {"id": key, "project_id": choose.choice(PROJECTS)}
    return "networks", a_network(choose.choice(tuple(NETWORKS)), more=choose.random() < 0.3)


def a_network(key: str, more: bool = False) -> dict[str, Any]:
    subnets = [{"id": f"{key}-{6 if ':' in cidr else 4}", "cidr": cidr} for cidr in NETWORKS[key]]
    if more:
        subnets.append({"id": f"{key}-more", "cidr": "10.0.1.0/29" if key != "red" else "10.0.0.0/29"})
    return {"id": key, "subnets": subnets}


def a_packet(choose: random.Random) -> Packet:
    values = ADDRESSES if choose.random() < 0.6 else ADDRESSES6
    source, destination = ip_address(choose.choice(values)), ip_address(choose.choice(values))
    protocol = choose.choice((6, 17, 17, 1 if source.version == 4 else 58, 47, 132, 89))
    sport = dport = 0
    if protocol in (1, 58):
        sport, dport = choose.choice((0, 3, 8, 128, 130, 131, 133, 134, 135, 136, 143)), choose.choice((0, 1))
    elif protocol in (6, 17, 132):
        sport, dport = choose.choice(PORTS), choose.choice(PORTS)
        if protocol == 17 and choose.random() < 0.3:
            sport, dport = choose.choice(((68, 67), (67, 68), (546, 547), (547, 546)))
    return Packet(source, destination, protocol, sport, dport, choose.choice(MACS), choose.random() < 0.1)


def header(packet: Packet) -> Header:
    sport, dport = packet.sport, packet.dport
    if packet.protocol in (1, 58):
        sport, dport = sport << 8 | dport, 0
    if packet.later_fragment:
        sport = dport = 0
    return Header(
        packet.source.version, int(packet.source), int(packet.destination), packet.protocol, sport, dport,
        ports_known=not packet.later_fragment,
    )  # fmt: skip


def here(port: Port) -> bool:
    return port.host == "here"


class World:
    """A state, its tables kept change by change, and a copy of the tables made from what the changes told."""

    def __init__(self) -> None:
        self.state = Desired()
        self.policies = Policies(self.state, here)
        self.copy: dict[str, set[Line]] = {name: set() for name in Deltas._fields}
        self.sets = RuleSets()
        self.heed(self.policies.refresh_all())

    def put(self, document: dict[str, Any]) -> None:
        change = self.state.stage(documents.decode(document, against=self.state))
        self.apply(change)

    def apply(self, change: Change) -> Deltas:
        self.state.apply(change)
        deltas = self.policies.refresh([*((kind_of(item), item.id) for item in change.puts), *change.deletes])
        self.heed(deltas)
        return deltas

    def heed(self, deltas: Deltas) -> None:
        self.sets.update(deltas)
        for name, delta in deltas._asdict().items():
            lines = self.copy[name]
            assert lines.issuperset(delta.remove)
            lines.difference_update(delta.remove)
            assert lines.isdisjoint(delta.add)
            assert len(set(delta.add)) == len(delta.add)
            lines.update(delta.add)

    def check_sets(self, packet: Packet) -> None:
        """The packet engine's rule sets say of a packet in any zone what the tables say."""
        for name, loaded in self.sets.tables.items():
            table: Table[Any] = getattr(self.policies, name)
            for zone in {line.rule.zone or 0 for line in table.lines()}:
                for direction in (INGRESS, EGRESS):
                    asked = replace(header(packet), zone=zone, direction=direction)
                    found = table.find(asked)
                    assert loaded.find(asked) == (None if found is None else found[0].action), (name, asked)

    def check_tables(self) -> None:
        """What was told is what is there, and as much as if it had been compiled from nothing."""
        fresh = Policies(self.state, here)
        fresh.refresh_all()
        for name, lines in self.copy.items():
            table = getattr(self.policies, name)
            assert set(table.lines()) == lines
            assert len(table) == len(getattr(fresh, name))


def step(world: World, choose: random.Random) -> None:
    """One transaction, of one or several objects."""
    if choose.random() < 0.2:
        kind = choose.choice(("ports", "ports", "security_groups", "address_groups", "firewall_policies", "instances"))
        keys = sorted(world.state.of_kind(kind))  # type: ignore[arg-type]
        if keys:
            world.apply(world.state.stage(deletes=[(kind, choose.choice(keys))]))  # type: ignore[list-item]
        return
    document: dict[str, Any] = {}
    for _ in range(choose.choice((1, 1, 1, 3))):
        kind, item = an_object(choose)
        objects = document.setdefault(kind, [])
        if all(other["id"] != item["id"] for other in objects):
            objects.append(item)
    world.put(document)


def everything(world: World, choose: random.Random) -> None:
    names = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(2)]
    world.put({
        "networks": [a_network(key) for key in NETWORKS],
        "ports": [a_port(choose, number) for number in range(5)],
        "instances": [{"id": key, "project_id": choose.choice(PROJECTS)} for key in names],
        "security_groups": [a_group(choose, key) for key in GROUPS],
        "address_groups": [{"id": "x", "addresses": some(choose, (*ADDRESSES[:10], *PAIRS), 4)}],
        "firewall_policies": [{"id": "f1", "firewall_rules": [a_firewall_rule(choose, n) for n in range(4)]}],
    })  # fmt: skip


def compare_claims(world: World, choose: random.Random, port: Port, mac: str) -> str:
    """What a port says of itself in ARP or in a neighbour advertisement; the reason that was given."""
    address = ip_address(choose.choice(choose.choice((ADDRESSES, ADDRESSES6))))
    if choose.random() < 0.5 and port.fixed_ips:
        address = ip_address(choose.choice(port.fixed_ips).ip_address)
    told = choose.choice((mac, None, choose.choice(MACS)))
    claim = Claim(4 if address.version == 4 else 6, int(address), None if told is None else Mac(told))
    right = security_reading.may_claim(port, mac, address, told)
    if address.version == 4:
        got = judge_arp(world.policies, port.id, "egress", claim, Mac(mac))
        assert (got.action.name == "ALLOW") == right, (port, mac, claim, got)
        assert judge_arp(world.policies, port.id, "ingress", claim, Mac(mac)).action.name == "ALLOW"
        return f"egress {got.reason}"
    packet = Packet(address, ip_address("ff02::1"), 58, 136, 0, mac)
    wanted = security_reading.verdict(world.state, port, "egress", packet)
    got = judge(world.policies, port.id, "egress", header(packet), Mac(mac), claim)
    assert got.action.name.lower() == (wanted if right else "drop"), (port, mac, claim, got)
    return f"egress {got.reason}"


def compare(world: World, choose: random.Random, packets: int) -> set[str]:
    said = set()
    for _ in range(packets):
        packet = a_packet(choose)
        for key in sorted(world.policies.ports):
            port = world.state.ports[PortId(key)]
            mac = port.mac_address if choose.random() < 0.8 else packet.mac
            said.add(compare_claims(world, choose, port, mac))
            asked = packet._replace(mac=mac)
            if choose.random() < 0.5 and port.fixed_ips:  # so that egress gets past its first hurdle
                own = ip_address(choose.choice(port.fixed_ips).ip_address)
                if own.version == packet.source.version:
                    asked = asked._replace(source=own)
            elif packet.source.version == 6 and choose.random() < 0.5:
                asked = asked._replace(source=ip_address(f"fe80::f816:3eff:fe00:{port.mac_address[-1]}"))
            directions: tuple[Direction, ...] = ("ingress", "egress")
            for direction in directions:
                wanted = security_reading.verdict(world.state, port, direction, asked)
                got = judge(world.policies, port.id, direction, header(asked), Mac(mac))
                assert got.action.name.lower() == wanted, (port, direction, asked, got)
                said.add(f"{direction} {got.reason}")
                if not asked.later_fragment and choose.random() < 0.1:
                    text = five_tuple.text_of(header(asked))
                    told = explain_packet(
                        world.state, PacketQuestion(port=port.id, packet=text, direction=direction, mac=Mac(mac))
                    )
                    if wanted == "track" and not security_reading.begins(asked):
                        assert (told.verdict, told.stateful, told.reason) == ("drop", False, "no_connection")
                        continue
                    tracked = wanted == "track" and told.connection == "new"
                    assert (told.verdict, told.stateful) == (wanted.replace("track", "allow"), tracked)
                    assert told.reason == got.reason
    return said


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_compiled_policy_is_the_model_read_directly(seed: int) -> None:
    choose = random.Random(seed)
    world = World()
    everything(world, choose)
    compare(world, choose, 6)
    for _ in range(8):
        step(world, choose)
        compare(world, choose, 3)
        world.check_sets(a_packet(choose))
    world.check_tables()


def test_every_reason_is_met() -> None:
    """The random worlds above reach everything that can be said."""
    said: set[str] = set()
    for seed in range(12):
        choose = random.Random(seed)
        world = World()
        everything(world, choose)
        said |= compare(world, choose, 40)
    assert {reason.split()[1] for reason in said} >= {
        "not_filtered", "mac_spoofed", "ip_spoofed", "dhcp_client", "dhcp_answer", "dhcp_server",
        "arp", "neighbour_spoofed", "neighbour_discovery", "router_advertisement", "firewall_rule", "firewall_default",
        "group_rule", "default_deny",
    }  # fmt: skip
    assert {"ingress group_rule", "egress group_rule", "ingress default_deny", "egress default_deny"} <= said


def test_nothing_is_left_when_everything_is_gone() -> None:
    choose = random.Random(1)
    world = World()
    everything(world, choose)
    for _ in range(20):
        step(world, choose)
    world.apply(world.state.stage(prune=True))
    world.check_tables()
    assert {name: len(lines) for name, lines in world.copy.items() if lines} == {
        "everybody": len(world.policies.everybody), "networks": 4,
    }  # fmt: skip
    left = {name: value for name, value in vars(world.policies).items() if name.startswith("_") and value
            and name not in ("_state", "_here")}  # fmt: skip
    assert {name: value for name, value in left.items() if not hasattr(value, "of") or len(value)} == {}

"""policy and policy_judge: what is shared, what a change costs, and cases of the Neutron API one by one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from dataplane import documents, five_tuple
from dataplane.desired import Desired
from dataplane.indexes import kind_of
from dataplane.model import Mac, NetworkId, PortId
from dataplane.policy import Deltas, Policies
from dataplane.policy_judge import Judgement, judge
from dataplane.policy_reasons import MEANINGS
from dataplane.policy_rules import Remote
from dataplane.policy_tables import Action
from dataplane.security import Direction
from tests.unit.dataplane.states import network, port, subnet

MEMBERS = 10_000


class World:
    def __init__(self, document: dict[str, Any], here: str = "") -> None:
        self.state = Desired.of(documents.decode(document))
        self.policies = Policies(self.state, lambda each: each.host == here)
        self.first = self.policies.refresh_all()

    def put(self, **document: Any) -> Deltas:
        return self._apply(self.state.stage(documents.decode(document, against=self.state)))

    def delete(self, *refs: Any) -> Deltas:
        return self._apply(self.state.stage(deletes=refs))

    def _apply(self, change: Any) -> Deltas:
        self.state.apply(change)
        return self.policies.refresh([*((kind_of(item), item.id) for item in change.puts), *change.deletes])

    def ask(self, key: str, direction: Direction, packet: str, mac: str | None = None) -> Judgement:
        source = None if mac is None else Mac(mac)
        return judge(self.policies, PortId(key), direction, five_tuple.parse(packet), source)


def rule(key: str, direction: str = "ingress", **more: Any) -> dict[str, Any]:
    return {"id": key, "direction": direction, **more}


def group(key: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": key, "security_group_rules": list(rules), **more}


def web(key: str = "r", **more: Any) -> dict[str, Any]:
    return rule(key, protocol="tcp", port_range_min=80, port_range_max=80, **more)


def member(number: int, **more: Any) -> dict[str, Any]:
    """One of very many ports, elsewhere."""
    fixed = [{"subnet_id": "big", "ip_address": str(ip_address("10.1.0.1") + number)}]
    mac = f"fa:16:3f:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return {"id": f"m{number}", "network_id": "blue", "mac_address": mac, "fixed_ips": fixed, "host": "there",
            "device": f"d{number}", **more}  # fmt: skip


def test_joining_a_group_of_ten_thousand_is_one_address_in_each_class() -> None:
    """Two classes: the group as its own network sees it, and as other networks do."""
    world = World({
        "networks": [network("blue", subnet("blue-subnet"), subnet("big", "10.1.0.0/16"))],
        "ports": [port("p1", 5, security_groups=["db"]), port("p2", 6, security_groups=["db"]),
                  *(member(number, security_groups=["web"]) for number in range(MEMBERS))],
        "security_groups": [group("web"), group("db", *(web(f"r{n}", remote_group_id="web") for n in range(1)),
                                                rule("r9", protocol="udp", remote_group_id="web"))],
    })  # fmt: skip
    assert len(world.first.members.add) == 2 * MEMBERS
    assert len(world.first.rules.add) == 2
    joined = world.put(ports=[member(MEMBERS, security_groups=["web"])])
    assert (joined.updates, len(joined.members.add)) == (2, 2)
    assert world.ask("p1", "ingress", f"tcp {ip_address('10.1.0.1') + MEMBERS} > 10.0.0.5:80").member == f"m{MEMBERS}"
    moved = world.put(ports=[member(MEMBERS, security_groups=["elsewhere"])])
    assert (moved.updates, len(moved.members.remove)) == (2, 2)
    assert world.put(ports=[member(0, name="new", security_groups=["web"])]).updates == 0
    assert world.delete(("ports", "m1")).updates == 2
    changed = world.put(security_groups=[group("db", web("r0", remote_group_id="web"),
                                               rule("r9", protocol="sctp", remote_group_id="web"))])  # fmt: skip
    assert (changed.updates, len(changed.rules.add), len(changed.rules.remove)) == (2, 1, 1)


def test_ports_with_the_same_groups_share_one_policy() -> None:
    groups = [group("a", web()), group("b", rule("s", protocol="icmp"))]
    ports = [port(f"p{n}", n, security_groups=["b", "a"] if n % 2 else ["a", "b"]) for n in range(2, 40)]
    world = World({"networks": [network()], "ports": ports, "security_groups": groups})
    assert len(world.policies.rules) == 2
    assert len({id(each.policy) for each in world.policies.ports.values()}) == 1
    more = world.put(ports=[port("p40", 40, security_groups=["a", "b"])])
    assert not more.rules.add
    assert world.put(security_groups=[group("a", web(), web("s", ethertype="IPv6"))]).updates == 1
    gone = world.delete(*(("ports", key) for key in list(world.state.ports)))
    assert len(gone.rules.remove) == 3


def test_groups_with_the_same_rules_share_them_and_each_port_is_told_of_its_own() -> None:
    groups = [group(key, web(f"{key}-web"), rule(f"{key}-in", protocol="udp", remote_group_id=key)) for key in "abc"]
    ports = [port(f"p{n}", n, security_groups=[key]) for n, key in enumerate("abc", 5)]
    world = World({"networks": [network()], "ports": ports, "security_groups": groups})
    assert len(world.policies.rules) == 2
    found = world.ask("p6", "ingress", "tcp 10.0.0.5 > 10.0.0.6:80")
    assert (found.action, found.group, found.rule) == (Action.TRACK, "b", "b-web")
    assert world.ask("p6", "ingress", "udp 10.0.0.6 > 10.0.0.6:80").rule == "b-in"
    assert world.ask("p6", "ingress", "udp 10.0.0.7 > 10.0.0.6:80").reason == "default_deny"
    world.put(security_groups=[group("b", rule("b-in", protocol="udp", remote_group_id="b"))])
    assert world.ask("p6", "ingress", "tcp 10.0.0.5 > 10.0.0.6:80").reason == "default_deny"
    assert world.ask("p5", "ingress", "tcp 10.0.0.5 > 10.0.0.5:80").rule == "a-web"
    assert world.put(security_groups=[group("b", *groups[1]["security_group_rules"])]).updates == 0


def test_the_default_groups_of_all_projects_are_two_zones() -> None:
    ports = [port(f"p{n}", n, project_id=f"project-{n}") for n in range(2, 102)]
    world = World({"networks": [network()], "ports": ports})
    assert len(world.policies.rules) == 4  # in from members and out to anybody, for IPv4 and IPv6
    assert len({id(each.policy) for each in world.policies.ports.values()}) == 100
    assert world.ask("p2", "ingress", "tcp 10.0.0.3 > 10.0.0.2:80").reason == "default_deny"
    assert world.ask("p2", "egress", "tcp 10.0.0.2 > 10.0.0.3:80").reason == "group_rule"


def test_a_member_of_another_network_counts_where_its_address_is_not_on_link() -> None:
    networks = [network("blue"), network("green"), network("red", subnet("red-subnet", "10.9.0.0/24"))]
    there = {"fixed_ips": [{"subnet_id": "red-subnet", "ip_address": "10.9.0.7"}]}
    world = World({
        "networks": networks,
        "ports": [port("p1", 5, security_groups=["db"]), port("p2", 6, "green", security_groups=["web"]),
                  {**port("p3", 7, "red", security_groups=["web"]), **there}],
        "security_groups": [group("web"), group("db", web(remote_group_id="web"))],
    })  # fmt: skip
    assert world.ask("p1", "ingress", "tcp 10.9.0.7 > 10.0.0.5:80").member == "p3"
    # green's 10.0.0.6 is not blue's, whatever it may do in green
    assert world.ask("p1", "ingress", "tcp 10.0.0.6 > 10.0.0.5:80").reason == "default_deny"
    world.put(ports=[port("p4", 6, security_groups=["web"], device="other")])
    found = world.ask("p1", "ingress", "tcp 10.0.0.6 > 10.0.0.5:80")
    assert (found.member, found.remote, found.rule, found.group) == ("p4", Remote("security_group", "web"), "r", "db")
    world.put(networks=[network("blue", subnet("blue-subnet"), subnet("more", "10.9.0.0/16"))])
    assert world.ask("p1", "ingress", "tcp 10.9.0.7 > 10.0.0.5:80").reason == "default_deny"


def test_stateful_wins_over_stateless_and_says_so() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        world = World({
            "networks": [network()], "ports": [port("p1", 5, security_groups=["a", "b"])],
            "security_groups": [group(first, web(), stateful=False), group(second, web("s"))],
        })  # fmt: skip
        found = world.ask("p1", "ingress", "tcp 10.0.0.9 > 10.0.0.5:80")
        assert (found.action, found.stateful, found.group) == (Action.TRACK, True, second)
        world.put(security_groups=[group(second)])
        found = world.ask("p1", "ingress", "tcp 10.0.0.9 > 10.0.0.5:80")
        assert (found.action, found.stateful, found.group) == (Action.ALLOW, False, first)


def test_the_default_group_lets_its_members_in_and_everything_out() -> None:
    world = World({
        "networks": [network()],
        "ports": [port("p1", 5, project_id="a"), port("p2", 6, project_id="a"), port("p3", 7, project_id="b")],
    })  # fmt: skip
    assert world.ask("p1", "ingress", "tcp 10.0.0.6 > 10.0.0.5:80").member == "p2"
    assert world.ask("p1", "ingress", "tcp 10.0.0.7 > 10.0.0.5:80").reason == "default_deny"
    assert world.ask("p3", "egress", "tcp 10.0.0.7 > 8.8.8.8:80").group == "default:b"
    world.put(security_groups=[group("mine", name="default", project_id="b")])
    assert world.ask("p3", "egress", "tcp 10.0.0.7 > 8.8.8.8:80").reason == "default_deny"
    assert world.ask("p1", "egress", "tcp 10.0.0.5 > 8.8.8.8:80").group == "default:a"
    world.delete(("security_groups", "mine"))
    assert world.ask("p3", "egress", "tcp 10.0.0.7 > 8.8.8.8:80").group == "default:b"


ONE = port("p1", 5, allowed_address_pairs=[
    {"ip_address": "10.0.0.100"}, {"ip_address": "10.7.0.0/16", "mac_address": "00:00:5e:00:01:01"}])  # fmt: skip
OWN, VRRP = "fa:16:3e:00:00:05", "00:00:5e:00:01:01"


@pytest.mark.parametrize(
    ("packet", "mac", "reason", "source"),
    [
        ("tcp 10.0.0.5 > 8.8.8.8:80", OWN, "group_rule", "fixed_ips"),
        ("tcp 10.0.0.6 > 8.8.8.8:80", OWN, "ip_spoofed", ""),
        ("tcp 10.0.0.5 > 8.8.8.8:80", "fa:16:3e:00:00:06", "mac_spoofed", ""),
        ("tcp 10.0.0.100 > 8.8.8.8:80", OWN, "group_rule", "allowed_address_pairs"),
        ("tcp 10.7.3.4 > 8.8.8.8:80", VRRP, "group_rule", "allowed_address_pairs"),
        ("tcp 10.7.3.4 > 8.8.8.8:80", OWN, "ip_spoofed", ""),
        ("tcp 10.0.0.5 > 8.8.8.8:80", VRRP, "ip_spoofed", ""),
        ("udp 0.0.0.0:68 > 255.255.255.255:67", OWN, "dhcp_client", "dhcp_client"),
        ("udp 0.0.0.0:68 > 255.255.255.255:67", VRRP, "ip_spoofed", ""),
        ("udp 0.0.0.0:68 > 255.255.255.255:53", OWN, "ip_spoofed", ""),
        ("udp 10.0.0.5:67 > 255.255.255.255:68", OWN, "dhcp_server", "fixed_ips"),
        ("ipv6-icmp fe80::f816:3eff:fe00:5 > ff02::2 133/0", OWN, "neighbour_discovery", "link_local"),
        ("ipv6-icmp fe80::f816:3eff:fe00:5 > ff02::1 134/0", OWN, "router_advertisement", "link_local"),
        ("ipv6-icmp fe80::1 > ff02::1 134/0", OWN, "ip_spoofed", ""),
        ("ipv6-icmp :: > ff02::1:ff00:5 135/0", OWN, "neighbour_discovery", "duplicate_address_detection"),
        ("ipv6-icmp :: > 2001:db8::1 135/0", OWN, "ip_spoofed", ""),
        ("udp [fe80::f816:3eff:fe00:5]:547 > [ff02::1]:546", OWN, "dhcp_server", "link_local"),
    ],
)
def test_port_security(packet: str, mac: str, reason: str, source: str) -> None:
    world = World({"networks": [network()], "ports": [ONE]})
    found = world.ask("p1", "egress", packet, mac)
    assert (found.reason, found.source) == (reason, source)


@pytest.mark.parametrize("more", [{"port_security_enabled": False}, {"device_owner": "network:router_interface"}])
def test_a_port_that_is_not_filtered_still_has_its_firewall(more: dict[str, Any]) -> None:
    policy = {"id": "f", "firewall_rules": [{"id": "w", "action": "reject", "protocol": "tcp"},
                                            {"id": "x", "action": "allow", "enabled": False}]}  # fmt: skip
    world = World({"networks": [network()], "ports": [port("p1", 5, **more)], "firewall_policies": [policy]})
    spoofed = world.ask("p1", "egress", "udp 10.0.0.77:67 > 10.0.0.9:68", "fa:16:3e:00:00:06")
    assert (spoofed.action, spoofed.reason, spoofed.stateful) == (Action.ALLOW, "not_filtered", False)
    world.put(ports=[port("p1", 5, egress_firewall_policy_id="f", **more)])
    found = world.ask("p1", "egress", "tcp 10.0.0.77 > 10.0.0.9:68")
    assert (found.action, found.reason, found.rule, found.group) == (Action.REJECT, "firewall_rule", "w", "f")
    assert world.ask("p1", "egress", "udp 10.0.0.77 > 10.0.0.9:68").reason == "firewall_default"
    assert world.ask("p1", "ingress", "udp 10.0.0.9 > 10.0.0.5:68").action is Action.ALLOW


def test_what_does_not_exist_allows_nothing() -> None:
    world = World({"networks": [network()], "ports": [
        port("p1", 5, security_groups=["later"]),
        port("p2", 6, security_groups=[], egress_firewall_policy_id="later"),
        port("p3", 7, security_groups=["far"], host="there"),
    ]})  # fmt: skip
    assert world.ask("p1", "egress", "tcp 10.0.0.5 > 8.8.8.8:80").reason == "default_deny"
    assert world.ask("p2", "egress", "tcp 10.0.0.6 > 8.8.8.8:80").reason == "firewall_default"
    assert world.ask("p3", "egress", "tcp 10.0.0.7 > 8.8.8.8:80").reason == "not_here"
    assert world.put(security_groups=[{"id": "later"}]).updates == 2
    assert world.ask("p1", "egress", "tcp 10.0.0.5 > 8.8.8.8:80").action is Action.TRACK


def test_an_address_group_changes_by_its_differences() -> None:
    world = World({
        "networks": [network()], "ports": [port("p1", 5, security_groups=["a"])],
        "security_groups": [group("a", web(remote_address_group_id="x"))],
        "address_groups": [{"id": "x", "addresses": ["192.0.2.1", "198.51.100.0/24"]}],
    })  # fmt: skip
    found = world.ask("p1", "ingress", "tcp 198.51.100.9 > 10.0.0.5:80")
    assert (found.remote, found.member) == (Remote("address_group", "x"), "x")
    changed = world.put(address_groups=[{"id": "x", "addresses": ["192.0.2.1", "203.0.113.0/24"]}])
    assert (changed.updates, len(changed.members.add)) == (2, 1)
    assert world.ask("p1", "ingress", "tcp 198.51.100.9 > 10.0.0.5:80").reason == "default_deny"
    world.put(security_groups=[group("a", web())])
    assert len(world.policies.members) == 0
    assert world.policies.class_zone(Remote("address_group", "x"), "ingress", None) is None
    assert world.policies.network_zone(NetworkId("blue")) is not None


def test_everything_is_brought_to_a_state_that_changed_unseen() -> None:
    world = World({
        "networks": [network()],
        "ports": [port("p1", 5, security_groups=["a"], egress_firewall_policy_id="f")],
        "security_groups": [group("a", web(remote_address_group_id="x"))],
        "address_groups": [{"id": "x", "addresses": ["192.0.2.1"]}],
        "firewall_policies": [{"id": "f", "firewall_rules": [{"id": "w", "action": "reject"}]}],
    })  # fmt: skip
    refs: list[Any] = [("address_groups", "x"), ("firewall_policies", "f")]
    world.state.apply(world.state.stage(deletes=refs))
    world.policies.refresh_all()
    assert world.ask("p1", "ingress", "tcp 192.0.2.1 > 10.0.0.5:80").reason == "default_deny"
    assert world.ask("p1", "egress", "tcp 10.0.0.5 > 8.8.8.8:80").reason == "firewall_default"
    assert (len(world.policies.members), len(world.policies.firewalls)) == (0, 0)


def test_every_reason_has_a_meaning() -> None:
    assert all(MEANINGS.values())
    assert set(Judgement.__annotations__) >= {"action", "reason", "rule", "group", "member", "remote"}

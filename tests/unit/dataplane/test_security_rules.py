"""security_rules: what the Neutron API takes and refuses in groups, rules and firewall policies."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents
from dataplane.desired import Desired
from tests.unit.dataplane.states import mistakes, of_port


def of_rule(**rule: Any) -> dict[str, Any]:
    return {"security_groups": [{"id": "g", "security_group_rules": [{"id": "r", "direction": "ingress", **rule}]}]}


def of_line(**rule: Any) -> dict[str, Any]:
    return {"firewall_policies": [{"id": "f", "firewall_rules": [{"id": "r", "action": "allow", **rule}]}]}


NO_PROTOCOL = "is neither the name of a protocol nor a number from 0 to 255"
REMOTES = "remote_ip_prefix, remote_group_id, remote_address_group_id"
RULE, LINE = "security_groups[0].security_group_rules[0]", "firewall_policies[0].firewall_rules[0]"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"protocol": "TCP"}, "tcp"),
        ({"protocol": "any"}, None),
        ({"protocol": "006"}, "6"),
        ({"protocol": "icmp"}, "icmp"),
        ({"protocol": "icmp", "ethertype": "IPv6"}, "ipv6-icmp"),
        ({"protocol": "icmpv6", "ethertype": "IPv6"}, "ipv6-icmp"),
        ({"protocol": "1", "ethertype": "IPv6"}, "58"),
    ],
)
def test_protocols_become_canonical(given: dict[str, Any], kept: str | None) -> None:
    [rule] = documents.decode(of_rule(**given)).security_groups[0].security_group_rules or ()
    assert rule.protocol == kept


def test_all_ports_are_no_condition() -> None:
    whole = documents.decode(of_rule(protocol="tcp", port_range_min=1, port_range_max=65535))
    [rule] = whole.security_groups[0].security_group_rules or ()
    assert (rule.port_range_min, rule.port_range_max) == (None, None)


def test_other_values_become_canonical() -> None:
    data = {
        **of_rule(remote_ip_prefix="2001:DB8::/32", ethertype="IPv6"),
        **of_line(protocol="tcp", source_port="0080:00443", destination_ip_address="10.0.0.0/8"),
        "address_groups": [{"id": "a", "addresses": ["2001:DB8::1", "10.0.0.0/8"]}],
    }
    state = documents.decode(data)
    [rule] = state.security_groups[0].security_group_rules or ()
    assert rule.remote_ip_prefix == "2001:db8::/32"
    assert state.firewall_policies[0].firewall_rules[0].source_port == "80:443"
    assert state.address_groups[0].addresses == ("2001:db8::1", "10.0.0.0/8")
    assert documents.decode(data) == state


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (of_rule(protocol="tpc"), f"{RULE}.protocol: 'tpc' {NO_PROTOCOL}"),
        (of_rule(protocol="256"), f"{RULE}.protocol: '256' {NO_PROTOCOL}"),
        (of_rule(protocol="ipv6-icmp"), f"{RULE}.protocol: ipv6-icmp is a protocol of IPv6"),
        (of_rule(port_range_min=80, port_range_max=80), f"{RULE}.port_range_min: needs a protocol"),
        (of_rule(protocol="tcp", port_range_min=80), f"{RULE}.port_range_max: is missing: a range has both ends"),
        (
            of_rule(protocol="tcp", port_range_min=0, port_range_max=80),
            f"{RULE}.port_range_min: 0 is not between 1 and 65535",
        ),
        (of_rule(protocol="tcp", port_range_min=81, port_range_max=80), f"{RULE}.port_range_max: 80 is before 81"),
        (of_rule(protocol="gre", port_range_min=1, port_range_max=2), f"{RULE}.port_range_min: gre has no ports"),
        (of_rule(protocol="icmp", port_range_min=256), f"{RULE}.port_range_min: 256 is no ICMP type from 0 to 255"),
        (
            of_rule(protocol="icmp", port_range_max=3),
            f"{RULE}.port_range_max: an ICMP code needs a type in port_range_min",
        ),
        (of_rule(remote_ip_prefix="::/0"), f"{RULE}.remote_ip_prefix: ::/0 is not of IPv4, as the rule is"),
        (
            of_rule(remote_ip_prefix="10.0.0.0/8", remote_group_id="g"),
            f"{RULE}.remote_group_id: only one of {REMOTES} may be given",
        ),
        (of_line(source_port="1-2", protocol="tcp"),
         f"{LINE}.source_port: '1-2' is no port from 1 to 65535 and no range such as 8000:8080"),
        (of_line(source_port="2:1", protocol="tcp"), f"{LINE}.source_port: 1 is before 2"),
        (
            of_line(destination_port="80"),
            f"{LINE}.destination_port: needs a protocol that has ports: tcp, udp, sctp, dccp or udplite",
        ),
        (
            of_line(source_ip_address="::1"),
            f"{LINE}.source_ip_address: ::1 is not of IPv4, as the rule is",
        ),
        (
            {"address_groups": [{"id": "a", "addresses": ["10.0.0.1/8"]}]},
            "address_groups[0].addresses[0]: 10.0.0.1/8 has host bits set, did you mean 10.0.0.0/8?",
        ),
        (of_port(ingress_firewall_policy_id="no id"), "ports[0].ingress_firewall_policy_id: an id is 1 to 64 letters, "
         "digits, '_', '.', '-', and begins with a letter or digit"),
    ],
)  # fmt: skip
def test_one_mistake(data: dict[str, Any], expected: str) -> None:
    assert mistakes(data) == [expected]


def test_ids_of_rules_are_unique() -> None:
    rule = {"id": "r", "direction": "egress"}
    data = {
        "security_groups": [{"id": "g", "security_group_rules": [rule, rule]}],
        "firewall_policies": [{"id": "f", "firewall_rules": [{"id": "w", "action": "deny"}] * 2}],
    }
    assert mistakes(data) == [
        f"{RULE[:-3]}[1].id: r is also the id of {RULE}",
        f"{LINE[:-3]}[1].id: w is also the id of {LINE}",
    ]


def test_a_project_has_one_default_group() -> None:
    both = [{"id": key, "name": "default", "project_id": "a"} for key in "gh"]
    other = {"id": "i", "name": "default", "project_id": "b"}
    assert mistakes({"security_groups": [*both, other]}) == [
        "security_groups[1].name: the name default in project 'a' is also used by security_groups[0]"
    ]
    held = documents.decode({"security_groups": [both[0], other]})
    assert mistakes({"security_groups": [both[1]]}, held) == [
        "security_groups[0].name: the name default in project 'a' is already used by security group g"
    ]
    desired = Desired.of(held)
    renamed = {"security_groups": [{**both[0], "name": "old"}, both[1]]}
    desired.apply(desired.stage(documents.decode(renamed, against=desired)))
    assert {project: group.id for project, group in desired.default_group.items()} == {"a": "h", "b": "i"}

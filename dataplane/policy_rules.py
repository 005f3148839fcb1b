"""Rules of the Neutron API as rules of the packet engine, one to one. Zones are filled in by `policy`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from dataplane import protocols
from dataplane.fields import Prefix, parse_prefix
from dataplane.model import FirewallPolicy, FirewallRule, Mac, Network, Port, SecurityGroup, SecurityGroupRule
from dataplane.policy_reasons import Reason
from dataplane.policy_tables import Action, Line
from dataplane.security import VERSIONS, Direction, link_local_of, prefix_of, rules_of
from fastpath.rules import ANY_PORTS, EGRESS, INGRESS, PRIORITIES, Rule, icmp

DIRECTIONS: Final[dict[Direction, Literal[0, 1]]] = {"ingress": INGRESS, "egress": EGRESS}
# Where a stateful and a stateless rule match, the connection is tracked.
_STATEFUL, _STATELESS = 1, 0

RA, NA = 134, 136
# What Neutron's firewall drivers always let pass, RFC 4861 and RFC 2710: without it a host has no IPv6 at all.
_EGRESS_ND = (130, 133, 135, NA)
_INGRESS_ND = (130, RA, 135, NA)
# Reports and duplicate address detection from the unspecified address, RFC 4862 5.4 and RFC 3590.
_UNSPECIFIED_ND = (131, 135, 143)


class Remote(NamedTuple):
    """A set of addresses that rules refer to: those of a security group's ports, or an address group."""

    kind: Literal["security_group", "address_group"]
    id: str


class Term(NamedTuple):
    """A security group's rule, ready for any policy that has it."""

    id: str
    direction: Direction
    remote: Remote | None
    line: Line
    """Without a zone."""


def terms_of(group: SecurityGroup) -> tuple[Term, ...]:
    """The rules of a group."""
    return tuple(_term(rule, group.stateful) for rule in rules_of(group))


def _term(rule: SecurityGroupRule, stateful: bool) -> Term:
    version = VERSIONS[rule.ethertype]
    protocol = None if rule.protocol is None else protocols.number(rule.protocol)
    kinds = ports = ANY_PORTS
    if rule.port_range_min is not None:
        if protocol in protocols.ICMPS:
            kinds = icmp(rule.port_range_min, rule.port_range_max)
        else:
            assert rule.port_range_max is not None, "documents.decode checks it"
            ports = (rule.port_range_min, rule.port_range_max)
    prefix = None if rule.remote_ip_prefix is None else prefix_of(rule.remote_ip_prefix)
    made = Rule(
        priority=_STATEFUL if stateful else _STATELESS,
        protocol=protocol,
        source_ports=kinds,
        destination_ports=ports,
        version=version,
        direction=DIRECTIONS[rule.direction],
        source=prefix if rule.direction == "ingress" else None,
        destination=prefix if rule.direction == "egress" else None,
    )
    remote = None
    if rule.remote_group_id is not None:
        remote = Remote("security_group", rule.remote_group_id)
    elif rule.remote_address_group_id is not None:
        remote = Remote("address_group", rule.remote_address_group_id)
    return Term(rule.id, rule.direction, remote, Line(made, Action.TRACK if stateful else Action.ALLOW))


def in_zone(line: Line, zone: int) -> Line:
    """The line in a zone."""
    return Line(replace(line.rule, zone=zone), line.action)


def address(zone: int | None, direction: Direction, prefix: Prefix) -> Line:
    """The line that says that the other end's address is in a range."""
    rule = Rule(
        zone=zone,
        direction=DIRECTIONS[direction],
        source=prefix if direction == "ingress" else None,
        destination=prefix if direction == "egress" else None,
        version=prefix.version,
    )
    return Line(rule)


def on_link(network: Network, zone: int) -> dict[Line, str]:
    """The ranges of a network, by the ids of their subnets."""
    return {
        address(zone, direction, parse_prefix(subnet.cidr)): subnet.id
        for subnet in network.subnets
        for direction in DIRECTIONS
    }


def link_local() -> Iterator[Line]:
    """The ranges that are on every link (RFC 3927, RFC 4291 2.5.6)."""
    for cidr in ("169.254.0.0/16", "fe80::/10"):
        for direction in DIRECTIONS:
            yield address(None, direction, parse_prefix(cidr))


def macs_of(port: Port) -> tuple[Mac, ...]:
    """The MACs that a port may send from, its own first."""
    pairs = (pair.mac_address for pair in port.allowed_address_pairs if pair.mac_address is not None)
    return tuple(dict.fromkeys((port.mac_address, *pairs)))


def sources(port: Port, mac: Mac, zone: int) -> dict[Line, str]:
    """What a port may send from one of its MACs, each line with what makes it so."""
    lines: dict[Line, str] = {}

    def own(end: str, why: str, **more: object) -> None:
        rule = Rule(zone=zone, direction=EGRESS, source=prefix_of(end), **more)  # type: ignore[arg-type]
        lines.setdefault(Line(rule), why)

    if mac == port.mac_address:
        for fixed in port.fixed_ips:
            own(fixed.ip_address, "fixed_ips")
        own(link_local_of(mac), "link_local")
        own("0.0.0.0", "dhcp_client", protocol=protocols.UDP, source_ports=(68, 68), destination_ports=(67, 67))
    for pair in port.allowed_address_pairs:
        if (pair.mac_address or port.mac_address) == mac:
            own(pair.ip_address, "allowed_address_pairs")
    for kind in _UNSPECIFIED_ND:
        own("::", "duplicate_address_detection", protocol=protocols.ICMPV6, source_ports=icmp(kind),
            destination=parse_prefix("ff02::/16"))  # fmt: skip
    return lines


def everybody() -> Iterator[tuple[Line, Reason]]:
    """What holds for every port that is filtered, before its own rules, each line with its reason."""
    for version, client, server in ((4, 68, 67), (6, 546, 547)):
        asks: dict[str, object] = {"source_ports": (client,) * 2, "destination_ports": (server,) * 2}
        answers: dict[str, object] = {"source_ports": (server,) * 2, "destination_ports": (client,) * 2}
        general: tuple[tuple[Literal[0, 1], dict[str, object], Action, Reason], ...] = (
            (EGRESS, asks, Action.ALLOW, "dhcp_client"),
            (EGRESS, answers, Action.DROP, "dhcp_server"),
            (INGRESS, answers, Action.ALLOW, "dhcp_answer"),
        )
        for direction, ports, action, why in general:
            made = Rule(direction=direction, version=version, protocol=protocols.UDP, **ports)  # type: ignore[arg-type]
            yield Line(made, action), why
    unspecified = parse_prefix("::/128")
    for kind in _UNSPECIFIED_ND:
        yield _nd(EGRESS, kind, Action.ALLOW, source=unspecified), "neighbour_discovery"
    for kind in _EGRESS_ND:
        yield _nd(EGRESS, kind, Action.ALLOW), "neighbour_discovery"
    yield _nd(EGRESS, RA, Action.DROP), "router_advertisement"
    for kind in _INGRESS_ND:
        yield _nd(INGRESS, kind, Action.ALLOW), "neighbour_discovery"


def _nd(direction: Literal[0, 1], kind: int, action: Action, source: Prefix | None = None) -> Line:
    made = Rule(direction=direction, version=6, protocol=protocols.ICMPV6, source_ports=icmp(kind), source=source)
    return Line(made, action)


_ACTIONS = {"allow": Action.ALLOW, "deny": Action.DROP, "reject": Action.REJECT}


def firewall(policy: FirewallPolicy, zone: int) -> dict[Line, tuple[str, str]]:
    """The enabled rules of a firewall policy, the first with the highest priority, with the policy's and their ids."""
    return {
        _firewall_line(rule, PRIORITIES - 1 - place, zone): (policy.id, rule.id)
        for place, rule in enumerate(policy.firewall_rules)
        if rule.enabled
    }


def _firewall_line(rule: FirewallRule, priority: int, zone: int) -> Line:
    ends = (rule.source_ip_address, rule.destination_ip_address)
    source, destination = (None if end is None else prefix_of(end) for end in ends)
    made = Rule(
        priority=priority,
        zone=zone,
        version=rule.ip_version,
        protocol=None if rule.protocol is None else protocols.number(rule.protocol),
        source=source,
        destination=destination,
        source_ports=_ports(rule.source_port),
        destination_ports=_ports(rule.destination_port),
    )
    return Line(made, _ACTIONS[rule.action])


def _ports(text: str | None) -> tuple[int, int]:
    if text is None:
        return ANY_PORTS
    first, _, last = text.partition(":")
    return int(first), int(last or first)

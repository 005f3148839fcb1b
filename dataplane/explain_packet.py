"""Says what becomes of a packet by the tables that the packet engine is given, and why."""

from __future__ import annotations

from dataclasses import replace

from dataplane import five_tuple, protocols
from dataplane.connection_state import ConnectionState, state_of
from dataplane.desired import Desired
from dataplane.explanation import PacketExplanation, PacketQuestion
from dataplane.fields import Address
from dataplane.model import Port
from dataplane.neighbours import ADVERTISE, SOLICIT, Claim
from dataplane.policy import Policies
from dataplane.policy_judge import Judgement, judge, judge_arp
from dataplane.policy_reasons import MEANINGS
from dataplane.policy_tables import Action
from dataplane.security import Direction, group_of, groups_of, link_local_of, prefix_of, prefixes_of
from fastpath.rules import Header

_BY_GROUPS = ("group_rule", "no_connection")
"""Reasons with the rule of a security group."""


def explain_packet(desired: Desired, question: PacketQuestion) -> PacketExplanation:
    """What becomes of the first packet of a connection, as if the port were on this node.

    Costs a look at every port of the state. Raises ValueError for a packet that cannot be read, or whose direction
    cannot be told, KeyError for a port that is not there.
    """
    port = desired.ports[question.port]
    header, claim, text = _read(question.packet)
    direction = question.direction or direction_of(port, header)
    policies = Policies(desired, lambda each: each.id == port.id)
    # Members without the packet's addresses would be looked at in vain.
    ends = five_tuple.addresses_of(header)
    names = tuple(map(str, ends))
    members = [each for each in desired.ports.values() if _covers(each, names, ends)]
    policies.refresh([("ports", each.id) for each in (port, *members)])
    mac = question.mac if direction == "egress" else None
    state: ConnectionState = "untracked"
    if claim is not None and text.startswith("arp "):
        judgement = judge_arp(policies, port.id, direction, claim, mac)
    else:
        judgement = judge(policies, port.id, direction, header, mac, claim)
        state = state_of(header)
        if state == "invalid" and judgement.action is Action.TRACK:
            judgement = replace(judgement, action=Action.DROP, reason="no_connection")
    return _explanation(desired, question, port, text, direction, judgement, state)


def _read(packet: str) -> tuple[Header, Claim | None, str]:
    """The header (of ARP: the addresses), what it claims, and the packet in canonical form. Raises ValueError."""
    arp = five_tuple.parse_arp(packet)
    if arp is not None:
        sender, target = map(int, arp)
        return Header(4, sender, target, 0), Claim(4, sender or target, None), f"arp {arp[0]} > {arp[1]}"
    packet, of = five_tuple.split_target(packet)
    header = five_tuple.parse(packet)
    text = five_tuple.text_of(header)
    kind = header.source_port >> 8 if header.protocol == protocols.ICMPV6 else None
    if of is None:
        return header, Claim(6, header.source, None) if kind == ADVERTISE else None, text
    if of.version != 6 or kind not in (SOLICIT, ADVERTISE):
        raise ValueError("only neighbour solicitations and advertisements (ICMPv6 135/0 and 136/0) are of an address")
    claims = kind == ADVERTISE or header.source == 0
    return header, Claim(6, int(of), None) if claims else None, f"{text} of {of}"


def direction_of(port: Port, header: Header) -> Direction:
    """Whether the port sends a packet or gets it, by its addresses. Raises ValueError."""
    source, destination = five_tuple.addresses_of(header)
    if source.is_unspecified or _has(port, source):
        return "egress"
    if _has(port, destination):
        return "ingress"
    raise ValueError(f"neither {source} nor {destination} is an address of port {port.id}: give the direction")


def _covers(port: Port, names: tuple[str, ...], ends: tuple[Address, ...]) -> bool:
    """Whether an end of the packet is an address of a port; `names` are the ends in canonical text."""
    if any(fixed.ip_address in names for fixed in port.fixed_ips):
        return True
    pairs = [prefix_of(pair.ip_address) for pair in port.allowed_address_pairs]
    return any(end.version == pair.version and end in pair for pair in pairs for end in ends)


def _has(port: Port, address: Address) -> bool:
    prefixes = (*prefixes_of(port), prefix_of(link_local_of(port.mac_address)))
    # A range of everything says nothing about which end is the port's.
    return any(prefix.version == address.version and prefix.prefixlen and address in prefix for prefix in prefixes)


def _explanation(
    desired: Desired,
    question: PacketQuestion,
    port: Port,
    packet: str,
    direction: Direction,
    found: Judgement,
    state: ConnectionState,
) -> PacketExplanation:
    groups = groups_of(desired, port)
    group = group_of(desired, found.group)
    firewall = port.ingress_firewall_policy_id if direction == "ingress" else port.egress_firewall_policy_id
    return PacketExplanation(
        network=port.network_id,
        port=port.id,
        direction=direction,
        packet=packet,
        mac=(question.mac or port.mac_address) if direction == "egress" else None,
        verdict="allow" if found.action in (Action.ALLOW, Action.TRACK) else "reject" if found.action else "drop",
        stateful=found.stateful and state == "new",
        reason=found.reason,
        meaning=MEANINGS[found.reason],
        rule=found.rule,
        group=found.group if found.reason in _BY_GROUPS else "",
        group_name=group.name if group is not None and found.reason in _BY_GROUPS else "",
        remote_group=found.remote.id if found.remote is not None and found.remote.kind == "security_group" else "",
        address_group=found.remote.id if found.remote is not None and found.remote.kind == "address_group" else "",
        member=found.member if found.remote is not None and found.remote.kind == "security_group" else "",
        source=found.source,
        firewall_policy=firewall or "",
        groups=groups,
        missing=tuple(key for key in groups if group_of(desired, key) is None)
        + ((firewall,) if firewall is not None and firewall not in desired.firewall_policies else ()),
        connection=state,
    )

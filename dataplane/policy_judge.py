"""How a packet goes through the tables of `policy`: the order that every engine over them keeps.

1. A port that is not filtered (`PortPolicy.trusted`) goes on with 4.
2. Egress: the MAC must be one of `PortPolicy.sources`, and `sources` must have a line for the packet in that zone.
   What ARP or neighbour discovery claims is held to the same: its MAC is the frame's, and `sources` must have a line
   for its address. A filtered port sends and gets no other frames than IP and ARP; with ARP it ends here.
3. `everybody` may decide: what every guest may do, and what none may.
4. A firewall policy of the port in this direction must allow the packet: the first line of its zone of `firewalls`.
5. `rules`: the policy's own zone, and for each remote that the policy names in this direction the zone of that remote,
   if the other end is in the class. TRACK wins over ALLOW; nothing that matches is a drop. A packet that connection
   tracking finds invalid is not let through by TRACK.

The class is that of the port's network if `networks` has a line for the packet, else the one for all networks.

What a tracked connection does to this: a packet of a connection that was let through by TRACK passes 4 and 5 in both
directions, as long as its beginning would still pass. There is no connection tracking here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from dataplane.model import Mac, PortId
from dataplane.neighbours import Claim
from dataplane.policy import Policies, PortPolicy
from dataplane.policy_reasons import Reason
from dataplane.policy_rules import DIRECTIONS, Remote
from dataplane.policy_tables import Action
from dataplane.security import Direction
from fastpath.rules import Header

_NO_PROTOCOL: Final = 255
"""Reserved by IANA: lines about one protocol do not match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What becomes of a packet that starts a connection, and why."""

    action: Action
    reason: Reason
    rule: str = ""
    """Id of the rule that decided."""
    group: str = ""
    """Id of its security group or firewall policy."""
    remote: Remote | None = None
    """The class that the rule names, and that the other end is in."""
    member: str = ""
    """Of the class: id of a port with that address, or of the address group."""
    source: str = ""
    """Egress: what lets the port use its source address, a field of the port or a reason of its own."""

    @property
    def stateful(self) -> bool:
        """Whether the connection is tracked, so that its answers pass."""
        return self.action is Action.TRACK


def judge_arp(
    policies: Policies, port_id: PortId, direction: Direction, claim: Claim, mac: Mac | None = None
) -> Judgement:
    """What becomes of an ARP message with this claim; `mac` as in `judge`."""
    port = policies.ports.get(port_id)
    if port is None:
        return Judgement(action=Action.DROP, reason="not_here")
    if port.trusted:
        return Judgement(action=Action.ALLOW, reason="not_filtered")
    if direction == "ingress":
        return Judgement(action=Action.ALLOW, reason="arp")
    zone = _zone(port, mac)
    if zone is None:
        return Judgement(action=Action.DROP, reason="mac_spoofed")
    source = _claimed(policies, port, zone, mac, claim)
    if source is None:
        return Judgement(action=Action.DROP, reason="neighbour_spoofed")
    return Judgement(action=Action.ALLOW, reason="arp", source=source)


def _zone(port: PortPolicy, mac: Mac | None) -> int | None:
    """The zone of `sources` for what comes from a MAC; the first is the port's own."""
    return next(iter(port.sources.values())) if mac is None else port.sources.get(mac)


def _claimed(policies: Policies, port: PortPolicy, zone: int, mac: Mac | None, claim: Claim) -> str | None:
    """What lets a port say what it claims; None: nothing does."""
    if claim.mac is not None and claim.mac != (next(iter(port.sources)) if mac is None else mac):
        return None
    if claim.address is None:
        return ""
    asked = Header(claim.version, claim.address, 0, _NO_PROTOCOL, zone=zone, direction=DIRECTIONS["egress"])
    found = policies.sources.find(asked)
    return None if found is None else found[1]


def judge(
    policies: Policies,
    port_id: PortId,
    direction: Direction,
    header: Header,
    mac: Mac | None = None,
    claim: Claim | None = None,
) -> Judgement:
    """What becomes of a packet that a port here sends or gets; `mac` is the source, the port's own if left out.

    `claim` is what neighbour discovery says in the packet. The zone and direction of `header` are of no account.
    """
    port = policies.ports.get(port_id)
    if port is None:
        return Judgement(action=Action.DROP, reason="not_here")
    header = replace(header, direction=DIRECTIONS[direction])
    source = ""
    if not port.trusted:
        if direction == "egress":
            zone = _zone(port, mac)
            if zone is None:
                return Judgement(action=Action.DROP, reason="mac_spoofed")
            allowed = policies.sources.find(replace(header, zone=zone))
            if allowed is None:
                return Judgement(action=Action.DROP, reason="ip_spoofed")
            source = allowed[1]
            if claim is not None and _claimed(policies, port, zone, mac, claim) is None:
                return Judgement(action=Action.DROP, reason="neighbour_spoofed", source=source)
        general = policies.everybody.find(header)
        if general is not None:
            return Judgement(action=general[0].action, reason=general[1], source=source)
    firewall = port.ingress_firewall if direction == "ingress" else port.egress_firewall
    if firewall is not None:
        found = policies.firewalls.find(replace(header, zone=firewall))
        if found is None:
            return Judgement(action=Action.DROP, reason="firewall_default", source=source)
        if found[0].action is not Action.ALLOW:
            group, rule = found[1]
            return Judgement(action=found[0].action, reason="firewall_rule", rule=rule, group=group, source=source)
    if port.trusted:
        return Judgement(action=Action.ALLOW, reason="not_filtered")
    best = Judgement(action=Action.DROP, reason="default_deny", source=source)
    for judgement in _allowed(policies, port, direction, header, source):
        if judgement.action > best.action:
            best = judgement
    return best


def _allowed(
    policies: Policies, port: PortPolicy, direction: Direction, header: Header, source: str
) -> Iterator[Judgement]:
    """What the policy says, of its own zone first."""
    own = policies.rule_zone(port.policy, None)
    found = None if own is None else policies.rules.find(replace(header, zone=own))
    if found is not None:
        group, rule = policies.rule_of(port.policy, None, header)
        yield Judgement(action=found[0].action, reason="group_rule", rule=rule, group=group, source=source)
    network = policies.network_zone(port.network)
    on_link = network is not None and policies.networks.find(replace(header, zone=network)) is not None
    for remote, of in port.policy.remotes:
        if of != direction:
            continue
        scope = port.network if on_link and remote.kind == "security_group" else None
        members, zone = policies.class_zone(remote, direction, scope), policies.rule_zone(port.policy, remote)
        if members is None or zone is None:
            continue
        found = policies.rules.find(replace(header, zone=zone))
        member = policies.members.find(replace(header, zone=members)) if found is not None else None
        if found is not None and member is not None:
            group, rule = policies.rule_of(port.policy, remote, header)
            yield Judgement(action=found[0].action, reason="group_rule", rule=rule, group=group, remote=remote,
                            member=member[1], source=source)  # fmt: skip

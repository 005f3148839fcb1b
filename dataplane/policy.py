"""Compiles security groups, port security and firewall policies into tables for the packet engine, change by change.

Nothing is multiplied out. Ports with the same groups share one policy. What a rule says of a remote group is not said
of each of its members: such a rule stands in a zone of its own, one for each policy and remote, and counts if the other
end's address is in the class of that remote, which is a zone of `members`. So a port that joins a group of ten thousand
adds its own address to a class or two, and changes no rule. Zones of `rules` that would hold the same are one,
whichever policies and remotes they are for: the default groups of all projects are two zones.

`policy_judge` tells how a packet goes through the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dataplane import policy_rules as rules
from dataplane.indexes import DEFAULT_GROUP, Indexes
from dataplane.model import AddressGroupId, FirewallPolicyId, Kind, Mac, NetworkId, Port, PortId, SecurityGroupId
from dataplane.policy_reasons import Reason
from dataplane.policy_rules import DIRECTIONS, Remote, Term, address
from dataplane.policy_shared import SharedZones
from dataplane.policy_tables import Delta, Line, Table, Zones
from dataplane.security import (
    IMPLICIT,
    Direction,
    default_group_of,
    group_of,
    groups_of,
    is_trusted,
    prefix_of,
    prefixes_of,
    project_of,
)
from fastpath.rules import Header, first_match

Ref = tuple[Kind, str]
Groups = tuple[str, ...]


class Class(NamedTuple):
    """The addresses of a remote as one direction of a network sees them; a zone of `members`.

    `network` None: members of any network, for addresses that are on no subnet of the packet's own. An address group
    has only that one.
    """

    remote: Remote
    direction: Direction
    network: NetworkId | None


class Deltas(NamedTuple):
    """What a change does to each table; see `Policies`."""

    sources: Delta
    everybody: Delta
    networks: Delta
    members: Delta
    rules: Delta
    firewalls: Delta

    @property
    def updates(self) -> int:
        """How many lines are added and removed."""
        return sum(len(delta.add) + len(delta.remove) for delta in self)


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """What the tables have for one port that is here."""

    port: PortId
    network: NetworkId
    trusted: bool
    sources: dict[Mac, int]
    """Zone of `sources` by MAC that the port may send from."""
    policy: Policy
    """One object for all ports with the same groups."""
    ingress_firewall: int | None
    """Zone of `firewalls`; None: no such policy is named."""
    egress_firewall: int | None


@dataclass(eq=False, slots=True)
class Policy:
    """What all ports with the same groups have in common."""

    groups: Groups
    remotes: Counter[tuple[Remote, Direction]] = field(default_factory=Counter)
    """How many rules name a remote."""
    networks: Counter[NetworkId] = field(default_factory=Counter)
    """How many ports have this policy, by their network."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A port as it is in the tables."""

    port: Port
    groups: Groups
    project: str
    here: PortPolicy | None


class Policies:
    """The tables, kept as a desired state wants them: call `refresh` after every change of it.

    `sources`: what a port may send from a MAC. `everybody`: what holds for all filtered ports. `networks`: which
    addresses are on link. `members`: classes. `rules`: those of security groups. `firewalls`: ordered lists.
    """

    def __init__(self, held: Indexes, here: Callable[[Port], bool] = lambda port: True) -> None:
        """`here`: which ports are filtered on this node; all others only count as members of their groups."""
        self.sources: Table[str] = Table()
        self.everybody: Table[Reason] = Table()
        self.networks: Table[str] = Table()
        self.members: Table[str] = Table()
        self.rules: Table[None] = Table()
        self.firewalls: Table[tuple[str, str]] = Table()
        self.ports: dict[PortId, PortPolicy] = {}
        self._state = held
        self._here = here
        self._held: dict[PortId, _Held] = {}
        self._members: dict[str, dict[PortId, Port]] = {}
        self._unnamed: dict[str, dict[PortId, None]] = {}
        """By project: ports that name no groups."""
        self._defaults: dict[str, str] = {}
        """Group id by project, of those that documents have."""
        self._policies: dict[Groups, Policy] = {}
        self._users: dict[str, dict[Groups, Policy]] = {}
        """Policies by group."""
        self._terms: dict[str, tuple[Term, ...]] = {}
        self._source_zones: Zones[tuple[PortId, Mac]] = Zones()
        self._network_zones: Zones[NetworkId] = Zones()
        self._classes: Zones[Class] = Zones()
        self._rule_zones: SharedZones[tuple[Groups, Remote | None]] = SharedZones(self.rules)
        self._firewall_zones: Zones[str] = Zones()
        for line, why in rules.everybody():
            self.everybody.add(line, why)
        for line in rules.link_local():
            self.networks.add(line, "link-local")

    def refresh_all(self) -> Deltas:
        """Bring the tables to the whole state, whatever they hold."""
        refs: list[Ref] = [("ports", key) for key in [*self._held, *self._state.ports]]
        refs += [("networks", key) for key in [*self._network_zones, *self._state.networks]]
        refs += [("security_groups", key)
                 for key in [*self._terms, *self._defaults.values(), *self._state.security_groups]]  # fmt: skip
        refs += [("address_groups", key) for key in [*(each.remote.id for each in self._classes),
                                                     *self._state.address_groups]]  # fmt: skip
        refs += [("firewall_policies", key) for key in [*self._firewall_zones, *self._state.firewall_policies]]
        return self.refresh(refs)

    def refresh(self, touched: Iterable[Ref]) -> Deltas:
        """Bring the tables to the state after a change that put or deleted these objects; gives what that changes.

        What it costs grows with the objects and with what names them, not with the members of groups.
        Raises PolicyFullError; then the tables are of no use any more.
        """
        by_kind: dict[Kind, dict[str, None]] = {}
        for kind, key in touched:
            by_kind.setdefault(kind, {})[key] = None
        groups = by_kind.get("security_groups", {})
        ports = {PortId(key): None for key in by_kind.get("ports", {})}
        for key in by_kind.get("instances", {}):
            ports.update((port.id, None) for port in self._state.ports_of_instance(key) if self._is_elsewhere(port))
        for project in self._moved_defaults(groups):
            ports.update(self._unnamed.get(project, {}))
        for port_id in ports:
            self._drop(port_id)
        for key in groups:
            self._change_terms(key)
        for key in by_kind.get("address_groups", {}):
            self._fill_addresses(key)
        for key in by_kind.get("networks", {}):
            self._fill_network(NetworkId(key))
        for key in by_kind.get("firewall_policies", {}):
            self._fill_firewall(key)
        for port_id in ports:
            port = self._state.ports.get(port_id)
            if port is not None:
                self._gain(port)
        self._sweep()
        return Deltas(**{name: getattr(self, name).flush() for name in Deltas._fields})

    def class_zone(self, remote: Remote, direction: Direction, network: NetworkId | None) -> int | None:
        """Zone of `members` that has a class; None if no port here needs it."""
        return self._classes.of(Class(remote, direction, network))

    def rule_zone(self, policy: Policy, remote: Remote | None) -> int | None:
        """Zone of `rules` with what a policy says of a remote (None: of anybody); None if it says nothing.

        It may be other policies' as well.
        """
        return self._rule_zones.of((policy.groups, remote))

    def rule_of(self, policy: Policy, remote: Remote | None, header: Header) -> tuple[str, str]:
        """Group and id of the policy's own rule that decides about a packet, which its zone has a line for."""
        terms = [(group, term) for group in policy.groups for term in self._terms[group] if term.remote == remote]
        group, term = terms[first_match(((n, term.line.rule) for n, (_, term) in enumerate(terms)), header)]
        return group, term.id

    def network_zone(self, network: NetworkId) -> int | None:
        """Zone of `networks` with the ranges of a network."""
        return self._network_zones.of(network)

    # --- ports ------------------------------------------------------------------------------------------------------

    def _is_elsewhere(self, port: Port) -> bool:
        """Whether the port's project is another than the one that it counts under."""
        held = self._held.get(port.id)
        return held is not None and held.project != project_of(self._state, port)

    def _drop(self, port_id: PortId) -> None:
        held = self._held.pop(port_id, None)
        if held is None:
            return
        for group in held.groups:
            members = self._members[group]
            del members[port_id]
            if not members:
                del self._members[group]
            self._member_lines(group, held.port, self.members.remove)
        if held.port.security_groups is None:
            unnamed = self._unnamed[held.project]
            del unnamed[port_id]
            if not unnamed:
                del self._unnamed[held.project]
        if held.here is not None:
            self._release(held.port, held.here)

    def _gain(self, port: Port) -> None:
        groups, project = groups_of(self._state, port), project_of(self._state, port)
        for group in groups:
            self._members.setdefault(group, {})[port.id] = port
            self._member_lines(group, port, self.members.add)
        if port.security_groups is None:
            self._unnamed.setdefault(project, {})[port.id] = None
        here = self._hold(port, groups) if self._here(port) else None
        self._held[port.id] = _Held(port, groups, project, here)
        if here is not None:
            self.ports[port.id] = here

    def _member_lines(self, group: str, port: Port, act: Callable[[Line, PortId], None]) -> None:
        """Add a port's addresses to its group's classes, or remove them."""
        for direction in DIRECTIONS:
            for network in (port.network_id, None):
                zone = self._classes.of(Class(Remote("security_group", group), direction, network))
                if zone is not None:
                    for prefix in prefixes_of(port):
                        act(address(zone, direction, prefix), port.id)

    def _hold(self, port: Port, groups: Groups) -> PortPolicy:
        macs: dict[Mac, int] = {}
        for mac in rules.macs_of(port):
            macs[mac], _ = self._source_zones.hold((port.id, mac))
            self.sources.assign(macs[mac], rules.sources(port, mac, macs[mac]))
        _, new = self._network_zones.hold(port.network_id)
        if new:
            self._fill_network(port.network_id)
        policy = self._policies.get(groups) or self._make_policy(groups)
        policy.networks[port.network_id] += 1
        if policy.networks[port.network_id] == 1:
            for remote, direction in policy.remotes:
                if remote.kind == "security_group":
                    self._want(Class(remote, direction, port.network_id))
        return PortPolicy(
            port=port.id,
            network=port.network_id,
            trusted=is_trusted(port),
            sources=macs,
            policy=policy,
            ingress_firewall=self._hold_firewall(port.ingress_firewall_policy_id),
            egress_firewall=self._hold_firewall(port.egress_firewall_policy_id),
        )

    def _release(self, port: Port, here: PortPolicy) -> None:
        del self.ports[port.id]
        for mac in here.sources:
            self._source_zones.release((port.id, mac))
        self._network_zones.release(here.network)
        policy = here.policy
        policy.networks[here.network] -= 1
        if not policy.networks[here.network]:
            del policy.networks[here.network]
            for remote, direction in policy.remotes:
                if remote.kind == "security_group":
                    self._classes.release(Class(remote, direction, here.network))
        for firewall in (port.ingress_firewall_policy_id, port.egress_firewall_policy_id):
            if firewall is not None:
                self._firewall_zones.release(firewall)

    # --- policies ---------------------------------------------------------------------------------------------------

    def _make_policy(self, groups: Groups) -> Policy:
        policy = self._policies[groups] = Policy(groups)
        for group in groups:
            users = self._users.setdefault(group, {})
            if not users:
                self._terms[group] = self._terms_of(group)
            users[groups] = policy
            for term in self._terms[group]:
                self._add_term(policy, term)
        return policy

    def _end_policy(self, policy: Policy) -> None:
        for group in policy.groups:
            for term in self._terms[group]:
                self._remove_term(policy, term)
            users = self._users[group]
            del users[policy.groups]
            if not users:
                del self._users[group], self._terms[group]
        del self._policies[policy.groups]

    def _terms_of(self, key: str) -> tuple[Term, ...]:
        group = group_of(self._state, key)
        return () if group is None else rules.terms_of(group)

    def _change_terms(self, group: str) -> None:
        if group not in self._terms:
            return  # no port here is in it
        old, new = self._terms[group], self._terms_of(group)
        self._terms[group] = new
        gone, come = dict.fromkeys(old), dict.fromkeys(new)
        for term in old:
            if term in come:
                del gone[term], come[term]
        for policy in self._users[group].values():
            for term in gone:
                self._remove_term(policy, term)
            for term in come:
                self._add_term(policy, term)

    def _add_term(self, policy: Policy, term: Term) -> None:
        if term.remote is not None:
            policy.remotes[term.remote, term.direction] += 1
            if policy.remotes[term.remote, term.direction] == 1:
                for wanted in self._classes_of(policy, term.remote, term.direction):
                    self._want(wanted)
        self._rule_zones.add((policy.groups, term.remote), term.line)

    def _remove_term(self, policy: Policy, term: Term) -> None:
        if term.remote is not None:
            policy.remotes[term.remote, term.direction] -= 1
            if not policy.remotes[term.remote, term.direction]:
                del policy.remotes[term.remote, term.direction]
                for needless in self._classes_of(policy, term.remote, term.direction):
                    self._classes.release(needless)
        self._rule_zones.remove((policy.groups, term.remote), term.line)

    @staticmethod
    def _classes_of(policy: Policy, remote: Remote, direction: Direction) -> list[Class]:
        networks = list(policy.networks) if remote.kind == "security_group" else []
        return [Class(remote, direction, network) for network in (None, *networks)]

    # --- what zones hold --------------------------------------------------------------------------------------------

    def _want(self, wanted: Class) -> None:
        zone, new = self._classes.hold(wanted)
        if not new:
            return
        if wanted.remote.kind == "address_group":
            self._fill_addresses(wanted.remote.id)
            return
        for port in self._members.get(wanted.remote.id, {}).values():
            if wanted.network in (None, port.network_id):
                for prefix in prefixes_of(port):
                    self.members.add(address(zone, wanted.direction, prefix), port.id)

    def _fill_addresses(self, key: str) -> None:
        group = self._state.address_groups.get(AddressGroupId(key))
        prefixes = [prefix_of(text) for text in group.addresses] if group is not None else []
        for direction in DIRECTIONS:
            zone = self._classes.of(Class(Remote("address_group", key), direction, None))
            if zone is not None:
                self.members.assign(zone, {address(zone, direction, prefix): key for prefix in prefixes})

    def _fill_network(self, key: NetworkId) -> None:
        zone, network = self._network_zones.of(key), self._state.networks.get(key)
        if zone is not None:
            self.networks.assign(zone, rules.on_link(network, zone) if network is not None else {})

    def _hold_firewall(self, key: FirewallPolicyId | None) -> int | None:
        if key is None:
            return None
        zone, new = self._firewall_zones.hold(key)
        if new:
            self._fill_firewall(key)
        return zone

    def _fill_firewall(self, key: str) -> None:
        zone, policy = self._firewall_zones.of(key), self._state.firewall_policies.get(FirewallPolicyId(key))
        if zone is not None:
            self.firewalls.assign(zone, rules.firewall(policy, zone) if policy is not None else {})

    def _moved_defaults(self, groups: Iterable[str]) -> list[str]:
        """Projects whose ports without groups of their own are in another group than before."""
        projects = [project for project, group in self._defaults.items() if group in groups]
        for key in groups:
            group = self._state.security_groups.get(SecurityGroupId(key))
            if group is not None and group.name == DEFAULT_GROUP:
                projects.append(group.project_id)
        moved = []
        for project in dict.fromkeys(projects):
            before, now = self._defaults.pop(project, IMPLICIT + project), default_group_of(self._state, project)
            if not now.startswith(IMPLICIT):
                self._defaults[project] = now
            if now != before:
                moved.append(project)
        return moved

    def _sweep(self) -> None:
        """End what no port here uses any more: only now, so that what is dropped and gained again stays as it is."""
        for policy in [policy for policy in self._policies.values() if not policy.networks]:
            self._end_policy(policy)
        for zone in self._source_zones.sweep():
            self.sources.clear(zone)
        for zone in self._network_zones.sweep():
            self.networks.clear(zone)
        for zone in self._classes.sweep():
            self.members.clear(zone)
        self._rule_zones.settle()
        for zone in self._firewall_zones.sweep():
            self.firewalls.clear(zone)

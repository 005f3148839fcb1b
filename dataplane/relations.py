"""Rules between objects: references, duplicates, addresses in their subnets.

They are checked on what would be after a transaction, at a cost that grows with the transaction, not with the state
(only a network that loses or changes a subnet makes its ports be looked at).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from dataplane.fields import Findings, parse_ip, parse_prefix
from dataplane.indexes import DEFAULT_GROUP, Indexes, kind_of
from dataplane.model import SINGULAR, Kind, Network, NetworkId, Object, Port, SecurityGroup, Subnet, SubnetId
from dataplane.network_rules import unusable
from dataplane.strict import suggestion

Claim = tuple[Mapping[Any, Object], Any, str, str]
"""Index, key in it, path of the field, and the value in the operator's words: a thing only one object may have."""

# Chosen: dangling references of one document that are told what may have been meant.
SUGGESTIONS = 3
COMPARED = 256


class Transaction:
    """What is about to change: objects with the paths they were written at, and the ids that go."""

    def __init__(
        self,
        held: Indexes,
        puts: Iterable[tuple[str, Object]],
        deletes: Iterable[tuple[Kind, str]] = (),
        unreadable: Iterable[str] = (),
    ) -> None:
        """`unreadable`: ids of networks of the document that already have mistakes: nothing refers to them wrongly."""
        self._held = held
        self._puts = list(puts)
        self._by_id = {(kind_of(item), item.id): item for _, item in self._puts}
        self._deletes: dict[tuple[Kind, str], None] = dict.fromkeys(deletes)
        self._unreadable = frozenset(unreadable)
        self._findings = Findings()
        self._subnets: dict[NetworkId, dict[SubnetId, Subnet]] = {}
        self._suggested = 0

    def check(self) -> Findings:
        """Every broken rule."""
        self._check_ids()
        self._check_claims()
        self._check_devices()
        for path, item in self._puts:
            if isinstance(item, Port):
                self._check_port(item, path)
            elif isinstance(item, Network):
                self._check_lost_subnets(item, path)
        for kind, key in self._deletes:
            if kind == "networks":
                self._check_deleted_network(NetworkId(key))
        return self._findings

    def _check_ids(self) -> None:
        seen: dict[tuple[Kind, str], str] = {}
        for path, item in self._puts:
            first = seen.setdefault((kind_of(item), item.id), path)
            if first != path:
                self._findings.add(f"{path}.id", f"{item.id} is also the id of {first}")

    def _check_claims(self) -> None:
        claimed: dict[tuple[int, Any], str] = {}
        for path, item in self._puts:
            for index, key, where, words in self._claims(item, path):
                first = claimed.setdefault((id(index), key), where)
                holder = index.get(key)
                if first != where:
                    self._findings.add(where, f"{words} is also used by {_owner(first)}")
                elif holder is not None and not self._changes(holder):
                    kind = SINGULAR[kind_of(holder)].replace("_", " ")
                    self._findings.add(where, f"{words} is already used by {kind} {holder.id}")

    def _claims(self, item: Object, path: str) -> Iterator[Claim]:
        held = self._held
        if isinstance(item, Port):
            network_id, mac = item.network_id, item.mac_address
            yield held.port_by_mac, (network_id, mac), f"{path}.mac_address", f"MAC {mac}"
            for index, fixed in enumerate(item.fixed_ips):
                where = f"{path}.fixed_ips[{index}].ip_address"
                yield held.port_by_address, (network_id, fixed.ip_address), where, fixed.ip_address
        elif isinstance(item, Network):
            if item.vni is not None:
                yield held.network_by_vni, item.vni, f"{path}.vni", f"VNI {item.vni}"
            if item.adopt is not None:
                device, netns = item.adopt.device, item.adopt.netns
                words = f"device {device} in namespace {netns}"
                yield held.network_by_adopt, (netns, device), f"{path}.adopt", words
            for index, subnet in enumerate(item.subnets):
                where = f"{path}.subnets[{index}].id"
                yield held.network_by_subnet, subnet.id, where, f"subnet id {subnet.id}"
        elif isinstance(item, SecurityGroup) and item.name == DEFAULT_GROUP:
            words = f"the name {DEFAULT_GROUP} in project {item.project_id!r}"
            yield held.default_group, item.project_id, f"{path}.name", words

    def _check_devices(self) -> None:
        """No two ports that can be on one host may name the same device: it would join two networks."""
        named: dict[str, list[tuple[str, Port]]] = {}
        for path, item in self._puts:
            if not isinstance(item, Port):
                continue
            name = item.device_name
            others: list[tuple[str, Port]] = named.setdefault(name, [])
            held = [(f"port {other.id}", other) for other in self._held.ports_by_device.get(name, {}).values()]
            held = [(words, other) for words, other in held if not self._changes(other)]
            for words, other in others + held:
                if other.id != item.id and (not other.host or not item.host or other.host == item.host):
                    field = "device" if item.device else "id"
                    reason = f"the device name {name} is also that of {words}"
                    self._findings.add(f"{path}.{field}", reason + ("" if item.device else ": give a `device`"))
                    break
            others.append((path, item))

    def _check_port(self, port: Port, path: str) -> None:
        if port.network_id in self._unreadable:
            return
        subnets = self._subnets_of(port.network_id)
        if subnets is None:
            near = self._near(port.network_id, self._network_ids())
            self._findings.add(f"{path}.network_id", f"there is no network {port.network_id}{near}")
            return
        for index, fixed in enumerate(port.fixed_ips):
            where = f"{path}.fixed_ips[{index}]"
            subnet = subnets.get(fixed.subnet_id)
            if subnet is None:
                near = self._near(fixed.subnet_id, subnets)
                reason = f"network {port.network_id} has no subnet {fixed.subnet_id}{near}"
                self._findings.add(f"{where}.subnet_id", reason)
            elif reason := misfit(fixed.ip_address, subnet):
                self._findings.add(f"{where}.ip_address", reason)

    def _check_lost_subnets(self, network: Network, path: str) -> None:
        """Ports that stay must still have their subnets, and their addresses in them."""
        old = self._held.networks.get(network.id)
        if old is None:
            return
        new = {subnet.id: (index, subnet) for index, subnet in enumerate(network.subnets)}
        changed = {s.id for s in old.subnets if s.id not in new or new[s.id][1].cidr != s.cidr}
        if not changed:
            return
        reported: set[SubnetId] = set()
        for port in self._held.ports_of(network.id):
            if self._changes(port):
                continue
            for fixed in port.fixed_ips:
                if fixed.subnet_id not in changed or fixed.subnet_id in reported:
                    continue
                if fixed.subnet_id not in new:
                    reported.add(fixed.subnet_id)
                    reason = f"subnet {fixed.subnet_id} is missing and still used by port {port.id}"
                    self._findings.add(f"{path}.subnets", reason)
                    continue
                index, subnet = new[fixed.subnet_id]
                if reason := misfit(fixed.ip_address, subnet):
                    reported.add(fixed.subnet_id)
                    self._findings.add(f"{path}.subnets[{index}].cidr", f"{reason}, but port {port.id} has it")

    def _check_deleted_network(self, network_id: NetworkId) -> None:
        users = [port.id for port in self._held.ports_of(network_id) if not self._changes(port)]
        if users:
            more = f" and {len(users) - 1} more" if len(users) > 1 else ""
            self._findings.add(f"networks/{network_id}", f"is still used by port {users[0]}{more}")

    def _changes(self, item: Object) -> bool:
        """True when this held object is replaced or deleted by the transaction."""
        key = (kind_of(item), item.id)
        return key in self._by_id or key in self._deletes

    def _subnets_of(self, network_id: NetworkId) -> dict[SubnetId, Subnet] | None:
        """The subnets that the network will have, or None if there will be no such network."""
        known = self._subnets.get(network_id)
        if known is None:
            network = self._by_id.get(("networks", network_id))
            if network is None and ("networks", network_id) not in self._deletes:
                network = self._held.networks.get(network_id)
            if not isinstance(network, Network):
                return None
            known = self._subnets[network_id] = {subnet.id: subnet for subnet in network.subnets}
        return known

    def _near(self, key: str, known: Iterable[str]) -> str:
        """The nearest id. Comparing texts is slow, and guests wait: a document that is wrong all over gets few."""
        self._suggested += 1
        return suggestion(key, islice(known, COMPARED)) if self._suggested <= SUGGESTIONS else ""

    def _network_ids(self) -> Sequence[str]:
        """Ids for a suggestion: those of the document, the likeliest place of a slip."""
        return [key for kind, key in self._by_id if kind == "networks"]


def misfit(address: str, subnet: Subnet) -> str:
    """Why an address cannot be a port's in this subnet, or nothing (also where an earlier rule was broken)."""
    try:
        number, prefix = parse_ip(address), parse_prefix(subnet.cidr)
    except ValueError:
        return ""
    return unusable(address, prefix) if number in prefix else f"{address} is not in subnet {prefix}"


def _owner(path: str) -> str:
    """The object (`ports[1]`) that a field's path belongs to."""
    return path[: path.index("]") + 1]

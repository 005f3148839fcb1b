"""The objects of a desired state in memory, and every way to find them.

All dictionaries are for reading; only `add` and `discard` change them. No key is an address or a MAC alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar, cast

from dataplane.model import (
    CLASSES,
    AddressGroup,
    AddressGroupId,
    DesiredState,
    FirewallPolicy,
    FirewallPolicyId,
    Instance,
    InstanceId,
    Ip,
    Kind,
    Mac,
    Network,
    NetworkId,
    Object,
    Port,
    PortId,
    SecurityGroup,
    SecurityGroupId,
    SubnetId,
)

K = TypeVar("K")

DEFAULT_GROUP = "default"
"""Name of the group that a project's ports are in which name no other."""

_KINDS: dict[type[Object], Kind] = {cls: kind for kind, cls in CLASSES.items()}


class Indexes:
    """Objects by id and by what is unique about them; each change costs what the changed object has, no more."""

    def __init__(self) -> None:
        self.networks: dict[NetworkId, Network] = {}
        self.ports: dict[PortId, Port] = {}
        self.instances: dict[InstanceId, Instance] = {}
        self.security_groups: dict[SecurityGroupId, SecurityGroup] = {}
        self.address_groups: dict[AddressGroupId, AddressGroup] = {}
        self.firewall_policies: dict[FirewallPolicyId, FirewallPolicy] = {}
        self.network_by_vni: dict[int, Network] = {}
        self.network_by_subnet: dict[SubnetId, Network] = {}
        self.network_by_adopt: dict[tuple[str, str], Network] = {}
        """By name of the adopted namespace and of the device in it."""
        self.port_by_address: dict[tuple[NetworkId, Ip], Port] = {}
        self.port_by_mac: dict[tuple[NetworkId, Mac], Port] = {}
        self.ports_by_device: dict[str, dict[PortId, Port]] = {}
        """By `Port.device_name`: several ports may share a name when they are on different hosts."""
        self.default_group: dict[str, SecurityGroup] = {}
        """By project: the security group that is called `default`."""
        self._ports_by_network: dict[NetworkId, dict[PortId, Port]] = {}
        self._ports_by_owner: dict[str, dict[PortId, Port]] = {}

    def ports_of(self, network_id: NetworkId) -> Collection[Port]:
        """The ports of a network, as a live view: copy it before anything may change."""
        return self._ports_by_network.get(network_id, {}).values()

    def ports_of_instance(self, instance_id: str) -> Collection[Port]:
        """The ports whose `device_id` is this id, as a live view."""
        return self._ports_by_owner.get(instance_id, {}).values()

    def get(self, kind: Kind, key: str) -> Object | None:
        """The object of a kind and id."""
        return self.of_kind(kind).get(key)

    def of_kind(self, kind: Kind) -> dict[str, Object]:
        """All objects of a kind by id."""
        return cast("dict[str, Object]", getattr(self, kind))

    def state(self) -> DesiredState:
        """Everything, as one document."""
        return DesiredState(*(tuple(self.of_kind(kind).values()) for kind in CLASSES))  # type: ignore[arg-type]

    def add(self, item: Object) -> None:
        """Take in an object whose id and unique values are free."""
        match item:
            case Port():
                self.ports[item.id] = item
                self.port_by_mac[item.network_id, item.mac_address] = item
                for fixed in item.fixed_ips:
                    self.port_by_address[item.network_id, fixed.ip_address] = item
                for group, key in self._groups(item):
                    group.setdefault(key, {})[item.id] = item
            case Network():
                self.networks[item.id] = item
                for subnet in item.subnets:
                    self.network_by_subnet[subnet.id] = item
                if item.vni is not None:
                    self.network_by_vni[item.vni] = item
                if item.adopt is not None:
                    self.network_by_adopt[item.adopt.netns, item.adopt.device] = item
            case SecurityGroup():
                self.security_groups[item.id] = item
                if item.name == DEFAULT_GROUP:
                    self.default_group[item.project_id] = item
            case _:
                self.of_kind(kind_of(item))[item.id] = item

    def discard(self, item: Object) -> None:
        """Forget an object that `add` took in."""
        match item:
            case Port():
                del self.ports[item.id]
                del self.port_by_mac[item.network_id, item.mac_address]
                for fixed in item.fixed_ips:
                    del self.port_by_address[item.network_id, fixed.ip_address]
                for group, key in self._groups(item):
                    members = group[key]
                    del members[item.id]
                    if not members:
                        del group[key]
            case Network():
                del self.networks[item.id]
                for subnet in item.subnets:
                    del self.network_by_subnet[subnet.id]
                if item.vni is not None:
                    del self.network_by_vni[item.vni]
                if item.adopt is not None:
                    del self.network_by_adopt[item.adopt.netns, item.adopt.device]
            case SecurityGroup():
                del self.security_groups[item.id]
                if item.name == DEFAULT_GROUP:
                    del self.default_group[item.project_id]
            case _:
                del self.of_kind(kind_of(item))[item.id]

    def _groups(self, port: Port) -> list[tuple[dict[str, dict[PortId, Port]], str]]:
        groups = [
            (cast("dict[str, dict[PortId, Port]]", self._ports_by_network), str(port.network_id)),
            (self.ports_by_device, port.device_name),
        ]
        if port.device_id:
            groups.append((self._ports_by_owner, port.device_id))
        return groups


def kind_of(item: Object) -> Kind:
    """The kind that an object belongs to."""
    return _KINDS[type(item)]

"""Who a metadata caller is, answered from the model: network, MAC and address must all belong to one port."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from dataplane import metadata_view
from dataplane.backends import Backends, retire, same_project
from dataplane.desired import Desired
from dataplane.forwarded import identify_forwarded
from dataplane.metadata_view import Defaults
from dataplane.model import Instance, InstanceId, Ip, Mac, Network, NetworkId, Object, Port, PortId
from metadata.dropin import Forwarded
from metadata.identity import NO_INSTANCE, SHARED_MAC, Caller, Known, Match, Refused, Unknown, Verdict, identify
from metadata.tree import InstanceTree

FOUND_CALLERS = 4096
"""Callers that are remembered. Guests choose IPv6 addresses as they like, so there could be any number."""


class Callers:
    """`metadata.identity.CallerLookup` over a model that somebody else changes: tell it by `forget`.

    Documents are made when they are first asked for, and kept until something they show changes.
    """

    def __init__(self, desired: Desired, defaults: Defaults, backends: Backends | None = None) -> None:
        self._desired = desired
        self._backends = backends or Backends()
        self._defaults = defaults
        self._known: dict[PortId, Known] = {}
        self._trees: dict[InstanceId, InstanceTree] = {}
        self._pair_macs: dict[NetworkId, dict[str, list[Port]]] = {}
        self._found: dict[Caller, Known] = {}
        """What those who asked before are, until anything changes: an object may make or end anybody's right."""

    @property
    def defaults(self) -> Defaults:
        """What the node says of instances that do not say it themselves."""
        return self._defaults

    @defaults.setter
    def defaults(self, defaults: Defaults) -> None:
        if defaults != self._defaults:
            self._defaults = defaults
            self.clear()

    def lookup(self, caller: Caller) -> Verdict:
        """See `CallerLookup`."""
        known = self._found.get(caller)
        if known is not None:
            return known
        verdict = self._identify(caller)
        if isinstance(verdict, Known):
            if len(self._found) >= FOUND_CALLERS:
                self._found.clear()
            self._found[caller] = verdict
        return verdict

    def forget(self, objects: Iterable[Object]) -> None:
        """These objects were added, changed or removed: documents that show them are made anew."""
        self._found.clear()
        for item in objects:
            if isinstance(item, Instance):
                self._forget_instance(item.id)
            elif isinstance(item, Port):
                self._drop(item.id)
                self._pair_macs.pop(item.network_id, None)
                self._forget_instance(InstanceId(item.device_id))
            elif isinstance(item, Network):
                for port in self._desired.ports_of(item.id):
                    self._drop(port.id)
                    self._forget_instance(InstanceId(port.device_id))

    def clear(self) -> None:
        """Everything may have changed."""
        self._found.clear()
        for port_id in list(self._known):
            self._drop(port_id)
        self._trees.clear()
        self._pair_macs.clear()

    # metadata.identity.PortIndex

    def by_mac(self, network_id: str, mac: str) -> Port | Unknown | None:
        """The port with this MAC, or the only one that may use it by an allowed address pair."""
        network = NetworkId(network_id)
        port = self._desired.port_by_mac.get((network, Mac(mac)))
        if port is not None:
            return port
        pairs = self._pair_macs.get(network)
        if pairs is None:
            pairs = self._pair_macs[network] = self._find_pair_macs(network)
        sharers = pairs.get(mac)
        if sharers is None:
            return None
        # Two ports that share a MAC (a virtual router's) cannot be told apart: neither is believed.
        return sharers[0] if len(sharers) == 1 else SHARED_MAC

    def by_address(self, network_id: str, address: str) -> Port | None:
        """The port with this fixed address."""
        return self._desired.port_by_address.get((NetworkId(network_id), Ip(address)))

    def may_use(self, port: Port, address: str) -> bool:
        """Whether it is a fixed address of the port, or within one of its allowed address pairs."""
        if any(fixed.ip_address == address for fixed in port.fixed_ips):
            return True
        if not port.allowed_address_pairs:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in ipaddress.ip_network(pair.ip_address) for pair in port.allowed_address_pairs)

    def _identify(self, caller: Caller) -> Verdict:
        if isinstance(caller, Forwarded):
            found = identify_forwarded(caller, self, self._desired)
        else:
            found = identify(caller, self)
        if not isinstance(found, Match):
            return found
        port: Port = found.port
        known = self._known.get(port.id)
        if known is not None:
            return known
        verdict = self._meet(port)
        if isinstance(verdict, Known):
            self._known[port.id] = verdict
        return verdict

    def _find_pair_macs(self, network_id: NetworkId) -> dict[str, list[Port]]:
        found: dict[str, list[Port]] = {}
        for port in self._desired.ports_of(network_id):
            for mac in {pair.mac_address for pair in port.allowed_address_pairs} - {None, port.mac_address}:
                found.setdefault(str(mac), []).append(port)
        return found

    def _tree(self, instance: Instance) -> InstanceTree:
        tree = self._trees.get(instance.id)
        if tree is None:
            document = metadata_view.document(self._desired, instance, self._defaults)
            tree = self._trees[instance.id] = InstanceTree(document)
        return tree

    def _forget_instance(self, instance_id: InstanceId) -> None:
        self._trees.pop(instance_id, None)
        if instance_id:
            for port in self._desired.ports_of_instance(instance_id):
                self._drop(port.id)

    def _drop(self, port_id: PortId) -> None:
        known = self._known.pop(port_id, None)
        if known is not None:
            retire(known.backend)

    def _meet(self, port: Port) -> Verdict:
        """What the port is, seen for the first time as it is now."""
        instance = self._desired.instances.get(InstanceId(port.device_id))
        if refusal := same_project(port, instance):
            return refusal
        if self._backends.choice(self._desired.networks[port.network_id]) == "nova":
            backend = self._backends.nova(port, instance)
            if isinstance(backend, Unknown | Refused):
                return backend
        elif instance is None:
            return NO_INSTANCE
        else:
            backend = self._backends.own(self._tree(instance))
        return Known(port.id, backend, metadata_view.access(instance, self._defaults.access))

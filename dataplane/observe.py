"""What the kernel has, read into `plan.NetworkState`. Everything here blocks and runs on the namespace thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dataplane import names
from dataplane import rtnetlink as nl
from dataplane import rtnetlink_replies as replies
from dataplane.errors import ForeignObjectError, NodeplaneError
from dataplane.model import NetworkId
from dataplane.netlink import Netlink, kernel_error
from dataplane.netns import Namespaces
from dataplane.plan import DesiredNetwork, NamespaceState, NetworkState
from dataplane.rtnetlink_replies import Link

# With fewer networks than this, asking for each device by name is cheaper than a dump of all.
_BY_NAME = 32


class Observer:
    """Reads the state of networks through one socket in the root namespace and one per namespace looked at."""

    def __init__(self, namespaces: Namespaces, root: Netlink) -> None:
        self._namespaces = namespaces
        self._root = root

    def everything(self, desired: Mapping[NetworkId, DesiredNetwork]) -> dict[NetworkId, NetworkState]:
        """The networks of `desired`, and all others of which something marked as ours is left."""
        links = self._root.dump(nl.dump_links(), replies.decode_link)
        found: set[NetworkId] = set()
        for link in links:
            network_id = names.marked(link.alias)
            if network_id is not None and link.name in (names.bridge(network_id), names.veth(network_id)):
                found.add(network_id)
        for name in self._namespaces.names():
            if name.startswith(names.NAMESPACE_PREFIX):
                found.add(NetworkId(name.removeprefix(names.NAMESPACE_PREFIX)))
        states = self._states({**dict.fromkeys(found), **desired}, links)
        return {
            network_id: state
            for network_id, state in states.items()
            if network_id in desired or _anything_ours(network_id, state)
        }

    def these(self, wanted: Mapping[NetworkId, DesiredNetwork | None]) -> dict[NetworkId, NetworkState]:
        """The networks of `wanted` only; None for one that shall have nothing."""
        if len(wanted) > _BY_NAME:
            return self._states(wanted, self._root.dump(nl.dump_links(), replies.decode_link))
        asked: dict[str, nl.Request] = {}
        for network_id, desired in wanted.items():
            for name in (names.bridge(network_id), names.veth(network_id), *(desired.devices if desired else ())):
                asked[name] = nl.get_link(name)
        links = {link.index: link for link in self._root.ask(list(asked.values())).links.values()}
        for network_id in wanted:
            bridge = next((link for link in links.values() if link.name == names.bridge(network_id)), None)
            if bridge is not None and bridge.kind == "bridge":
                ports = self._root.dump(nl.dump_links(master=bridge.index), replies.decode_link)
                links.update((link.index, link) for link in ports)
        return self._states(wanted, links.values())

    def _states(
        self, wanted: Mapping[NetworkId, DesiredNetwork | None], links: Iterable[Link]
    ) -> dict[NetworkId, NetworkState]:
        by_name: dict[str, Link] = {}
        by_master: dict[int, list[Link]] = {}
        for link in links:
            by_name[link.name] = link
            if link.master:
                by_master.setdefault(link.master, []).append(link)
        states: dict[NetworkId, NetworkState] = {}
        for network_id, desired in wanted.items():
            bridge = by_name.get(names.bridge(network_id))
            veth = by_name.get(names.veth(network_id))
            devices: dict[str, Link] = {}
            if bridge is not None:
                devices = {link.name: link for link in by_master.get(bridge.index, ()) if link is not veth}
            if desired is not None:
                devices.update((name, by_name[name]) for name in desired.devices if name in by_name)
            own, adopted, unreadable = self._namespaces_of(network_id, desired)
            states[network_id] = NetworkState(network_id, own, bridge, veth, devices, adopted, unreadable)
        return states

    def _namespaces_of(
        self, network_id: NetworkId, desired: DesiredNetwork | None
    ) -> tuple[NamespaceState | None, NamespaceState | None, NodeplaneError | None]:
        """The network's own namespace and the adopted one, or why they cannot be read: that stops no other network."""
        name, adopted = names.namespace(network_id), None
        try:
            own = self.namespace(name, names.SERVICE_DEVICE)
            if desired is not None and desired.adopt is not None:
                name = desired.adopt.netns
                adopted = self.namespace(name, desired.adopt.device)
        except NodeplaneError as error:
            return None, None, error
        except OSError as error:
            return None, None, kernel_error("look into namespace", name, error)
        return own, adopted, None

    def namespace(self, name: str, device: str) -> NamespaceState | None:
        """A namespace and one device in it; None when there is no such namespace."""
        try:
            descriptor = self._namespaces.open(name)
        except ForeignObjectError:
            return NamespaceState(name, inode=0)
        if descriptor is None:
            return None
        try:
            inode = self._namespaces.inode(descriptor)
            with self._namespaces.inside(descriptor):
                inner = Netlink()
        finally:
            self._namespaces.release(descriptor)
        with inner:
            return _look(inner, name, inode, device)


def _look(inner: Netlink, name: str, inode: int, device: str) -> NamespaceState:
    answers = inner.ask((nl.get_link("lo"), nl.get_link(device)))
    loopback, link = answers.links.get(0), answers.links.get(1)
    addresses: frozenset[str] = frozenset()
    source = ""
    ipv6_route = False
    if link is not None:
        found = inner.dump(nl.dump_addresses(), replies.decode_address)
        addresses = frozenset(address.interface for address in found if address and address.index == link.index)
        for route in inner.dump(nl.dump_routes(), replies.decode_route):
            if route is not None and route.index == link.index:
                if route.destination == "0.0.0.0/0":
                    source = route.source
                ipv6_route |= route.destination == "::/0"
    return NamespaceState(
        name=name,
        inode=inode,
        owner=names.marked(loopback.alias) if loopback else None,
        lo_up=bool(loopback and loopback.up),
        device=link,
        addresses=addresses,
        route_source=source,
        ipv6_route=ipv6_route,
    )


def _anything_ours(network_id: NetworkId, state: NetworkState) -> bool:
    mark = names.mark(network_id)
    return (
        (state.bridge is not None and state.bridge.alias == mark)
        or (state.veth is not None and state.veth.alias == mark)
        or (state.namespace is not None and state.namespace.owner == network_id)
    )

"""A kernel of dictionaries that does the plan's actions as the real one does: for tests of plan and node.

It is as strict as the kernel: making what exists, or setting what does not, raises. `touched` lists the names of
everything that an action was about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from dataplane import names
from dataplane.errors import KernelError, NodeplaneError
from dataplane.model import NetworkId
from dataplane.plan import (
    BRIDGE_MTU,
    PLUGGED_COST,
    Action,
    CreateNamespace,
    DeleteLink,
    DeleteNamespace,
    DeleteService,
    DesiredNetwork,
    EnsureBridge,
    EnsureVeth,
    NamespaceState,
    NetworkState,
    Plug,
    SetService,
    Unplug,
)
from dataplane.rtnetlink_replies import Link

ENODEV, EEXIST = 19, 17


class FakeKernel:
    """Devices of the root namespace by index, namespaces by name. Change them freely to play the outside world."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.namespaces: dict[str, NamespaceState] = {}
        self.touched: list[str] = []
        self._numbers = count(2)

    def add_device(self, name: str, **fields: object) -> Link:
        """A device of somebody else."""
        link = replace(Link(next(self._numbers), name, kind="tun"), **fields)  # type: ignore[arg-type]
        self.links[link.index] = link
        return link

    def remove_device(self, name: str) -> None:
        """A device goes, with the far end if it is a veth, and a bridge lets go of its ports."""
        link = self.find(name)
        assert link is not None
        self._delete(link.index)

    def add_namespace(self, name: str, **fields: object) -> NamespaceState:
        """A namespace of somebody else."""
        state = replace(NamespaceState(name, next(self._numbers)), **fields)  # type: ignore[arg-type]
        self.namespaces[name] = state
        return state

    def find(self, name: str) -> Link | None:
        """The device of a name."""
        return next((link for link in self.links.values() if link.name == name), None)

    def state(self, network_id: NetworkId, desired: DesiredNetwork | None = None) -> NetworkState:
        """What `Kernel.refresh` would say of one network."""
        bridge, veth = self.find(names.bridge(network_id)), self.find(names.veth(network_id))
        devices = {link.name: link for link in self.links.values() if bridge and link.master == bridge.index}
        devices.pop(names.veth(network_id), None)
        if desired is not None:
            devices |= {name: link for name in desired.devices if (link := self.find(name)) is not None}
        adopted = self.namespaces.get(desired.adopt.netns) if desired and desired.adopt else None
        own = self.namespaces.get(names.namespace(network_id))
        return NetworkState(network_id, own, bridge, veth, devices, adopted)

    async def observe(self, desired: Mapping[NetworkId, DesiredNetwork]) -> dict[NetworkId, NetworkState]:
        """As `Kernel.observe`."""
        marked = {names.marked(link.alias) for link in self.links.values()}
        marked |= {namespace.owner for namespace in self.namespaces.values()}
        every = {network_id for network_id in marked if network_id is not None} | set(desired)
        return {network_id: self.state(network_id, desired.get(network_id)) for network_id in every}

    async def refresh(self, wanted: Mapping[NetworkId, DesiredNetwork | None]) -> dict[NetworkId, NetworkState]:
        """As `Kernel.refresh`."""
        return {network_id: self.state(network_id, desired) for network_id, desired in wanted.items()}

    async def apply(self, actions: Mapping[NetworkId, Sequence[Action]]) -> dict[NetworkId, NodeplaneError]:
        """As `Kernel.apply`."""
        return self.do(actions)

    def do(self, actions: Mapping[NetworkId, Sequence[Action]]) -> dict[NetworkId, NodeplaneError]:
        """Do the actions of all networks: take away, make, plug."""
        errors: dict[NetworkId, NodeplaneError] = {}
        away = (Unplug, DeleteLink, DeleteService, DeleteNamespace)
        make = (CreateNamespace, EnsureBridge, EnsureVeth, SetService)
        for stage in (away, make, (Plug,)):
            for network_id, todo in actions.items():
                for action in todo:
                    if isinstance(action, stage) and network_id not in errors:
                        try:
                            self._do(action)
                        except NodeplaneError as error:
                            errors[network_id] = error
        return errors

    def _do(self, action: Action) -> None:
        match action:
            case Unplug(device, index):
                self.touched.append(device)
                self._change(index, master=0, port_cost=0)
            case DeleteLink(name, index):
                self.touched.append(name)
                self._delete(index)
            case DeleteNamespace(netns):
                self.touched.append(netns)
                gone = self.namespaces.pop(netns, None)
                if gone and gone.device and gone.device.peer in self.links:
                    del self.links[gone.device.peer]
            case DeleteService(netns, _):
                self.touched.append(netns)
                inner = self.namespaces[netns].device
                self.namespaces[netns] = replace(
                    self.namespaces[netns], device=None, addresses=frozenset(), route_source="", ipv6_route=False
                )
                if inner is not None:
                    self.links.pop(inner.peer, None)
            case CreateNamespace(netns, network_id):
                self.touched.append(netns)
                if netns in self.namespaces:
                    raise KernelError("create namespace", netns, EEXIST)
                self.namespaces[netns] = NamespaceState(netns, next(self._numbers), network_id, lo_up=True)
            case EnsureBridge():
                self._bridge(action)
            case EnsureVeth():
                self._veth(action)
            case SetService():
                self._service(action)
            case Plug(device, index, bridge, bridge_index):
                self.touched.append(device)
                master = bridge_index or self._index(bridge)
                self._change(index, master=master, up=True, port_cost=PLUGGED_COST, addr_gen_none=True)

    def _bridge(self, action: EnsureBridge) -> None:
        self.touched.append(action.name)
        index = action.index or self._new(action.name, "bridge", names.bridge_mac(action.network_id))
        self._change(
            index,
            alias=names.mark(action.network_id),
            up=True,
            mtu=BRIDGE_MTU,
            rp_filter=1,
            plain_bridge=True,
            ipv6_disabled=True,
            addr_gen_none=True,
        )

    def _veth(self, action: EnsureVeth) -> None:
        self.touched.append(action.name)
        master = action.bridge_index or self._index(action.bridge)
        index = action.index
        if not index:
            inner = Link(2, names.SERVICE_DEVICE, "veth", mtu=action.mtu, address=names.service_mac(action.network_id))
            namespace = self.namespaces[action.netns]
            assert namespace.device is None
            index = self._new(action.name, "veth", names.veth_mac(action.network_id), peer=inner.index)
            self.namespaces[action.netns] = replace(namespace, device=replace(inner, peer=index))
        mark = names.mark(action.network_id)
        self._change(index, alias=mark, up=True, mtu=action.mtu, master=master, addr_gen_none=True)

    def _service(self, action: SetService) -> None:
        self.touched.append(action.netns)
        namespace = self.namespaces[action.netns]
        assert namespace.device is not None
        device = replace(namespace.device, up=True, mtu=action.mtu, address=names.service_mac(action.network_id))
        addresses = namespace.addresses.difference(action.remove).union(action.add)
        route = action.source or namespace.route_source
        if action.ipv6:
            device = replace(device, ipv6_disabled=False, addr_gen_none=True, accept_ra=False)
        self.namespaces[action.netns] = replace(
            namespace,
            lo_up=True,
            device=device,
            addresses=addresses,
            route_source=route,
            ipv6_route=action.ipv6 or namespace.ipv6_route,
        )

    def _new(self, name: str, kind: str, address: bytes, peer: int = 0) -> int:
        if self.find(name) is not None:
            raise KernelError("create", name, EEXIST)
        link = Link(next(self._numbers), name, kind, address=address, peer=peer)
        self.links[link.index] = link
        return link.index

    def _index(self, name: str) -> int:
        link = self.find(name)
        if link is None:
            raise KernelError("find", name, ENODEV)
        return link.index

    def _change(self, index: int, **fields: object) -> None:
        if index not in self.links:
            raise KernelError("set", f"device {index}", ENODEV)
        self.links[index] = replace(self.links[index], **fields)  # type: ignore[arg-type]

    def _delete(self, index: int) -> None:
        if self.links.pop(index, None) is None:
            return
        for link in list(self.links.values()):
            if link.master == index:
                self._change(link.index, master=0, port_cost=0)
        for namespace in list(self.namespaces.values()):
            if namespace.device and namespace.device.kind == "veth" and namespace.device.peer == index:
                empty = replace(namespace, device=None, addresses=frozenset(), route_source="", ipv6_route=False)
                self.namespaces[namespace.name] = empty

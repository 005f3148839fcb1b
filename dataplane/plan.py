"""From what the kernel has to what a network needs: a pure difference.

Wanted for a network of our own (design.md section 2):

    root namespace                               namespace np-<network id>, lo up and marked
    bridge npb...  up, marked, closed to the host
      +- veth npv...  up, marked  --------------  svc0  up, MAC and MTU of the network, the service's
      +- each port's device, up                         addresses, default routes on-link

"Closed to the host": no address of its own, IPv6 off, IPv4 input refused (see `carry_out.CLOSED`). An adopted network
(`adopt`) wants nothing: its namespace and device are only looked at.

Whose an object is: `names.mark` as alias, or for a device without alias the MAC that we give at its birth. A device
of a port is foreign for ever. We only plug it when it is in no bridge, and only unplug what we plugged: that is
remembered in the bridge port's path cost, which belongs to our bridge and means nothing without spanning tree.

Each action can be done again without harm. Actions of all networks are in one order: take away, then make, then plug.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataplane import names
from dataplane.errors import ForeignObjectError, NodeplaneError
from dataplane.model import METADATA_IPV4, METADATA_IPV6, METADATA_IPV6_LINK, Adopt, NetworkId
from dataplane.rtnetlink_replies import Link

PLUGGED_COST = 4790
"""Path cost of the bridge ports that we plugged (chosen: no other program would, as the kernel's default is <= 100)."""

BRIDGE_MTU = 65535
"""Fixed, so that it does not follow the smallest device: below 1280 the kernel forgets that IPv6 is off."""

SERVICE_ADDRESSES = (f"{METADATA_IPV4}/32", f"{METADATA_IPV6_LINK}/128", f"{METADATA_IPV6}/128")
"""Equal in every network: a namespace and a device of its own keep them apart."""

IPV6_MIN_MTU = 1280
"""RFC 8200 section 5; the kernel has no IPv6 on a device below it."""


@dataclass(frozen=True, slots=True)
class DesiredNetwork:
    """What one network needs from the kernel."""

    id: NetworkId
    mtu: int = 1500
    devices: frozenset[str] = frozenset()
    """Names of the ports' devices to plug when they exist."""
    addresses: tuple[str, ...] = SERVICE_ADDRESSES
    """`address/prefix` of the service, canonical; the first one is IPv4, and the source of what the service begins."""
    adopt: Adopt | None = None
    ipv6: bool = True
    """Whether the kernel has IPv6."""

    @property
    def service_addresses(self) -> tuple[str, ...]:
        """Those of `addresses` that the service device can have."""
        if self.ipv6 and self.mtu >= IPV6_MIN_MTU:
            return self.addresses
        return tuple(address for address in self.addresses if ":" not in address)


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """A namespace and the one device in it that matters."""

    name: str
    inode: int
    """Number of the namespace: another number is another namespace, whatever its name."""
    owner: NetworkId | None = None
    """The network whose mark its `lo` has."""
    lo_up: bool = False
    device: Link | None = None
    addresses: frozenset[str] = frozenset()
    """`address/prefix` of the device, canonical."""
    route_source: str = ""
    """Preferred source of the IPv4 default route over the device; empty without such a route."""
    ipv6_route: bool = False
    """There is an IPv6 default route over the device."""


@dataclass(frozen=True, slots=True)
class NetworkState:
    """What the kernel has for one network."""

    id: NetworkId
    namespace: NamespaceState | None = None
    bridge: Link | None = None
    veth: Link | None = None
    devices: Mapping[str, Link] = field(default_factory=dict)
    """Wanted devices that exist, and everything that is plugged into the bridge besides the veth."""
    adopted: NamespaceState | None = None
    """The namespace named by `adopt`, with its device."""
    unreadable: NodeplaneError | None = None
    """Why the namespaces could not be looked at: nothing is known of them, and nothing is done."""


@dataclass(frozen=True, slots=True)
class Unplug:
    """Take a device that we plugged out of the bridge."""

    device: str
    index: int


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a bridge or veth of ours."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Delete a service device whose far end is not our veth."""

    netns: str
    index: int


@dataclass(frozen=True, slots=True)
class DeleteNamespace:
    """Remove a namespace's name; the kernel ends it when its last socket closes."""

    netns: str


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Make a namespace with our settings, `lo` up and marked."""

    netns: str
    network_id: NetworkId


@dataclass(frozen=True, slots=True)
class EnsureBridge:
    """Make the bridge, or give it our settings again. `index` 0: it does not exist."""

    name: str
    network_id: NetworkId
    index: int = 0


@dataclass(frozen=True, slots=True)
class EnsureVeth:
    """Make the veth pair into the namespace, or give the outer end our settings again.

    `index` 0: it does not exist; `bridge_index` 0: the bridge is made by an earlier action.
    """

    name: str
    network_id: NetworkId
    netns: str
    bridge: str
    mtu: int
    index: int = 0
    bridge_index: int = 0


@dataclass(frozen=True, slots=True)
class SetService:
    """Give the service device its settings, addresses and route."""

    netns: str
    network_id: NetworkId
    mtu: int
    add: tuple[str, ...]
    source: str
    """Source address of the default route; empty: leave the route."""
    remove: tuple[str, ...] = ()
    old_source: str = ""
    """Source of a default route to be replaced; empty: there is none."""
    ipv6: bool = False
    """Whether the device has IPv6: our settings for it, and a default route."""
    index: int = 0
    """0: the device is made by an earlier action."""


@dataclass(frozen=True, slots=True)
class Plug:
    """Put a port's device into the bridge and bring it up. `bridge_index` 0: made by an earlier action."""

    device: str
    index: int
    bridge: str
    bridge_index: int = 0


Action = (
    Unplug
    | DeleteLink
    | DeleteService
    | DeleteNamespace
    | CreateNamespace
    | EnsureBridge
    | EnsureVeth
    | SetService
    | Plug
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions of each network that needs any, and the networks that cannot have what they need."""

    actions: dict[NetworkId, tuple[Action, ...]]
    errors: dict[NetworkId, NodeplaneError]


def plan(states: Mapping[NetworkId, NetworkState], desired: Mapping[NetworkId, DesiredNetwork]) -> Plan:
    """What to do so that each network of `states` or `desired` has what it needs.

    A network that is in `states` only is taken down; one that is in `desired` only has nothing yet. A device that
    moves from one network to another moves in one plan when both networks are in it, and otherwise when the first
    one has let it go.
    """
    result = Plan({}, {})
    taken: dict[NetworkId, tuple[Action, ...]] = {}
    released: set[int] = set()
    for network_id, state in states.items():
        if state.unreadable is not None:
            result.errors[network_id] = state.unreadable
            continue
        away = _take_away(state, desired.get(network_id))
        taken[network_id] = away
        for action in away:
            if isinstance(action, Unplug):
                released.add(action.index)
            elif isinstance(action, DeleteLink) and state.bridge and action.index == state.bridge.index:
                released.update(link.index for link in state.devices.values() if link.master == action.index)
    for network_id in {**states, **desired}:
        wanted = desired.get(network_id)
        actions = taken.get(network_id, ())
        if wanted is not None and wanted.adopt is None and network_id not in result.errors:
            state = states.get(network_id) or NetworkState(network_id)
            try:
                actions += _make(state, wanted) + _plug(state, wanted, released)
            except ForeignObjectError as error:
                result.errors[network_id] = error
                # What is foreign blocks making; letting go of a port's device is still right.
                actions = tuple(action for action in actions if isinstance(action, Unplug))
        if actions:
            result.actions[network_id] = actions
    return result


def waiting_for(state: NetworkState | None, desired: DesiredNetwork) -> tuple[str, ...]:
    """What the network still lacks that no action can bring, in words for its status; empty when all is there."""
    if desired.adopt is not None:
        adopted = state.adopted if state else None
        if adopted is None:
            return (f"namespace {desired.adopt.netns}",)
        return () if adopted.device else (f"device {desired.adopt.device} in namespace {desired.adopt.netns}",)
    bridge = state.bridge.index if state and state.bridge else 0
    lacking: list[str] = []
    for name in sorted(desired.devices):
        link = state.devices.get(name) if state else None
        if link is None:
            lacking.append(f"device {name}")
        elif link.master and link.master != bridge:
            lacking.append(f"device {name}, which is plugged into something else")
    return tuple(lacking)


def serving_on(state: NetworkState, desired: DesiredNetwork) -> tuple[int, int] | None:
    """Which namespace and device sockets must be open on: (namespace inode, device index); None: on none.

    A changed value means that the sockets are of a namespace or device that is gone, and must be opened anew.
    """
    namespace = state.adopted if desired.adopt else state.namespace
    if namespace is None or namespace.device is None:
        return None
    return namespace.inode, namespace.device.index


def ours(link: Link, network_id: NetworkId) -> bool:
    """True when a bridge or veth is that network's: by its mark, or without an alias by its MAC."""
    macs = {"bridge": names.bridge_mac, "veth": names.veth_mac}
    if link.kind not in macs:
        return False
    return link.alias == names.mark(network_id) or (not link.alias and link.address == macs[link.kind](network_id))


def _own_bridge(state: NetworkState) -> bool:
    return state.bridge is not None and state.bridge.kind == "bridge" and ours(state.bridge, state.id)


def _own_veth(state: NetworkState) -> bool:
    return state.veth is not None and state.veth.kind == "veth" and ours(state.veth, state.id)


def _own_namespace(state: NetworkState) -> bool:
    return state.namespace is not None and state.namespace.owner == state.id


def _paired(state: NetworkState) -> bool:
    """The veth's far end is the service device of the namespace that has the name."""
    if state.veth is None or state.namespace is None or state.namespace.device is None:
        return False
    inner = state.namespace.device
    return inner.peer == state.veth.index and state.veth.peer == inner.index


def _take_away(state: NetworkState, desired: DesiredNetwork | None) -> tuple[Action, ...]:
    actions: list[Action] = []
    veth, bridge, namespace = state.veth, state.bridge, state.namespace
    if desired is None or desired.adopt is not None:
        if veth is not None and _own_veth(state):
            actions.append(DeleteLink(veth.name, veth.index))
        if bridge is not None and _own_bridge(state):
            actions.append(DeleteLink(bridge.name, bridge.index))
        if namespace is not None and _own_namespace(state) and not _adopts(desired, namespace.name):
            actions.append(DeleteNamespace(namespace.name))
        return tuple(actions)
    if bridge is not None and _own_bridge(state):
        for name, link in sorted(state.devices.items()):
            if link.master == bridge.index and link.port_cost == PLUGGED_COST and name not in desired.devices:
                actions.append(Unplug(name, link.index))
    if not _paired(state):
        if veth is not None and _own_veth(state):
            actions.append(DeleteLink(veth.name, veth.index))
        if namespace is not None and _own_namespace(state) and namespace.device is not None:
            actions.append(DeleteService(namespace.name, namespace.device.index))
    return tuple(actions)


def _adopts(desired: DesiredNetwork | None, netns: str) -> bool:
    return desired is not None and desired.adopt is not None and desired.adopt.netns == netns


def _make(state: NetworkState, desired: DesiredNetwork) -> tuple[Action, ...]:
    network_id = desired.id
    netns, bridge_name, veth_name = names.namespace(network_id), names.bridge(network_id), names.veth(network_id)
    if state.namespace is not None and not _own_namespace(state):
        raise ForeignObjectError("namespace", netns)
    if state.bridge is not None and not _own_bridge(state):
        raise ForeignObjectError("bridge", bridge_name)
    if state.veth is not None and not _own_veth(state):
        raise ForeignObjectError("device", veth_name)
    actions: list[Action] = []
    if state.namespace is None:
        actions.append(CreateNamespace(netns, network_id))
    bridge_index = state.bridge.index if state.bridge else 0
    if state.bridge is None or not _bridge_right(state.bridge):
        actions.append(EnsureBridge(bridge_name, network_id, bridge_index))
    paired = _paired(state)
    if not paired or state.veth is None or not _veth_right(state.veth, bridge_index, desired.mtu):
        index = state.veth.index if paired and state.veth else 0
        actions.append(EnsureVeth(veth_name, network_id, netns, bridge_name, desired.mtu, index, bridge_index))
    service = _service(state.namespace if paired else None, netns, desired)
    if service is not None:
        actions.append(service)
    return tuple(actions)


def _bridge_right(link: Link) -> bool:
    # Any reverse-path filter closes a bridge without address; a value set by a sysctl rule at its birth is as good.
    closed = link.addr_gen_none and link.ipv6_disabled and link.rp_filter != 0
    return bool(link.alias) and link.up and link.mtu == BRIDGE_MTU and link.plain_bridge and closed


def _veth_right(link: Link, bridge_index: int, mtu: int) -> bool:
    plugged = bool(bridge_index) and link.master == bridge_index
    return bool(link.alias) and link.up and plugged and link.mtu == mtu and link.addr_gen_none


def _service(namespace: NamespaceState | None, netns: str, desired: DesiredNetwork) -> SetService | None:
    wanted = desired.service_addresses
    ipv6 = any(":" in address for address in wanted)
    source = wanted[0].partition("/")[0] if wanted else ""
    device = namespace.device if namespace else None
    if namespace is None or device is None:
        return SetService(netns, desired.id, desired.mtu, wanted, source, ipv6=ipv6)
    add = tuple(address for address in wanted if address not in namespace.addresses)
    remove = tuple(sorted(namespace.addresses.difference(wanted)))
    new_source = "" if namespace.route_source == source else source
    shaped = device.up and device.mtu == desired.mtu and device.address == names.service_mac(desired.id)
    shaped = shaped and (not ipv6 or (_ipv6_right(device) and namespace.ipv6_route))
    if shaped and namespace.lo_up and not add and not remove and not new_source:
        return None
    # A link that comes up has no routes, and a removed source address takes its route along: the route is named
    # whenever it may be gone by then, and adding it twice does no harm.
    old_source = namespace.route_source if new_source else ""
    return SetService(netns, desired.id, desired.mtu, add, source, remove, old_source, ipv6, device.index)


def _ipv6_right(device: Link) -> bool:
    """Nothing but what we give it: no address of its own making, none from a guest's router advertisement."""
    return not device.ipv6_disabled and device.addr_gen_none and not device.accept_ra


def _plug(state: NetworkState, desired: DesiredNetwork, released: set[int]) -> tuple[Action, ...]:
    bridge = state.bridge.index if state.bridge else 0
    bridge_name = names.bridge(desired.id)
    actions: list[Action] = []
    for name in sorted(desired.devices):
        link = state.devices.get(name)
        if link is None or names.marked(link.alias) is not None:
            # Our own bridges and veths are nobody's port: plugging one would join two networks.
            continue
        inside = bool(bridge) and link.master == bridge
        if inside and link.up and link.port_cost == PLUGGED_COST:
            continue
        if inside or not link.master or link.index in released:
            actions.append(Plug(name, link.index, bridge_name, bridge))
    return tuple(actions)

"""Everything that is alive on this node for one network: its ports, its DHCP server, its metadata listener."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from dataplane import names
from dataplane.closer import Closer
from dataplane.dhcp.core import Dhcp4Core, Policy, ServerIdentity
from dataplane.dhcp_service import DhcpService, LeaseHook
from dataplane.fdstore import FdStore
from dataplane.kernel import Place
from dataplane.metrics import Histogram
from dataplane.model import Network, Port, PortId
from dataplane.packets import NetworkSockets, has_ipv6
from dataplane.plan import DesiredNetwork, NetworkState
from dataplane.status import NetworkState as State
from dataplane.status import NetworkStatus
from metadata.server import MetadataServer

HAS_IPV6 = has_ipv6()


@dataclass(frozen=True, slots=True)
class Services:
    """What every network of the node uses."""

    metadata: MetadataServer
    on_lease: LeaseHook
    durations: Histogram
    """Seconds from a DHCP packet read to its reply sent."""
    closer: Closer
    fdstore: FdStore


class ServedNetwork:
    """A network with at least one port on this node. Knows what it wants of the kernel, and serves when it has it."""

    def __init__(self, network: Network, policy: Policy, services: Services) -> None:
        identity = ServerIdentity(names.service_mac(network.id))
        core = Dhcp4Core(network, identity, policy)
        self.dhcp = DhcpService(core, services.on_lease, services.durations, services.closer)
        self.ports: dict[PortId, Port] = {}
        """Those on this node."""
        self.plugged: frozenset[str] = frozenset()
        """Devices of these ports that are in the bridge."""
        self.serving_on: tuple[int, int] | None = None
        """Namespace and device that the sockets are open on; see `plan.serving_on`."""
        self.state: State = "pending"
        self.error = ""
        self.retry_seconds = 0.0
        self._services = services
        self._guard: socket.socket | None = None

    @property
    def network(self) -> Network:
        """The network as it was last set."""
        return self.dhcp.core.network

    @property
    def place(self) -> Place:
        """Where its sockets are."""
        adopt = self.network.adopt
        if adopt is not None:
            return Place(adopt.netns, adopt.device)
        return Place(names.namespace(self.network.id), names.SERVICE_DEVICE)

    def desired(self) -> DesiredNetwork:
        """What it needs of the kernel."""
        devices = frozenset() if self.network.adopt else frozenset(port.device_name for port in self.ports.values())
        return DesiredNetwork(self.network.id, self.network.mtu, devices, adopt=self.network.adopt, ipv6=HAS_IPV6)

    def set_network(self, network: Network) -> bool:
        """Take new data; True if the kernel's side is concerned."""
        before = self.desired()
        self.dhcp.deliver(self.dhcp.core.set_network(network, time.time()))
        return self.desired() != before

    def set_port(self, port: Port) -> bool:
        """Take a port of this node; True if the kernel's side is concerned. A held DISCOVER is answered here."""
        old = self.ports.get(port.id)
        self.ports[port.id] = port
        self.dhcp.deliver(self.dhcp.core.set_port(port, time.time()))
        return old is None or old.device_name != port.device_name

    def remove_port(self, port_id: PortId) -> bool:
        """Forget a port that is no longer on this node; True if the kernel's side is concerned."""
        self.dhcp.core.remove_port(port_id)
        return self.ports.pop(port_id, None) is not None

    def resume_where_it_was(self) -> bool:
        """Serve on the sockets of an earlier process, before the kernel is looked at, if they are in our namespace."""
        serving_on = self._services.fdstore.where(self.network.id, self.place.netns)
        return serving_on is not None and self.resume(serving_on)

    def resume(self, serving_on: tuple[int, int]) -> bool:
        """Serve on the sockets that an earlier process had put by, if they are the right ones."""
        sockets = self._services.fdstore.take(self.network.id, serving_on, self.place.device)
        if sockets is None:
            return False
        self._open(sockets, serving_on)
        return True

    def open(self, sockets: NetworkSockets, serving_on: tuple[int, int]) -> None:
        """Serve on these sockets instead of any earlier ones, and put them by for the next process."""
        self.close()
        self._open(sockets, serving_on)
        self._services.fdstore.put(self.network.id, sockets)

    def _open(self, sockets: NetworkSockets, serving_on: tuple[int, int]) -> None:
        try:
            self.dhcp.open(sockets.dhcp)
            for listening in sockets.metadata:
                self._services.metadata.attach(self.network.id, listening)
        except OSError:
            self.close()
            sockets.close()
            raise
        self._guard = sockets.guard
        self.serving_on = serving_on

    def close(self, *, keep: bool = False) -> None:
        """Stop serving; what is known of ports and leases stays. `keep`: the next process goes on with the sockets."""
        if self.serving_on is not None and not keep:
            self._services.fdstore.drop(self.network.id)
        self.serving_on = None
        self.dhcp.close()
        self._services.metadata.detach(self.network.id)
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def see(self, state: NetworkState) -> tuple[set[str], set[str]]:
        """Note which devices are plugged; returns those that are new and those that have gone."""
        bridge = state.bridge.index if state.bridge else 0
        wanted = self.desired().devices
        plugged = frozenset(
            name for name, link in state.devices.items() if bridge and link.master == bridge and name in wanted
        )
        came, went = set(plugged - self.plugged), set(self.plugged - plugged)
        self.plugged = plugged
        return came, went

    def status(self) -> NetworkStatus:
        """One line of `nodeplane status`."""
        return NetworkStatus(
            id=self.network.id,
            name=self.network.name,
            state=self.state,
            ports=len(self.ports),
            plugged=len(self.plugged),
            mtu=self.network.mtu,
            vni=self.network.vni,
            adopted=self.network.adopt is not None,
            error=self.error,
        )

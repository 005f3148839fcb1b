"""Everything that is alive on this node for one network: its ports, its DHCP server, its metadata listener."""

from __future__ import annotations

import time

from dataplane import names
from dataplane.dhcp.core import Dhcp4Core, Policy, ServerIdentity
from dataplane.dhcp_service import DhcpService, LeaseHook
from dataplane.kernel import Place
from dataplane.metrics import Histogram
from dataplane.model import Network, Port, PortId
from dataplane.packets import NetworkSockets, has_ipv6
from dataplane.plan import DesiredNetwork, NetworkState
from dataplane.status import NetworkState as State
from dataplane.status import NetworkStatus
from metadata.server import MetadataServer

HAS_IPV6 = has_ipv6()


class ServedNetwork:
    """A network with at least one port on this node. Knows what it wants of the kernel, and serves when it has it."""

    def __init__(
        self, network: Network, policy: Policy, metadata: MetadataServer, on_lease: LeaseHook, durations: Histogram
    ) -> None:
        identity = ServerIdentity(names.service_mac(network.id))
        self.dhcp = DhcpService(Dhcp4Core(network, identity, policy), on_lease, durations)
        self.ports: dict[PortId, Port] = {}
        """Those on this node."""
        self.plugged: frozenset[str] = frozenset()
        """Devices of these ports that are in the bridge."""
        self.serving_on: tuple[int, int] | None = None
        """Namespace and device that the sockets are open on; see `plan.serving_on`."""
        self.state: State = "pending"
        self.error = ""
        self.retry_seconds = 0.0
        self._metadata = metadata
        self._guard: NetworkSockets | None = None

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

    def open(self, sockets: NetworkSockets, serving_on: tuple[int, int]) -> None:
        """Serve on these sockets instead of any earlier ones."""
        self.close()
        self.dhcp.open(sockets.dhcp)
        for listening in sockets.metadata:
            self._metadata.attach(self.network.id, listening)
        self._guard = sockets
        self.serving_on = serving_on

    def close(self) -> None:
        """Stop serving; what is known of ports and leases stays."""
        self.serving_on = None
        self.dhcp.close()
        self._metadata.detach(self.network.id)
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

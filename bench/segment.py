"""A tenant's segment around a peer: what nodeplane makes for a network, so that both are asked over the same path.

client namespace, eth0 -- tap -- bridge (root namespace) -- veth -- server namespace, svc0
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import processes, spaces
from scripts.lab import Vm


@dataclass
class Server:
    """Processes that serve one segment."""

    name: str
    roots: dict[str, int] = field(default_factory=dict)
    """Process ids by role; their descendants count too."""

    def pids(self) -> list[int]:
        """Everything that belongs to it now."""
        return processes.family(self.roots.values())

    def cpu_seconds(self) -> float:
        """CPU used until now."""
        return processes.cpu_seconds(self.pids())

    def stop(self) -> None:
        """End all of them."""
        processes.end(self.roots.values())
        self.roots.clear()


@dataclass(frozen=True)
class Segment:
    """Bridge and server namespace number `number` (devices `br<n>`, `sv<n>`, `tap-<n>`) with one client."""

    number: int
    addresses: Sequence[str]
    """Of the server, with prefix lengths."""
    client: str
    """Address of the client, with prefix length."""
    mac: str = "02:00:00:00:00:05"
    routes: Sequence[str] = ("169.254.169.254 dev eth0",)

    @property
    def netns(self) -> str:
        """The server's namespace."""
        return f"server{self.number}"

    @property
    def vm(self) -> Vm:
        return Vm(f"client{self.number}", f"tap-{self.number}", self.mac)

    def plug(self) -> Segment:
        """Make bridge, server namespace and client."""
        bridge, outer = f"br{self.number}", f"sv{self.number}"
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.vm.plug()
        spaces.batch([
            f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0",
            f"link add {outer} type veth peer name svc0 netns {self.netns}",
            *(f"link set {name} addrgenmode none" for name in (bridge, outer, self.vm.device)),
            f"link set {outer} master {bridge}", f"link set {self.vm.device} master {bridge}",
            f"link set {outer} up", f"link set {bridge} up",
        ])  # fmt: skip
        inside = [f"addr add {address} dev svc0" for address in self.addresses]
        spaces.batch([*inside, "link set svc0 up", "link set lo up"], self.netns)
        configure(self.vm, self.client, self.routes)
        return self

    def unplug(self) -> None:
        """Remove everything."""
        self.vm.unplug()
        subprocess.run(["ip", "netns", "del", self.netns], check=False)
        subprocess.run(["ip", "link", "del", f"br{self.number}"], check=False)


def configure(vm: Vm, address: str, routes: Sequence[str]) -> None:
    """Address and routes of a client, and room for tens of thousands of connections."""
    spaces.batch([f"addr add {address} dev eth0", *(f"route add {route}" for route in routes)], vm.name)
    spaces.settings(vm.name, net__ipv4__ip_local_port_range="1024 65535", net__ipv4__tcp_tw_reuse="1")

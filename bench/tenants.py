"""Tenants with several VMs each, whose documents are Nova's: in every network the same range and addresses.

They are served by nodeplane or by what Neutron runs for them, over the same guests and the same stand-in for Nova.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import documents, spaces
from bench.context import Context
from bench.cores import pinned
from bench.documents import Document
from bench.guests import Guest, Guests
from bench.nova import SECRET, Nova, project_id
from bench.ours import Node
from bench.peers import haproxy, neutron
from bench.results import OURS
from bench.segment import Server
from bench.sweep import sweep

GUESTS = 10
"""VMs in each network."""
CONFIG = f"""
[metadata]
backend = "nova"
[nova]
url = "http://{neutron.NOVA}"
shared_secret = "{SECRET}"
"""


def tenants(networks: int) -> tuple[Document, list[Guest]]:
    """`networks` networks of a project each with GUESTS ports; guest number n is in network n // GUESTS."""
    document: dict[str, list[dict[str, Any]]] = {"networks": [], "ports": []}
    guests = []
    for network in range(networks):
        name, subnet = f"net-{network:05}", f"subnet-{network:05}"
        document["networks"].append({
            "id": name, "name": f"tenant {network}", "vni": network + 1, "mtu": 1450,
            "subnets": [{"id": subnet, "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"}],
        })  # fmt: skip
        for place in range(GUESTS):
            number = network * GUESTS + place
            tap, address, instance = f"tap-{number:05}", f"10.0.0.{10 + place}", documents.instance_id(number)
            mac = f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
            document["ports"].append({
                "id": f"port-{number:05}", "network_id": name, "mac_address": mac, "device": tap,
                "device_id": instance, "project_id": project_id(network),
                "fixed_ips": [{"subnet_id": subnet, "ip_address": address}],
            })  # fmt: skip
            guests.append(Guest(tap, mac, f"{address}/24", instance))
    return document, guests


@dataclass
class Served:
    """Guests whose networks are served."""

    name: str
    guests: Guests
    server: Server
    nova: Nova
    node: Node | None = None
    networks: int = 0

    def stop(self) -> None:
        """End and remove everything."""
        if self.node is not None:
            self.node.stop()
        self.server.stop()
        self.nova.stop()
        self.guests.unplug()
        if self.node is None:
            _unplug(self.networks)


def ours(bench: Context, networks: int, seconds: float, config: str = "") -> Served:
    """nodeplane with `config` beside CONFIG; Nova's answers take `seconds`."""
    document, each = tenants(networks)
    nova = Nova(neutron.NOVA, GUESTS, seconds, bench.cores.load)
    guests = Guests(each).plug()
    node = Node(bench.directory / "nodeplane", config or CONFIG, on_stop="teardown").start(bench.cores.server)
    served = Served(OURS, guests, Server(OURS, {"daemon": node.daemon.pid}), nova, node, networks)
    try:
        node.apply(document)
        node.wait_ready(networks)
        guests.learn(sweep(guests, metadata=False).servers)
    except BaseException:
        served.stop()
        raise
    return served


def neutrons(bench: Context, networks: int, seconds: float, workers: int | None = None) -> Served:
    """neutron-metadata-agent, with its defaults or so many workers, and a haproxy for each network."""
    bench.versions["neutron"] = neutron.version()
    document, each = tenants(networks)
    name = f"neutron, {workers} workers" if workers else "neutron"
    directory = Path(tempfile.mkdtemp(prefix="neutron-", dir=bench.directory))
    nova = Nova(neutron.NOVA, GUESTS, seconds, bench.cores.load)
    guests = Guests(each).plug()
    served = Served(name, guests, Server(name), nova, None, networks)
    try:
        _plug(networks, each)
        guests.learn({number: _server_mac(number // GUESTS) for number in range(len(each))})
        with pinned(bench.cores.server):
            served.server.roots["agent"] = neutron.start_agent(directory, _ports(document["ports"]), workers).pid
            for network in range(networks):
                identity = document["networks"][network]["id"]
                config = haproxy.configure(directory, identity, socket=directory / "metadata_proxy")
                haproxy.start(config, _netns(network))
                served.server.roots[identity] = haproxy.pid(directory, identity)
    except BaseException:
        served.stop()
        raise
    return served


def _ports(ports: Sequence[Any]) -> list[neutron.AgentPort]:
    return [
        neutron.AgentPort(port["network_id"], port["fixed_ips"][0]["ip_address"], port["device_id"], port["project_id"])
        for port in ports
    ]


def _netns(network: int) -> str:
    return f"server{network}"


def _server_mac(network: int) -> str:
    return f"02:ff:00:00:{network >> 8:02x}:{network & 255:02x}"


def _plug(networks: int, guests: Sequence[Guest]) -> None:
    """Bridge, veth and server namespace of each network, as Neutron has them."""
    spaces.batch(f"netns add {_netns(number)}" for number in range(networks))
    spaces.batch(
        line
        for number in range(networks)
        for line in (
            f"link add br{number} type bridge forward_delay 0 mcast_snooping 0",
            f"link add sv{number} type veth peer name svc0 address {_server_mac(number)} netns {_netns(number)}",
            f"link set br{number} addrgenmode none up",
            f"link set sv{number} addrgenmode none master br{number} up",
        )
    )
    spaces.batch(f"link set {guest.tap} master br{number // GUESTS}" for number, guest in enumerate(guests))
    inside = ("addr add 10.0.0.2/24 dev svc0", "addr add 169.254.169.254/32 dev svc0", "link set svc0 up",
              "link set lo up")  # fmt: skip
    for number in range(networks):
        spaces.batch(inside, _netns(number))


def _unplug(networks: int) -> None:
    for number in range(networks):
        spaces.batch((f"netns del {_netns(number)}", f"link del br{number}"))

"""Tenants whose ports move, and whose each document is: the oracle of the tests that look for a foreign answer.

All networks have the same range, the same addresses and the same MACs. A `World` is what should be, as plain data, and
says by looking at every port in turn, without an index and without a cache, whose documents a guest may see.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any, NamedTuple

NETWORKS = ("blue", "green", "red")
MACS = ("02:00:00:00:00:05", "02:00:00:00:00:06", "02:00:00:00:00:07")
FIXED = (("10.0.0.5", "2001:db8::5"), ("10.0.0.6", "2001:db8::6"), ("10.0.0.7", "2001:db8::7"))
"""What ports have; each has one of these pairs, or one address of it."""
ADDRESSES = (
    *(address for pair in FIXED for address in pair),
    "10.0.0.99",
    "2001:db8::d9f1:4c27:88aa:e0b",
    "fe80::1234",
)
"""What guests ask from: also addresses that no port has."""
PORTS = 6
INSTANCES = 4
PROJECTS = 2


class Guest(NamedTuple):
    """Who a request really comes from."""

    network: str
    mac: str | None
    """None: it came through a proxy, which knows the address only."""
    address: str


class Owner(NamedTuple):
    """Whose documents a guest may see."""

    port: str
    instance: str
    project: str
    version: int
    """Of the instance's documents: an answer with an earlier one is an old answer."""
    nova: bool
    tokens: bool
    vifs: frozenset[str]
    """All ports that name the instance, without those of another project."""


class World:
    """What should be; changed by `steps`."""

    def __init__(self, choose: random.Random, nova: bool = True) -> None:
        self.ports: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.backends: dict[str, str] = dict.fromkeys(NETWORKS, "own")
        self.versions: dict[str, int] = {}
        """How often an instance changed, also one that is not there."""
        self._choose = choose
        self._nova = nova
        for number in range(INSTANCES):
            self.put_instance(number)
        for number in range(PORTS):
            place, network = number // len(NETWORKS), NETWORKS[number % len(NETWORKS)]
            self._put_port(number, network, MACS[place], FIXED[place], number % INSTANCES)
        if nova:
            self.backends[NETWORKS[-1]] = "nova"

    def steps(self, count: int) -> None:
        """Random changes that come at once."""
        absent = {key: version for key, version in self.versions.items() if key not in self.instances}
        for _ in range(count):
            self._step()
        # Of an instance that came and went nobody is told: what was fetched before still holds.
        self.versions |= {key: version for key, version in absent.items() if key not in self.instances}

    def _step(self) -> None:
        """One random change; it may take what another port had, but never gives two ports the same."""
        choose = self._choose
        kind = choose.randrange(10)
        number = choose.randrange(PORTS)
        if kind < 5:
            network, mac = choose.choice(NETWORKS), choose.choice(MACS)
            fixed: tuple[str, ...] = choose.choice(FIXED)
            fixed = choose.choice([fixed, fixed, fixed[:1], fixed[1:]])
            self._put_port(number, network, mac, fixed, choose.randrange(INSTANCES + 1))
        elif kind == 5:
            self.ports.pop(f"p{number}", None)
        elif kind == 6:
            self.versions[uuid(number % INSTANCES)] += 1
            self.instances.pop(uuid(number % INSTANCES), None)
        elif kind == 7 and self._nova:
            network = choose.choice(NETWORKS)
            self.backends[network] = choose.choice(["own", "nova"])
        else:
            self.put_instance(choose.randrange(INSTANCES))

    def put_instance(self, number: int) -> None:
        """Make an instance, or change it; its documents name its version."""
        key = uuid(number)
        version = self.versions[key] = self.versions.get(key, 0) + 1
        tokens = self._choose.random() < 0.2
        self.instances[key] = {
            "id": key, "project_id": project(self._choose.randrange(PROJECTS)), "name": f"v{version}",
            "hostname": f"i{number}-v{version}", "user_data": f"{key} v{version}", "meta": {"version": str(version)},
            "metadata_options": {"http_tokens": "required" if tokens else "optional"},
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """All of it, for `apply --prune`."""
        return {
            "networks": [
                {"id": network, "vni": number, "metadata_backend": self.backends[network], "subnets": [
                    {"id": f"{network}-4", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"},
                    {"id": f"{network}-6", "cidr": "2001:db8::/64", "enable_dhcp": False},
                ]} for number, network in enumerate(NETWORKS, 1)
            ],
            "ports": list(self.ports.values()),
            "instances": list(self.instances.values()),
        }  # fmt: skip

    def owner(self, guest: Guest) -> Owner | None:
        """Whose documents the guest may see now; None: nobody's."""
        port = self._port(guest)
        if port is None:
            return None
        key, owner = port["device_id"], port["project_id"]
        instance = self.instances.get(key)
        nova = self.backends[guest.network] == "nova"
        if instance is not None and owner not in ("", instance["project_id"]):
            return None
        if instance is None and not (nova and key and owner):
            return None
        return Owner(
            port["id"],
            key,
            owner or (instance["project_id"] if instance else ""),
            self.versions[key],
            nova,
            instance is not None and instance["metadata_options"]["http_tokens"] == "required",
            frozenset(
                other["id"]
                for other in self.ports.values()
                if other["device_id"] == key and other["project_id"] in ("", instance["project_id"] if instance else "")
            ),
        )

    def _port(self, guest: Guest) -> dict[str, Any] | None:
        ports = [port for port in self.ports.values() if port["network_id"] == guest.network]
        having = [port for port in ports if guest.address in addresses(port)]
        if guest.mac is None:
            return having[0] if having else None
        mine = [port for port in ports if port["mac_address"] == guest.mac]
        if not mine or (having and having != mine):
            return None
        return mine[0] if having or ":" in guest.address else None

    def _put_port(self, number: int, network: str, mac: str, fixed: tuple[str, ...], instance: int) -> None:
        key = f"p{number}"
        for other in list(self.ports.values()):
            same = other["mac_address"] == mac or set(addresses(other)) & set(fixed)
            if other["id"] != key and other["network_id"] == network and same:
                del self.ports[other["id"]]
        device = uuid(instance) if instance < INSTANCES else ""
        owner = self.instances[device]["project_id"] if device in self.instances else project(0)
        self.ports[key] = {
            "id": key, "network_id": network, "mac_address": mac, "device_id": device,
            "project_id": self._choose.choice(["", owner, owner, project(1)]),
            "fixed_ips": [
                {"subnet_id": f"{network}-{6 if ':' in address else 4}", "ip_address": address} for address in fixed
            ],
        }  # fmt: skip


def uuid(number: int) -> str:
    """The id of an instance."""
    return f"00000000-0000-4000-8000-{number:012x}"


def project(number: int) -> str:
    """The id of a project."""
    return f"project{number}"


def addresses(port: dict[str, Any]) -> list[str]:
    """The fixed addresses of a port as it is in a document."""
    return [fixed["ip_address"] for fixed in port["fixed_ips"]]


DOCUMENTS = {
    "/latest/user-data": "user",
    "/openstack/latest/user_data": "user",
    "/2009-04-04/meta-data/hostname": "host",
    "/2021-03-23/meta-data/local-hostname": "host",
    "/openstack/latest/meta_data.json": "meta",
    "/openstack/latest/network_data.json": "network",
    "/nocloud/meta-data": "seed",
}
"""Paths whose answers say whose they are, all but the last also in the words of the stand-in for Nova."""


def nova_body(instance: str, owner: str, version: int, target: str) -> bytes:
    """What the stand-in for Nova answers; for a version of AWS's it is asked for its newest."""
    asked = re.sub(r"^/20[12][0-9]-[0-9]{2}-[0-9]{2}/", "/latest/", target)
    return f"nova {instance} {owner} v{version} {asked}".encode()


def parsed(text: str) -> dict[str, Any]:
    """A document of ours; nothing if it is somebody's from Nova."""
    return {} if text.startswith("nova ") else json.loads(text)


def belongs(owner: Owner, path: str, body: bytes) -> bool:
    """Whether an answer 200 to one of DOCUMENTS is that owner's, and of this moment."""
    text = body.decode()
    if owner.nova:
        return body == nova_body(owner.instance, owner.project, owner.version, path)
    short = f"i{int(owner.instance[-12:], 16)}-v{owner.version}"
    match DOCUMENTS[path]:
        case "user":
            return text == f"{owner.instance} v{owner.version}"
        case "host":
            return text == f"{short}.novalocal"
        case "meta":
            found = parsed(text)
            return tuple(map(found.get, ("uuid", "project_id", "meta", "hostname"))) == (
                owner.instance, owner.project, {"version": str(owner.version)}, f"{short}.novalocal",
            )  # fmt: skip
        case "network":
            return {link["vif_id"] for link in parsed(text).get("links", ())} == owner.vifs
    return owner.instance in text and short in text

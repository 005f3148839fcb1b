"""Desired state for benchmarks: many networks that all look alike, and one network with many hosts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench.guests import Guest

MAC = "02:00:00:00:00:05"
ADDRESS = "10.0.0.5"
HOSTS_SUBNET = "10.64.0.0/16"
HOSTS_FIRST = "10.64.1.0"
HOSTS_GATEWAY = "10.64.0.1"
RELAY = "10.64.255.254"

Document = Mapping[str, Sequence[Mapping[str, Any]]]


def instance_id(number: int) -> str:
    """The UUID of instance `number`."""
    return f"00000000-0000-4000-8000-{number:012x}"


def instance(number: int, seed: int) -> dict[str, Any]:
    """An instance with an RSA key of usual length and half a kilobyte of user data, both random text of the seed."""
    text = random.Random(seed * 1_000_003 + number)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return {
        "id": instance_id(number), "project_id": f"{number:032x}", "name": f"vm-{number}", "hostname": f"vm-{number}",
        "availability_zone": "nova", "flavor": "m1.small",
        "keys": [{"name": "key", "data": f"ssh-rsa {''.join(text.choices(letters, k=372))} user@host"}],
        "user_data": f"#cloud-config\nwrite_files: [{''.join(text.choices(letters, k=480))}]\n",
    }  # fmt: skip


def networks(count: int, seed: int) -> tuple[Document, list[Guest]]:
    """`count` networks with one port and one instance each: in all of them the same range, address and MAC."""
    document: dict[str, list[dict[str, Any]]] = {"networks": [], "ports": [], "instances": []}
    guests = []
    for number in range(count):
        network, subnet, tap = f"net-{number:05}", f"subnet-{number:05}", f"tap-{number:05}"
        document["networks"].append({
            "id": network, "name": f"tenant {number}", "vni": number + 1, "mtu": 1450,
            "subnets": [{"id": subnet, "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1",
                         "dns_nameservers": ["10.0.0.2"]}],
        })  # fmt: skip
        document["ports"].append({
            "id": f"port-{number:05}", "network_id": network, "mac_address": MAC, "device": tap,
            "device_id": instance_id(number), "fixed_ips": [{"subnet_id": subnet, "ip_address": ADDRESS}],
        })  # fmt: skip
        document["instances"].append(instance(number, seed))
        guests.append(Guest(tap, MAC, f"{ADDRESS}/24", instance_id(number)))
    return document, guests


def host(number: int) -> tuple[str, str]:
    """MAC and address of host `number` in the network of many hosts; the MACs are perfdhcp's."""
    return f"00:0c:01:02:{number >> 8:02x}:{number & 255:02x}", f"10.64.{(number >> 8) + 1}.{number & 255}"


def host_port(number: int, device: str = "", address: str = "") -> dict[str, Any]:
    """The port of host `number`, with another device or address if given."""
    mac, usual = host(number)
    return {
        "id": f"host-{number:05}", "network_id": "hosts", "mac_address": mac, "device": device or f"tap-h{number:05}",
        "fixed_ips": [{"subnet_id": "hosts-v4", "ip_address": address or usual}],
    }  # fmt: skip


def hosts(count: int, relay: str = RELAY) -> Document:
    """One network with `count` ports, whose requests may also come through the relay agent `relay`."""
    subnet = {"id": "hosts-v4", "cidr": HOSTS_SUBNET, "gateway_ip": HOSTS_GATEWAY, "dns_nameservers": [HOSTS_GATEWAY]}
    network = {"id": "hosts", "name": "hosts", "vni": 1, "mtu": 1450, "dhcp_relays": [relay], "subnets": [subnet]}
    return {"networks": [network], "ports": [host_port(number) for number in range(count)]}

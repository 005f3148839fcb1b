"""A network that names an existing namespace: served in it, and nothing there is created, changed or removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import lab


def lay(tenant: str) -> None:
    """The namespace of a tenant with `tap0`, as an agent leaves it, its other end in the tenant's bridge."""
    name = f"qdhcp-{tenant}"
    lab.run("ip", "netns", "add", name)
    lab.run("ip", "link", "add", f"q-{tenant}", "master", f"br-{tenant}", "type", "veth",
            "peer", "name", "tap0", "netns", name)  # fmt: skip
    lab.run("ip", "link", "set", f"q-{tenant}", "up")
    for argv in (("link", "set", "tap0", "up"), ("address", "add", "10.0.0.2/24", "dev", "tap0"),
                 ("address", "add", "169.254.169.254/32", "dev", "tap0"),
                 ("address", "add", "fe80::a9fe:a9fe/64", "dev", "tap0", "nodad"),
                 ("address", "add", "fd00:ec2::254/128", "dev", "tap0", "nodad")):  # fmt: skip
        lab.run("ip", *argv, netns=name)


@pytest.fixture
def spaces() -> Iterator[list[str]]:
    """Two namespaces as Neutron's DHCP agent leaves them, each with its own bridge and stand-in VM."""
    names = ["qdhcp-blue", "qdhcp-green"]
    vms = []
    for name in names:
        tenant = name.partition("-")[2]
        lab.run("ip", "link", "add", f"br-{tenant}", "type", "bridge")
        lay(tenant)
        vms.append(lab.Vm(f"vm-{tenant}", f"tap-{tenant}", "02:00:00:00:00:05").plug())
        for device in (f"br-{tenant}", f"tap-{tenant}"):
            lab.run("ip", "link", "set", device, "up")
        lab.run("ip", "link", "set", f"tap-{tenant}", "master", f"br-{tenant}")
    # The kernel says a moment later that a device is up, and then looks for others who have its address.
    for name in names:
        tenant = name.partition("-")[2]
        for device, netns in ((f"br-{tenant}", None), (f"tap-{tenant}", None), ("tap0", name)):
            lab.wait_until(lambda: "state UP" in lab.run("ip", "link", "show", device, netns=netns).stdout, device)  # noqa: B023
        lab.wait_until(lambda: settled(look(name)), f"addresses of {name}")  # noqa: B023
    yield names
    for vm in vms:
        vm.unplug()
    for name in names:
        tenant = name.partition("-")[2]
        lab.run("ip", "link", "del", f"q-{tenant}")
        lab.run("ip", "link", "del", f"br-{tenant}")
        lab.run("ip", "netns", "del", name)


def look(netns: str) -> str:
    show = lab.run("ip", "-details", "address", netns=netns).stdout + lab.run("ip", "route", netns=netns).stdout
    return re.sub(r"valid_lft \S+|preferred_lft \S+|promiscuity \d+|allmulti \d+", "", show)


def settled(shown: str) -> bool:
    """Whether the device has its own link-local address, and all of them may be used."""
    return shown.count("inet6 fe80:") == 2 and "tentative" not in shown


def test_adopted_namespaces_are_served_and_untouched(daemon: lab.Daemon, spaces: list[str], tmp_path: Path) -> None:
    before = {name: look(name) for name in spaces}
    root = lab.run("ip", "link").stdout
    document = lab.documents("blue", "green")
    for network in document["networks"]:
        network["adopt"] = {"netns": f"qdhcp-{network['name']}", "device": "tap0"}
    daemon.apply(document)
    for tenant in ("blue", "green"):
        vm = lab.Vm(f"vm-{tenant}", f"tap-{tenant}", "02:00:00:00:00:05")
        assert vm.dhcp(tmp_path).address == "10.0.0.5"
        assert vm.get("/latest/meta-data/hostname").body == f"{tenant}-vm.novalocal"
        # The client of DHCP took all addresses away, also this kind.
        vm.run("ip", "address", "add", "fe80::1:2:3:4/64", "dev", "eth0", "nodad")
        vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
        for base in ("http://[fe80::a9fe:a9fe%25eth0]", "http://[fd00:ec2::254]"):
            done = vm.run("curl", "-gsS", f"{base}/latest/meta-data/hostname")
            assert done.stdout == f"{tenant}-vm.novalocal"
    assert {name: look(name) for name in spaces} == before
    daemon.clear()
    assert {name: look(name) for name in spaces} == before
    assert lab.run("ip", "link").stdout == root
    assert daemon.status()["networks"] == []


def test_a_missing_namespace_is_an_error_of_that_network_only(daemon: lab.Daemon, spaces: list[str]) -> None:
    document = lab.documents("blue", "green")
    document["networks"][0]["adopt"] = {"netns": "qdhcp-blue", "device": "tap0"}
    document["networks"][1]["adopt"] = {"netns": "qdhcp-nowhere", "device": "tap0"}
    daemon.apply(document, check=False)
    states = {row["id"]: row for row in daemon.status()["networks"]}
    assert states["blue-net"]["state"] == "ready"
    assert states["green-net"]["state"] == "error"
    assert "qdhcp-nowhere" in states["green-net"]["error"]


def test_a_namespace_that_its_owner_makes_again_is_served_again(
    daemon: lab.Daemon, spaces: list[str], tmp_path: Path
) -> None:
    document = lab.documents("blue")
    document["networks"][0]["adopt"] = {"netns": "qdhcp-blue", "device": "tap0"}
    daemon.apply(document)
    vm = lab.Vm("vm-blue", "tap-blue", "02:00:00:00:00:05")
    assert vm.dhcp(tmp_path).address == "10.0.0.5"
    # What an agent does when it resynchronises. Our sockets keep the old namespace alive, so only looking helps.
    lab.run("ip", "netns", "del", "qdhcp-blue")
    # Nothing is left to delete if the node has looked, and let go of the namespace, just before.
    lab.run("ip", "link", "del", "q-blue", check=False)
    lay("blue")
    lab.wait_until(lambda: vm.get("/latest/meta-data/hostname").body == "blue-vm.novalocal", "an answer", 60)
    assert vm.dhcp(tmp_path).address == "10.0.0.5"

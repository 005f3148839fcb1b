"""A running VM never notices a restart, a crash or an upgrade."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import lab


def links() -> dict[str, tuple[int, str | None]]:
    """Interface index and bridge of every device in this namespace."""
    rows = json.loads(lab.run("ip", "-json", "link").stdout)
    return {row["ifname"]: (row["ifindex"], row.get("master")) for row in rows}


def states() -> dict[str, str]:
    """What the kernel says of the devices of networks and guests in this namespace."""
    rows = json.loads(lab.run("ip", "-json", "link").stdout)
    return {row["ifname"]: row["operstate"] for row in rows if row["ifname"].startswith(("np", "tap"))}


def namespaces() -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in Path("/run/netns").iterdir()}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_lost_through_a_restart(
    end: str, daemon: lab.Daemon, two_ports: tuple[Any, lab.Vm, lab.Vm], tmp_path: Path
) -> None:
    _, vm, other = two_ports
    vm.dhcp(tmp_path)
    other.dhcp(tmp_path)
    # The kernel tells a moment later that a device is up, and nothing else shall be told from here on.
    lab.wait_until(lambda: set(states().values()) == {"UP"}, "devices that are up")
    before, spaces = links(), namespaces()
    log = tmp_path / "ping"

    def heard() -> list[int]:
        return [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", log.read_text())]

    vm.start("ping", "-i", "0.02", "10.0.0.6", log=log)
    monitor = subprocess.Popen(["ip", "monitor", "link", "address"], stdout=subprocess.PIPE, text=True)
    getattr(daemon, end)()
    daemon.start()
    assert vm.get("/latest/meta-data/hostname").body == "blue-vm.novalocal"
    monitor.terminate()
    output, _ = monitor.communicate(timeout=60)
    so_far = len(heard())
    lab.wait_until(lambda: len(heard()) > so_far + 10, "answers after the restart")
    numbers = heard()
    assert numbers == list(range(1, len(numbers) + 1))
    assert vm.dhcp(tmp_path).address == "10.0.0.5"
    assert links() == before
    assert namespaces() == spaces
    assert not [line for line in output.splitlines() if "np" in line or "Deleted" in line], output


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_who_asks_meanwhile_waits_and_is_answered(
    end: str, daemon: lab.Daemon, plug: Callable[..., lab.Vm], tmp_path: Path
) -> None:
    """With a service manager that keeps the sockets: between two processes a connection is queued, not refused."""
    keeper = lab.Keeper(tmp_path / "keeper")
    daemon.stop()
    daemon.keeper = keeper
    daemon.start()
    daemon.apply(lab.documents("blue", "green"))
    vms = [plug("blue"), plug("green")]
    for vm in vms:
        vm.set_address("10.0.0.5/24")
        assert vm.get("/latest/meta-data/hostname").status == 200
    lab.wait_until(lambda: len(keeper.kept) == 2, "sockets put by")
    inodes = {name: [os.fstat(fd).st_ino for fd in fds] for name, fds in keeper.kept.items()}
    getattr(daemon, end)()
    answers: list[lab.Answer] = []
    clients = [
        threading.Thread(target=lambda vm=vm: answers.append(vm.get("/latest/meta-data/hostname"))) for vm in vms
    ]
    for client in clients:
        client.start()
    lab.wait_until(lambda: waiting("np-blue-net") and waiting("np-green-net"), "connections queued")
    daemon.start()
    for client in clients:
        client.join(60)
    assert sorted(answer.body for answer in answers) == ["blue-vm.novalocal", "green-vm.novalocal"]
    assert {name: [os.fstat(fd).st_ino for fd in fds] for name, fds in keeper.kept.items()} == inodes
    assert vms[0].dhcp(tmp_path).address == "10.0.0.5"
    daemon.apply({"ports": [lab.documents("blue")["ports"][0] | {"host": "elsewhere"}]})
    lab.wait_until(lambda: list(keeper.kept) == ["np-green-net"], "blue's sockets forgotten")
    daemon.clear()
    daemon.stop()
    keeper.close()


def waiting(netns: str) -> bool:
    """Whether a connection sits in the queue of the metadata listener (deferred ones count as half open)."""
    states = lab.run("ss", "-Htn", "state", "connected", "sport", "=", ":80", netns=netns).stdout
    return bool(states.strip())


def test_a_lease_survives_a_crash(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    for vm in tenants.values():
        vm.dhcp(tmp_path)
    lab.wait_until(lambda: len([row for row in daemon.get("leases") if row["state"] == "bound"]) == 2, "leases")
    before = {row["network_id"]: row["address"] for row in daemon.get("leases")}
    daemon.kill()
    daemon.start()
    assert {row["network_id"]: row["address"] for row in daemon.get("leases")} == before
    for vm in tenants.values():
        lease = vm.dhcp(tmp_path, "-r", "10.0.0.5")
        assert lease.address == "10.0.0.5"


def test_foreign_devices_and_namespaces_stay(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    lab.run("ip", "link", "add", "foreign-br", "type", "bridge")
    lab.run("ip", "link", "add", "tap-foreign", "type", "veth", "peer", "name", "foreign-peer")
    lab.run("ip", "netns", "add", "np-foreign")
    lab.run("ip", "netns", "add", "qdhcp-foreign")
    try:
        before = {name: links()[name] for name in ("foreign-br", "tap-foreign", "foreign-peer")}
        daemon.apply(lab.documents("blue"))
        plug("blue").set_address("10.0.0.5/24")
        daemon.clear()
        assert {name: links()[name] for name in before} == before
        assert {"np-foreign", "qdhcp-foreign"} <= set(namespaces())
        assert not [name for name in links() if name.startswith("np")]
        assert "np-blue-net" not in namespaces()
        assert links()["tap-blue"][1] is None
    finally:
        for name in ("foreign-br", "tap-foreign"):
            lab.run("ip", "link", "del", name)
        for name in ("np-foreign", "qdhcp-foreign"):
            lab.run("ip", "netns", "del", name)


def test_one_networks_failure_stops_no_other(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    """A foreign namespace sits where green's should be: green has an error, blue is served."""
    lab.run("ip", "netns", "add", "np-green-net")
    try:
        daemon.cli("apply", "-f", "-", input=json.dumps(lab.documents("blue", "green")))
        vm = plug("blue")
        vm.set_address("10.0.0.5/24")
        assert vm.get("/latest/meta-data/hostname").status == 200
        states = {row["id"]: row for row in daemon.status()["networks"]}
        assert states["blue-net"]["state"] == "ready"
        assert states["green-net"]["state"] == "error"
        assert "np-green-net" in states["green-net"]["error"]
    finally:
        lab.run("ip", "netns", "del", "np-green-net")
    lab.wait_until(lambda: {row["state"] for row in daemon.status()["networks"]} == {"ready"}, "green retried", 30)


def test_lazy_networks_and_devices_that_come_and_go(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    document = lab.documents("blue", "green")
    elsewhere = [port | {"host": "another-node"} if port["id"] == "green-port" else port for port in document["ports"]]
    daemon.apply({**document, "ports": elsewhere})
    assert set(namespaces()) == {"np-blue-net"}
    vm = plug("blue")
    lab.wait_until(lambda: daemon.status()["networks"][0]["plugged"] == 1, "plugged")
    assert links()["tap-blue"][1] is not None
    vm.unplug()
    lab.wait_until(lambda: daemon.status()["networks"][0]["plugged"] == 0, "forgotten")
    daemon.apply({"ports": [elsewhere[1] | {"host": "lab"}]})
    assert set(namespaces()) == {"np-blue-net", "np-green-net"}


def test_a_lost_database_takes_nothing_from_running_guests(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    """Nobody ever told an empty store anything, so it cannot mean that everything shall go."""
    for vm in tenants.values():
        vm.dhcp(tmp_path)
    before, spaces = links(), namespaces()
    daemon.kill()
    for path in (tmp_path / "daemon").rglob("nodeplane.db*"):
        path.unlink()
    daemon.start()
    assert (links(), namespaces()) == (before, spaces)
    assert "left as they are" in daemon.log.read_text()
    daemon.apply(lab.documents("blue"))
    assert tenants["blue"].get("/latest/meta-data/hostname").body == "blue-vm.novalocal"
    assert (links(), namespaces()) == (before, spaces)
    # From the next start on the store has been told what there is: green is not.
    daemon.stop()
    daemon.start()
    assert {name for name in namespaces() if name.startswith("np-")} == {"np-blue-net"}


def test_a_namespace_that_cannot_be_entered_stops_no_other_network(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    daemon.stop()
    lab.run("ip", "netns", "delete", "np-green-net")
    (Path("/run/netns") / "np-green-net").symlink_to("np-green-net")
    daemon.start(wait=False)

    def ready() -> bool:
        told = daemon.cli("status", "-o", "json", check=False)
        return told.returncode == 0 and bool(json.loads(told.stdout)["ready"])

    lab.wait_until(ready, "the node")
    states = {row["id"]: row["state"] for row in daemon.status()["networks"]}
    assert states == {"blue-net": "ready", "green-net": "error"}
    assert tenants["blue"].dhcp(tmp_path).address == "10.0.0.5"
    (Path("/run/netns") / "np-green-net").unlink()
    lab.wait_until(lambda: all(row["state"] == "ready" for row in daemon.status()["networks"]), "green")
    assert tenants["green"].dhcp(tmp_path).address == "10.0.0.5"

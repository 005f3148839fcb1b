"""The daemon as a process, and two tenants who share range, address and MAC."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import lab
from tests.nova import SECRET
from tests.system.nova_process import CONFIG as NOVA_CONFIG
from tests.system.nova_process import INSTANCES, Upstream

MAC = "02:00:00:00:00:05"
ADDRESS = "10.0.0.5"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[lab.Daemon]:
    """A daemon that is up, on an empty store, with short holds; its log must hold no traceback at the end."""
    instance = lab.Daemon(tmp_path / "daemon", config='[metadata]\nhold_seconds = 2.0\n[log]\nlevel = "debug"\n')
    instance.start()
    yield instance
    if instance.process is not None and instance.process.poll() is None:
        instance.clear()
        instance.stop()
    assert "Traceback" not in instance.log.read_text()


@pytest.fixture
def patient(daemon: lab.Daemon) -> lab.Daemon:
    """The daemon, which keeps a request until the test has done what it waits for, however long that takes."""
    text = re.sub(r"hold_seconds = [0-9.]+", "hold_seconds = 60.0", daemon.config.read_text())
    daemon.config.write_text(f"{text}[dhcp]\nhold_seconds = 60.0\n")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    lab.wait_until(lambda: "daemon.reloaded" in daemon.log.read_text(), "reloaded")
    return daemon


@pytest.fixture
def plug() -> Iterator[Callable[..., lab.Vm]]:
    """Plug in stand-in VMs; all are unplugged at the end."""
    vms: list[lab.Vm] = []

    def plug(name: str, device: str | None = None, mac: str = MAC) -> lab.Vm:
        vms.append(lab.Vm(f"vm-{name}", device or f"tap-{name}", mac).plug())
        return vms[-1]

    yield plug
    for vm in vms:
        vm.unplug()


@pytest.fixture
def tenants(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> dict[str, lab.Vm]:
    """Blue and green: applied, plugged, not yet configured."""
    daemon.apply(lab.documents("blue", "green"))
    return {tenant: plug(tenant) for tenant in ("blue", "green")}


@pytest.fixture
def two_ports(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> tuple[dict[str, Any], lab.Vm, lab.Vm]:
    """One network with the ports `blue` (10.0.0.5) and `second` (10.0.0.6), both plugged; and its document."""
    document = lab.documents("blue")
    second = {**document["ports"][0], "id": "second-port", "device": "tap-second", "mac_address": "02:00:00:00:00:06",
              "device_id": "00000000-0000-4000-8000-000000000099",
              "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.6"}]}  # fmt: skip
    document["ports"] = [*document["ports"], second]
    instance = {**document["instances"][0], "id": second["device_id"], "name": "second-vm", "hostname": "second-vm"}
    document["instances"] = [*document["instances"], instance]
    daemon.apply(document)
    return dict(document), plug("blue"), plug("second", mac="02:00:00:00:00:06")


@pytest.fixture
def nova_instances() -> list[dict[str, Any]]:
    """What Nova knows; for a module to say otherwise."""
    return INSTANCES


@pytest.fixture
def upstream(tmp_path: Path, nova_instances: list[dict[str, Any]]) -> Iterator[Upstream]:
    """Nova's stand-in, serving."""
    made = Upstream(tmp_path, nova_instances)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def nova_daemon(tmp_path: Path, upstream: Upstream) -> Iterator[lab.Daemon]:
    """A daemon whose documents are Nova's, unless a network says otherwise; no secret may be in its log."""
    instance = lab.Daemon(tmp_path / "daemon", config=NOVA_CONFIG)
    instance.start()
    yield instance
    if instance.process is not None and instance.process.poll() is None:
        instance.clear()
        instance.stop()
    assert "Traceback" not in instance.log.read_text()
    assert SECRET not in instance.log.read_text()


@pytest.fixture
def nova_guests(nova_daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> dict[str, lab.Vm]:
    """Two tenants whose documents are Nova's, and `own`, whose are the store's; all with an address."""
    document: dict[str, Any] = dict(lab.documents("blue", "green", "own"))
    document["networks"][2]["metadata_backend"] = "own"
    # What only Nova knows: ports with a project are enough.
    document["instances"] = document["instances"][2:]
    for port, tenant in zip(document["ports"], ("blue", "green"), strict=False):
        port["project_id"] = f"{tenant}-project"
    nova_daemon.apply(document)
    vms = {tenant: plug(tenant) for tenant in ("blue", "green", "own")}
    for vm in vms.values():
        vm.set_address("10.0.0.5/24")
    return vms

"""The daemon as a process, and two tenants who share range, address and MAC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

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

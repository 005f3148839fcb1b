"""Guests' real clients in networks whose documents are Nova's, which knows no date of AWS's and nothing AWS added."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from scripts import lab
from tests.system.nova_process import INSTANCE
from tests.system.test_cloudinit import CLOUDINIT, crawl
from tests.system.test_ignition import IGNITION, start, users


@pytest.fixture
def nova_instances() -> list[dict[str, Any]]:
    found = []
    for number, tenant in enumerate(("blue", "green"), 1):
        config = {"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"name": tenant}]}}
        found.append({
            "uuid": INSTANCE.format(number), "project_id": f"{tenant}-project", "hostname": f"{tenant}-at-nova",
            "user_data": base64.b64encode(json.dumps(config).encode()).decode(),
            "keys": [{"name": tenant, "type": "ssh", "data": f"ssh-ed25519 AAAA{tenant}"}],
        })  # fmt: skip
    return found


@pytest.fixture
def guests(nova_guests: dict[str, lab.Vm]) -> dict[str, lab.Vm]:
    return {tenant: nova_guests[tenant] for tenant in ("blue", "green")}


@pytest.mark.skipif(not IGNITION, reason="Ignition's package is not unpacked: scripts/test does it")
@pytest.mark.parametrize("platform", ["openstack", "aws"])
def test_ignition(guests: dict[str, lab.Vm], tmp_path: Path, platform: str) -> None:
    """It asks AWS's version 2019-10-01, and takes a 404 for "there is no configuration"."""
    for tenant, vm in guests.items():
        directory = tmp_path / tenant
        assert users(start(vm, platform, directory), directory) == [tenant]


@pytest.mark.skipif(not CLOUDINIT, reason="cloud-init's package is not unpacked: scripts/test does it")
@pytest.mark.parametrize("kind", ["openstack", "ec2"])
def test_cloudinit(guests: dict[str, lab.Vm], tmp_path: Path, kind: str) -> None:
    for tenant, vm in guests.items():
        found = crawl(vm, kind, tmp_path / tenant)
        assert found["found"] is True
        assert json.loads(found["userdata"])["passwd"]["users"] == [{"name": tenant}]
        if kind == "openstack":
            assert found["metadata"]["uuid"] == found["metadata"]["instance-id"]
            assert found["metadata"]["public_keys"] == {tenant: f"ssh-ed25519 AAAA{tenant}"}
            assert found["ec2"]["hostname"] == f"{tenant}-at-nova.novalocal"
        else:
            assert found["metadata"]["hostname"] == f"{tenant}-at-nova.novalocal"
            assert found["metadata"]["public-keys"] == {tenant: f"ssh-ed25519 AAAA{tenant}"}


def test_a_version_of_aws_is_nova_s_newest(guests: dict[str, lab.Vm], nova_daemon: lab.Daemon) -> None:
    for tenant, vm in guests.items():
        for version in ("2016-09-02", "2021-03-23", "latest"):
            assert vm.get(f"/{version}/meta-data/hostname").body == f"{tenant}-at-nova.novalocal"
        assert vm.get("/2021-03-23/dynamic/instance-identity/document").status == 404
        assert vm.get("/nocloud/meta-data").status == 404
        refused = vm.get("/2021-03-23/user-data", "-X", "DELETE", "-D", "-")
        assert refused.status == 405
        assert "allow: get, head" in refused.body.lower()
    told = nova_daemon.cli(
        "explain", "metadata", "--network", "green-net", "--ip", "10.0.0.5", "--mac", "02:00:00:00:00:05",
        "/2021-03-23/meta-data/hostname", "-o", "json",
    )  # fmt: skip
    upstream = json.loads(told.stdout)["upstream"]
    assert upstream["url"].endswith("/latest/meta-data/hostname")
    assert upstream["headers"]["X-Instance-ID"] == INSTANCE.format(2)

"""cloud-init's own DataSourceOpenStack and DataSourceEc2, as Debian packages them, against the real address."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

CLOUDINIT = os.environ.get("NODEPLANE_CLOUDINIT", "")
CRAWL = Path(__file__).with_name("cloudinit_crawl.py")

pytestmark = pytest.mark.skipif(not CLOUDINIT, reason="cloud-init's package is not unpacked: scripts/test does it")


def crawl(vm: lab.Vm, kind: str, directory: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{CLOUDINIT}/usr/lib/python3/dist-packages", "PYTHONWARNINGS": "ignore"}
    done = vm.run(sys.executable, CRAWL, kind, directory, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_openstack(tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    for tenant, vm in tenants.items():
        vm.dhcp(tmp_path)
        result = crawl(vm, "openstack", tmp_path / tenant)
        assert result["found"] is True
        assert result["metadata"]["project_id"] == f"{tenant}-project"
        assert result["metadata"]["public_keys"] == {tenant: f"ssh-ed25519 AAAA{tenant}"}
        assert result["userdata"] == f"#!/bin/sh\necho {tenant}\n"
        assert result["version"] == 2 or result["version"] == "latest"
        assert result["ec2"]["local-ipv4"] == "10.0.0.5"
        [link] = result["network"]["links"]
        assert link["ethernet_mac_address"] == "02:00:00:00:00:05"
        [network] = result["network"]["networks"]
        assert network["type"] == "ipv4_dhcp"


def test_ec2(tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    for tenant, vm in tenants.items():
        vm.dhcp(tmp_path)
        result = crawl(vm, "ec2", tmp_path / tenant)
        assert result["found"] is True
        assert result["metadata"]["hostname"] == f"{tenant}-vm.novalocal"
        assert result["metadata"]["public-keys"] == {tenant: f"ssh-ed25519 AAAA{tenant}"}
        assert result["userdata"] == f"#!/bin/sh\necho {tenant}\n"

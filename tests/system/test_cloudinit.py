"""cloud-init's own data sources OpenStack, Ec2 and NoCloud, as Debian packages them, against the real address."""

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
    # It looks up names that do not exist, and the lab has no name server to say so.
    environment["RES_OPTIONS"] = "timeout:1 attempts:1"
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


def test_ec2_with_tokens(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    """What cloud-init does on a machine that looks like AWS's, whose metadata needs tokens."""
    document: dict[str, Any] = dict(lab.documents("blue", "green"))
    options = {"http_tokens": "required", "instance_metadata_tags": "enabled"}
    document["instances"] = [
        {**instance, "meta": {"role": "db"}, "metadata_options": options} for instance in document["instances"]
    ]
    daemon.apply(document)
    for tenant, vm in tenants.items():
        vm.dhcp(tmp_path)
        result = crawl(vm, "aws", tmp_path / tenant)
        assert result["found"] is True
        assert result["token"] is True
        assert result["metadata"]["hostname"] == f"{tenant}-vm.novalocal"
        assert result["metadata"]["tags"] == {"instance": {"role": "db"}}
        assert result["userdata"] == f"#!/bin/sh\necho {tenant}\n"
        assert result["identity"]["accountId"] == f"{tenant}-project"
        assert result["id"] == result["identity"]["instanceId"] == result["metadata"]["instance-id"]
        [(mac, interface)] = result["metadata"]["network"]["interfaces"]["macs"].items()
        assert mac == interface["mac"] == "02:00:00:00:00:05"
        assert interface["local-ipv4s"] == "10.0.0.5"


def test_nocloud(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    document: dict[str, Any] = dict(lab.documents("blue", "green"))
    vendor_data = {"cloud-init": "#cloud-config\n{}\n"}
    document["instances"] = [{**instance, "vendor_data": vendor_data} for instance in document["instances"]]
    daemon.apply(document)
    for number, (tenant, vm) in enumerate(tenants.items(), 1):
        vm.dhcp(tmp_path)
        result = crawl(vm, "nocloud", tmp_path / tenant)
        assert result["found"] is True
        assert result["metadata"]["instance-id"] == f"00000000-0000-4000-8000-{number:012x}"
        assert result["metadata"]["local-hostname"] == f"{tenant}-vm.novalocal"
        assert result["keys"] == [f"ssh-ed25519 AAAA{tenant}"]
        assert result["userdata"] == f"#!/bin/sh\necho {tenant}\n"
        assert result["vendordata"] == "#cloud-config\n{}\n"
        assert result["network"]["version"] == 2
        [interface] = result["interfaces"]
        assert interface["mac_address"] == "02:00:00:00:00:05"
        assert [subnet["type"] for subnet in interface["subnets"]] == ["dhcp4"]


def test_nocloud_with_fixed_addresses(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    document: dict[str, Any] = dict(lab.documents("blue", "green"))
    document["networks"] = [
        {**network, "subnets": [{**network["subnets"][0], "enable_dhcp": False}]} for network in document["networks"]
    ]
    daemon.apply(document)
    vm = tenants["blue"]
    vm.set_address("10.0.0.5/24")
    [interface] = crawl(vm, "nocloud", tmp_path / "blue")["interfaces"]
    [subnet] = interface["subnets"]
    assert (subnet["address"], subnet["prefix"]) == ("10.0.0.5", 24)
    assert subnet["dns_nameservers"] == ["10.0.0.1"]
    assert [(route["network"], route["prefix"], route["gateway"]) for route in subnet["routes"]] == [
        ("0.0.0.0", 0, "10.0.0.1")
    ]

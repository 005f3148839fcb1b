"""Ignition as Debian packages it: its fetch stage for OpenStack and for AWS, in two tenants with equal addresses.

It runs once in a machine's life, and takes 404 for "there is no configuration": an answer too early is a machine that
stays unconfigured.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

IGNITION = os.environ.get("NODEPLANE_IGNITION", "")

pytestmark = pytest.mark.skipif(not IGNITION, reason="Ignition's package is not unpacked: scripts/test does it")


def documents(*tenants: str, **options: str) -> dict[str, Any]:
    document: dict[str, Any] = dict(lab.documents(*tenants))
    for tenant, instance in zip(tenants, document["instances"], strict=True):
        config = {"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"name": tenant}]}}
        instance |= {"user_data": json.dumps(config), "metadata_options": options}
    return document


def start(vm: lab.Vm, platform: str, directory: Path) -> subprocess.Popen[str]:
    """The fetch stage; the fetched configuration is going to be in `directory`."""
    (directory / "root").mkdir(parents=True)
    return vm.start(IGNITION, "-platform", platform, "-stage", "fetch", "-log-to-stdout", "-root", directory / "root",
                    "-config-cache", directory / "config", "-state-file", directory / "state" / "state",
                    "-neednet", directory / "neednet", log=directory / "log")  # fmt: skip


def users(process: subprocess.Popen[str], directory: Path) -> list[str]:
    """Whom the fetched configuration names."""
    log = directory / "log"
    assert process.wait(60) == 0, log.read_text()
    config = json.loads((directory / "config").read_text())
    return [user["name"] for user in config["passwd"].get("users", ())]


@pytest.mark.parametrize(("platform", "tokens"), [("openstack", "optional"), ("aws", "optional"), ("aws", "required")])
def test_each_machine_gets_its_own_configuration(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path, platform: str, tokens: str
) -> None:
    daemon.apply(documents("blue", "green", http_tokens=tokens))
    for tenant, vm in tenants.items():
        vm.set_address("10.0.0.5/24")
        assert users(start(vm, platform, tmp_path / tenant), tmp_path / tenant) == [tenant]


@pytest.mark.parametrize("platform", ["openstack", "aws"])
def test_a_machine_whose_port_comes_late_is_configured(
    daemon: lab.Daemon, plug: Callable[..., lab.Vm], tmp_path: Path, platform: str
) -> None:
    """The hold is shorter than the wait here, so that Ignition is also told to come again."""
    document = documents("blue", "green")
    late, other = document["ports"]
    first = {**late, "id": "first-port", "mac_address": "02:00:00:00:00:77", "device_id": "",
             "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.77"}]}  # fmt: skip
    daemon.apply({**document, "ports": [first, other]})
    blue, green = plug("blue"), plug("green")
    for vm in (blue, green):
        vm.set_address("10.0.0.5/24")
    process = start(blue, platform, tmp_path / "blue")
    log = tmp_path / "blue" / "log"
    lab.wait_until(lambda: "Service Unavailable" in log.read_text(), "told to come again")
    assert users(start(green, platform, tmp_path / "green"), tmp_path / "green") == ["green"]
    assert process.poll() is None
    daemon.apply({"ports": [{**late, "device": "tap-late"}]})
    assert users(process, tmp_path / "blue") == ["blue"]


def test_a_machine_without_user_data_is_told_that_there_is_none(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    document = documents("blue", "green")
    del document["instances"][0]["user_data"]
    daemon.apply(document)
    for tenant, expected in (("blue", []), ("green", ["green"])):
        vm = tenants[tenant]
        vm.set_address("10.0.0.5/24")
        assert users(start(vm, "openstack", tmp_path / tenant), tmp_path / tenant) == expected

"""The main job: equal ranges, addresses and MACs, one process, and everyone gets their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import lab


def test_each_vm_gets_its_own_lease_and_metadata(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    for vm in tenants.values():
        lease = vm.dhcp(tmp_path)
        assert lease.address == "10.0.0.5"
        assert lease.variables["mtu"] == "1450"
        assert lease.variables["serverid"] == "169.254.169.254"
    for tenant, vm in tenants.items():
        answer = vm.get("/openstack/latest/meta_data.json")
        assert answer.status == 200
        document = json.loads(answer.body)
        assert document["project_id"] == f"{tenant}-project"
        assert document["hostname"] == f"{tenant}-vm.novalocal"
        assert vm.get("/latest/user-data").body == f"#!/bin/sh\necho {tenant}\n"
        assert vm.get("/latest/meta-data/public-keys/0/openssh-key").body == f"ssh-ed25519 AAAA{tenant}"
    leases = {row["network_id"]: row for row in daemon.get("leases")}
    assert {row["address"] for row in leases.values()} == {"10.0.0.5"}
    assert set(leases) == {"blue-net", "green-net"}
    assert all(row["state"] == "bound" for row in leases.values())


def test_the_namespaces_keep_the_tenants_apart(tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    blue, green = tenants["blue"], tenants["green"]
    blue.dhcp(tmp_path)
    green.dhcp(tmp_path)
    green.run("ip", "address", "add", "10.0.0.77/24", "dev", "eth0")
    assert blue.run("ping", "-c", "1", "-W", "1", "10.0.0.77", check=False).returncode != 0
    assert blue.run("ping", "-c", "1", "-W", "2", "169.254.169.254").returncode == 0


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 10.0.0.6",
        "X-Instance-ID: 00000000-0000-4000-8000-000000000002",
        "X-Tenant-ID: green-project",
        "X-Neutron-Network-ID: green-net",
        "X-OVN-Network-ID: green-net",
        "X_Instance_ID: 00000000-0000-4000-8000-000000000002",
        "Forwarded: for=10.0.0.6",
    ],
)
def test_identity_headers_change_nothing(tenants: dict[str, lab.Vm], header: str) -> None:
    tenants["blue"].set_address("10.0.0.5/24")
    answer = tenants["blue"].get("/openstack/latest/meta_data.json", "-H", header)
    assert answer.status == 200
    assert json.loads(answer.body)["project_id"] == "blue-project"


def test_a_spoofed_source_address_is_refused(daemon: lab.Daemon, two_ports: tuple[object, lab.Vm, lab.Vm]) -> None:
    """The attacker's own MAC in the SYN gives away that 10.0.0.6 is somebody else's."""
    _, attacker, victim = two_ports
    victim.unplug()
    attacker.set_address("10.0.0.6/24")
    answer = attacker.get("/openstack/latest/meta_data.json")
    assert answer.status == 403
    assert "second" not in answer.body
    assert daemon.metrics()['nodeplane_metadata_lookup_failures_total{reason="address_of_other_port"}'] == 1


def test_an_unknown_caller_is_held_and_then_told_to_come_back(tenants: dict[str, lab.Vm]) -> None:
    vm = tenants["blue"]
    vm.set_address("10.0.0.200/24")
    answer = vm.get("/latest/meta-data/", "-D", "-")
    assert answer.status == 503
    assert "retry-after: 1" in answer.body.lower()
    assert answer.seconds >= 1.9


def test_a_known_instance_gets_404_for_what_it_has_not(tenants: dict[str, lab.Vm]) -> None:
    tenants["green"].set_address("10.0.0.5/24")
    assert tenants["green"].get("/latest/meta-data/no-such-thing").status == 404


def test_only_metadata_is_served_to_guests(tenants: dict[str, lab.Vm]) -> None:
    vm = tenants["blue"]
    vm.set_address("10.0.0.5/24")
    for path in ("/metrics", "/livez", "/readyz", "/v1/status"):
        assert vm.get(path).status == 404
    done = vm.run("curl", "-sS", "--max-time", "2", "http://169.254.169.254:9100/metrics", check=False)
    assert done.returncode == 7

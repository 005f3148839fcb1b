"""The files in examples/ that operators start from are right as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane import cli_input, config, documents

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["first-network.yaml", "two-tenants.yaml"])
def test_documents_decode(name: str) -> None:
    state = documents.decode(cli_input.read(str(EXAMPLES / name)))
    instances = {instance.id for instance in state.instances}
    assert state.ports
    assert all(port.device_id in instances and port.fixed_ips for port in state.ports)


def test_security_groups_are_complete() -> None:
    """Every group, address group and policy that the example names is in it."""
    state = documents.decode(cli_input.read(str(EXAMPLES / "security-groups.yaml")))
    groups = {group.id for group in state.security_groups}
    rules = [rule for group in state.security_groups for rule in group.security_group_rules or ()]
    assert {group for port in state.ports for group in port.security_groups or ()} == groups
    assert {rule.remote_group_id for rule in rules} <= {None, *groups}
    assert {rule.remote_address_group_id for rule in rules} == {None, *(group.id for group in state.address_groups)}
    assert {port.egress_firewall_policy_id for port in state.ports} == {
        None, *(policy.id for policy in state.firewall_policies),
    }  # fmt: skip


def test_two_tenants_look_alike() -> None:
    """The point of that example: same range, same address, same MAC, different everything else."""
    state = documents.decode(cli_input.read(str(EXAMPLES / "two-tenants.yaml")))
    blue, green = state.ports
    assert blue.mac_address == green.mac_address
    assert blue.fixed_ips[0].ip_address == green.fixed_ips[0].ip_address
    assert len({network.subnets[0].cidr for network in state.networks}) == 1
    assert len({network.vni for network in state.networks}) == 2
    assert blue.device_name != green.device_name


def test_configuration_loads() -> None:
    assert config.load(EXAMPLES / "first-node.toml").node.on_stop == "teardown"

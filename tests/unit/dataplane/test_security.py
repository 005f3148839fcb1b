"""security: a port's groups, and what the Neutron API adds to what is said."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents, security
from dataplane.desired import Desired
from dataplane.model import Mac, Port
from tests.unit.dataplane.states import UUID, instance, network, port


def state(*ports: dict[str, Any], **more: Any) -> Desired:
    return Desired.of(documents.decode({"networks": [network()], "ports": list(ports), **more}))


def first(held: Desired) -> Port:
    return next(iter(held.ports.values()))


def test_groups_of_a_port() -> None:
    held = state(port(security_groups=["b", "a", "b"]))
    assert security.groups_of(held, first(held)) == ("a", "b")
    held = state(port(security_groups=[]))
    assert security.groups_of(held, first(held)) == ()


def test_a_port_that_names_no_groups_is_in_the_default_group_of_its_project() -> None:
    held = state(port(project_id="p"))
    assert security.groups_of(held, first(held)) == ("default:p",)
    held = state(port(project_id="p"), security_groups=[{"id": "g", "name": "default", "project_id": "p"}])
    assert security.groups_of(held, first(held)) == ("g",)
    held = state(port(device_id=f"{UUID}1"), instances=[instance(project_id="q")])
    assert security.groups_of(held, first(held)) == ("default:q",)
    held = state(port(device_id=f"{UUID}1"))
    assert security.groups_of(held, first(held)) == ("default:",)


def test_rules_of_a_new_group_are_neutrons() -> None:
    held = state(security_groups=[{"id": "g"}, {"id": "empty", "security_group_rules": []}])
    new, empty = held.security_groups.values()
    assert [(rule.direction, rule.ethertype) for rule in security.rules_of(new)] == [
        ("egress", "IPv4"), ("egress", "IPv6"),
    ]  # fmt: skip
    assert security.rules_of(empty) == ()
    default = security.group_of(held, "default:p")
    assert default is not None
    assert [(rule.direction, rule.remote_group_id) for rule in security.rules_of(default)] == [
        ("egress", None), ("egress", None), ("ingress", "default:p"), ("ingress", "default:p"),
    ]  # fmt: skip
    assert security.group_of(held, "nothing") is None


@pytest.mark.parametrize(
    ("more", "trusted"),
    [
        ({}, False),
        ({"port_security_enabled": False}, True),
        ({"device_owner": "network:dhcp"}, True),
        ({"device_owner": "compute:nova"}, False),
    ],
)
def test_ports_that_are_not_filtered(more: dict[str, Any], trusted: bool) -> None:
    held = state(port(**more))
    assert security.is_trusted(first(held)) is trusted


def test_addresses_of_a_member() -> None:
    held = state(port(allowed_address_pairs=[{"ip_address": "10.9.0.0/16"}, {"ip_address": "2001:db8::1"}]))
    assert [str(prefix) for prefix in security.prefixes_of(first(held))] == [
        "10.0.0.5/32", "10.9.0.0/16", "2001:db8::1/128",
    ]  # fmt: skip


def test_link_local_address() -> None:
    """RFC 2464 section 4 has this example."""
    assert security.link_local_of(Mac("34:56:78:9a:bc:de")) == "fe80::3656:78ff:fe9a:bcde"

"""Any plain data gives a desired state in canonical form or a DocumentError with paths, never anything else."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import documents
from dataplane.desired import Desired
from dataplane.errors import DocumentError
from tests.unit.dataplane.states import UUID, instance, network, port, subnet

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.just(datetime.date(2026, 1, 1)),
    st.sampled_from(["10.0.0.5", "::1", "10.0.0.0/24", "2001:db8::/64", "fa:16:3e:00:00:05", "blue", "p1", UUID + "1"]),
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(["id", "networks", "ports", "subnets"]), leaves), inner, max_size=3),
    ),
    max_leaves=8,
)

RIGHT: dict[str, Any] = {
    "networks": [
        network(
            "blue",
            subnet(
                "blue-subnet",
                gateway_ip="10.0.0.1",
                dns_nameservers=["10.0.0.2"],
                host_routes=[{"destination": "10.9.0.0/16", "nexthop": "10.0.0.3"}],
                allocation_pools=[{"start": "10.0.0.9", "end": "10.0.0.20"}],
            ),
            subnet("v6", "2001:DB8::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac"),
            vni=7,
            adopt={"netns": "qdhcp-1", "device": "tap0"},
        )
    ],
    "ports": [
        port(
            device_id=UUID + "1",
            extra_dhcp_opts=[{"opt_name": "67", "opt_value": "x"}],
            allowed_address_pairs=[{"ip_address": "10.0.0.0/8", "mac_address": "FA:16:3E:00:00:05"}],
        )
    ],
    "instances": [
        instance(
            keys=[{"name": "k", "data": "ssh"}],
            devices=[{"type": "nic", "mac": "FA:16:3E:00:00:05", "vlan": 3}],
            files=[{"path": "x", "content": "y"}],
            meta={"a": "b"},
            vendor_data={"a": [1]},
        )
    ],
    "security_groups": [
        {
            "id": "g",
            "name": "default",
            "security_group_rules": [
                {"id": "r", "direction": "ingress", "protocol": "TCP", "port_range_min": 1, "port_range_max": 65535},
                {"id": "s", "direction": "egress", "ethertype": "IPv6", "remote_ip_prefix": "2001:DB8::/32"},
                {"id": "t", "direction": "egress", "remote_group_id": "g", "protocol": "icmp", "port_range_min": 8},
            ],
        }
    ],
    "address_groups": [{"id": "a", "addresses": ["10.0.0.0/8", "2001:DB8::1"]}],
    "firewall_policies": [
        {
            "id": "f",
            "firewall_rules": [
                {"id": "w", "action": "deny", "protocol": "udp", "source_port": "053", "ip_version": 6},
                {"id": "x", "action": "allow", "source_ip_address": "10.0.0.1", "enabled": False},
            ],
        }
    ],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
    return [path, *(place for key in keys for place in places(data[key], (*path, key)))]


PLACES = [place for place in places(RIGHT) if place]


def check_refusal(error: DocumentError) -> None:
    assert error.mistakes
    assert all(mistake.reason for mistake in error.mistakes)
    assert len(set(error.mistakes)) == len(error.mistakes)


def check(data: Any) -> None:
    held = Desired()
    try:
        state = documents.decode(data, against=held)
    except DocumentError as error:
        check_refusal(error)
        return
    # Canonical: decoding what came out changes nothing. Storable: JSON carries it there and back.
    assert documents.decode(msgspec.to_builtins(state)) == state
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state
    held.apply(held.stage(state))
    assert held.state() == state


@settings(max_examples=300, deadline=None)
@given(anything)
def test_anything(data: Any) -> None:
    check(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_a_right_document_with_something_else_somewhere(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    data = copy.deepcopy(RIGHT)
    for place, value in changes:
        target: Any = data
        try:
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = value
        except (LookupError, TypeError):
            continue  # an earlier change took this place away
    check(data)


def test_the_right_document_is_right() -> None:
    assert documents.decode(RIGHT).ports

"""Deterministic names and addresses of the kernel objects of a network.

The same network has the same names and MACs on every node and after every restart, so what exists can be found
again without any state, and guests see the same server wherever they run (design.md, decision 5).

A bridge or veth that carries `mark(network_id)` as its alias is ours. A device that was made a moment ago and has no
alias yet is known by its MAC (`bridge_mac`, `veth_mac`): 46 bits of a hash, set in the same request that creates it.
"""

from __future__ import annotations

import hashlib

from dataplane.model import NetworkId

NAMESPACE_PREFIX = "np-"
BRIDGE_PREFIX = "npb"
VETH_PREFIX = "npv"
MARK_PREFIX = "nodeplane:"

SERVICE_DEVICE = "svc0"
"""The veth end inside the namespace."""

# IFNAMSIZ is 16 with the final zero byte: 15 characters, of which the prefix takes three.
_HASH_CHARACTERS = 12


def _digest(purpose: str, network_id: str) -> bytes:
    return hashlib.blake2b(network_id.encode(), digest_size=6, person=purpose.encode()).digest()


def _mac(purpose: str, network_id: str) -> bytes:
    digest = _digest(purpose, network_id)
    # IEEE 802: bit 1 of the first byte is "locally administered", bit 0 "group".
    return bytes((digest[0] & 0xFC | 0x02,)) + digest[1:]


def namespace(network_id: NetworkId) -> str:
    """Name below /run/netns."""
    return NAMESPACE_PREFIX + network_id


def bridge(network_id: NetworkId) -> str:
    """Name of the bridge in the root namespace, 15 characters."""
    return BRIDGE_PREFIX + _digest("device", network_id).hex()[:_HASH_CHARACTERS]


def veth(network_id: NetworkId) -> str:
    """Name of the veth end that is plugged into the bridge, 15 characters."""
    return VETH_PREFIX + _digest("device", network_id).hex()[:_HASH_CHARACTERS]


def service_mac(network_id: NetworkId) -> bytes:
    """The service's MAC towards guests, 6 bytes, locally administered unicast."""
    return _mac("service", network_id)


def bridge_mac(network_id: NetworkId) -> bytes:
    """The bridge's own MAC: fixed, so that it does not change with the devices plugged in."""
    return _mac("bridge", network_id)


def veth_mac(network_id: NetworkId) -> bytes:
    """MAC of the veth end in the root namespace."""
    return _mac("veth", network_id)


def mark(network_id: NetworkId) -> str:
    """The alias (IFLA_IFALIAS) of everything that is ours."""
    return MARK_PREFIX + network_id


def marked(alias: str) -> NetworkId | None:
    """The network whose mark this alias is, or None."""
    if not alias.startswith(MARK_PREFIX) or len(alias) == len(MARK_PREFIX):
        return None
    return NetworkId(alias[len(MARK_PREFIX) :])

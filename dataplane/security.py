"""What a port's groups are and what their rules say, with the Neutron API's defaults filled in."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from dataplane.fields import Prefix, parse_ip, parse_prefix
from dataplane.indexes import DEFAULT_GROUP, Indexes
from dataplane.model import InstanceId, Mac, Port, SecurityGroup, SecurityGroupId, SecurityGroupRule

Direction = Literal["ingress", "egress"]
Version = Literal[4, 6]
VERSIONS: Final[dict[str, Version]] = {"IPv4": 4, "IPv6": 6}

IMPLICIT: Final = "default:"
"""Beginning of the id of a `default` group that no document has; no document can name it."""
TRUSTED_OWNERS: Final = "network:"
"""Beginning of the owners of ports that are the network's own: DHCP servers, routers."""


def is_trusted(port: Port) -> bool:
    """Whether nothing of the port is filtered by addresses or groups; as in Neutron, also what the network owns."""
    return not port.port_security_enabled or port.device_owner.startswith(TRUSTED_OWNERS)


def project_of(held: Indexes, port: Port) -> str:
    """The project of a port, or that of its instance; empty if neither is known."""
    if port.project_id or not port.device_id:
        return port.project_id
    instance = held.instances.get(InstanceId(port.device_id))
    return instance.project_id if instance is not None else ""


def default_group_of(held: Indexes, project: str) -> str:
    """Id of the group of a project's ports that name none: the one called `default`, or one that always is."""
    group = held.default_group.get(project)
    return group.id if group is not None else IMPLICIT + project


def groups_of(held: Indexes, port: Port) -> tuple[str, ...]:
    """Ids of the groups that a port is in, in order and once each; groups that do not exist yet among them."""
    if port.security_groups is None:
        return (default_group_of(held, project_of(held, port)),)
    return tuple(sorted(set(port.security_groups)))


def group_of(held: Indexes, key: str) -> SecurityGroup | None:
    """The group of an id of `groups_of`."""
    if key.startswith(IMPLICIT):
        return SecurityGroup(id=SecurityGroupId(key), name=DEFAULT_GROUP, project_id=key.removeprefix(IMPLICIT))
    return held.security_groups.get(SecurityGroupId(key))


def rules_of(group: SecurityGroup) -> tuple[SecurityGroupRule, ...]:
    """The rules of a group; without any given those of a new group in Neutron.

    They let everything out, and a `default` group lets its own members in.
    """
    if group.security_group_rules is not None:
        return group.security_group_rules
    rules = [SecurityGroupRule(id=f"egress-{ethertype}", direction="egress", ethertype=ethertype)
             for ethertype in ("IPv4", "IPv6")]  # fmt: skip
    if group.name == DEFAULT_GROUP:
        rules += [SecurityGroupRule(id=f"ingress-{ethertype}", direction="ingress", ethertype=ethertype,
                                    remote_group_id=group.id) for ethertype in ("IPv4", "IPv6")]  # fmt: skip
    return tuple(rules)


def prefixes_of(port: Port) -> Iterator[Prefix]:
    """The addresses by which a port counts as a member of its groups: its own, and its allowed address pairs."""
    for fixed in port.fixed_ips:
        yield prefix_of(fixed.ip_address)
    for pair in port.allowed_address_pairs:
        yield prefix_of(pair.ip_address)


def prefix_of(text: str) -> Prefix:
    """An address or prefix in canonical text as a prefix."""
    if "/" in text:
        return parse_prefix(text)
    if ":" in text:
        return IPv6Network((int(parse_ip(text)), 128))
    first, second, third, fourth = text.split(".")  # groups may have very many members: a third of ipaddress' time
    return IPv4Network((int(first) << 24 | int(second) << 16 | int(third) << 8 | int(fourth), 32))


def link_local_of(mac: Mac) -> str:
    """The link-local address that a host makes from its MAC (RFC 4291 appendix A, RFC 2464 section 4)."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    octets[0] ^= 2
    octets[3:3] = [0xFF, 0xFE]
    words = [f"{high << 8 | low:x}" for high, low in zip(octets[::2], octets[1::2], strict=True)]
    return str(parse_ip(f"fe80::{':'.join(words)}"))

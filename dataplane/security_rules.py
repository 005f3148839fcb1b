"""Rules inside one security group, address group or firewall policy, as the Neutron API has them."""

from __future__ import annotations

import re

import msgspec

from dataplane import fields, protocols
from dataplane.fields import Findings
from dataplane.model import AddressGroup, FirewallPolicy, FirewallRule, SecurityGroup, SecurityGroupRule

MAX_PORT = 65535

_PORTS = re.compile(r"(?P<first>[0-9]{1,5})(?::(?P<last>[0-9]{1,5}))?")
_NAMED = {
    "id": fields.identifier,
    "name": fields.text,
    "project_id": fields.visible,
    "description": fields.text,
}
_RULE = {
    "id": fields.identifier,
    "remote_ip_prefix": fields.address_or_prefix,
    "remote_group_id": fields.identifier,
    "remote_address_group_id": fields.identifier,
    "description": fields.text,
}
_REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")


def ports(value: str) -> str:
    """A port, or the first and last of a range with a colon between them; canonical: without leading zeros."""
    match = _PORTS.fullmatch(value)
    bounds = [int(part) for part in match.groups() if part] if match else []
    if not bounds or any(not 1 <= port <= MAX_PORT for port in bounds):
        raise ValueError(f"{value!r} is no port from 1 to {MAX_PORT} and no range such as 8000:8080")
    if bounds[0] > bounds[-1]:
        raise ValueError(f"{bounds[-1]} is before {bounds[0]}")
    return ":".join(map(str, bounds))


_FIREWALL_RULE = {
    "id": fields.identifier,
    "name": fields.text,
    "source_ip_address": fields.address_or_prefix,
    "destination_ip_address": fields.address_or_prefix,
    "source_port": ports,
    "destination_port": ports,
}


def security_group(findings: Findings, group: SecurityGroup, path: str) -> SecurityGroup:
    """The group with canonical values; every broken rule is noted in `findings`."""
    group = findings.fields(group, path, _NAMED)
    if group.security_group_rules:
        group = findings.each(group, path, "security_group_rules", _rule)
        _check_ids(findings, [rule.id for rule in group.security_group_rules or ()], f"{path}.security_group_rules")
    return group


def address_group(findings: Findings, group: AddressGroup, path: str) -> AddressGroup:
    """The group with canonical values; every broken rule is noted in `findings`."""
    return findings.fields(group, path, {**_NAMED, "addresses": fields.address_or_prefix})


def firewall_policy(findings: Findings, policy: FirewallPolicy, path: str) -> FirewallPolicy:
    """The policy with canonical values; every broken rule is noted in `findings`."""
    policy = findings.fields(policy, path, _NAMED)
    if policy.firewall_rules:
        policy = findings.each(policy, path, "firewall_rules", _firewall_rule)
        _check_ids(findings, [rule.id for rule in policy.firewall_rules], f"{path}.firewall_rules")
    return policy


def _check_ids(findings: Findings, ids: list[str], path: str) -> None:
    seen: dict[str, int] = {}
    for index, key in enumerate(ids):
        first = seen.setdefault(key, index)
        if first != index:
            findings.add(f"{path}[{index}].id", f"{key} is also the id of {path}[{first}]")


def _rule(findings: Findings, rule: SecurityGroupRule, path: str) -> SecurityGroupRule:
    version = 4 if rule.ethertype == "IPv4" else 6
    rule = findings.fields(rule, path, _RULE)
    protocol = _protocol(findings, rule.protocol, version, path)
    if (rule.port_range_min, rule.port_range_max) == (1, MAX_PORT):
        # As in Neutron: all ports are no condition, so that later fragments pass as well.
        rule = msgspec.structs.replace(rule, port_range_min=None, port_range_max=None)
    rule = msgspec.structs.replace(rule, protocol=protocol)
    _check_range(findings, rule, path)
    _check_family(findings, rule.remote_ip_prefix, version, f"{path}.remote_ip_prefix")
    given = [name for name in _REMOTES if getattr(rule, name) is not None]
    if len(given) > 1:
        findings.add(f"{path}.{given[1]}", f"only one of {', '.join(_REMOTES)} may be given")
    return rule


def _firewall_rule(findings: Findings, rule: FirewallRule, path: str) -> FirewallRule:
    rule = findings.fields(rule, path, _FIREWALL_RULE)
    rule = msgspec.structs.replace(rule, protocol=_protocol(findings, rule.protocol, rule.ip_version, path))
    for name in ("source_ip_address", "destination_ip_address"):
        _check_family(findings, getattr(rule, name), rule.ip_version, f"{path}.{name}")
    if not _has_ports(rule.protocol):
        for name in ("source_port", "destination_port"):
            if getattr(rule, name) is not None:
                findings.add(f"{path}.{name}", "needs a protocol that has ports: tcp, udp, sctp, dccp or udplite")
    return rule


def _protocol(findings: Findings, protocol: str | None, version: int, path: str) -> str | None:
    if protocol is None:
        return None
    try:
        canonical = protocols.canonical(protocol, version)
    except ValueError as error:
        findings.add(f"{path}.protocol", str(error))
        return protocol
    if version == 4 and canonical is not None and protocols.number(canonical) in protocols.IPV6_ONLY:
        findings.add(f"{path}.protocol", f"{canonical} is a protocol of IPv6")
    return canonical


def _has_ports(protocol: str | None) -> bool:
    """Also true of one whose own rule has already been broken."""
    return protocol is not None and _number(protocol) in {None, *protocols.WITH_PORTS}


def _number(protocol: str | None) -> int | None:
    """None where there is no protocol, or one whose own rule has already been broken."""
    try:
        return None if protocol is None else protocols.number(protocol)
    except ValueError:
        return None


def _check_range(findings: Findings, rule: SecurityGroupRule, path: str) -> None:
    low, high = rule.port_range_min, rule.port_range_max
    if low is None and high is None:
        return
    first = f"{path}.port_range_min" if low is not None else f"{path}.port_range_max"
    if rule.protocol is None:
        findings.add(first, "needs a protocol")
        return
    number = _number(rule.protocol)
    if number in protocols.ICMPS:
        for name, value, what in (("port_range_min", low, "type"), ("port_range_max", high, "code")):
            if value is not None and not 0 <= value <= 255:
                findings.add(f"{path}.{name}", f"{value} is no ICMP {what} from 0 to 255")
        if low is None:
            findings.add(f"{path}.port_range_max", "an ICMP code needs a type in port_range_min")
    elif number in protocols.WITH_PORTS:
        for name, value in (("port_range_min", low), ("port_range_max", high)):
            if value is None:
                findings.add(f"{path}.{name}", "is missing: a range has both ends")
            elif not 1 <= value <= MAX_PORT:
                findings.add(f"{path}.{name}", f"{value} is not between 1 and {MAX_PORT}")
        if low is not None and high is not None and low > high:
            findings.add(f"{path}.port_range_max", f"{high} is before {low}")
    elif number is not None:
        findings.add(first, f"{rule.protocol} has no ports")


def _check_family(findings: Findings, prefix: str | None, version: int, path: str) -> None:
    if prefix is None:
        return
    family = 6 if ":" in prefix else 4
    if family != version:
        findings.add(path, f"{prefix} is not of IPv{version}, as the rule is")

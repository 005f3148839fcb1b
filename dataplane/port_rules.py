"""Rules inside one port. Between objects (addresses in subnets, duplicates): see `relations`."""

from __future__ import annotations

import re

from dataplane import fields
from dataplane.dhcp import options
from dataplane.fields import Findings
from dataplane.model import ExtraDhcpOpt, Port

# Chosen by the Neutron API.
OPTION_NAME_CHARACTERS = 64
OPTION_VALUE_CHARACTERS = 255
BLANK_OPTIONS = ("router", "classless-static-route")
"""Options that may be blank: not to be sent at all."""

_OPTION_NAME = re.compile(r"(?:tag:!?[A-Za-z0-9_-]+,)*(?P<name>[A-Za-z0-9][A-Za-z0-9_:-]*)")


def _option_name(value: str) -> str:
    # CVE-2021-40085: a newline in an option reached dnsmasq's configuration. Nothing of ours is a configuration text,
    # but what is refused everywhere can come back nowhere.
    if len(value) > OPTION_NAME_CHARACTERS:
        raise ValueError(f"is longer than {OPTION_NAME_CHARACTERS} characters")
    if not _OPTION_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a DHCP option name or number")
    return value


def _device(value: str) -> str:
    if value == "lo":
        raise ValueError("the loopback device cannot be plugged")
    return fields.device(value)


_PORT = {
    "id": fields.identifier,
    "mac_address": fields.mac,
    "name": fields.text,
    "device_id": fields.owner,
    "device_owner": fields.text,
    "device": fields.optional(_device),
    "dns_name": fields.domain,
    "security_groups": fields.identifier,
    "host": fields.visible,
    "project_id": fields.optional(lambda value: fields.visible(fields.label(value))),
    "ingress_firewall_policy_id": fields.identifier,
    "egress_firewall_policy_id": fields.identifier,
}
_FIXED_IP = {"ip_address": fields.ip}
_OPTION = {"opt_name": _option_name, "opt_value": fields.text}
_PAIR = {"ip_address": fields.address_or_prefix, "mac_address": fields.mac}


def canonical(findings: Findings, port: Port, path: str) -> Port:
    """The port with canonical values; every broken rule is noted in `findings`."""
    port = findings.fields(port, path, _PORT)
    if port.fixed_ips:
        port = findings.each(port, path, "fixed_ips", lambda f, r, p: f.fields(r, p, _FIXED_IP))
    if port.allowed_address_pairs:
        port = findings.each(port, path, "allowed_address_pairs", lambda f, r, p: f.fields(r, p, _PAIR))
    if port.extra_dhcp_opts:
        port = findings.each(port, path, "extra_dhcp_opts", _option)
        seen: dict[tuple[str, int], int] = {}
        for index, option in enumerate(port.extra_dhcp_opts):
            first = seen.setdefault((option.opt_name, option.ip_version), index)
            if first != index:
                findings.add(
                    f"{path}.extra_dhcp_opts[{index}].opt_name",
                    f"{option.opt_name} is also given by {path}.extra_dhcp_opts[{first}]",
                )
    return port


def _option(findings: Findings, option: ExtraDhcpOpt, path: str) -> ExtraDhcpOpt:
    before = len(findings.mistakes)
    option = findings.fields(option, path, _OPTION)
    name = _OPTION_NAME.fullmatch(option.opt_name)
    if not option.opt_value and name is not None and name["name"] not in BLANK_OPTIONS:
        findings.add(f"{path}.opt_value", f"may be blank only for {' and '.join(BLANK_OPTIONS)}")
    if option.ip_version == 4 and len(findings.mistakes) == before:
        try:
            options.from_extra(option)
        except ValueError as error:
            findings.add(path, str(error))
    return option

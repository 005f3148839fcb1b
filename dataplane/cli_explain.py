"""`nodeplane explain`: why a request or a packet fares as it does, a line per decision."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.cli_output import printable
from dataplane.explanation import MetadataExplanation, PacketExplanation

_BY = {
    "mac": "MAC and address must be of one port",
    "address": "the address alone counts, as on metadata.dropin_socket; --mac asks as a guest's own connection",
}
_DECIDED = {"identity": "nobody is known", "policy": "the policy", "backend": "the backend"}


def lines(found: MetadataExplanation | PacketExplanation) -> Iterator[str]:
    """The explanation for people."""
    for heading, text in _rows(found) if isinstance(found, MetadataExplanation) else _packet(found):
        yield f"{heading:<9} {printable(text)}"


def _rows(found: MetadataExplanation) -> Iterator[tuple[str, str]]:
    yield "request", f"{found.method} {found.path}"
    yield "caller", " ".join(filter(None, (found.address, found.mac or "", f"in network {found.network}")))
    yield "", _BY[found.by]
    if found.verdict == "known":
        yield "port", found.port
        yield "instance", f"{found.instance} of project {found.project}"
    else:
        yield "port", f"{found.verdict}: {found.reason}"
        yield "", found.meaning
    if found.policy is not None:
        policy = found.policy
        yield "policy", f"endpoint {policy.http_endpoint}, tokens {policy.http_tokens}"
        yield "", f"tags {policy.instance_metadata_tags}, hop limit {policy.http_put_response_hop_limit}"
    if found.backend:
        yield "backend", {"own": "own documents", "nova": "Nova"}[found.backend]
    if found.upstream is not None:
        yield "upstream", f"{found.upstream.method} {found.upstream.url}"
        for name, value in found.upstream.headers.items():
            yield "", f"{name}: {value}"
    text = f"{found.status} {found.content_type}, {found.size} bytes"
    match found.verdict:
        case "unknown":
            text = f"held until its port is known, at last {found.status}"
        case "refused":
            text = f"{found.status} at once"
    yield "answer", text
    if found.verdict == "known":
        yield "", f"from {_DECIDED[found.decided_by]}, after {found.seconds * 1e3:.1f} ms"


_DIRECTIONS = {"ingress": "to the guest", "egress": "from the guest"}
_SOURCES = {
    "fixed_ips": "an address of the port",
    "allowed_address_pairs": "in an allowed address pair of the port",
    "link_local": "the link-local address of the port's MAC",
    "dhcp_client": "none yet, as a DHCP client has",
    "duplicate_address_detection": "none yet, as in duplicate address detection",
}
_STATES = {
    "new": "new: it begins a connection; this release carries no packets, and so knows none",
    "invalid": "invalid: it begins no connection; this release carries no packets, and so knows none",
    "untracked": "untracked: it is of no connection",
}


def _packet(found: PacketExplanation) -> Iterator[tuple[str, str]]:
    yield "packet", found.packet
    yield "port", f"{found.port} in network {found.network}, {found.direction} ({_DIRECTIONS[found.direction]})"
    if found.mac is not None:
        yield "source", "; ".join(filter(None, (f"MAC {found.mac}", _SOURCES.get(found.source, ""))))
    yield "groups", " ".join(found.groups) or "none"
    if found.firewall_policy:
        yield "firewall", found.firewall_policy
    for key in found.missing:
        yield "", f"{key} does not exist"
    yield "verdict", found.verdict + (", tracked: answers pass" if found.stateful else "")
    yield "why", f"{found.reason}: {found.meaning}"
    if found.group:
        name = f" ({found.group_name})" if found.group_name and found.group_name != found.group else ""
        yield "rule", f"{found.rule} of security group {found.group}{name}"
    elif found.rule:
        yield "rule", f"{found.rule} of firewall policy {found.firewall_policy}"
    if found.remote_group:
        yield "", f"the other end is port {found.member} of security group {found.remote_group}"
    if found.address_group:
        yield "", f"the other end is in address group {found.address_group}"
    yield "state", _STATES[found.connection]

"""`nodeplane explain metadata`: why a request is answered as it is, a line per decision."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.cli_output import printable
from dataplane.explanation import MetadataExplanation

_BY = {
    "mac": "MAC and address must be of one port",
    "address": "the address alone counts, as on metadata.dropin_socket; --mac asks as a guest's own connection",
}
_DECIDED = {"identity": "nobody is known", "policy": "the policy", "backend": "the backend"}


def lines(found: MetadataExplanation) -> Iterator[str]:
    """The explanation for people."""
    for heading, text in _rows(found):
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

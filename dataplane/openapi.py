"""The OpenAPI document of the control API, made from the types that the store and the daemon use.

`OPERATIONS` is the one table of what the API has: the server builds its routes from it, the document describes it, and
a test checks every answer against the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from dataplane import __version__, explanation, status
from dataplane.model import CLASSES, KINDS, SINGULAR, DesiredState, Kind

SCHEMAS = "#/components/schemas/{name}"


class Parameter(NamedTuple):
    """One parameter of the query string or of the path."""

    name: str
    meaning: str
    type: Literal["string", "integer", "number", "boolean"] = "string"
    place: Literal["query", "path"] = "query"


class Operation(NamedTuple):
    """One request the API knows."""

    id: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    reply: type | str
    """Type of the JSON answer with status 200, or the content type of an answer that is not JSON."""
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    problems: Mapping[int, str] = {}
    """Other statuses than 200, 400, 403 and 500; all answer with a `Problem`."""


_PRUNE = Parameter("prune", "Also delete every object that the document does not name.", "boolean")
_DRY_RUN = Parameter("dry_run", "Check everything and say what would change, but change nothing.", "boolean")
_WAIT = Parameter("wait", "Answer when the node has carried the change out, or after so many seconds.", "number")
_ID = Parameter("id", "The id, or the beginning of it if no other object's id begins so.", place="path")
_NETWORK = Parameter("network_id", "Only those of this network.")
_LOOKUP = {404: "there is no such object", 409: "the shortened id is ambiguous"}
_WRITE = {413: "the document is too large", 422: "the document has mistakes", 503: "the store failed"}

_LISTS: dict[Kind, type] = {
    "networks": status.Networks,
    "ports": status.Ports,
    "instances": status.Instances,
    "security_groups": status.SecurityGroups,
    "address_groups": status.AddressGroups,
    "firewall_policies": status.FirewallPolicies,
}


def _of_kind(kind: Kind) -> tuple[Operation, Operation]:
    """What lists the objects of a kind, and what shows one."""
    one, path = SINGULAR[kind], f"/v1/{kind}"
    parameters = (_NETWORK,) if kind == "ports" else ()
    return (
        Operation(f"list_{kind}", "GET", path, f"All {kind.replace('_', ' ')}.", _LISTS[kind], parameters),
        Operation(f"get_{one}", "GET", f"{path}/{{id}}", f"One {one.replace('_', ' ')}.", CLASSES[kind], (_ID,),
                  problems=_LOOKUP),
    )  # fmt: skip


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "apply",
        "POST",
        "/v1/apply",
        "Create and update objects in one transaction; refused whole if anything in it is wrong.",
        status.Outcome,
        (_PRUNE, _DRY_RUN, _WAIT),
        DesiredState,
        _WRITE,
    ),
    Operation(
        "delete",
        "POST",
        "/v1/delete",
        "Delete objects in one transaction; refused whole if something else refers to one of them.",
        status.Outcome,
        (_WAIT,),
        status.DeleteRequest,
        _WRITE,
    ),
    *(operation for kind in KINDS for operation in _of_kind(kind)),
    Operation("list_leases", "GET", "/v1/leases", "What guests were told.", status.Leases, (_NETWORK,)),
    Operation("status", "GET", "/v1/status", "The state of the node and of each network.", status.Status),
    Operation(
        "wait",
        "GET",
        "/v1/wait",
        "Answer when the node has carried out everything up to a position, or when the time is over.",
        status.Waited,
        (
            Parameter("position", "Position to wait for; the newest if left out.", "integer"),
            Parameter("timeout", "Seconds; 30 if left out, at most 600.", "number"),
        ),
    ),
    Operation(
        "explain_metadata",
        "GET",
        "/v1/explain/metadata",
        "Which port a metadata request comes from, what answers it and how; no secret, and not the answer's body.",
        explanation.MetadataExplanation,
        (
            Parameter("network", "Id of the network, or the beginning of it if no other's begins so."),
            Parameter("address", "Source address of the request."),
            Parameter("mac", "Source MAC; left out, the address alone counts, as on metadata.dropin_socket."),
            Parameter("path", "Path; /openstack/latest/meta_data.json if left out."),
            Parameter("method", "GET or HEAD; GET if left out."),
            Parameter("token", "Whether the request has a valid token.", "boolean"),
        ),
        problems=_LOOKUP,
    ),
    Operation(
        "explain_packet",
        "GET",
        "/v1/explain/packet",
        "What port security, firewall policies and security groups make of a packet, and which rule decides.",
        explanation.PacketExplanation,
        (
            Parameter("network", "Id of the network, or the beginning of it if no other's begins so."),
            Parameter("port", "Id of the port, or the beginning of it if no other's of the network begins so."),
            Parameter("packet", "Such as tcp 10.0.0.5:1234 > 10.0.0.9:80 or icmp 10.0.0.5 > 10.0.0.9 8/0."),
            Parameter("direction", "ingress or egress; left out, as the addresses tell."),
            Parameter("mac", "Source MAC of what the guest sends; the port's if left out."),
        ),
        problems=_LOOKUP,
    ),
    Operation("openapi", "GET", "/v1/openapi.json", "This document.", dict),
    Operation("metrics", "GET", "/metrics", "Metrics as Prometheus or OpenMetrics text.", "text/plain"),
    Operation("livez", "GET", "/livez", "Whether the event loop turns.", "text/plain"),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether the first synchronisation is done and every healthy network is served.",
        "text/plain",
        problems={503: "not ready yet"},
    ),
)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document as plain data."""
    types = {type_: None for op in OPERATIONS for type_ in (op.reply, op.body) if _is_record(type_)}
    _, components = msgspec.json.schema_components([*types, status.Problem], ref_template=SCHEMAS)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "nodeplane control API",
            "version": __version__,
            "description": "HTTP and JSON on a Unix socket; who may use it is decided by the peer's credentials.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "the control socket, e.g. curl --unix-socket"}],
        "paths": paths,
        "components": {"schemas": components},
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described))  # defaults become JSON's types too
    return plain


def _operation(operation: Operation) -> dict[str, Any]:
    problems = {400: "the request is malformed", 403: "this user is not allowed", 500: "a bug", **operation.problems}
    if operation.path == "/readyz":  # the probe answers in its own words in both cases
        replies = {"503": _text("not ready yet", "text/plain")}
        problems.pop(503)
    else:
        replies = {}
    replies["200"] = _reply(operation)
    replies |= {str(code): _json(meaning, status.Problem) for code, meaning in problems.items()}
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.meaning,
                "schema": {"type": parameter.type},
            }
            for parameter in operation.parameters
        ],
        "responses": dict(sorted(replies.items())),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _reply(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.reply, str):
        return _text(operation.summary, operation.reply)
    return _json(operation.summary, operation.reply)


def _json(description: str, type_: type) -> dict[str, Any]:
    return {"description": description, "content": _content(type_)}


def _text(description: str, content_type: str) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": {"type": "string"}}}}


def _content(type_: type) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS.format(name=type_.__name__)} if _is_record(type_) else {"type": "object"}
    return {"application/json": {"schema": schema}}


def _is_record(type_: object) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)

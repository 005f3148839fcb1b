"""The OpenAPI document: valid, complete, and about the requests that the server knows."""

from __future__ import annotations

import json

import openapi_spec_validator
from aiohttp import web

from dataplane import openapi
from dataplane.control_peer import Gate
from dataplane.control_routes import Routes
from dataplane.metrics import Metrics
from tests.unit.dataplane.fake_backend import FakeBackend


def test_the_document_is_valid_and_plain() -> None:
    document = openapi.document()
    openapi_spec_validator.validate(document)
    assert json.loads(json.dumps(document)) == document


def routes(app: web.Application) -> set[tuple[str, str]]:
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}


def test_the_server_has_what_the_document_describes() -> None:
    described = {(method.upper(), path) for path, methods in openapi.document()["paths"].items() for method in methods}
    made = Routes(FakeBackend(), Metrics(), 1024)
    assert routes(made.app(Gate(frozenset()))) == described
    assert routes(made.app(None)) == {("GET", "/metrics"), ("GET", "/livez"), ("GET", "/readyz")}


def test_operations_have_ids_of_their_own_and_describe_their_path() -> None:
    ids = [operation.id for operation in openapi.OPERATIONS]
    assert len(set(ids)) == len(ids)
    for operation in openapi.OPERATIONS:
        places = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
        assert ("id" in places) == ("{id}" in operation.path)


def test_unknown_keys_of_documents_are_described_as_wrong() -> None:
    schemas = openapi.document()["components"]["schemas"]
    for name in ("DesiredState", "Network", "Port", "Instance", "DeleteRequest"):
        assert schemas[name]["additionalProperties"] is False

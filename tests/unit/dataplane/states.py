"""Small documents for tests: each function gives plain data, as an operator would write it."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents
from dataplane.desired import Desired
from dataplane.errors import DocumentError
from dataplane.model import DesiredState

UUID = "00000000-0000-4000-8000-00000000000"


def subnet(key: str = "blue-subnet", cidr: str = "10.0.0.0/24", **more: Any) -> dict[str, Any]:
    """A subnet."""
    return {"id": key, "cidr": cidr, **more}


def network(key: str = "blue", *subnets: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A network; without subnets given it has `<key>-subnet` with 10.0.0.0/24."""
    return {"id": key, "subnets": list(subnets) or [subnet(f"{key}-subnet")], **more}


def port(key: str = "p1", number: int = 5, network_id: str = "blue", **more: Any) -> dict[str, Any]:
    """A port of a network made by `network`: address 10.0.0.<number>, MAC ...:<number>."""
    fixed = [{"subnet_id": f"{network_id}-subnet", "ip_address": f"10.0.0.{number}"}]
    mac = f"fa:16:3e:00:00:{number:02x}"
    return {"id": key, "network_id": network_id, "mac_address": mac, "fixed_ips": fixed, **more}


def instance(number: int = 1, **more: Any) -> dict[str, Any]:
    """An instance."""
    return {"id": f"{UUID}{number:x}", "project_id": "blue-project", **more}


def document(
    networks: list[Any] | None = None, ports: list[Any] | None = None, instances: list[Any] | None = None
) -> dict[str, Any]:
    """A document as YAML would give it."""
    given = {"networks": networks, "ports": ports, "instances": instances}
    return {kind: objects for kind, objects in given.items() if objects is not None}


def state(
    networks: list[Any] | None = None, ports: list[Any] | None = None, instances: list[Any] | None = None
) -> DesiredState:
    """The records of a document that is right only together with what a store holds: references are not checked."""
    data = document(networks, ports, instances)
    held = Desired.of(documents.decode(document([network("blue"), network("green")])))
    return documents.decode(data, against=held)


def mistakes(data: object, against: DesiredState | None = None, *, prune: bool = False) -> list[str]:
    """Decode a document that is wrong; gives every mistake as text."""
    held = None if against is None else Desired.of(against)
    with pytest.raises(DocumentError) as caught:
        documents.decode(data, against=held, prune=prune)
    return [str(mistake) for mistake in caught.value.mistakes]


def of_subnet(**more: Any) -> dict[str, Any]:
    """A document with one IPv4 subnet of these values."""
    return document([network("n", {"id": "s", "cidr": "10.0.0.0/24", **more})])


def of_v6(**more: Any) -> dict[str, Any]:
    """A document with one IPv6 subnet of these values."""
    return document([network("n", {"id": "s", "cidr": "2001:db8::/64", **more})])


def of_port(**more: Any) -> dict[str, Any]:
    """A document with one network and one port of these values."""
    return document([network()], [{**port(), **more}])


def of_instance(**more: Any) -> dict[str, Any]:
    """A document with one instance of these values."""
    return document(instances=[{**instance(), **more}])

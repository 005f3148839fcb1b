"""The stand-in for Nova answers only who is signed for, and stalls whom it is told to."""

from __future__ import annotations

import pytest

from bench import crawl
from bench.documents import instance_id
from bench.nova import SECRET, Protocol, Service, project_id
from metadata.signature import Signer, Subject

META_DATA = f"{crawl.TREE}/meta_data.json"


def headers(number: int, network: int, secret: str = SECRET) -> dict[str, str]:
    """As nodeplane signs them, with names as the stand-in's parser has them."""
    subject = Subject(instance_id=instance_id(number), project_id=project_id(network), network_id="n", port_id="p",
                      address="10.0.0.10")  # fmt: skip
    signed = Signer((secret,), "instance", "").headers(subject, secret)
    return {name.lower(): value for name, value in signed.items()}


def test_it_answers_what_nodeplane_signs() -> None:
    service = Service(SECRET, 10, 0.0)
    assert service.answer("GET", META_DATA, headers(25, 2)) == (200, crawl.body(META_DATA, 25))
    assert service.answer("GET", f"{META_DATA}?7", headers(25, 2))[0] == 200
    assert service.answer("GET", "/nothing", headers(25, 2))[0] == 404
    assert service.order("count") == {"statuses": {}, "most": 0, "asked": 3, "different": 3}
    assert service.order("count")["asked"] == 0


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (headers(25, 2, "another"), 403),
        (headers(25, 1), 404),
        ({}, 400),
        (headers(25, 2) | {"x-instance-id": instance_id(24)}, 403),
    ],
)
def test_it_refuses_everybody_else(given: dict[str, str], status: int) -> None:
    assert Service(SECRET, 10, 0.0).answer("GET", META_DATA, given)[0] == status


def test_a_stall_holds_answers_until_it_ends() -> None:
    service = Service(SECRET, 10, 0.0)
    service.order(f"stall {project_id(0)} {project_id(1)}")
    assert service.stall.projects == {project_id(0), project_id(1)}
    service.under_way = 1
    service.stall.waiting.append((Protocol(service), b"answer"))
    service.order("go")
    assert not service.stall.projects
    assert not service.stall.waiting
    assert not service.under_way

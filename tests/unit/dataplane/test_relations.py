"""relations: what objects may say of each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from dataplane import documents
from dataplane.desired import Desired
from tests.unit.dataplane.states import document, mistakes, network, of_port, of_subnet, port, subnet


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            document([network("n", vni=7), network("m", vni=7)]),
            ["networks[1].vni: VNI 7 is also used by networks[0]"],
        ),
        (
            document([network("n", subnet("s")), network("m", subnet("s"))]),
            ["networks[1].subnets[0].id: subnet id s is also used by networks[0]"],
        ),
        (
            document([network(k, adopt={"netns": "qdhcp-1", "device": "tap1"}) for k in "nm"]),
            ["networks[1].adopt: device tap1 in namespace qdhcp-1 is also used by networks[0]"],
        ),
        (
            of_subnet(allocation_pools=[{"start": "10.0.0.9", "end": "10.0.1.1"}]),
            ["networks[0].subnets[0].allocation_pools[0].end: 10.0.1.1 is not in subnet 10.0.0.0/24"],
        ),
        (of_port(network_id="bleu"), ['ports[0].network_id: there is no network bleu, did you mean "blue"?']),
        (
            of_port(fixed_ips=[{"subnet_id": "blue-subnot", "ip_address": "10.0.0.5"}]),
            ['ports[0].fixed_ips[0].subnet_id: network blue has no subnet blue-subnot, did you mean "blue-subnet"?'],
        ),
        (
            of_port(fixed_ips=[{"subnet_id": "blue-subnet", "ip_address": "10.0.9.5"}]),
            ["ports[0].fixed_ips[0].ip_address: 10.0.9.5 is not in subnet 10.0.0.0/24"],
        ),
        (
            of_port(fixed_ips=[{"subnet_id": "blue-subnet", "ip_address": "10.0.0.255"}]),
            ["ports[0].fixed_ips[0].ip_address: 10.0.0.255 is the broadcast address of 10.0.0.0/24"],
        ),
        (
            of_port(fixed_ips=[{"subnet_id": "blue-subnet", "ip_address": "10.0.0.5"}] * 2),
            ["ports[0].fixed_ips[1].ip_address: 10.0.0.5 is also used by ports[0]"],
        ),
        (
            document([network()], [port("p1"), port("p2", mac_address="fa:16:3e:00:00:99")]),
            ["ports[1].fixed_ips[0].ip_address: 10.0.0.5 is also used by ports[0]"],
        ),
        (
            document([network()], [port("p1", 5), port("p2", 6, mac_address="FA:16:3E:00:00:05")]),
            ["ports[1].mac_address: MAC fa:16:3e:00:00:05 is also used by ports[0]"],
        ),
        (document([network()], [port("p1", 5), port("p1", 6)]), ["ports[1].id: p1 is also the id of ports[0]"]),
        (
            document([network()], [port("server-blue-1", 5), port("server-blue-2", 6)]),
            ["ports[1].id: the device name tapserver-blue is also that of ports[0]: give a `device`"],
        ),
        (
            document([network()], [port("p1", 5, device="x"), port("p2", 6, device="x", host="h")]),
            ["ports[1].device: the device name x is also that of ports[0]"],
        ),
    ],
)
def test_refusals(data: dict[str, Any], expected: list[str]) -> None:
    found = mistakes(data)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(
    "data",
    [
        document([network()], [port("p1", 5, device="x", host="a"), port("p2", 6, device="x", host="b")]),
    ],
)
def test_permitted(data: dict[str, Any]) -> None:
    documents.decode(data)


def test_what_is_held_may_be_referred_to_and_not_duplicated() -> None:
    held = documents.decode(document([network("blue", vni=7)], [port("p1", 5)]))
    documents.decode(document(ports=[port("p2", 6)]), against=Desired.of(held))
    documents.decode(document(ports=[port("p1", 6)]), against=Desired.of(held))
    assert mistakes(document(ports=[port("p2", 5)]), held) == [
        "ports[0].mac_address: MAC fa:16:3e:00:00:05 is already used by port p1",
        "ports[0].fixed_ips[0].ip_address: 10.0.0.5 is already used by port p1",
    ]
    assert mistakes(document([network("green", vni=7)]), held) == [
        "networks[0].vni: VNI 7 is already used by network blue"
    ]
    assert mistakes(document(ports=[port("p2", 6, device="tapp1")]), held) == [
        "ports[0].device: the device name tapp1 is also that of port p1"
    ]


def test_with_prune_what_is_held_counts_no_more() -> None:
    held = documents.decode(document([network("blue")], [port("p1", 5)]))
    documents.decode(document([network("blue")], [port("p2", 5)]), against=Desired.of(held), prune=True)
    assert mistakes(document(ports=[port("p1", 5)]), held, prune=True) == [
        "ports[0].network_id: there is no network blue"
    ]


def test_tenants_may_be_alike() -> None:
    same = {"mac_address": "fa:16:3e:00:00:05"}
    state = documents.decode(
        document([network("blue"), network("green")], [port("pb", 5, "blue", **same), port("pg", 5, "green", **same)])
    )
    assert len({p.mac_address for p in state.ports}) == 1


def test_a_document_that_is_wrong_all_over_gets_few_suggestions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compares a text with all ids: thousands of them on the event loop would keep every guest waiting."""
    asked: list[str] = []

    def suggestion(word: str, known: Iterable[str]) -> str:
        asked.append(word)
        return f" ({len(list(known))})"

    monkeypatch.setattr("dataplane.relations.suggestion", suggestion)
    networks = [network(f"n{i}", subnet(f"s{i}")) for i in range(300)]
    ports = [port(f"p{i}", network_id=f"m{i}", mac_address=f"02:00:00:00:00:{i:02x}", fixed_ips=[]) for i in range(9)]
    found = mistakes(document(networks, ports))
    assert len(found) == 9
    assert asked == ["m0", "m1", "m2"]
    assert [text.endswith(" (256)") for text in found] == [True] * 3 + [False] * 6

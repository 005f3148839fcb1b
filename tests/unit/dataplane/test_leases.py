from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dataplane.leases import (
    ENDED_SECONDS,
    INFINITE,
    OFFER_SECONDS,
    LeaseEvent,
    LeaseEventKind,
    LeaseRow,
    LeaseTable,
)
from dataplane.model import Ip, Mac, NetworkId, PortId


def event(kind: LeaseEventKind, now: float, lease: int = 0, **changes: Any) -> LeaseEvent:
    fields: dict[str, Any] = {
        "kind": kind,
        "network_id": NetworkId("blue"),
        "port_id": PortId("p"),
        "mac": Mac("fa:16:3e:00:00:05"),
        "address": Ip("10.0.0.5"),
        "now": now,
        "lease_seconds": lease,
        "hostname": "vm",
        "client_id": "01:02",
    }
    return LeaseEvent(**(fields | changes))


def row(table: LeaseTable) -> LeaseRow:
    (only,) = table
    return only


def test_offer_bound_renewed_released() -> None:
    table = LeaseTable()
    table.apply(event("offered", 100.0, 3600))
    assert (row(table).state, row(table).expires) == ("offered", 100.0 + OFFER_SECONDS)
    journalled = table.apply(event("bound", 101.0, 3600))
    assert journalled == row(table)
    assert journalled == LeaseRow(
        network_id=NetworkId("blue"), port_id=PortId("p"), mac=Mac("fa:16:3e:00:00:05"), address=Ip("10.0.0.5"),
        state="bound", since=101.0, updated=101.0, expires=3701.0, hostname="vm", client_id="01:02",
    )  # fmt: skip
    table.apply(event("renewed", 1900.0, 3600))
    assert (row(table).since, row(table).updated, row(table).expires) == (101.0, 1900.0, 5500.0)
    table.apply(event("released", 2000.0))
    assert (row(table).state, row(table).since, row(table).expires) == ("released", 2000.0, 2000.0 + ENDED_SECONDS)
    table.apply(event("bound", 2001.0, 60))
    assert (row(table).state, row(table).since, row(table).expires) == ("bound", 2001.0, 2061.0)


def test_the_longest_promise_counts() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 86400))
    table.apply(event("renewed", 200.0, 120))
    assert row(table).expires == 86500.0
    table.apply(event("renewed", 300.0, INFINITE))
    assert row(table).expires is None
    table.apply(event("renewed", 400.0, 120))
    assert row(table).expires is None
    assert table.expire(1e12) == []


def test_an_offer_does_not_replace_a_running_lease() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 3600))
    assert table.apply(event("offered", 200.0, 3600)) is None
    assert row(table).state == "bound"
    assert table.apply(event("offered", 3700.0, 3600)) is not None
    assert row(table).state == "offered"


def test_a_lease_that_has_ended_begins_anew() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 60))
    table.apply(event("renewed", 500.0, 60))
    assert row(table).since == 500.0


def test_withdrawn_takes_only_an_offer_away() -> None:
    table = LeaseTable()
    table.apply(event("offered", 100.0, 60))
    assert table.apply(event("withdrawn", 101.0)) is None
    assert len(table) == 0
    table.apply(event("bound", 102.0, 60))
    table.apply(event("withdrawn", 103.0))
    assert row(table).state == "bound"


def test_a_nak_changes_nothing() -> None:
    table = LeaseTable()
    assert table.apply(event("nak", 100.0, address=Ip("10.0.0.9"))) is None
    assert len(table) == 0


def test_declined() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 60))
    table.apply(event("declined", 101.0))
    assert row(table).state == "declined"


def test_expire_and_forget() -> None:
    table = LeaseTable()
    for number in range(4):
        table.apply(event("bound", 100.0 + number, 60, port_id=PortId(f"p{number}")))
    assert [gone.port_id for gone in table.expire(161.5)] == ["p0", "p1"]
    assert [gone.port_id for gone in table.forget_ports({PortId("p3")})] == ["p3"]
    assert [left.port_id for left in table] == ["p2"]


def test_bounded_and_the_longest_unheard_goes() -> None:
    table = LeaseTable(max_leases=2)
    for name in ("a", "b", "a", "c"):
        table.apply(event("bound", 100.0, 60, port_id=PortId(name)))
    assert [left.port_id for left in table] == ["a", "c"]
    with pytest.raises(ValueError, match="at least one"):
        LeaseTable(max_leases=0)


def test_the_same_address_in_two_networks_is_two_leases() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 60))
    table.apply(event("bound", 100.0, 60, network_id=NetworkId("green"), port_id=PortId("q")))
    assert len(table) == 2
    assert [found.port_id for found in table.rows(NetworkId("green"))] == ["q"]
    assert len(table.rows()) == 2


def test_restored_from_a_journal() -> None:
    table = LeaseTable()
    table.apply(event("bound", 100.0, 60))
    journal = [*table]
    table.apply(event("renewed", 130.0, 60))
    journal += table
    coded = msgspec.json.encode(journal)
    assert list(LeaseTable(msgspec.json.decode(coded, type=list[LeaseRow]))) == list(table)

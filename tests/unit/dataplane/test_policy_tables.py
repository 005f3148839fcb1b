"""policy_tables: lines with owners, what a change tells, and numbers for zones."""

from __future__ import annotations

import pytest

from dataplane import policy_tables
from dataplane.errors import PolicyFullError
from dataplane.policy_tables import Action, Delta, Line, Table, Zones
from fastpath.rules import Header, Rule

WEB = Line(Rule(zone=1, protocol=6, destination_ports=(80, 80)), Action.TRACK)
ANY = Line(Rule(zone=1))


def packet(port: int, zone: int = 1) -> Header:
    return Header(4, 1, 2, 6, 1024, port, zone=zone)


def test_a_line_is_there_once_while_anybody_has_it() -> None:
    table: Table[str] = Table()
    table.add(WEB, "a")
    table.add(WEB, "b")
    assert table.flush() == Delta(add=(WEB,))
    table.remove(WEB, "a")
    assert table.flush() == Delta()
    assert table.find(packet(80)) == (WEB, "b")
    table.remove(WEB, "b")
    table.remove(WEB, "b")
    assert table.find(packet(80)) is None
    assert table.flush() == Delta(remove=(WEB,))
    assert (len(table), list(table.lines())) == (0, [])


def test_what_comes_and_goes_in_one_change_is_not_told() -> None:
    table: Table[str] = Table()
    table.add(WEB, "a")
    table.remove(WEB, "a")
    assert table.flush() == Delta()
    table.add(ANY, "a")
    table.add(WEB, "a")
    table.flush()
    table.remove(ANY, "a")
    table.add(ANY, "b")
    assert table.flush() == Delta()
    assert table.find(packet(80)) == (ANY, "b")  # still the older of two with equal priority


def test_assign_and_clear() -> None:
    table: Table[str] = Table()
    table.assign(1, {WEB: "a", ANY: "a"})
    assert set(table.flush().add) == {WEB, ANY}
    other = Line(Rule(zone=1, protocol=17))
    table.assign(1, {WEB: "a", other: "a"})
    assert table.flush() == Delta(add=(other,), remove=(ANY,))
    table.clear(1)
    table.clear(2)
    assert set(table.flush().remove) == {WEB, other}


def test_only_the_zone_of_a_packet_and_no_zone_count() -> None:
    table: Table[str] = Table()
    table.add(WEB, "zone")
    table.add(Line(Rule(protocol=17)), "every")
    table.flush()
    assert table.find(packet(80, zone=2)) is None
    assert table.find(Header(4, 1, 2, 17, zone=9)) == (Line(Rule(protocol=17)), "every")


def test_zones_are_counted_and_used_again() -> None:
    zones: Zones[str] = Zones()
    assert [zones.hold(key) for key in "aba"] == [(0, True), (1, True), (0, False)]
    zones.release("a")
    assert zones.sweep() == []
    zones.release("a")
    assert zones.of("a") == 0
    assert zones.hold("a") == (0, False)  # before the sweep it is still there
    zones.release("a")
    assert zones.sweep() == [0]
    assert (zones.of("a"), len(zones)) == (None, 1)
    assert zones.hold("c") == (0, True)


def test_there_are_only_so_many_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_tables, "ZONES", 2)
    zones: Zones[int] = Zones()
    zones.hold(1)
    zones.hold(2)
    with pytest.raises(PolicyFullError, match="more than 2"):
        zones.hold(3)

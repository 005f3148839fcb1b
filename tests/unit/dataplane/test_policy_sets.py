"""policy_sets: the tables as rule sets, and how readers know that all of them were of one version."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dataplane import five_tuple
from dataplane.policy import Deltas
from dataplane.policy_rules import address, in_zone
from dataplane.policy_sets import LoadedTable, RuleSets
from dataplane.policy_tables import Action, Delta, Line
from dataplane.security import prefix_of
from fastpath import flow
from fastpath.batch import Batch
from fastpath.connections import UNTRACKED
from fastpath.conntrack import Conntrack, Ct
from fastpath.rules import Rule
from tests.exchanges import addresses, frame, udp

MEMBER = address(1, "ingress", prefix_of("10.0.0.7"))
WEB = in_zone(Line(Rule(protocol=6, version=4, direction=0), Action.TRACK), 1)
ASKED = replace(five_tuple.parse("tcp 10.0.0.7 > 10.0.0.5:80"), zone=1)


def change(**tables: tuple[tuple[Line, ...], tuple[Line, ...]]) -> Deltas:
    """Of each table that is named, what is added and what is removed."""
    return Deltas(**{name: Delta(*tables.get(name, ((), ()))) for name in Deltas._fields})


SWAP = (
    change(members=((), (MEMBER,)), rules=((WEB,), ())),
    change(members=((MEMBER,), ()), rules=((), (WEB,))),
)


def test_a_change_counts_when_all_tables_have_it() -> None:
    sets = RuleSets()
    sets.update(change(members=((MEMBER,), ())))
    sets.update(SWAP[0])
    sets.update(change())
    assert (sets.begun, sets.version, list(sets.changes)) == (2, 2, [2, 2])
    assert (sets.tables["members"].find(ASKED), sets.tables["rules"].find(ASKED)) == (None, Action.TRACK)
    with pytest.raises(KeyError):
        sets.update(SWAP[0])  # the member has gone already
    assert (sets.begun, sets.version) == (3, 2)


def test_a_table_grows_while_a_worker_reads_what_its_rules_say() -> None:
    table = LoadedTable()
    lines = [Line(Rule(zone=zone), action) for zone, action in enumerate(Action)]
    table.update(tuple(lines[:1]), ())
    with memoryview(table.actions) as actions, memoryview(table.allowed) as allowed:
        table.update(tuple(lines[1:]), ())
        assert (list(actions[:1]), list(allowed[:1])) == ([Action.DROP], [0])
    assert list(table.actions[:4]) == list(Action)
    # A rejected packet does not pass, as `fastpath.verdicts.permit` reads it.
    assert list(table.allowed[:4]) == [0, 0, UNTRACKED, 1]


@pytest.fixture
def _often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_often")
def test_who_looks_at_the_counters_never_believes_half_a_change() -> None:
    """The member and the rule that would let it in are never there together, in either version."""
    sets, end = RuleSets(), threading.Event()
    sets.update(change(members=((MEMBER,), ())))

    def write() -> None:
        for number in range(400):
            sets.update(SWAP[number % 2])
        end.set()

    writer = threading.Thread(target=write)
    writer.start()
    believed = 0
    while not end.is_set():
        version = sets.version
        found = [sets.tables[name].find(ASKED) for name in ("members", "rules", "members")]
        if sets.begun == version:
            believed += 1
            assert found in ([None, Action.TRACK, None], [Action.ALLOW, None, Action.ALLOW])
    writer.join()
    assert sets.version == 401


def test_connections_are_asked_about_again_under_another_version() -> None:
    sets, table, batch = RuleSets(), Conntrack(8), Batch(1)
    for expected in (Ct.NEW | Ct.LOOKUP, Ct.NEW | Ct.KNOWN | Ct.LOOKUP, Ct.NEW | Ct.KNOWN | Ct.LOOKUP):
        batch.fill([frame(udp(*addresses(4), 1, 2))])
        flow.extract(batch)
        table.track(batch, 1, policy=sets.version)
        assert batch.ct[0] == expected
        table.commit(batch, 1, policy=sets.version)
        table.track(batch, 1, policy=sets.version)
        assert batch.ct[0] == Ct.NEW | Ct.KNOWN
        sets.update(change(rules=((), (WEB,)) if sets.version % 2 else ((WEB,), ())))

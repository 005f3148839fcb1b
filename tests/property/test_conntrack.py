"""Random exchanges give the same answers, counters and exports from the plain twin and the compiled table."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import _conntrack_py, _flow_py
from fastpath._conntrack_tcp_py import CLOSING
from fastpath.batch import Batch
from fastpath.connection_records import HEADER, RECORD
from fastpath.connections import ConntrackError, Ct, Mark
from fastpath.reasons import Reason
from tests.exchanges import frame, mixture
from tests.flow_frames import frames
from tests.twins import built

CONNTRACK_C = built("fastpath._conntrack_c")
pytestmark = pytest.mark.skipif(CONNTRACK_C is None, reason="the extensions are not built")


def exported(table: _conntrack_py.Conntrack) -> tuple[bytes, list[bytes], list[bytes]]:
    """Header, droppable records in order, the others sorted."""
    data = table.export()
    records = [data[at : at + RECORD.size] for at in range(HEADER.size, len(data), RECORD.size)]
    first = [each for each in records if not each[53] & Mark.ASSURED or each[52] in CLOSING]
    assert records[: len(first)] == first
    return data[: HEADER.size], first, sorted(records[len(first) :])


class Pair:
    """The twin and the compiled table, fed the same."""

    def __init__(self, chance: random.Random) -> None:
        assert CONNTRACK_C is not None
        options: dict[str, Any] = {
            "seed": chance.getrandbits(64), "zone_limit": chance.choice((0, 0, 3)),
            "window_check": chance.random() < 0.5, "pick_up": chance.random() < 0.7, "count": chance.random() < 0.5,
            "timeouts": chance.choice(({}, {"udp": 1, "tcp_established": 2, "icmp": 1, "tcp_syn_sent": 5})),
        }  # fmt: skip
        capacity = chance.choice((1, 4, 9, 100))
        self.tables = [kind(capacity, **options) for kind in (_conntrack_py.Conntrack, CONNTRACK_C.Conntrack)]
        self.fresh = [kind(capacity, **options) for kind in (_conntrack_py.Conntrack, CONNTRACK_C.Conntrack)]

    def both(self, name: str, *arguments: object, **named: object) -> object:
        one, other = (getattr(table, name)(*arguments, **named) for table in self.tables)
        assert one == other, (name, arguments, named)
        return one

    def packets(self, many: list[bytes], chance: random.Random, now: int) -> None:
        columns, zones = [], [chance.randrange(3) for _ in many]
        state = chance.getstate()
        for table in self.tables:
            chance.setstate(state)
            batch = Batch(len(many), slot=2048, headroom=64, huge=False)
            batch.fill(many)
            _flow_py.keys(batch)
            for i, own in enumerate(zones):
                batch.key[i, 38] = own
                batch.verdict[i] = 7 * (chance.random() < 0.05)
            zone, policy = chance.choice((None, None, 5)), chance.choice((1, 1, 1, 2))
            said: list[object] = [table.track(batch, now, zone=zone, policy=policy), list(batch.ct[: len(many)])]
            for i in range(len(many)):
                if batch.ct[i] & Ct.LOOKUP and chance.random() < 0.1:
                    batch.verdict[i] = 9
            said.append(table.commit(batch, now, zone=zone, policy=policy, denied=9))
            said += [list(batch.ct[: len(many)]), list(batch.verdict[: len(many)]), table.stats, len(table)]
            columns.append(said)
        assert columns[0] == columns[1], [
            (i, each) for i, each in enumerate(zip(*columns, strict=True)) if each[0] != each[1]
        ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_the_same_of_random_exchanges(seed: int) -> None:
    chance = random.Random(seed)
    pair, source, noise = Pair(chance), mixture(chance, 3, chance.choice((0.05, 0.3))), frames(chance)
    now = chance.choice((0, 1 << 63))
    for _ in range(chance.randrange(2, 25)):
        now += chance.choice((0, 1_000_000, 100_000_000, 1_100_000_000, 20 * 10**9, 300 * 10**9, 6 * 10**14))
        many = [
            frame(next(source)[1]) if chance.random() < 0.95 else next(noise)[:1900]
            for _ in range(chance.choice((1, 1, 3, 40, 70)))
        ]
        pair.packets(many, chance, now)
        match chance.randrange(8):
            case 0:
                pair.both("expire", now + chance.choice((0, 10**9, 10**11)))
            case 1:
                pair.both("flush", chance.choice((0, 1, 5)))
            case 2:
                pair.both("limit", chance.randrange(3), chance.choice((None, 0, 2)))
            case 3:
                assert exported(pair.tables[0]) == exported(pair.tables[1])
                assert sorted(pair.tables[0].connections()) == sorted(pair.tables[1].connections())
        assert pair.both("zone_count", 1) == pair.tables[0].zone_count(1)
    # The table of one restored in the other goes on as the one does.
    crossed = pair.tables[1].export()
    assert (
        pair.fresh[0].restore(crossed) == pair.fresh[1].restore(crossed) == len(crossed[HEADER.size :]) // RECORD.size
    )
    assert exported(pair.fresh[0]) == exported(pair.fresh[1])
    pair.tables = pair.fresh
    for _ in range(3):
        pair.packets([frame(next(source)[1]) for _ in range(20)], chance, now)
        now += 10**9


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 1 << 32))
def test_the_same_error_for_any_export(noise: bytes, seed: int) -> None:
    chance = random.Random(seed)
    pair, source = Pair(chance), mixture(chance)
    pair.packets([frame(next(source)[1]) for _ in range(10)], chance, 0)
    data = bytearray(pair.tables[0].export())
    for _ in range(chance.randrange(3)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    for each in (noise, bytes(data), bytes(data[: chance.randrange(len(data) + 1)])):
        outcomes = []
        for table in pair.fresh:
            try:
                outcomes.append(str(table.restore(each)))
            except ConntrackError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


def test_reasons_of_a_full_table() -> None:
    assert (Reason.CONNECTIONS_FULL, Reason.ZONE_FULL) == (31, 32)

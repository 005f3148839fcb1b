"""What rules and connection tracking said becomes a verdict: every case, and at random as the plain twin does it."""

from __future__ import annotations

import inspect
import random
from array import array
from types import ModuleType
from typing import Any

import pytest

from fastpath import _verdicts_py, flow
from fastpath.batch import Batch
from fastpath.connections import UNTRACKED, Ct
from fastpath.conntrack import Conntrack
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.exchanges import addresses, frame, udp
from tests.twins import built, needs_build

VERDICTS_C = built("fastpath._verdicts_c")
TWINS = [
    pytest.param(_verdicts_py, id="plain"),
    pytest.param(VERDICTS_C, id="compiled", marks=needs_build),
]
NEW, KNOWN, LOOKUP, INVALID = Ct.NEW, Ct.KNOWN, Ct.LOOKUP, Ct.INVALID


def batch_of(*packets: tuple[int, int, int, int]) -> Batch:
    """Verdict, what tracking said, rule and flags of each."""
    batch = Batch(len(packets), slot=256, headroom=64)
    batch.fill([b""] * len(packets))
    for i, (verdict, ct, rule, flags) in enumerate(packets):
        batch.verdict[i], batch.ct[i], batch.rule[i], batch.flags[i] = verdict, ct, rule, flags
    return batch


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(
    ("packet", "options", "verdict"),
    [
        ((9, NEW | LOOKUP, 0, 0), {}, 9),
        ((0, Ct.ESTABLISHED | KNOWN, -1, 0), {}, 0),
        ((0, Ct.RELATED | KNOWN, -1, 0), {}, 0),
        ((0, Ct.RELATED | KNOWN | LOOKUP, -1, 0), {}, Reason.DENIED),
        ((0, NEW | LOOKUP, 0, 0), {}, 0),
        ((0, NEW | LOOKUP, -1, 0), {}, Reason.DENIED),
        ((0, NEW | LOOKUP, -1, 0), {"default": True}, 0),
        ((0, NEW | LOOKUP, 0, 0), {"allowed": b"\1\0"}, 0),
        ((0, NEW | LOOKUP, 1, 0), {"allowed": b"\1\0", "default": True}, Reason.DENIED),
        ((0, NEW | LOOKUP, 2, 0), {"allowed": b"\1\0"}, Reason.DENIED),
        ((0, NEW | LOOKUP, 0, 0), {"allowed": b""}, Reason.DENIED),
        ((0, 0, 5, 0), {}, 0),
        ((0, 0, -1, 0), {}, Reason.DENIED),
        ((0, LOOKUP, -1, Flags.NOT_IP), {"default": True}, Reason.DENIED),
        ((0, LOOKUP, -1, Flags.NOT_IP), {"other": True}, 0),
        ((0, LOOKUP, -1, Flags.IPV4 | Flags.MALFORMED), {"other": True}, Reason.DENIED),
        ((0, INVALID, 0, 0), {}, Reason.CT_INVALID),
        ((0, INVALID, 0, 0), {"invalid": True}, 0),
        ((0, INVALID, -1, 0), {"invalid": True}, Reason.DENIED),
        ((0, INVALID, 1, 0), {"allowed": b"\1\2"}, 0),
        ((0, INVALID, 0, 0), {"allowed": b"\1\2"}, Reason.CT_INVALID),
        ((0, INVALID, 2, 0), {"allowed": b"\1\2"}, Reason.CT_INVALID),
    ],
)
def test_cases(twin: ModuleType, packet: tuple[int, int, int, int], options: dict[str, Any], verdict: int) -> None:
    batch = batch_of(packet)
    assert twin.permit(batch, **options) == (verdict == 0)
    assert batch.verdict[0] == verdict


@pytest.mark.parametrize("twin", TWINS)
def test_a_stateless_rule_makes_no_connection(twin: ModuleType) -> None:
    """Neither its packets nor their answers become one; those of another rule do."""
    table, now = Conntrack(8), 5
    for ends in (addresses(4), addresses(4)[::-1]):
        batch = Batch(2)
        batch.fill([frame(udp(*ends, 1, 1)), frame(udp(*ends, 2, 2))])
        flow.extract(batch)
        assert table.track(batch, now) == (2 if ends == addresses(4) else 1)
        batch.rule[0], batch.rule[1] = 0, 1
        assert twin.permit(batch, bytes([UNTRACKED, 1])) == 2
        table.commit(batch, now)
        assert [connection.source_port for connection in table.connections()] == [2]
    assert [Ct(batch.ct[0]), Ct(batch.ct[1])] == [Ct.NEW, Ct.ESTABLISHED | Ct.REPLY | Ct.KNOWN]


@needs_build
def test_like_the_plain_twin() -> None:
    assert VERDICTS_C is not None
    for seed in range(40):
        chance = random.Random(seed)
        packets = [
            (chance.choice((0, 0, 0, 7)), chance.randrange(64), chance.randrange(-1, 9), chance.randrange(1 << 13))
            for _ in range(100)
        ]
        options = {name: chance.random() < 0.5 for name in ("default", "invalid", "other")}
        allowed = chance.choice((None, chance.randbytes(6), bytearray(chance.randrange(3) for _ in range(9))))
        mine, theirs = batch_of(*packets), batch_of(*packets)
        assert VERDICTS_C.permit(mine, allowed, **options) == _verdicts_py.permit(theirs, allowed, **options)
        assert list(mine.verdict) == list(theirs.verdict)
        assert list(mine.ct) == list(theirs.ct)


@pytest.mark.parametrize("twin", TWINS)
def test_allowed_is_a_byte_for_each_rule(twin: ModuleType) -> None:
    batch = batch_of((0, 0, 1, 0))
    for wrong in (array("H", [1, 1]), memoryview(b"\1\1\1\1")[::2], memoryview(b"\1\1").cast("B", (1, 2))):
        with pytest.raises(ValueError, match="allowed: one byte for each rule"):
            twin.permit(batch, wrong)
    assert batch.verdict[0] == 0
    assert twin.permit(batch, array("B", [0, 200])) == 1
    assert list(inspect.signature(twin.permit).parameters) == list(inspect.signature(_verdicts_py.permit).parameters)

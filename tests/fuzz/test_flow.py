"""Any frames give the same keys, flags, layers and hashes from the plain twin and from every compiled level.

Short by default; `NODEPLANE_FUZZ_SECONDS` makes it long, `NODEPLANE_FUZZ_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from itertools import islice

from fastpath import _batch_py, _flow_py, _hasher_py, _select
from tests.flow_frames import frames
from tests.fuzz.bytes_mutator import DEFAULT_SECONDS
from tests.twins import BATCH_C, COMPILED_LEVELS, HASHER_C

COLUMNS = ("key", "flags", "layers", "hash")


def columns(batch: _batch_py.Batch) -> list[list[int]]:
    count = batch.count
    return [list(batch.key.cast("B")[: count * 40]), *(list(getattr(batch, name)[:count]) for name in COLUMNS[1:])]


def compare(many: Sequence[bytes], dropped: set[int], seed: int) -> None:
    """Every level against the plain twin, on one batch of frames of which some are dropped."""
    slot, headroom = 512, 64
    plain = _batch_py.Batch(len(many), slot=slot, headroom=headroom)
    plain.fill(many)
    for i in dropped:
        plain.verdict[i] = 1
    count = _flow_py.extract(plain, _hasher_py.Hasher(seed))
    expected = columns(plain)
    for level in COMPILED_LEVELS:
        assert BATCH_C is not None
        assert HASHER_C is not None
        flow = _select.stage("flow", level)
        batch = BATCH_C.Batch(len(many), slot=slot, headroom=headroom)
        # What lies behind a packet must not matter.
        batch.memory[:] = bytes([seed & 0xFF]) * len(batch.memory)
        batch.fill(many)
        for i in dropped:
            batch.verdict[i] = 1
        assert flow.extract(batch, HASHER_C.Hasher(seed)) == count
        for name, found, wanted in zip(COLUMNS, columns(batch), expected, strict=True):
            width = 40 if name == "key" else 1
            for i, one in enumerate(many):
                part = slice(i * width, (i + 1) * width)
                assert found[part] == wanted[part], f"{level}: {name} of packet {i}: {one.hex()}"
        batch.hash[: len(many)] = memoryview(bytes(4 * len(many))).cast("I")
        assert flow.keys(batch) == count
        assert columns(batch)[:3] == expected[:3]
        assert not any(batch.hash[: len(many)])
        for one in many[:8]:
            assert flow.five_tuple(one) == _flow_py.five_tuple(one)


def test_flow() -> None:
    seconds = float(os.environ.get("NODEPLANE_FUZZ_SECONDS") or DEFAULT_SECONDS)
    seed = int(os.environ.get("NODEPLANE_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    print(f"NODEPLANE_FUZZ_SEED={seed}")
    chance = random.Random(seed)
    source = (one[:448] for one in frames(chance))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        many = list(islice(source, chance.choice((1, 7, 8, 9, 64, 100))))
        few = {chance.randrange(len(many)) for _ in range(chance.choice((0, 0, 1, 5)))}
        compare(many, few, chance.getrandbits(64))

"""Every level of the stages gives what the plain twin gives, on frames sound and broken."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import _checksum_py
from fastpath.batch import Batch
from fastpath.flags import Flags
from tests.frames import samples
from tests.fuzz.bytes_mutator import mutate
from tests.twins import stages

SOUND = samples()
SEEDS = st.integers(0, 1 << 32)


def broken(seed: int, count: int = 12) -> list[bytes]:
    """Frames from `samples`, most of them mutated."""
    chance = random.Random(seed)
    return [
        mutate(chance.choice(SOUND), chance, SOUND)[:1900] if chance.random() < 0.8 else chance.choice(SOUND)
        for _ in range(count)
    ]


def filled(frames: list[bytes], seed: int) -> Batch:
    """A batch of `frames`, some of them dropped or marked as partial, at any offset of their slots."""
    chance = random.Random(seed)
    batch = Batch(len(frames), huge=False)
    batch.fill(frames)
    for i, frame in enumerate(frames):
        start = i * batch.slot + chance.randrange(batch.slot - len(frame) + 1)
        batch.place(i, start, len(frame))
        batch.memory[start : start + len(frame)] = frame
        batch.flags[i] = Flags.PARTIAL_CHECKSUM if chance.random() < 0.2 else 0
        batch.verdict[i] = chance.random() < 0.1
    return batch


def state(batch: Batch) -> list[object]:
    count = len(batch)
    return [batch.frames(), list(batch.flags[:count]), list(batch.verdict[:count]), list(batch.offset[:count])]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
def test_checksums_of_batches(seed: int, partial: bool) -> None:
    frames = broken(seed)
    outcomes = []
    for parameter in stages("checksum"):
        (twin,) = parameter.values  # type: ignore[attr-defined]
        one, two, three = (filled(frames, seed) for _ in range(3))
        counts = twin.verify(one), twin.fill(two, partial), twin.fill(three), twin.verify(three)
        outcomes.append([counts, state(one), state(two), state(three)])
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 64), st.integers(0, 0xFFFFFFFF))
def test_sums_at_any_alignment(data: bytes, start: int, initial: int) -> None:
    view = memoryview(data)[start:]
    results = {each.values[0].internet_checksum(view, initial) for each in stages("checksum")}  # type: ignore[attr-defined]
    assert results == {_checksum_py.internet_checksum(bytes(view), initial)}


@given(st.integers(-1, 0x10000), st.binary(max_size=9), st.binary(max_size=9))
def test_updates(checksum: int, old: bytes, new: bytes) -> None:
    outcomes: set[object] = set()
    for each in stages("checksum"):
        try:
            outcomes.add(each.values[0].update(checksum, old, new))  # type: ignore[attr-defined]
        except ValueError as error:
            outcomes.add(str(error))
    assert len(outcomes) == 1

"""Every level of the stages gives what the plain twin gives, on frames sound and broken."""

from __future__ import annotations

import random
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import _checksum_py
from fastpath.batch import Batch
from fastpath.flags import Flags
from tests.frames import ACK, frame, samples, tcp, udp
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
    for i, each in enumerate(frames):
        start = i * batch.slot + chance.randrange(batch.slot - len(each) + 1)
        batch.place(i, start, len(each))
        batch.memory[start : start + len(each)] = each
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


def streams(seed: int) -> list[bytes]:
    """Segments of a few flows, interleaved, some mutated, lost or in another order."""
    chance = random.Random(seed)
    made = []
    for version in (4, 6):
        size, seq = chance.randint(1, 200), chance.getrandbits(32)
        for k in range(chance.randint(1, 8)):
            flags = ACK | (chance.random() < 0.1) * chance.choice([1, 2, 4, 8, 32, 64, 128])
            chunk = chance.randbytes(size if chance.random() < 0.9 else chance.randint(0, 210))
            layer4 = (
                tcp(version, chunk, seq=seq & 0xFFFFFFFF, flags=flags) if chance.random() < 0.9 else udp(version, chunk)
            )
            made.append(frame(version, 6 if layer4[12:13] == b"\x50" else 17, layer4, ident=k))
            seq += len(chunk)
    if chance.random() < 0.3:
        chance.shuffle(made)
    return [mutate(each, chance, made)[:1900] if chance.random() < 0.1 else each for each in made]


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans(), st.booleans(), st.integers(1, 20))
def test_joined(seed: int, udp: bool, partial: bool, capacity: int) -> None:
    frames = streams(seed)
    outcomes = []
    for parameter in stages("segment"):
        (twin,) = parameter.values  # type: ignore[attr-defined]
        source = filled(frames, seed)
        target, sizes = Batch(capacity, slot=4096, huge=False), array("I", bytes(4 * capacity))
        following = twin.coalesce(source, target, sizes, 0, udp, partial)
        outcomes.append([following, list(sizes[: len(target)]), state(source), state(target)])
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 300), min_size=12, max_size=12), st.integers(1, 40))
def test_cut(seed: int, given_sizes: list[int], capacity: int) -> None:
    frames = broken(seed)
    outcomes = []
    for parameter in stages("segment"):
        (twin,) = parameter.values  # type: ignore[attr-defined]
        source, target = filled(frames, seed), Batch(capacity, slot=1024, huge=False)
        following = twin.segment(source, target, array("I", given_sizes))
        outcomes.append([following, state(source), state(target)])
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([4, 6]), st.binary(min_size=1, max_size=900), st.integers(15, 1000), st.integers(0, 0xFFFFFFFF),
    st.sampled_from([ACK, ACK | 8, ACK | 1, ACK | 128, ACK | 64 | 128 | 8]), st.booleans(), st.integers(0, 0xFFFF),
)  # fmt: skip
def test_joined_again(
    version: int, payload: bytes, size: int, seq: int, flags: int, datagram: bool, ident: int
) -> None:
    layer4 = udp(version, payload) if datagram else tcp(version, payload, seq=seq, flags=flags)
    whole = frame(version, 17 if datagram else 6, layer4, ident=ident)
    for parameter in stages("segment"):
        (twin,) = parameter.values  # type: ignore[attr-defined]
        source, parts, target = (Batch(64, huge=False) for _ in range(3))
        source.fill([whole])
        assert twin.segment(source, parts, size) == 1
        assert _checksum_py.verify(parts) == len(parts) == -(-len(payload) // size)
        assert twin.coalesce(parts, target, udp=True) == len(parts)
        assert target.frames() == [whole]

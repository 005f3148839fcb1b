"""A batch: what goes in comes out, columns are the memory itself, and nothing leaves its slot."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from fastpath import _batch_py, batch_errors
from tests.twins import BATCH_C, BATCHES, needs_build

pytestmark = pytest.mark.parametrize("twin", BATCHES)
FRAMES = [bytes([value]) * size for value, size in ((1, 60), (2, 0), (3, 1514), (4, 64))]


def test_frames_come_back(twin: ModuleType) -> None:
    batch = twin.Batch(8)
    assert batch.fill([FRAMES[0], bytearray(FRAMES[1]), memoryview(FRAMES[2]), FRAMES[3]]) == 4
    assert (len(batch), batch.count, batch.frames()) == (4, 4, FRAMES)
    assert [bytes(view) for view in batch.views()] == FRAMES
    assert batch.frame(2) == FRAMES[2]


def test_takes_what_fits(twin: ModuleType) -> None:
    batch = twin.Batch(3)
    frames = iter(FRAMES)
    assert batch.fill(frames) == 3
    assert batch.frames() == FRAMES[:3]


def test_filling_again_forgets(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    batch.verdict[0] = batch.flags[1] = batch.tunnel[2] = 7
    batch.rule[3] = 9
    batch.place(0, 10, 5)
    batch.fill(FRAMES[:2])
    assert (batch.verdict[0], batch.flags[1], batch.offset[0], batch.frames()) == (0, 0, batch.headroom, FRAMES[:2])
    batch.clear()
    assert (batch.count, batch.tunnel[2], batch.rule[3], batch.frames()) == (0, 0, -1, [])


def test_column_shapes(twin: ModuleType) -> None:
    batch = twin.Batch(100, slot=256, headroom=64)
    for name in ("offset", "length", "tunnel", "vni", "hash", "flags", "layers", "verdict", "ct"):
        column = getattr(batch, name)
        assert (column.format, column.itemsize, len(column)) == ("I", 4, 128), name
    assert (batch.rule.format, len(batch.rule), batch.rule[127]) == ("i", 128, -1)
    assert (batch.key.shape, batch.key.format) == ((128, 40), "B")
    assert (batch.memory.nbytes, batch.memory.readonly) == (25600, False)
    assert (batch.capacity, batch.slot, batch.headroom) == (100, 256, 64)


def test_columns_are_the_memory_itself(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    first = batch.hash
    batch.hash[1] = 0xFFFFFFFF
    assert first[1] == 0xFFFFFFFF
    batch.memory[batch.offset[0]] = 0x55
    assert batch.frame(0)[0] == 0x55


@pytest.mark.parametrize("name", ["offset", "length"])
def test_places_are_not_written_past_the_check(twin: ModuleType, name: str) -> None:
    column = getattr(twin.Batch(4), name)
    assert column.readonly
    with pytest.raises(TypeError):
        column[0] = 1


def test_place_stays_in_its_slot(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    batch.place(1, 2048, 2048)
    assert len(batch.frame(1)) == 2048
    # (4096, 0): an empty packet at the next slot's beginning would be in that slot from then on.
    for offset, length in ((2047, 1), (2048, 2049), (4096, 0), (4097, 0), (4095, 2), (-1, 1), (2048, -1)):
        with pytest.raises((ValueError, OverflowError)):
            batch.place(1, offset, length)
    batch.place(1, 4095, 0)
    assert batch.frame(1) == b""
    with pytest.raises(IndexError):
        batch.place(4, 4 * 2048, 1)
    with pytest.raises(IndexError):
        batch.frame(-1)


def test_too_long_a_frame(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    with pytest.raises(batch_errors.FrameTooLongError) as caught:
        batch.fill([b"", bytes(1921)])
    assert (caught.value.index, caught.value.length, caught.value.room) == (1, 1921, 1920)
    assert batch.count == 0


def test_a_super_frame(twin: ModuleType) -> None:
    batch = twin.Batch(2, slot=69632)
    frame = bytes(range(256)) * 256
    batch.fill([frame, frame])
    assert batch.frames() == [frame, frame]


def test_compact_keeps_the_order(twin: ModuleType) -> None:
    batch = twin.Batch(6)
    batch.fill([bytes([i]) * 60 for i in range(6)])
    for i in range(6):
        batch.vni[i] = batch.flags[i] = batch.layers[i] = batch.hash[i] = batch.tunnel[i] = batch.rule[i] = i
        batch.key[i, 5] = i
    for i in (0, 3, 4):
        batch.verdict[i] = 1
    assert batch.compact() == 3
    assert [frame[0] for frame in batch.frames()] == [1, 2, 5]
    for name in ("vni", "flags", "layers", "hash", "tunnel", "rule"):
        assert list(getattr(batch, name)[:3]) == [1, 2, 5], name
    assert [batch.key[i, 5] for i in range(3)] == [1, 2, 5]
    assert list(batch.verdict[:3]) == [0, 0, 0]
    assert sorted(offset // 2048 for offset in batch.offset[:6]) == list(range(6))
    assert batch.fill(FRAMES) == 4
    assert batch.frames() == FRAMES


@pytest.mark.parametrize(
    ("capacity", "options"),
    [
        (0, {}),
        (1 << 23, {}),
        (1, {"slot": 100}),
        (1, {"slot": 255}),
        (1, {"slot": 2 << 20}),
        (1, {"headroom": 63}),
        (1, {"headroom": 2048}),
        (1 << 22, {"slot": 2048}),
    ],
)
def test_sizes_out_of_range(twin: ModuleType, capacity: int, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"capacity|slot|headroom"):
        twin.Batch(capacity, **options)


def test_closing(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    view = batch.views()[0]
    with pytest.raises(batch_errors.BatchInUseError):
        batch.close()
    assert batch.frame(0) == FRAMES[0]
    view.release()
    del view
    batch.close()
    batch.close()
    for use in (batch.clear, batch.frames, lambda: batch.memory, lambda: batch.fill([]), lambda: batch.frame(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_filling_from_its_own_views(twin: ModuleType) -> None:
    batch = twin.Batch(4)
    batch.fill(FRAMES)
    assert batch.fill(batch.views()) == 4
    assert batch.frames() == FRAMES


@needs_build
def test_same_face(twin: ModuleType) -> None:
    assert BATCH_C is not None
    for name, member in inspect.getmembers(twin.Batch):
        if not name.startswith("_"):
            assert hasattr(BATCH_C.Batch, name), name
            assert not callable(member) or callable(getattr(BATCH_C.Batch, name))


def test_a_column_of_no_batch_has_no_memory(twin: ModuleType) -> None:
    made = type(twin.Batch(1).flags.obj)("I") if twin is _batch_py else type(twin.Batch(1).flags.obj)()
    with pytest.raises((ValueError, IndexError)):
        memoryview(made)[0]

"""One sentence about any bytes for each parser of the batches; the compiled levels must say what the plain twin says.

Each target takes any bytes; `test_batch_parsers` mutates stored ones, `guided` lets atheris choose them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from types import ModuleType

from fastpath import _capture_py, _conntrack_py, _flow_py
from fastpath.batch import Batch
from fastpath.capture_errors import CaptureError
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.twins import built, stages

CAPTURES = [twin for twin in (_capture_py, built("fastpath._capture_c")) if twin is not None]
CHECKSUMS: list[ModuleType] = [each.values[0] for each in stages("checksum")]  # type: ignore[attr-defined]
SEGMENTS: list[ModuleType] = [each.values[0] for each in stages("segment")]  # type: ignore[attr-defined]
CONNTRACKS = [twin for twin in (_conntrack_py, built("fastpath._conntrack_c")) if twin is not None]
ROOM = 2048
READ, TIMES = Batch(4, slot=512, headroom=64, huge=False), array("Q", bytes(32))
ONE, PARTS = Batch(1, slot=8192, headroom=0, huge=False), Batch(16, slot=1024, headroom=0, huge=False)
SEVERAL, JOINED = Batch(8, slot=ROOM, headroom=64, huge=False), Batch(8, slot=8192, headroom=64, huge=False)
SIZES = array("I", bytes(32))


def capture(data: bytes) -> None:
    """A file gives the same packets, times, counts and fault from both twins, and never more bytes than it has."""
    outcomes = []
    for twin in CAPTURES:
        said: list[object] = []
        try:
            records = twin.Records(data)
            while count := records.fill(READ, TIMES):
                frames = READ.frames()
                assert sum(map(len, frames)) <= len(data)
                said.append((frames, list(TIMES[:count]), records.position, records.skipped, records.too_long))
            said.append((records.position, records.skipped, records.too_long))
        except CaptureError as error:
            said.append((error.fault, error.offset))
        outcomes.append(said)
    assert all(each == outcomes[0] for each in outcomes), outcomes


def checksum(data: bytes) -> None:
    """Of a frame, every level writes the same checksums, which verify, and gives the same verdict."""
    frame, partial = data[1:ROOM], bool(data[:1] and data[0] & 1)
    outcomes = []
    for twin in CHECKSUMS:
        ONE.fill([frame])
        ONE.flags[0] = Flags.PARTIAL_CHECKSUM if data[:1] and data[0] & 2 else 0
        twin.verify(ONE)
        said: list[object] = [Reason(ONE.verdict[0])]
        ONE.verdict[0] = 0
        filled = twin.fill(ONE, partial)
        said += [filled, ONE.frame(0), ONE.flags[0]]
        if filled:
            assert twin.verify(ONE) == 1
        outcomes.append(said)
    assert all(each == outcomes[0] for each in outcomes), outcomes


def segment(data: bytes) -> None:
    """Of a super-frame, every level makes the same segments, and joins them to the same frames again."""
    size, frame = int.from_bytes(data[:2], "big"), data[3:8000]
    outcomes = []
    for twin in SEGMENTS:
        ONE.fill([frame])
        ONE.flags[0] = Flags.PARTIAL_CHECKSUM if data[2:3] and data[2] & 1 else 0
        assert twin.segment(ONE, PARTS, size or 1) == 1
        said = [PARTS.frames(), list(PARTS.flags[: len(PARTS)]), ONE.verdict[0]]
        assert twin.coalesce(PARTS, JOINED, None, 0, True) == len(PARTS) or len(JOINED) == 8
        said += [JOINED.frames(), list(JOINED.flags[: len(JOINED)])]
        outcomes.append(said)
    assert all(each == outcomes[0] for each in outcomes), outcomes


def coalesce(data: bytes) -> None:
    """Of frames, each behind two bytes of length, every level makes the same super-frames; no payload is lost."""
    frames: list[bytes] = []
    how, at = (data[0] if data else 0), 1
    while at + 2 <= len(data) and len(frames) < 8:
        size = int.from_bytes(data[at : at + 2], "big") % 1500
        frames.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    outcomes = []
    for twin in SEGMENTS:
        SEVERAL.fill(frames)
        following = twin.coalesce(SEVERAL, JOINED, SIZES, 0, bool(how & 1), bool(how & 2))
        assert following == len(frames)
        count = len(JOINED)
        outcomes.append([JOINED.frames(), list(JOINED.flags[:count]), list(SIZES[:count])])
        assert sum(map(len, JOINED.frames())) <= sum(map(len, frames))
    assert all(each == outcomes[0] for each in outcomes), outcomes


def conntrack(data: bytes) -> None:
    """Of frames, each behind two bytes of length, the tables say the same, twice over, and hold the same in the end."""
    frames: list[bytes] = []
    how, at = (data[0] if data else 0), 1
    while at + 2 <= len(data) and len(frames) < 8:
        size = int.from_bytes(data[at : at + 2], "big") % 1500
        frames.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    outcomes = []
    for twin in CONNTRACKS:
        table, said = twin.Conntrack(4, seed=how, window_check=bool(how & 1), pick_up=bool(how & 2), count=True), []
        for now in (0, 10**9, 60 * 10**9):
            SEVERAL.fill(frames)
            _flow_py.keys(SEVERAL)
            said += [table.track(SEVERAL, now), list(SEVERAL.ct[: len(frames)])]
            said += [table.commit(SEVERAL, now), list(SEVERAL.ct[: len(frames)]), table.stats]
        outcomes.append([said, sorted(table.connections())])
    assert all(each == outcomes[0] for each in outcomes), outcomes


TARGETS: dict[str, Callable[[bytes], None]] = {
    "capture": capture,
    "checksum": checksum,
    "segment": segment,
    "coalesce": coalesce,
    "conntrack": conntrack,
}

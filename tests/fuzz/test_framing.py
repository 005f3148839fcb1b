"""Any bytes give a `Udp4` or a `FrameError` with a known reason, the same from both twins."""

from __future__ import annotations

from types import ModuleType

from fastpath import _checksum_py, _framing_py
from fastpath.frame import DROP_REASONS, FrameError, Udp4
from tests.fuzz.bytes_mutator import mutations
from tests.twins import FRAMING_C

MAC = bytes.fromhex("020000000005")
ADDRESS = bytes([10, 0, 0, 5])
FRAME = _framing_py.udp4_frame(MAC, MAC, ADDRESS, ADDRESS, 67, 68, bytes(range(40)))
SEEDS = [
    FRAME,
    FRAME[:40] + b"\x00\x00" + FRAME[42:],
    _framing_py.udp4_frame(MAC, MAC, ADDRESS, ADDRESS, 67, 68, b""),
    # IPv4 with options, all of the header's sixty bytes.
    FRAME[:14] + b"\x4f" + FRAME[15:34] + bytes(40) + FRAME[34:],
    b"",
]


def outcome(twin: ModuleType, frame: bytes, check_udp: bool) -> Udp4 | str:
    try:
        found = twin.parse_udp4(frame, check_udp)
    except FrameError as error:
        return error.reason
    assert isinstance(found, Udp4)
    assert found.payload in frame
    return found


def repaired(frame: bytes) -> bytes:
    """`frame` with a right IPv4 header checksum, so that a mutant gets past that check."""
    header = frame[14 : 14 + (frame[14] & 0x0F) * 4] if len(frame) > 14 else b""
    if len(header) < 20:
        return frame
    checksum = _checksum_py.internet_checksum(header[:10] + bytes(2) + header[12:])
    return frame[:24] + checksum.to_bytes(2, "big") + frame[26:]


def test_framing() -> None:
    for mutant in mutations(SEEDS):
        for frame in (mutant, repaired(mutant)):
            for check_udp in (True, False):
                plain = outcome(_framing_py, frame, check_udp)
                assert isinstance(plain, Udp4) or plain in DROP_REASONS, frame.hex()
                if FRAMING_C is not None:
                    assert outcome(FRAMING_C, frame, check_udp) == plain, frame.hex()

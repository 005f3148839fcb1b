"""Both twins of fastpath agree on everything: results, and which error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath import _checksum_py, _framing_py
from fastpath.frame import FrameError
from tests.twins import CHECKSUM_C, FRAMING_C, needs_build

pytestmark = needs_build

NUMBERS = st.one_of(st.integers(0, 0xFFFF), st.integers(), st.sampled_from([-1, 0x10000, 0xFFFFFFFF, 1 << 32, 1 << 63]))
MACS = st.binary(min_size=6, max_size=6)
ADDRESSES = st.binary(min_size=4, max_size=4)
PAYLOADS = st.binary(max_size=1500)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the error's type and text."""
    try:
        return function(*arguments)
    except (ValueError, OverflowError, FrameError) as error:
        return type(error), str(error)


@given(st.binary(max_size=4000), NUMBERS)
@example(b"\xff" * 70000, 0xFFFFFFFF)
@example(b"", 0xFFFF)
def test_checksums_agree(data: bytes, initial: int) -> None:
    plain = outcome(_checksum_py.internet_checksum, data, initial)
    assert outcome(CHECKSUM_C.internet_checksum, data, initial) == plain  # type: ignore[union-attr]


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0), st.binary(max_size=64))
def test_checksum_may_be_chained_at_even_offsets(head: bytes, tail: bytes) -> None:
    first = 0xFFFF - _checksum_py.internet_checksum(head)
    assert _checksum_py.internet_checksum(tail, first) == _checksum_py.internet_checksum(head + tail)


@given(st.binary(max_size=8), st.binary(max_size=8), NUMBERS, NUMBERS, PAYLOADS)
def test_udp_checksums_agree(source: bytes, destination: bytes, sport: int, dport: int, payload: bytes) -> None:
    arguments = (source, destination, sport, dport, payload)
    plain = outcome(_checksum_py.udp4_checksum, *arguments)
    compiled = outcome(CHECKSUM_C.udp4_checksum, *arguments)  # type: ignore[union-attr]
    assert compiled == plain


FRAME_ARGUMENTS = st.tuples(
    MACS, MACS, ADDRESSES, ADDRESSES, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), PAYLOADS, st.integers(0, 255),
    st.integers(0, 0xFFFF),
)  # fmt: skip


@given(FRAME_ARGUMENTS)
def test_frames_agree_and_come_back(arguments: tuple[Any, ...]) -> None:
    frame = _framing_py.udp4_frame(*arguments)
    assert FRAMING_C.udp4_frame(*arguments) == frame  # type: ignore[union-attr]
    parsed = FRAMING_C.parse_udp4(frame)  # type: ignore[union-attr]
    assert parsed == _framing_py.parse_udp4(frame) == arguments[:7]


@given(MACS, ADDRESSES, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_misuse_agrees(mac: bytes, address: bytes, sport: int, dport: int, ttl: int, ident: int) -> None:
    arguments = (mac, mac, address, address, sport, dport, b"", ttl, ident)
    plain = outcome(_framing_py.udp4_frame, *arguments)
    compiled = outcome(FRAMING_C.udp4_frame, *arguments)  # type: ignore[union-attr]
    assert type(compiled) is type(plain)
    assert compiled == plain or isinstance(plain, tuple)


@settings(max_examples=300)
@given(FRAME_ARGUMENTS, st.data(), st.booleans())
def test_parsers_agree_on_broken_frames(arguments: tuple[Any, ...], data: st.DataObject, check: bool) -> None:
    frame = bytearray(_framing_py.udp4_frame(*arguments))
    for _ in range(data.draw(st.integers(0, 3))):
        frame[data.draw(st.integers(0, min(len(frame), 50) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    plain = outcome(_framing_py.parse_udp4, broken, check)
    assert outcome(FRAMING_C.parse_udp4, broken, check) == plain  # type: ignore[union-attr]


@pytest.mark.parametrize("ihl", range(16))
@given(st.binary(min_size=14, max_size=120), st.booleans())
def test_parsers_agree_on_any_header_length(ihl: int, rest: bytes, check: bool) -> None:
    frame = bytes(12) + b"\x08\x00" + bytes([0x40 | ihl]) + rest
    plain = outcome(_framing_py.parse_udp4, frame, check)
    assert outcome(FRAMING_C.parse_udp4, frame, check) == plain  # type: ignore[union-attr]

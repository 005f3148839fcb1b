"""Checksum: both twins against RFC 1071's example, scapy and each rule of the contract."""

from __future__ import annotations

import array
import inspect
import random
from types import ModuleType

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from fastpath import _checksum_py
from tests.twins import CHECKSUM_C, CHECKSUMS, needs_build

pytestmark = pytest.mark.parametrize("twin", CHECKSUMS)

# RFC 1071 section 3: the sum of these words is ddf2.
EXAMPLE = bytes.fromhex("0001f203f4f5f6f7")


def test_example_of_the_rfc(twin: ModuleType) -> None:
    assert twin.internet_checksum(EXAMPLE) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0xFFFF),
        (b"\x00", 0xFFFF),
        (b"\x00" * 7, 0xFFFF),
        (b"\xff\xff", 0),
        (b"\xff" * 64, 0),
        (b"\x12", 0xFFFF - 0x1200),
        (b"\x00\x01\x02", 0xFFFF - 0x0201),
        (b"\x80\x00\x80\x00", 0xFFFF - 1),
    ],
)
def test_corners(twin: ModuleType, data: bytes, checksum: int) -> None:
    assert twin.internet_checksum(data) == checksum


@pytest.mark.parametrize("size", [*range(1, 40), 1499, 1500, 65535])
def test_same_as_scapy(twin: ModuleType, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert twin.internet_checksum(data) == scapy_checksum(data)


@needs_build
@pytest.mark.parametrize("fill", ["random", "ones"])
def test_every_length_at_every_alignment(twin: ModuleType, fill: str) -> None:
    """Registers are loaded from multiples of their size, and the bytes before and behind are others'."""
    chance = random.Random(8)
    data = memoryview(bytes([255]) * 2048 if fill == "ones" else chance.randbytes(2048))
    for start in range(65):
        for size in (*range(start % 3, 200, 3), *range(255, 260), 512, 1450 + start % 2, 1500, 1981):
            piece = data[start : start + size]
            assert twin.internet_checksum(piece) == _checksum_py.internet_checksum(piece), (start, size)


def test_chained_by_initial(twin: ModuleType) -> None:
    head, tail = EXAMPLE[:4], EXAMPLE[4:]
    assert twin.internet_checksum(tail, 0xFFFF - twin.internet_checksum(head)) == twin.internet_checksum(EXAMPLE)
    assert twin.internet_checksum(b"", 0x1FFFE) == 0
    assert twin.internet_checksum(b"\x00\x01", 0xFFFFFFFF) == 0xFFFF - 1


def test_zero_over_data_that_holds_it(twin: ModuleType) -> None:
    assert twin.internet_checksum(EXAMPLE + twin.internet_checksum(EXAMPLE).to_bytes(2, "big")) == 0


def test_any_contiguous_buffer(twin: ModuleType) -> None:
    wanted = twin.internet_checksum(EXAMPLE)
    assert twin.internet_checksum(bytearray(EXAMPLE)) == wanted
    assert twin.internet_checksum(memoryview(b"x" + EXAMPLE)[1:]) == wanted
    assert twin.internet_checksum(array.array("H", EXAMPLE)) == wanted


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((memoryview(EXAMPLE)[::2],), BufferError),
        (("text",), TypeError),
        (([1, 2],), TypeError),
        ((EXAMPLE, -1), OverflowError),
        ((EXAMPLE, 1 << 32), OverflowError),
        ((EXAMPLE, 1 << 80), OverflowError),
        ((EXAMPLE, 1.0), TypeError),
        ((bytearray(EXAMPLE), 1 << 32), OverflowError),
    ],
)
def test_misuse(twin: ModuleType, arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        twin.internet_checksum(*arguments)


@pytest.mark.parametrize("size", [0, 1, 2, 300, 301, 1472])
def test_udp_same_as_scapy(twin: ModuleType, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    packet = IP(bytes(IP(src="10.0.0.1", dst="10.0.0.5") / UDP(sport=67, dport=68) / Raw(payload)))
    assert twin.udp4_checksum(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 5]), 67, 68, payload) == packet[UDP].chksum


def test_udp_never_zero(twin: ModuleType) -> None:
    zero = bytes(4)
    seen = [twin.udp4_checksum(zero, zero, 0, 0, word.to_bytes(2, "big")) for word in range(0x10000)]
    assert 0 not in seen
    # 17 + 2 * 10 and this payload make 0xffff, so the checksum is 0 and goes out as 0xffff.
    assert seen[0xFFFF - 37] == 0xFFFF


@pytest.mark.parametrize(
    "arguments",
    [
        (b"\x0a\x00\x00", bytes(4), 67, 68, b""),
        (bytes(4), bytes(5), 67, 68, b""),
        (bytes(4), bytes(4), -1, 68, b""),
        (bytes(4), bytes(4), 67, 0x10000, b""),
        (bytes(4), bytes(4), 67, 1 << 80, b""),
        (bytes(4), bytes(4), 67, 68, bytes(65528)),
    ],
)
def test_udp_misuse(twin: ModuleType, arguments: tuple[bytes, bytes, int, int, bytes]) -> None:
    with pytest.raises(ValueError, match=r"address|port|payload"):
        twin.udp4_checksum(*arguments)


@needs_build
@pytest.mark.parametrize("name", ["internet_checksum", "udp4_checksum"])
def test_same_signature(twin: ModuleType, name: str) -> None:
    plain = inspect.signature(getattr(twin, name)).parameters.values()
    compiled = inspect.signature(getattr(CHECKSUM_C, name)).parameters.values()
    assert [(p.name, p.default) for p in plain] == [(p.name, p.default) for p in compiled]

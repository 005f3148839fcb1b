"""Checksum and DHCP framing: the compiled modules beside their plain twins."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

LEVELS = ("py", "c")
MACS = (b"\x02\0\0\0\0\x05", b"\x02\0\0\0\0\x01")
ADDRESSES = (b"\xa9\xfe\xa9\xfe", b"\x0a\0\0\x05")
PAYLOAD = bytes(range(256)) + bytes(range(44))
"""300 bytes: what a DHCP reply is padded to."""


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def module(name: str, level: str) -> ModuleType:
    try:
        return importlib.import_module(f"fastpath._{name}_{level}")
    except ModuleNotFoundError:
        pytest.skip(f"fastpath._{name}_{level} is not built")


@pytest.mark.parametrize("size", [20, 300, 1450])
def test_checksum(benchmark: BenchmarkFixture, level: str, size: int) -> None:
    data = bytes(range(256)) * 6
    checksum = module("checksum", level).internet_checksum
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, size, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data[:size]) == total ^ 0xFFFF
    benchmark(checksum, data[:size])


def test_frame(benchmark: BenchmarkFixture, level: str) -> None:
    frame = module("framing", level).udp4_frame
    arguments = (*MACS, *ADDRESSES, 67, 68, PAYLOAD)
    decoded = Ether(frame(*arguments))
    assert (decoded[IP].src, decoded[IP].dst, decoded[UDP].dport) == ("169.254.169.254", "10.0.0.5", 68)
    assert bytes(decoded[UDP].payload) == PAYLOAD
    benchmark(frame, *arguments)


def test_parse(benchmark: BenchmarkFixture, level: str) -> None:
    framing = module("framing", level)
    frame = bytes(Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:05")
                  / IP(src="10.0.0.5", dst="169.254.169.254") / UDP(sport=68, dport=67) / PAYLOAD)  # fmt: skip
    parsed = framing.parse_udp4(frame)
    assert (parsed.src_port, parsed.dst_port, parsed.payload) == (68, 67, PAYLOAD)
    benchmark(framing.parse_udp4, frame)

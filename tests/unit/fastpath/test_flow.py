"""Five-tuples and their hash: plain and every compiled level."""

from __future__ import annotations

import socket
from types import ModuleType

import pytest

from fastpath import _batch_py, _flow_py, _hasher_py
from fastpath.endpoints import FiveTuple
from fastpath.flags import Flags
from tests.twins import BATCH_C, HASHER_C, stages

MACS = bytes.fromhex("020000000001020000000002")
IP4 = MACS + bytes.fromhex("0800")
IP6 = MACS + bytes.fromhex("86dd")
ONE, TWO = bytes([10, 0, 0, 1]), bytes([192, 0, 2, 77])
ONE6, TWO6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "fe80::a9fe:a9fe")
PORTS = bytes.fromhex("303901bb")
HASH4, HASH6, HASH_ARP = 0x77ABFD05, 0x47EA3125, 0x56609827


def ip4(protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0, total: int | None = None) -> bytes:
    header = 20 + len(options)
    size = header + len(payload) if total is None else total
    return (
        bytes([0x40 | header // 4, 0])
        + size.to_bytes(2, "big")
        + b"\x12\x34"
        + fragment.to_bytes(2, "big")
        + bytes([64, protocol, 0, 0])
        + ONE
        + TWO
        + options
        + payload
    )


def ip6(protocol: int, payload: bytes, *, size: int | None = None) -> bytes:
    length = len(payload) if size is None else size
    return b"\x60\x00\x00\x00" + length.to_bytes(2, "big") + bytes([protocol, 64]) + ONE6 + TWO6 + payload


class Found:
    """One frame through a level's `extract`."""

    def __init__(self, module: ModuleType, frame: bytes, seed: int = _hasher_py.DEFAULT_SEED) -> None:
        twins = (_batch_py, _hasher_py) if module is _flow_py else (BATCH_C, HASHER_C)
        batches, hashers = twins
        assert batches is not None
        assert hashers is not None
        batch = batches.Batch(1)
        batch.fill([frame])
        self.count = module.extract(batch, hashers.Hasher(seed))
        self.key = bytes(batch.key.cast("B")[:40])
        self.flags, self.layers, self.hash = batch.flags[0], batch.layers[0], batch.hash[0]


@pytest.fixture(params=stages("flow"))
def flow(request: pytest.FixtureRequest) -> ModuleType:
    module = request.param
    assert isinstance(module, ModuleType)
    return module


def test_tcp_over_ip4(flow: ModuleType) -> None:
    found = Found(flow, IP4 + ip4(6, PORTS + bytes(16)))
    assert found.count == 1
    assert found.key == ONE + bytes(12) + TWO + bytes(12) + PORTS + bytes([6, 4, 0, 0])
    assert found.flags == Flags.IPV4 | Flags.PORTS | Flags.TCP
    assert found.layers == 14 | 34 << 16


def test_udp_over_ip6(flow: ModuleType) -> None:
    found = Found(flow, IP6 + ip6(17, PORTS + bytes(4)))
    assert found.count == 1
    assert found.key == ONE6 + TWO6 + PORTS + bytes([17, 6, 0, 0])
    assert found.flags == Flags.IPV6 | Flags.PORTS | Flags.UDP
    assert found.layers == 14 | 54 << 16


def test_hash_of_a_known_flow(flow: ModuleType) -> None:
    """The value itself is a contract: nodes of different versions must choose the same entropy port."""
    assert Found(flow, IP4 + ip4(6, PORTS + bytes(16))).hash == HASH4
    assert Found(flow, IP6 + ip6(17, PORTS + bytes(4))).hash == HASH6
    assert Found(flow, MACS + b"\x08\x06" + bytes(28)).hash == HASH_ARP


def test_five_tuple(flow: ModuleType) -> None:
    frame = IP4 + ip4(6, PORTS + bytes(16))
    assert flow.five_tuple(frame) == FiveTuple(ONE, TWO, 6, 12345, 443)
    assert flow.five_tuples([frame, b"", frame]) == [flow.five_tuple(frame), None, flow.five_tuple(frame)]
    assert type(flow.five_tuple(frame)) is FiveTuple

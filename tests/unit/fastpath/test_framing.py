"""Framing: both twins against scapy, and every drop reason of the table by a frame that is wrong in one place."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from fastpath.frame import DROP_REASONS, FrameError, Udp4
from tests.twins import FRAMING_C, FRAMINGS, needs_build

pytestmark = pytest.mark.parametrize("twin", FRAMINGS)

GUEST = bytes.fromhex("020000000005")
SERVER = bytes.fromhex("0a0000000001")
ARGUMENTS: dict[str, Any] = {
    "dst_mac": GUEST,
    "src_mac": SERVER,
    "src_ip": bytes([169, 254, 169, 254]),
    "dst_ip": bytes([10, 0, 0, 5]),
    "src_port": 67,
    "dst_port": 68,
    "payload": b"\x02\x01\x06\x00" + bytes(range(1, 200)),
}


def scapy_frame(**changes: Any) -> bytes:
    """The frame of ARGUMENTS as scapy builds it; `changes` go to its IP or UDP layer."""
    udp = {key: changes.pop(key) for key in ("len", "chksum") if key in changes}
    ip = IP(**{"src": "169.254.169.254", "dst": "10.0.0.5", "flags": "DF", "id": 0, "ttl": 64, **changes})
    ether = Ether(dst="02:00:00:00:00:05", src="0a:00:00:00:00:01")
    return bytes(ether / ip / UDP(sport=67, dport=68, **udp) / Raw(ARGUMENTS["payload"]))


def patched(frame: bytes, offset: int, value: bytes, repair: bool = True) -> bytes:
    """`frame` with `value` at `offset`; with `repair`, the IPv4 header checksum is made right again."""
    frame = frame[:offset] + value + frame[offset + len(value) :]
    if repair and len(frame) >= 34:
        header = IP(frame[14:34])
        del header.chksum
        frame = frame[:24] + bytes(header)[10:12] + frame[26:]
    return frame


def reason(twin: ModuleType, frame: bytes, **options: bool) -> str:
    with pytest.raises(FrameError) as caught:
        twin.parse_udp4(frame, **options)
    assert caught.value.reason in DROP_REASONS
    return caught.value.reason


def test_same_bytes_as_scapy(twin: ModuleType) -> None:
    assert twin.udp4_frame(**ARGUMENTS) == scapy_frame()
    assert twin.udp4_frame(**ARGUMENTS, ttl=1, ident=0xBEEF) == scapy_frame(ttl=1, id=0xBEEF)
    empty = Ether(twin.udp4_frame(**{**ARGUMENTS, "payload": b""}))
    assert empty[UDP].len == 8
    assert empty[IP].len == 28


def test_round_trip(twin: ModuleType) -> None:
    parsed = twin.parse_udp4(twin.udp4_frame(**ARGUMENTS))
    assert type(parsed) is Udp4
    assert parsed._asdict() == {key: ARGUMENTS[key] for key in Udp4._fields}


def test_largest(twin: ModuleType) -> None:
    payload = bytes(65507)
    assert twin.parse_udp4(twin.udp4_frame(**{**ARGUMENTS, "payload": payload})).payload == payload


@pytest.mark.parametrize(
    "change",
    [
        {"dst_mac": b"\x02" * 5},
        {"src_mac": b"\x02" * 7},
        {"src_ip": b"\x02" * 3},
        {"dst_ip": b"\x02" * 16},
        {"src_port": -1},
        {"dst_port": 65536},
        {"src_port": 1 << 70},
        {"ttl": 256},
        {"ident": 65536},
        {"payload": bytes(65508)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_misuse(twin: ModuleType, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"MAC|address|port|live|identification|payload"):
        twin.udp4_frame(**{**ARGUMENTS, **change})


def test_padding_is_cut_off(twin: ModuleType) -> None:
    frame = twin.udp4_frame(**{**ARGUMENTS, "payload": b"x"})
    assert twin.parse_udp4(frame + bytes(17)).payload == b"x"


def test_bytes_between_udp_and_ipv4_are_cut_off(twin: ModuleType) -> None:
    whole = scapy_frame(len=8 + 4, chksum=0)
    assert twin.parse_udp4(whole).payload == ARGUMENTS["payload"][:4]


def test_ipv4_options_are_skipped(twin: ModuleType) -> None:
    frame = scapy_frame(options=[IPOption(b"\x94\x04\x00\x00")])
    assert twin.parse_udp4(frame).payload == ARGUMENTS["payload"]


def test_no_udp_checksum(twin: ModuleType) -> None:
    assert twin.parse_udp4(scapy_frame(chksum=0)).payload == ARGUMENTS["payload"]


def test_partial_udp_checksum(twin: ModuleType) -> None:
    frame = scapy_frame(chksum=0x1234)
    assert reason(twin, frame) == "udp_checksum"
    assert twin.parse_udp4(frame, check_udp=False).payload == ARGUMENTS["payload"]


GOOD = scapy_frame()
WRONG = [
    ("frame_short", b""),
    ("frame_short", GOOD[:13]),
    ("frame_short", GOOD[:14]),
    ("frame_short", GOOD[:33]),
    ("not_ipv4", bytes(Ether() / ARP(op=1))),
    ("not_ipv4", bytes(Ether() / Dot1Q(vlan=7) / IP() / UDP())),
    ("not_ipv4", patched(GOOD, 14, b"\x65", repair=False)),
    ("ipv4_header_length", patched(GOOD, 14, b"\x44", repair=False)),
    ("ipv4_header_length", patched(GOOD[:70], 14, b"\x4f", repair=False)),
    ("ipv4_total_length", patched(GOOD, 16, b"\x00\x13")),
    ("ipv4_total_length", patched(GOOD, 16, (len(GOOD) - 13).to_bytes(2, "big"))),
    ("ipv4_total_length", GOOD[:-1]),
    ("ipv4_checksum", patched(GOOD, 22, b"\x3f", repair=False)),
    ("ipv4_checksum", patched(GOOD, 24, b"\x00\x00", repair=False)),
    ("ipv4_fragment", patched(GOOD, 20, b"\x20\x00")),
    ("ipv4_fragment", patched(GOOD, 20, b"\x00\x01")),
    ("ipv4_fragment", patched(GOOD, 20, b"\x5f\xff")),
    ("not_udp", patched(GOOD, 23, b"\x06")),
    ("udp_length", patched(GOOD, 16, b"\x00\x1b")),
    ("udp_length", patched(GOOD, 38, b"\x00\x07")),
    ("udp_length", patched(GOOD, 38, b"\xff\xff")),
    ("udp_checksum", patched(GOOD, 60, b"\xff")),
    ("udp_checksum", patched(GOOD, 36, b"\x00\x45")),
]


@pytest.mark.parametrize(("wanted", "frame"), WRONG, ids=[f"{wanted}-{n}" for n, (wanted, _) in enumerate(WRONG)])
def test_drop_reasons(twin: ModuleType, wanted: str, frame: bytes) -> None:
    assert reason(twin, frame) == wanted


def test_every_drop_reason_is_tried(twin: ModuleType) -> None:
    assert {wanted for wanted, _ in WRONG} == set(DROP_REASONS)


def test_every_truncation_is_refused(twin: ModuleType) -> None:
    for size in range(len(GOOD)):
        reason(twin, GOOD[:size])


@pytest.mark.parametrize("frame", [None, 7])
def test_not_bytes(twin: ModuleType, frame: object) -> None:
    with pytest.raises(TypeError):
        twin.parse_udp4(frame)


@needs_build
@pytest.mark.parametrize("name", ["udp4_frame", "parse_udp4"])
def test_same_signature(twin: ModuleType, name: str) -> None:
    plain = inspect.signature(getattr(twin, name)).parameters.values()
    compiled = inspect.signature(getattr(FRAMING_C, name)).parameters.values()
    assert [(p.name, p.default) for p in plain] == [(p.name, p.default) for p in compiled]

"""Checksums of whole batches and of changed words, at every level: against scapy, and what is left alone."""

from __future__ import annotations

import random
from types import ModuleType

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests.frames import frame, samples, udp
from tests.twins import stages

pytestmark = pytest.mark.parametrize("twin", stages("checksum"))

V4, V6 = IP(src="10.0.0.5", dst="192.0.2.9"), IPv6(src="fd00::5", dst="2001:db8::9")
PACKETS: list[Packet] = [
    ip / layer4
    for ip in (V4, V6, V6 / IPv6ExtHdrDestOpt())
    for layer4 in (TCP(flags="A", options=[("NOP", None)] * 12) / Raw(b"odd"), UDP(sport=53) / Raw(b"even"),
                   ICMP() if ip is V4 else ICMPv6EchoRequest())
]  # fmt: skip


def wrong(frame: bytes, packet: Packet) -> bytes:
    """The frame with every checksum in it wrong."""
    data = bytearray(frame)
    at = 14
    if Dot1Q in packet:
        at += 4
    if IP in packet:
        data[at + 10] ^= 0x5A
    layer4 = next(each for each in (TCP, UDP, ICMP, ICMPv6EchoRequest) if each in packet)
    position = len(frame) - len(bytes(packet[layer4]))
    data[position + {TCP: 16, UDP: 6}.get(layer4, 2)] ^= 0xA5
    return bytes(data)


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: packet.summary())
@pytest.mark.parametrize("tag", [False, True])
def test_as_scapy(twin: ModuleType, packet: Packet, tag: bool) -> None:
    whole = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:05") / (Dot1Q(vlan=5) / packet if tag else packet)
    right = bytes(whole)
    batch = Batch(2)
    batch.fill([wrong(right, whole), right])
    assert twin.fill(batch) == 2
    assert batch.frames() == [right, right]
    assert twin.verify(batch) == 2
    batch.fill([wrong(right, whole), right])
    assert twin.verify(batch) == 1
    assert batch.verdict[0] == (Reason.IP_CHECKSUM if IP in packet else Reason.LAYER4_CHECKSUM)


def test_verdict_of_layer_4(twin: ModuleType) -> None:
    data = bytearray(frame(4, 17, udp(4, b"x")))
    data[-1] ^= 1
    batch = Batch(1)
    batch.fill([data])
    assert twin.verify(batch) == 0
    assert batch.verdict[0] == Reason.LAYER4_CHECKSUM


def test_no_checksum_in_udp(twin: ModuleType) -> None:
    batch = Batch(2)
    batch.fill([frame(4, 17, udp(4, b"x", checksum=False)), frame(6, 17, udp(6, b"x", checksum=False))])
    assert twin.verify(batch) == 1
    assert list(batch.verdict[:2]) == [Reason.PASS, Reason.UDP_ZERO_CHECKSUM]


def test_udp_is_never_zero(twin: ModuleType) -> None:
    # Two bytes of payload that bring the sum to 0xffff.
    body = frame(4, 17, udp(4, bytes(2)))
    body = body[:-2] + body[40:42]
    batch = Batch(1)
    batch.fill([body])
    assert twin.fill(batch) == 1
    assert batch.frame(0)[40:42] == b"\xff\xff"
    assert twin.verify(batch) == 1


def test_partial(twin: ModuleType) -> None:
    whole = [each for each in samples() if len(each) > 40]
    batch = Batch(len(whole))
    batch.fill(whole)
    twin.fill(batch)
    wanted = batch.frames()
    filled = twin.fill(batch, partial=True)
    marked = [bool(flags & Flags.PARTIAL_CHECKSUM) for flags in batch.flags[: len(whole)]]
    assert 0 < sum(marked) < filled  # ICMP is not left partial
    assert [a != b for a, b in zip(batch.frames(), wanted, strict=True)] == marked
    assert twin.verify(batch) == len(whole)  # nothing is known of what is not complete
    assert twin.fill(batch) == filled
    assert batch.frames() == wanted
    # What was partial was not looked at; of the others, verify knows.
    assert not any(flags for flags, was in zip(batch.flags[: len(whole)], marked, strict=True) if was)
    assert set(batch.flags[: len(whole)]) == {0, Flags.VALID_CHECKSUM}


def test_what_was_verified_is_known_to_be_right(twin: ModuleType) -> None:
    whole = [
        frame(4, 17, udp(4, b"x")), frame(6, 17, udp(6, b"xy")),
        frame(4, 17, udp(4, b"x", checksum=False)), frame(4, 47, b"something"), frame(4, 17, udp(4, b"x"))[:-1] + b"y",
    ]  # fmt: skip
    batch = Batch(len(whole))
    batch.fill(whole)
    batch.flags[4] = int(Flags.VALID_CHECKSUM | Flags.IPV4)
    assert twin.verify(batch) == 4
    # No checksum, one that is not known, and a wrong one vouch for nothing.
    valid = Flags.VALID_CHECKSUM
    assert list(batch.flags[:5]) == [valid, valid, 0, 0, Flags.IPV4]


def test_a_partial_checksum_is_not_right_yet(twin: ModuleType) -> None:
    batch = Batch(1)
    batch.fill([frame(4, 17, udp(4, b"x"))])
    assert twin.verify(batch) == 1
    assert twin.fill(batch, partial=True) == 1
    assert batch.flags[0] == Flags.PARTIAL_CHECKSUM
    assert twin.verify(batch) == 1
    assert batch.flags[0] == Flags.PARTIAL_CHECKSUM
    assert twin.fill(batch) == 1
    assert batch.flags[0] == 0


def test_dropped_packets_are_passed_over(twin: ModuleType) -> None:
    broken = frame(4, 17, udp(4, b"x"))[:-1] + b"y"
    batch = Batch(2)
    batch.fill([broken, broken])
    batch.verdict[0] = Reason.ECN
    assert twin.fill(batch) == 1
    assert batch.frame(0) == broken
    assert batch.frame(1) != broken
    assert twin.verify(batch) == 1
    assert batch.verdict[0] == Reason.ECN


def test_what_is_left_alone(twin: ModuleType) -> None:
    sound = samples()
    rest = [each for each in sound if each[12:14] == b"\x08\x06" or (len(each) == 14 + 20 + 16 and each[20] & 0x20)]
    assert len(rest) == 2
    batch = Batch(2)
    batch.fill(rest)
    assert twin.fill(batch) == 0
    assert batch.frames() == rest
    assert twin.verify(batch) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:13], Reason.TRUNCATED),
        (lambda data: data[:33], Reason.TRUNCATED),
        (lambda data: data[:14] + b"\x65" + data[15:], Reason.IP_VERSION),
        (lambda data: data[:14] + b"\x44" + data[15:], Reason.IP_HEADER_LENGTH),
        (lambda data: data[:-1], Reason.IP_TOTAL_LENGTH),
        (lambda data: data[:38] + b"\x00\x07" + data[40:], Reason.UDP_LENGTH),
        (lambda data: data[:38] + b"\x00\xff" + data[40:], Reason.UDP_LENGTH),
        (lambda data: data[:23] + b"\x06" + data[24:46] + b"\x40" + data[47:], Reason.TCP_HEADER_LENGTH),
        (lambda data: data[:23] + b"\x06" + data[24:46] + b"\xf0" + data[47:], Reason.TCP_HEADER_LENGTH),
    ],
)
def test_lengths_that_contradict(twin: ModuleType, change: object, reason: Reason) -> None:
    batch = Batch(1)
    batch.fill([change(frame(4, 17, udp(4, bytes(30))))])  # type: ignore[operator]
    twin.fill(batch)
    assert twin.verify(batch) == 0
    assert batch.verdict[0] == reason


def test_example_of_rfc_1624(twin: ModuleType) -> None:
    assert twin.update(0xDD2F, b"\x55\x55", b"\x32\x85") == 0x0000


def test_update_is_a_sum_anew(twin: ModuleType) -> None:
    chance = random.Random(5)
    for _ in range(200):
        data = chance.randbytes(chance.randrange(2, 80))
        at = chance.randrange(0, len(data) - 1, 2)
        old = data[at : at + 2 * chance.randint(1, 4)]
        old = old[: len(old) // 2 * 2]
        new = bytes(len(old)) if chance.random() < 0.3 else chance.randbytes(len(old))
        changed = data[:at] + new + data[at + len(old) :]
        if any(changed):
            assert twin.update(twin.internet_checksum(data), old, new) == twin.internet_checksum(changed)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((-1, b"", b""), "checksum"), ((0x10000, b"", b""), "checksum"), ((0, b"1", b""), "16-bit"),
     ((0, b"12", b"345"), "16-bit")],
)  # fmt: skip
def test_update_misused(twin: ModuleType, arguments: tuple[int, bytes, bytes], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        twin.update(*arguments)


@pytest.mark.parametrize("call", ["fill", "verify"])
def test_no_batch(twin: ModuleType, call: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        getattr(twin, call)(None)
    closed = Batch(1)
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        getattr(twin, call)(closed)

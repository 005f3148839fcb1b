"""Any bytes give a message or a `WireError`, and any frame gives answers that hold the rules or a counted drop."""

from __future__ import annotations

from dataplane.dhcp import wire
from dataplane.dhcp.constants import MAX_OPTIONS
from dataplane.dhcp.core import DROP_REASONS, Send
from dataplane.errors import WireError
from fastpath.framing import udp4_frame
from tests.fuzz.bytes_mutator import mutations
from tests.unit.dataplane.dhcp import guest

MAC = bytes.fromhex(guest.MAC.replace(":", ""))
US = (54, guest.ip(guest.SERVER_ID))
MESSAGES = [
    guest.frame(guest.DISCOVER, (55, guest.UDHCPC_LIST), (57, b"\x05\xdc"), (61, b"\x01" + MAC), (60, b"udhcp 1.35.0")),
    guest.frame(
        guest.DISCOVER, (60, b"PXEClient:Arch:00007:UNDI:003000"), (97, bytes(17)), (93, b"\0\7"), (175, b"\1\1\1")
    ),
    guest.frame(guest.REQUEST, US, (50, guest.ip("10.0.0.5")), (82, b"\x01\x04port\x05\x04\x0a\0\0\0")),
    guest.frame(guest.REQUEST, ciaddr="10.0.0.5", src_ip="10.0.0.5"),
    guest.frame(guest.INFORM, (12, b"vm"), ciaddr="10.0.0.5"),
    guest.frame(guest.DECLINE, US, (50, guest.ip("10.0.0.5"))),
    guest.frame(guest.RELEASE, US, ciaddr="10.0.0.5"),
    guest.frame(None, (12, b"vm")),
    guest.frame(guest.DISCOVER, (52, b"\3"), file=b"\x37\2\1\3\xff", sname=b"\x0c\2vm\xff"),
]
SEEDS = [message[42:] for message in MESSAGES]


def reason(payload: bytes) -> str | None:
    try:
        message = wire.decode(payload)
    except WireError as error:
        return error.reason
    assert len(message.options) <= MAX_OPTIONS
    return None


def test_decode() -> None:
    for payload in mutations(SEEDS):
        assert reason(payload) in {None, *wire.DROP_REASONS}, payload.hex()


def test_core() -> None:
    """The payload is mutated inside a right frame, so that mutants reach the handlers."""
    server = guest.core(guest.port(("67", "loader"), ("17", "r" * 200)), rate=0.0, bootp=True, rapid_commit=True)
    for payload in mutations(SEEDS):
        dropped = sum(server.counters.dropped.values())
        outputs = server.receive(udp4_frame(b"\xff" * 6, MAC, bytes(4), b"\xff" * 4, 68, 67, payload), guest.NOW)
        assert outputs or sum(server.counters.dropped.values()) > dropped, payload.hex()
        for output in outputs:
            if isinstance(output, Send):
                assert output.frame[:6] == MAC, payload.hex()
                assert reason(output.frame[42:]) is None, payload.hex()
                assert 300 <= len(output.frame) - 42 <= 1422, payload.hex()
    assert set(server.counters.dropped) <= set(DROP_REASONS)


def test_frames() -> None:
    server = guest.core(rate=0.0)
    for frame in mutations(MESSAGES):
        server.receive(frame, guest.NOW)
        server.receive(frame, guest.NOW, check_udp=False)
    assert set(server.counters.dropped) <= set(DROP_REASONS)

from __future__ import annotations

from typing import Any

import pytest

from dataplane.dhcp import wire
from dataplane.dhcp.wire import decode, encode, encode_option, relay_suboptions
from dataplane.errors import WireError
from tests.unit.dataplane.dhcp import guest

PAYLOAD = guest.frame(guest.DISCOVER, (55, b"\x01\x03"), (12, b"vm"))[42:]
HEADER = PAYLOAD[:240]


def with_options(options: bytes, *, sname: bytes = b"", file: bytes = b"") -> bytes:
    return HEADER[:44] + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + HEADER[236:] + options


def changed(at: int, *octets: int) -> bytes:
    return PAYLOAD[:at] + bytes(octets) + PAYLOAD[at + len(octets) :]


def test_decodes_what_scapy_encodes() -> None:
    addresses: dict[str, Any] = {"ciaddr": "10.0.0.5", "yiaddr": "10.0.0.6", "siaddr": "10.0.0.7", "giaddr": "10.0.0.8"}
    raw = guest.frame(
        guest.REQUEST, (50, b"\x0a\0\0\5"), hops=3, secs=9, flags=0x8000, sname=b"s", file=b"f", **addresses
    )
    message = decode(raw[42:])
    assert message.op == 1
    assert message.hops == 3
    assert message.xid == guest.XID.to_bytes(4, "big")
    assert message.secs == 9
    assert message.flags == 0x8000
    assert [message.ciaddr[3], message.yiaddr[3], message.siaddr[3], message.giaddr[3]] == [5, 6, 7, 8]
    assert message.chaddr == bytes.fromhex(guest.MAC.replace(":", ""))
    assert message.sname == b"s".ljust(64, b"\0")
    assert message.file == b"f".ljust(128, b"\0")
    assert message.message_type == 3
    assert message.options == {53: b"\3", 50: b"\x0a\0\0\5"}


def test_encodes_what_scapy_encodes() -> None:
    raw = guest.frame(guest.REQUEST, (12, b"vm"), hops=1, secs=7, flags=0x8000, ciaddr="10.0.0.5", giaddr="10.0.0.8")
    encoded = encode(
        xid=guest.XID.to_bytes(4, "big"),
        chaddr=bytes.fromhex(guest.MAC.replace(":", "")),
        hops=1,
        secs=7,
        flags=0x8000,
        ciaddr=guest.ip("10.0.0.5"),
        giaddr=guest.ip("10.0.0.8"),
        options=[(53, b"\3"), (12, b"vm")],
    )
    assert encoded == raw[42:]


@pytest.mark.parametrize(
    "fields",
    [
        {"xid": b"123"},
        {"chaddr": b"12345"},
        {"ciaddr": b"1"},
        {"sname": bytes(65)},
        {"file": bytes(129)},
    ],
)
def test_encode_refuses_fields_that_do_not_fit(fields: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        encode(**({"xid": b"1234", "chaddr": b"123456", "options": []} | fields))  # type: ignore[arg-type]


def test_without_a_message_type_it_is_bootp() -> None:
    assert decode(with_options(b"\x0c\x02vm\xff")).message_type == 0


def test_repeated_options_are_joined() -> None:
    """RFC 3396."""
    assert decode(with_options(b"\x35\1\1\x0c\2ab\x37\1\1\x0c\2cd\xff")).options[12] == b"abcd"


def test_overloaded_fields_are_read_file_first() -> None:
    message = decode(with_options(b"\x35\1\1\x34\1\3\x0c\1a\xff", sname=b"\x0c\1c\xff", file=b"\x0c\1b\x0f\1d\xff"))
    assert message.options == {53: b"\1", 12: b"abc", 15: b"d"}


@pytest.mark.parametrize(("overload", "expected"), [(b"\1", b"af"), (b"\2", b"as")])
def test_only_the_fields_that_option_52_names_are_read(overload: bytes, expected: bytes) -> None:
    raw = with_options(b"\x34\1" + overload + b"\x0c\1a\xff", sname=b"\x0c\1s\xff", file=b"\x0c\1f\xff")
    assert decode(raw).options == {12: expected}


def test_option_52_inside_an_overloaded_field_means_nothing() -> None:
    raw = with_options(b"\x34\1\1\xff", file=b"\x34\1\2\xff", sname=b"\x0c\1s\xff")
    assert decode(raw).options == {}


def test_options_of_length_zero_and_pads_are_fine() -> None:
    assert decode(with_options(b"\0\0\x50\0\0\x3d\0\xff\0\0")).options == {80: b"", 61: b""}


def test_what_follows_end_is_ignored() -> None:
    assert decode(with_options(b"\x0c\1a\xff\x0c\xff")).options == {12: b"a"}


MALFORMED = [
    ("short", b""),
    ("short", PAYLOAD[:100]),
    ("short", HEADER),
    ("bad_op", changed(0, 0)),
    ("bad_op", changed(0, 3)),
    ("bad_htype", changed(1, 6)),
    ("bad_hlen", changed(2, 16)),
    ("bad_hlen", changed(2, 0)),
    ("no_cookie", changed(236, 0, 0, 0, 0)),
    ("no_end", with_options(b"\0")),
    ("no_end", with_options(b"\x35\1\1")),
    ("no_end", with_options(b"\x35\1\1\x34\1\1\xff", file=b"\x0c\1a")),
    ("no_end", with_options(b"\x35\1\1\x34\1\2\xff")),
    ("option_overrun", with_options(b"\x35\1\1\x0c")),
    ("option_overrun", with_options(b"\x35\1\1\x0c\x03ab")),
    ("option_overrun", with_options(b"\x35\1\1\x0c\xffab\xff")),
    ("option_overrun", with_options(b"\x34\1\2\xff", sname=b"\x0c\x3f")),
    ("too_many_options", with_options(b"\x0c\0" * 129 + b"\xff")),
    ("too_many_options", with_options(b"\x34\1\1" + b"\x0c\0" * 127 + b"\xff", file=b"\x0c\0\xff")),
    ("bad_option_length", with_options(b"\x35\2\1\1\xff")),
    ("bad_option_length", with_options(b"\x35\0\xff")),
    ("bad_option_length", with_options(b"\x35\1\1\x35\1\1\xff")),
    ("bad_option_length", with_options(b"\x32\3\1\1\1\xff")),
    ("bad_option_length", with_options(b"\x36\5\1\1\1\1\1\xff")),
    ("bad_option_length", with_options(b"\x33\1\1\xff")),
    ("bad_option_length", with_options(b"\x39\1\1\xff")),
    ("bad_overload", with_options(b"\x34\1\0\xff")),
    ("bad_overload", with_options(b"\x34\1\4\xff")),
    ("bad_overload", with_options(b"\x34\0\xff")),
    ("bad_overload", with_options(b"\x34\2\1\1\xff")),
    ("client_id_too_long", with_options(b"\x3d\xff" + bytes(255) + b"\x3d\1\0\xff")),
    ("bad_relay_option", with_options(b"\x52\3\1\2a\xff")),
    ("bad_relay_option", with_options(b"\x52\1\1\xff")),
]


@pytest.mark.parametrize(("reason", "payload"), MALFORMED)
def test_malformed(reason: str, payload: bytes) -> None:
    with pytest.raises(WireError) as caught:
        decode(payload)
    assert caught.value.reason == reason


def test_every_reason_has_a_malformed_message() -> None:
    assert {reason for reason, _ in MALFORMED} == set(wire.DROP_REASONS)


def test_as_many_options_as_allowed() -> None:
    assert decode(with_options(b"\x0c\1a" * 128 + b"\xff")).options[12] == b"a" * 128


def test_the_longest_client_id() -> None:
    assert len(decode(with_options(b"\x3d\xff" + bytes(255) + b"\xff")).options[61]) == 255


def test_long_options_are_split() -> None:
    data = encode_option(121, bytes(range(200)) * 3)
    assert [(code, len(value)) for code, value in guest.read(data + b"\xff")] == [(121, 255), (121, 255), (121, 90)]
    assert b"".join(value for _, value in guest.read(data + b"\xff")) == bytes(range(200)) * 3


def test_relay_suboptions() -> None:
    assert relay_suboptions(b"") == {}
    assert relay_suboptions(b"\1\2ab\5\4\x0a\0\0\0\x13\0") == {1: b"ab", 5: b"\x0a\0\0\0", 19: b""}

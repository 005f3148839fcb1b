"""Invariants of the DHCPv4 codec and core on generated input."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.dhcp import wire
from dataplane.dhcp.catalogue import BY_NAME, KINDS
from dataplane.dhcp.core import DROP_REASONS
from dataplane.dhcp.options import encode, from_extra
from dataplane.dhcp.overflow import FILE_ROOM, SNAME_ROOM, lay_out
from dataplane.errors import WireError
from dataplane.model import ExtraDhcpOpt
from fastpath.framing import udp4_frame
from tests.unit.dataplane.dhcp import guest

address = st.binary(min_size=4, max_size=4)
code = st.integers(1, 254).filter(lambda number: number not in (52, 53))
option = st.tuples(code, st.binary(max_size=300))
FIXED = {50: 4, 51: 4, 54: 4, 57: 2}
MAC = bytes.fromhex(guest.MAC.replace(":", ""))


def outcome(payload: bytes) -> wire.Message | str:
    try:
        return wire.decode(payload)
    except WireError as error:
        return error.reason


def is_right(found: wire.Message | str) -> bool:
    return isinstance(found, wire.Message) or found in wire.DROP_REASONS


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_give_a_message_or_a_wire_error(payload: bytes) -> None:
    assert is_right(outcome(payload))


@settings(deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=64), st.binary(max_size=128), st.integers(0, 4))
def test_any_options_give_a_message_or_a_wire_error(options: bytes, sname: bytes, file: bytes, overload: int) -> None:
    head = wire.encode(xid=bytes(4), chaddr=MAC, options=[(52, bytes((overload,)))], sname=sname, file=file)
    assert is_right(outcome(head[:-1] + options))


@settings(deadline=None)
@given(
    xid=address,
    chaddr=st.binary(min_size=6, max_size=6),
    hops=st.integers(0, 255),
    secs=st.integers(0, 0xFFFF),
    flags=st.integers(0, 0xFFFF),
    addresses=st.tuples(address, address, address, address),
    kind=st.integers(1, 255),
    options=st.dictionaries(code, st.binary(max_size=300), max_size=12),
)
def test_what_is_encoded_is_decoded(
    xid: bytes,
    chaddr: bytes,
    hops: int,
    secs: int,
    flags: int,
    addresses: tuple[bytes, bytes, bytes, bytes],
    kind: int,
    options: dict[int, bytes],
) -> None:
    options.pop(82, None)
    options = {
        number: value[: FIXED.get(number, 255)].ljust(FIXED.get(number, 0), b"\0") for number, value in options.items()
    }
    names = ("ciaddr", "yiaddr", "siaddr", "giaddr")
    values: dict[str, Any] = {"xid": xid, "chaddr": chaddr, "hops": hops, "secs": secs, "flags": flags}
    values |= dict(zip(names, addresses, strict=True))
    message = wire.decode(wire.encode(**values, options=[(53, bytes((kind,))), *options.items()]))
    assert {name: getattr(message, name) for name in values} == values
    assert message.message_type == kind
    assert message.options == {53: bytes((kind,))} | options


@settings(deadline=None)
@given(st.lists(option, max_size=20))
def test_split_options_are_joined_again(options: list[tuple[int, bytes]]) -> None:
    expected: dict[int, bytes] = {}
    for number, value in options:
        expected[number] = expected.get(number, b"") + value
    payload = wire.encode(xid=bytes(4), chaddr=MAC, options=options)
    found = outcome(payload)
    if isinstance(found, wire.Message):
        assert found.options == expected


# Option overload is the layout's own: the catalogue lets nobody set it.
code = st.integers(1, 254).filter(lambda number: number != 52)


@settings(deadline=None)
@given(
    st.lists(st.tuples(code, st.integers(0, 200)), max_size=30, unique_by=lambda each: each[0]),
    st.sets(code, max_size=5),
    st.integers(40, 400),
    st.booleans(),
    st.booleans(),
)
def test_a_layout_fits_and_loses_nothing_silently(
    sizes: list[tuple[int, int]], kept: set[int], room: int, file: bool, sname: bool
) -> None:
    items = [(number, bytes((number, size)) + bytes(size)) for number, size in sizes]
    file_room, sname_room = FILE_ROOM * file, SNAME_ROOM * sname
    layout = lay_out(items, kept, room, file_room=file_room, sname_room=sname_room)
    assert len(layout.options) <= room
    assert len(layout.file) <= file_room
    assert len(layout.sname) <= sname_room
    found = [number for field in layout[:3] for number, _ in guest.read(field + b"\xff")]
    assert sorted([*found, *layout.dropped]) == sorted(
        [number for number, _ in items] + [52] * (52 in found and 52 not in dict(items))
    )


requests = st.lists(
    st.one_of(
        st.tuples(st.just(50), address),
        st.tuples(st.just(51), address),
        st.tuples(st.just(54), st.sampled_from([bytes((169, 254, 169, 254)), b"\x0a\0\0\2"])),
        st.tuples(st.just(55), st.binary(min_size=1, max_size=255)),
        st.tuples(st.just(57), st.binary(min_size=2, max_size=2)),
        st.tuples(st.just(60), st.sampled_from([b"PXEClient:Arch:00000", b"HTTPClient", b"udhcp"])),
        st.tuples(st.just(61), st.binary(max_size=255)),
        st.tuples(st.just(82), st.binary(max_size=200).map(lambda value: b"\x01" + bytes((len(value),)) + value)),
        st.tuples(st.just(97), st.binary(min_size=17, max_size=17)),
        st.tuples(st.just(175), st.just(b"")),
    ),
    max_size=6,
    unique_by=lambda each: each[0],
)
PORT = guest.port(
    ("67", "loader"), ("tag:ipxe,67", "http://10.0.0.9/" + "x" * 100), ("17", "r" * 200), ("224", "y" * 200)
)
SERVER = guest.core(PORT, rate=0.0)


@settings(deadline=None)
@given(st.sampled_from([0, 1, 3, 4, 7, 8]), requests, st.sampled_from(["0.0.0.0", "10.0.0.5", "10.0.0.9"]))
def test_every_answer_keeps_the_rules(kind: int, options: list[tuple[int, bytes]], ciaddr: str) -> None:
    """`guest.Answer` checks lengths, checksums, fixed fields, padding and END by itself."""
    raw = guest.frame(kind or None, *options, (12, b"vm"), ciaddr=ciaddr)
    sent = dict(options)
    for answer in guest.answers(SERVER.receive(raw, guest.NOW)):
        found = answer.options
        limit = min(1450, max(576, int.from_bytes(sent.get(57, b""), "big"))) - 28
        assert len(answer.payload) <= limit
        assert not {50, 55, 57} & set(found)
        assert found.get(61, sent.get(61)) == sent.get(61)
        assert found[54] == guest.ip(guest.SERVER_ID)
        assert (51 in found) == (found[53][0] != 6 and kind != 8)
        if 82 in found:
            assert answer.items[-1] == (82, sent[82])
        assert wire.decode(answer.payload).options == {number: value for number, value in found.items() if number != 52}


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_frame_is_answered_or_counted(payload: bytes, kind: int) -> None:
    before = sum(SERVER.counters.dropped.values())
    frame = udp4_frame(b"\xff" * 6, MAC, bytes(4), b"\xff" * 4, 68, 67, payload)
    outputs = SERVER.receive(frame, guest.NOW)
    assert outputs or sum(SERVER.counters.dropped.values()) == before + 1
    assert set(SERVER.counters.dropped) <= set(DROP_REASONS)


text = st.text(max_size=300)


@settings(deadline=None)
@given(st.one_of(text, st.sampled_from(sorted(BY_NAME)), st.integers(0, 300).map(str)), st.none() | text)
def test_any_text_is_an_option_or_a_value_error(name: str, value: str | None) -> None:
    try:
        found = from_extra(ExtraDhcpOpt(opt_name=name, opt_value=value))
    except ValueError:
        return
    assert 0 < found.code <= 255
    assert found.value is None or 0 < len(found.value) <= 255


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.text("0123456789abcdef.:,/ x-", min_size=1, max_size=60))
def test_any_value_is_encoded_or_refused(number: int, value: str) -> None:
    try:
        data = encode(number, value)
    except ValueError:
        return
    assert data is None or 0 < len(data) <= 255

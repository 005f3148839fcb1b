"""Super-frames cut and joined, at every level: by the rules of GSO and GRO, with scapy as a second opinion."""

from __future__ import annotations

import inspect
from array import array
from types import ModuleType

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from fastpath import _segment_py
from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.reasons import Reason
from tests import frames as f
from tests.frames import frame, tcp, udp
from tests.twins import COMPILED_LEVELS, stages

pytestmark = pytest.mark.parametrize("twin", stages("segment"))
SUPER = 69632
DATA = bytes(range(256)) * 40
OPTIONS = bytes.fromhex("0101080a0000000100000002")


def one(data: bytes, *, slot: int = SUPER, flags: int = 0) -> Batch:
    batch = Batch(1, slot=slot, huge=False)
    batch.fill([data])
    batch.flags[0] = flags
    return batch


def cut(twin: ModuleType, data: bytes, size: int, *, flags: int = 0) -> list[bytes]:
    target = Batch(128, huge=False)
    assert twin.segment(one(data, flags=flags), target, size) == 1
    return target.frames()


def join(twin: ModuleType, data: list[bytes], **how: bool) -> list[bytes]:
    source, target = Batch(len(data), huge=False), Batch(len(data), slot=SUPER, huge=False)
    source.fill(data)
    assert twin.coalesce(source, target, **how) == len(data)
    return target.frames()


def by_scapy(data: bytes, size: int) -> list[bytes]:
    """What GSO makes of a super-frame, said with scapy."""
    made = []
    whole = Ether(data)
    layer = whole[TCP] if TCP in whole else whole[UDP]
    payload = bytes(layer.payload)
    for k, start in enumerate(range(0, len(payload), size)):
        packet: Packet = Ether(data)
        inner = packet[TCP] if TCP in packet else packet[UDP]
        inner.remove_payload()
        del inner.chksum
        packet = packet / payload[start : start + size]
        if IP in packet:
            del packet[IP].len, packet[IP].chksum
            packet[IP].id = (whole[IP].id + k) & 0xFFFF
        else:
            del packet[IPv6].plen
        if TCP in packet:
            packet[TCP].seq = (layer.seq + start) & 0xFFFFFFFF
            flags = int(layer.flags)
            if start + size < len(payload):
                flags &= ~(f.FIN | f.PSH)
            packet[TCP].flags = flags & ~f.CWR if k else flags
        else:
            del packet[UDP].len
        made.append(bytes(packet))
    return made


SUPERS = {
    "tcp4": frame(4, 6, tcp(4, DATA[:4001], seq=0xFFFFF000, flags=f.ACK | f.PSH | f.FIN | f.CWR), ident=0xFFFE),
    "tcp4 options": frame(4, 6, tcp(4, DATA[:2800], options=OPTIONS), tos=2, options=bytes([1] * 4), df=False),
    "tcp4 tags": frame(4, 6, tcp(4, DATA[:3000], options=OPTIONS), tags=((0x88A8, 7), (0x8100, 5))),
    "tcp6": frame(6, 6, tcp(6, DATA[:4000], options=OPTIONS, flags=f.ACK | f.PSH), tos=0x40, label=0x12345),
    "tcp6 headers": frame(6, 6, tcp(6, DATA[:3000]), options=bytes([6]) + f.HOP_BY_HOP[1:]),
    "udp4": frame(4, 17, udp(4, DATA[:4100]), ident=7),
    "udp6": frame(6, 17, udp(6, DATA[:4200])),
}


@pytest.mark.parametrize("name", SUPERS)
@pytest.mark.parametrize("size", [1400, 1399, 700])
def test_cut_as_scapy_says_and_joined_again(twin: ModuleType, name: str, size: int) -> None:
    made = cut(twin, SUPERS[name], size)
    assert made == by_scapy(SUPERS[name], size)
    assert len(made) > 1
    assert join(twin, made, udp=True) == [SUPERS[name]]


def test_a_partial_checksum_is_completed(twin: ModuleType) -> None:
    for name, data in SUPERS.items():
        field = {"t": 16, "u": 6}[name[0]]
        start = len(data) - len(Ether(data)[TCP if field == 16 else UDP])
        partial = data[: start + field] + b"\x12\x34" + data[start + field + 2 :]
        assert cut(twin, partial, 1000, flags=Flags.PARTIAL_CHECKSUM) == cut(twin, data, 1000)
        assert cut(twin, partial, 0xFFFF, flags=Flags.PARTIAL_CHECKSUM)[:1] == ([data] if len(data) < 1900 else [])


def test_small_packets_pass_whole(twin: ModuleType) -> None:
    data = [each for each in f.samples() if len(each) < 1900]
    source, target = Batch(len(data), huge=False), Batch(len(data), huge=False)
    source.fill(data)
    assert twin.segment(source, target, 1400) == len(data)
    assert target.frames() == data


def test_udp_without_a_checksum_stays_so(twin: ModuleType) -> None:
    made = cut(twin, frame(4, 17, udp(4, DATA[:3000], checksum=False)), 1000)
    assert [each[40:42] for each in made] == [b"\0\0"] * 3
    assert join(twin, made, udp=True) == made


def test_columns_are_inherited(twin: ModuleType) -> None:
    source = one(SUPERS["tcp4"])
    names = ("tunnel", "vni", "hash", "flags", "layers", "rule", "ct")
    for value, name in enumerate(names, 1):
        getattr(source, name)[0] = value
    source.key.cast("B")[:40] = bytes(range(40))
    target, again = Batch(8, huge=False), Batch(2, slot=SUPER, huge=False)
    for each in (target, again):  # nothing of what was there before is left
        each.ct[: each.capacity] = array("I", [99] * each.capacity)
    assert twin.segment(source, target, 1400) == 1
    assert [[getattr(target, name)[i] for name in names] for i in range(3)] == [[1, 2, 3, 4, 5, 6, 7]] * 3
    assert bytes(target.key.cast("B")[:120]) == bytes(range(40)) * 3
    assert twin.coalesce(target, again) == 3
    assert [getattr(again, name)[0] for name in names] == [1, 2, 3, 4, 5, 6, 7]


def test_a_full_target_is_gone_on_with(twin: ModuleType) -> None:
    source = Batch(4, slot=SUPER, huge=False)
    source.fill([SUPERS["tcp4"], SUPERS["udp4"], f.ethernet(0x0806) + bytes(28), SUPERS["tcp6"]])
    target = Batch(4, huge=False)
    made, first = [], 0
    while first < 4:
        following = twin.segment(source, target, 1400, first)
        assert following > first
        first = following
        made += target.frames()
    assert made == [
        *by_scapy(SUPERS["tcp4"], 1400), *by_scapy(SUPERS["udp4"], 1400), source.frame(2),
        *by_scapy(SUPERS["tcp6"], 1400),
    ]  # fmt: skip


def test_what_cannot_fit_is_dropped(twin: ModuleType) -> None:
    source = Batch(4, slot=SUPER, huge=False)
    source.fill([SUPERS["tcp4"]] * 3 + [f.ethernet(0x0806) + bytes(3000)])
    sizes = array("I", [100, 2000, 0, 100])
    target = Batch(8, huge=False)
    assert twin.segment(source, target, sizes) == 4
    assert list(source.verdict[:4]) == [Reason.TOO_LONG] * 4
    assert len(target) == 0


def test_sizes_of_each_packet(twin: ModuleType) -> None:
    source = Batch(2, slot=SUPER, huge=False)
    source.fill([SUPERS["tcp4"], SUPERS["udp6"]])
    target = Batch(8, huge=False)
    assert twin.segment(source, target, array("I", [1001, 1500, 9])) == 2
    assert target.frames() == by_scapy(SUPERS["tcp4"], 1001) + by_scapy(SUPERS["udp6"], 1500)


def stream(count: int, *, version: int = 4, size: int = 100) -> list[bytes]:
    """Segments of one TCP stream as a sender makes them."""
    return [
        frame(version, 6, tcp(version, DATA[k * size : (k + 1) * size], seq=1000 + k * size), ident=k)
        for k in range(count)
    ]


def test_flows_are_joined_apart(twin: ModuleType) -> None:
    one, two = stream(4), stream(4, version=6)
    mixed = [each for pair in zip(one, two, strict=True) for each in pair]
    assert join(twin, mixed) == join(twin, one) + join(twin, two)


def changed(data: bytes, at: int, value: bytes) -> bytes:
    """With other bytes and right checksums."""
    from fastpath import _checksum_py

    batch = one(data[:at] + value + data[at + len(value) :], slot=2048)
    _checksum_py.fill(batch)
    return batch.frame(0)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"\x04"),  # MAC
        (15, b"\x01"),  # TOS
        (18, b"\x12\x34"),  # identification
        (20, b"\x00"),  # DF
        (22, b"\x3f"),  # TTL
        (26, b"\x0b"),  # source address
        (34, b"\x01"),  # port
        (38, b"\x00\x00\x04\x4d"),  # sequence
        (42, b"\x01"),  # acknowledgement
        (47, bytes([f.ACK | f.SYN])),
        (47, bytes([f.ACK | f.URG])),
        (47, bytes([f.ACK | f.RST])),
        (47, bytes([f.ACK | f.ECE])),
        (47, bytes([f.ACK | f.CWR])),
        (48, b"\x01"),  # window
        (52, b"\x01"),  # urgent pointer
    ],
)
def test_what_differs_is_not_joined(twin: ModuleType, at: int, value: bytes) -> None:
    first, second = stream(2)
    other = changed(second, at, value)
    assert join(twin, [first, other]) == [first, other]


def test_a_wrong_checksum_is_not_repaired(twin: ModuleType) -> None:
    data = stream(4)
    for broken in (data[2][:-1] + b"\xee", data[2][:24] + b"\xee\xee" + data[2][26:]):
        made = join(twin, [*data[:2], broken, data[3]])
        assert made == [*join(twin, data[:2]), broken, data[3]]


@pytest.mark.parametrize("flag", [f.PSH, f.FIN])
def test_push_and_fin_end_a_super_frame(twin: ModuleType, flag: int) -> None:
    data = stream(4)
    data[1] = changed(data[1], 47, bytes([f.ACK | flag]))
    made = join(twin, data)
    assert len(made) == 2
    assert [each[47] for each in made] == [f.ACK | flag, f.ACK]
    data[0] = changed(data[0], 47, bytes([f.ACK | flag]))
    assert join(twin, data)[0] == data[0]


def test_a_shorter_one_ends_a_super_frame(twin: ModuleType) -> None:
    short = frame(4, 6, tcp(4, DATA[200:250], seq=1200), ident=2)
    after = frame(4, 6, tcp(4, DATA[250:300], seq=1250), ident=3)
    data = [*stream(2), short, after]
    assert [len(each) - 54 for each in join(twin, data)] == [250, 50]
    longer = frame(4, 6, tcp(4, DATA[200:400], seq=1200), ident=2)
    assert [len(each) - 54 for each in join(twin, [*stream(2), longer])] == [200, 200]


def test_other_packets_of_a_flow_keep_their_place(twin: ModuleType) -> None:
    data = stream(3)
    empty = frame(4, 6, tcp(4, b"", seq=1200), ident=2)
    assert join(twin, [*data[:2], empty, data[2]])[1:] == [empty, data[2]]


@pytest.mark.parametrize("column", ["vni", "tunnel"])
def test_networks_are_never_joined(twin: ModuleType, column: str) -> None:
    source, target = Batch(2, huge=False), Batch(2, slot=SUPER, huge=False)
    source.fill(stream(2))
    getattr(source, column)[1] = 5
    assert twin.coalesce(source, target) == 2
    assert target.frames() == source.frames()


def test_joined_frames_keep_to_16_bits_and_their_slot(twin: ModuleType) -> None:
    data = [frame(4, 6, tcp(4, bytes(1400), seq=1400 * k), ident=k) for k in range(60)]
    assert [len(each) for each in join(twin, data)] == [54 + 46 * 1400, 54 + 14 * 1400]
    source, target = Batch(60, huge=False), Batch(60, slot=8192, huge=False)
    source.fill(data)
    twin.coalesce(source, target)
    assert len(target.frame(0)) == 54 + 5 * 1400


def test_partial_and_sizes(twin: ModuleType) -> None:
    data = [*stream(3), f.ethernet(0x0806) + bytes(28)]
    source, target = Batch(4, huge=False), Batch(4, slot=SUPER, huge=False)
    source.fill(data)
    for i in range(4):
        source.flags[i] = int(Flags.VALID_CHECKSUM)
    sizes = array("I", [9] * 4)
    assert twin.coalesce(source, target, sizes, partial=True) == 4
    assert list(sizes) == [100, 0, 9, 9]
    assert list(target.flags[:2]) == [Flags.PARTIAL_CHECKSUM, Flags.VALID_CHECKSUM]
    back = Batch(8, huge=False)
    assert twin.segment(target, back, sizes) == 2
    assert back.frames() == data


def test_a_full_target_of_joined_frames(twin: ModuleType) -> None:
    first, second = stream(3), stream(3, version=6)
    source, target = Batch(6, huge=False), Batch(1, slot=SUPER, huge=False)
    source.fill(first + second)
    assert twin.coalesce(source, target) == 3
    assert target.frames() == join(twin, first)
    assert twin.coalesce(source, target, first=3) == 6
    assert target.frames() == join(twin, second)


def test_dropped_packets_are_passed_over(twin: ModuleType) -> None:
    source, target = Batch(3, huge=False), Batch(3, slot=SUPER, huge=False)
    source.fill(stream(3))
    source.verdict[1] = Reason.ECN
    assert twin.coalesce(source, target) == 3
    assert target.frames() == [source.frame(0), source.frame(2)]
    assert twin.segment(source, target, 100) == 3
    assert target.frames() == [source.frame(0), source.frame(2)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((0,), "size is 1"), ((0x10000,), "size is 1"), ((-1,), "size is 1"), ((100, 2), "first is 0"),
     ((100, -1), "first is 0"), ((array("H", [1]),), "uint32"), ((array("I"),), "sizes for 0 of 1"),
     ((memoryview(array("I", [1, 2, 3, 4]))[::2],), "uint32")],
)  # fmt: skip
def test_segment_misused(twin: ModuleType, arguments: tuple[object, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        twin.segment(one(SUPERS["tcp4"]), Batch(4, huge=False), *arguments)


def test_coalesce_misused(twin: ModuleType) -> None:
    batch = one(SUPERS["tcp4"])
    with pytest.raises(ValueError, match="one batch"):
        twin.coalesce(batch, batch)
    with pytest.raises(ValueError, match="one batch"):
        twin.segment(batch, batch, 100)
    for sizes, text in ((bytes(16), "uint32"), (memoryview(array("I", [1])).toreadonly(), "writable"),
                        (array("I"), "sizes for 0 of 1")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            twin.coalesce(batch, Batch(1, huge=False), sizes)
    with pytest.raises(TypeError):
        twin.segment(batch, Batch(1, huge=False), 1.5)


@pytest.mark.skipif(not COMPILED_LEVELS, reason="the extensions are not built")
@pytest.mark.parametrize("name", ["segment", "coalesce"])
def test_same_signature(twin: ModuleType, name: str) -> None:
    plain = inspect.signature(getattr(_segment_py, name)).parameters.values()
    mine = inspect.signature(getattr(twin, name)).parameters.values()
    assert [(p.name, p.default) for p in plain] == [(p.name, p.default) for p in mine]

"""Five-tuples and their hash: plain and every compiled level."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

from fastpath import _batch_py, _flow_py, _hasher_py
from fastpath.endpoints import FiveTuple
from fastpath.flags import Flags
from tests.flow_frames import common
from tests.twins import BATCH_C, HASHER_C, stages
from tests.unit.fastpath.flow_packets import (
    HASH4,
    HASH6,
    HASH_ARP,
    IP4,
    IP6,
    MACS,
    ONE,
    ONE6,
    PORTS,
    TWO,
    TWO6,
    ip4,
    ip6,
    udp,
)


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


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
@pytest.mark.parametrize("version", [4, 6])
def test_protocols_with_ports(flow: ModuleType, protocol: int, version: int) -> None:
    frame = IP4 + ip4(protocol, udp()) if version == 4 else IP6 + ip6(protocol, udp())
    found = Found(flow, frame)
    assert found.key[32:] == PORTS + bytes([protocol, version, 0, 0])
    assert found.flags & Flags.PORTS
    assert bool(found.flags & Flags.TCP) == (protocol == 6)
    assert bool(found.flags & Flags.UDP) == (protocol == 17)


@pytest.mark.parametrize("protocol", [2, 41, 47, 50, 51, 89, 58])
def test_ip4_protocols_without_ports(flow: ModuleType, protocol: int) -> None:
    """IPv4's AH and ESP are not looked into, and ICMPv6 over IPv4 is nothing."""
    found = Found(flow, IP4 + ip4(protocol, bytes(24)))
    assert found.key[32:] == bytes([0, 0, 0, 0, protocol, 4, 0, 0])
    assert found.flags == Flags.IPV4
    assert found.layers == 14 | 34 << 16


@pytest.mark.parametrize("kind", [0x8100, 0x88A8, 0x9100])
@pytest.mark.parametrize("tags", range(_flow_py.MAX_TAGS + 2))
def test_tags(flow: ModuleType, kind: int, tags: int) -> None:
    tag = kind.to_bytes(2, "big") + b"\x00\x05"
    found = Found(flow, MACS + tag * tags + b"\x08\x00" + ip4(17, udp()))
    at = 14 + 4 * tags
    known = tags <= _flow_py.MAX_TAGS
    assert found.count == known
    assert bool(found.flags & Flags.VLAN) == (tags >= 1)
    assert bool(found.flags & Flags.QINQ) == (tags >= 2)
    assert bool(found.flags & Flags.NOT_IP) != known
    assert found.layers == (at | (at + 20) << 16 if known else at - 4)


def test_tag_that_is_cut(flow: ModuleType) -> None:
    for size in range(14, 18):
        found = Found(flow, (MACS + b"\x81\x00\x00\x05\x08\x00")[:size])
        assert found.flags & Flags.TRUNCATED or size == 18
        assert found.layers == 0


@pytest.mark.parametrize("kind", [0x0806, 0x88CC, 0x8847, 0x0040, 0x05DC, 0x0000])
def test_other_frames_have_no_key(flow: ModuleType, kind: int) -> None:
    """ARP, LLDP, MPLS, and lengths of LLC: even if an IP header follows, it is none."""
    frame = MACS + kind.to_bytes(2, "big") + ip4(17, udp())
    found = Found(flow, frame)
    assert (found.count, found.key, found.flags, found.layers) == (0, bytes(40), Flags.NOT_IP, 14)
    turned = Found(flow, frame[6:12] + frame[:6] + frame[12:])
    assert turned.hash == found.hash != 0
    assert Found(flow, MACS + b"\x12\x34" + frame[14:]).hash != found.hash


@pytest.mark.parametrize("size", range(14))
def test_no_ethernet_header(flow: ModuleType, size: int) -> None:
    found = Found(flow, bytes(range(size)))
    assert (found.count, found.key, found.layers, found.hash) == (0, bytes(40), 0, 0)
    assert found.flags == Flags.NOT_IP | Flags.TRUNCATED


@pytest.mark.parametrize("words", range(1, 11))
def test_ip4_options(flow: ModuleType, words: int) -> None:
    found = Found(flow, IP4 + ip4(6, PORTS + bytes(16), options=b"\x01" * 4 * words))
    assert found.flags == Flags.IPV4 | Flags.OPTIONS | Flags.PORTS | Flags.TCP
    assert found.layers == 14 | (34 + 4 * words) << 16
    assert found.hash == HASH4


@pytest.mark.parametrize(
    "header",
    [
        b"\x44" + ip4(17, udp())[1:],
        b"\x40" + ip4(17, udp())[1:],
        b"\x65" + ip4(17, udp())[1:],
        ip4(17, udp(), total=19),
        ip4(17, udp(), options=bytes(8), total=27),
        ip4(17, udp(), total=0),
    ],
)
def test_ip4_that_contradicts_itself(flow: ModuleType, header: bytes) -> None:
    found = Found(flow, IP4 + header + bytes(40))
    assert (found.count, found.key, found.layers) == (0, bytes(40), 14)
    assert found.flags == Flags.IPV4 | Flags.MALFORMED


def test_ip6_of_another_version(flow: ModuleType) -> None:
    found = Found(flow, IP6 + b"\x45" + ip6(17, udp())[1:])
    assert (found.count, found.key, found.flags) == (0, bytes(40), Flags.IPV6 | Flags.MALFORMED)


def test_padding_is_not_read(flow: ModuleType) -> None:
    """An IP length that ends before the ports, and bytes behind it that look like ports."""
    for frame in (IP4 + ip4(6, PORTS, total=20) + bytes(26), IP6 + ip6(6, PORTS, size=0) + bytes(26)):
        found = Found(flow, frame)
        assert found.count == 1
        assert found.key[32:37] == bytes([0, 0, 0, 0, 6])
        assert found.flags & Flags.TRUNCATED
        assert not found.flags & Flags.PORTS


@pytest.mark.parametrize("protocol", [6, 17, 132])
@pytest.mark.parametrize("version", [4, 6])
def test_cut_everywhere(flow: ModuleType, protocol: int, version: int) -> None:
    frame = IP4 + ip4(protocol, PORTS + bytes(16)) if version == 4 else IP6 + ip6(protocol, PORTS + bytes(16))
    ports = 34 if version == 4 else 54
    whole = Found(flow, frame).key
    for size in range(14, len(frame)):
        found = Found(flow, frame[:size])
        assert found.flags & Flags.TRUNCATED
        if size < ports:
            assert (found.count, found.key, found.layers) == (0, bytes(40), 14)
        else:
            assert found.count == 1
            assert found.key == (whole if size >= ports + 4 else whole[:32] + bytes(4) + whole[36:])
            assert found.layers == 14 | ports << 16


@pytest.mark.parametrize("fragment", [0x0000, 0x4000, 0x8000, 0x2000, 0x2001, 0x0001, 0x1FFF])
def test_ip4_fragments(flow: ModuleType, fragment: int) -> None:
    found = Found(flow, IP4 + ip4(17, udp() + bytes(8), fragment=fragment))
    later, part = bool(fragment & 0x1FFF), bool(fragment & 0x3FFF)
    assert bool(found.flags & Flags.FRAGMENT) == part
    assert bool(found.flags & Flags.LATER_FRAGMENT) == later
    assert found.key[32:36] == (bytes(4) if later else PORTS)
    assert found.layers == (14 if later else 14 | 34 << 16)


def test_fragments_of_a_datagram_hash_alike(flow: ModuleType) -> None:
    whole = Found(flow, IP4 + ip4(17, udp())).hash
    parts = [Found(flow, IP4 + ip4(17, udp() + bytes(8), fragment=part)).hash for part in (0x2000, 0x2001, 0x0002)]
    assert len(set(parts)) == 1
    assert parts[0] != whole
    # In IPv6 only the first one knows the transport: a destination header comes between.
    options = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    first = Found(flow, IP6 + ip6(44, bytes([60, 0, 0, 1]) + bytes(4) + options + udp()))
    later = Found(flow, IP6 + ip6(44, bytes([60, 0, 0, 17]) + bytes(4) + bytes(24)))
    assert (first.key[36], later.key[36]) == (17, 60)
    assert first.key[32:36] == PORTS
    assert later.flags == Flags.IPV6 | Flags.OPTIONS | Flags.FRAGMENT | Flags.LATER_FRAGMENT
    assert first.hash == later.hash


def test_atomic_fragment_is_no_fragment(flow: ModuleType) -> None:
    found = Found(flow, IP6 + ip6(44, bytes([17, 0, 0, 0]) + bytes(4) + udp()))
    assert found.flags == Flags.IPV6 | Flags.OPTIONS | Flags.PORTS | Flags.UDP
    assert found.hash == HASH6


@pytest.mark.parametrize("protocol", [0, 43, 60, 135, 139, 140, 44, 51])
@pytest.mark.parametrize("units", [0, 1, 3])
def test_extension_headers(flow: ModuleType, protocol: int, units: int) -> None:
    if protocol == 44:
        size, length = 8, 0
    elif protocol == 51:
        size, length = (units + 2) * 4, units
    else:
        size, length = (units + 1) * 8, units
    header = bytes([17, length]) + bytes(size - 2)
    found = Found(flow, IP6 + ip6(protocol, header + udp()))
    assert found.flags == Flags.IPV6 | Flags.OPTIONS | Flags.PORTS | Flags.UDP
    assert found.key[32:37] == PORTS + bytes([17])
    assert found.layers == 14 | (54 + size) << 16
    for cut in range(size):
        short = Found(flow, IP6 + ip6(protocol, header[:cut]))
        assert short.flags & Flags.TRUNCATED
        assert short.key[32:37] == bytes([0, 0, 0, 0, protocol])
        assert short.layers == 14


@pytest.mark.parametrize("protocol", [50, 59, 2, 41, 1])
def test_where_the_chain_ends(flow: ModuleType, protocol: int) -> None:
    """ESP hides what follows, 59 says that nothing does; ICMP of IPv4 is nothing over IPv6."""
    found = Found(flow, IP6 + ip6(60, bytes([protocol, 0]) + bytes(6) + PORTS + bytes(20)))
    assert found.flags == Flags.IPV6 | Flags.OPTIONS
    assert found.key[32:37] == bytes([0, 0, 0, 0, protocol])


@pytest.mark.parametrize("headers", [_flow_py.MAX_EXTENSIONS, _flow_py.MAX_EXTENSIONS + 1])
def test_length_of_the_chain(flow: ModuleType, headers: int) -> None:
    chain = bytes([60, 0, 0, 0, 0, 0, 0, 0]) * (headers - 1) + bytes([17, 0, 0, 0, 0, 0, 0, 0])
    found = Found(flow, IP6 + ip6(60, chain + udp()))
    if headers <= _flow_py.MAX_EXTENSIONS:
        assert found.key[32:36] == PORTS
    else:
        assert (found.key, found.flags) == (bytes(40), Flags.IPV6 | Flags.OPTIONS | Flags.MALFORMED)


def test_jumbogram(flow: ModuleType) -> None:
    options = bytes([17, 0, 0xC2, 4, 0, 1, 0, 0])
    found = Found(flow, IP6 + ip6(0, options + udp(), size=0))
    assert found.key[32:37] == PORTS + bytes([17])


def icmp(kind: int, rest: bytes = b"\xab\xcd\x00\x01") -> bytes:
    return bytes([kind, 3, 0, 0]) + rest


@pytest.mark.parametrize(("version", "request_", "reply"), [(4, 8, 0), (4, 13, 14), (4, 42, 43), (6, 128, 129)])
def test_queries_and_replies(flow: ModuleType, version: int, request_: int, reply: int) -> None:
    def packet(kind: int, turned: bool) -> bytes:
        frame = IP4 + ip4(1, icmp(kind)) if version == 4 else IP6 + ip6(58, icmp(kind))
        if not turned:
            return frame
        at, size = (26, 4) if version == 4 else (22, 16)
        one, other = frame[at : at + size], frame[at + size : at + 2 * size]
        return frame[:at] + other + one + frame[at + 2 * size :]

    asked, answered = Found(flow, packet(request_, False)), Found(flow, packet(reply, True))
    assert asked.flags & Flags.ICMP
    assert not asked.flags & Flags.PORTS
    assert asked.key[32:36] == bytes([request_, 3, 0xAB, 0xCD])
    assert asked.hash == answered.hash
    assert _flow_py.reverse(asked.key) == answered.key
    assert _flow_py.reverse(answered.key) == asked.key


@pytest.mark.parametrize("kind", [3, 5, 11, 12, 9])
def test_icmp_without_identifier(flow: ModuleType, kind: int) -> None:
    assert Found(flow, IP4 + ip4(1, icmp(kind))).key[32:36] == bytes([kind, 3, 0, 0])


def test_icmp_that_is_cut(flow: ModuleType) -> None:
    found = Found(flow, IP4 + ip4(1, icmp(8)[:7]))
    assert found.key[32:36] == bytes(4)
    assert found.flags == Flags.IPV4 | Flags.TRUNCATED


def test_hash_is_the_same_in_both_directions_and_depends_on_the_seed(flow: ModuleType) -> None:
    chance = random.Random(1)
    seen = set()
    for _ in range(100):
        one, other = common(chance), b""
        at, size = (26, 4) if one[12] == 8 else (22, 16)
        ports = at + 2 * size if size == 4 else 54
        other = (
            one[:at]
            + one[at + size : at + 2 * size]
            + one[at : at + size]
            + one[at + 2 * size : ports]
            + one[ports + 2 : ports + 4]
            + one[ports : ports + 2]
            + one[ports + 4 :]
        )
        seed = chance.getrandbits(64)
        assert Found(flow, one, seed).hash == Found(flow, other, seed).hash
        seen |= {Found(flow, one, seed).hash, Found(flow, one, seed ^ 1).hash}
    assert len(seen) == 200


@pytest.mark.parametrize("frame", [None, "frame", bytearray(60), 1])
def test_five_tuple_takes_bytes(flow: ModuleType, frame: object) -> None:
    with pytest.raises(TypeError, match="a frame is bytes"):
        flow.five_tuple(frame)
    with pytest.raises(TypeError, match="a frame is bytes"):
        flow.five_tuples([b"", frame])


def test_five_tuple_of_ip6_and_of_nothing(flow: ModuleType) -> None:
    assert flow.five_tuple(IP6 + ip6(17, udp())) == FiveTuple(ONE6, TWO6, 17, 12345, 443)
    assert flow.five_tuple(MACS + b"\x08\x06" + bytes(28)) is None
    assert flow.five_tuple(IP4 + ip4(17, udp(), fragment=0x2001)) == FiveTuple(ONE, TWO, 17, 0, 0)


def quoted(version: int, inner: bytes, kind: int) -> bytes:
    body = bytes([kind, 0]) + bytes(6) + inner
    return IP4 + ip4(1, body) if version == 4 else IP6 + ip6(58, body)


def test_quoted_packets_of_icmp_errors() -> None:
    for kind in (3, 4, 5, 11, 12):
        # As routers of old quote: the header and eight bytes, so the length says more than there is.
        found = _flow_py.parse_embedded(quoted(4, ip4(6, PORTS + bytes(16))[:28], kind))
        assert found is not None
        key, layers, flags = found
        assert key == ONE + bytes(12) + TWO + bytes(12) + PORTS + bytes([6, 4, 0, 0])
        assert (layers, flags) == (42 | 62 << 16, Flags.IPV4 | Flags.PORTS | Flags.TCP)
    for kind in (1, 2, 3, 4):
        found = _flow_py.parse_embedded(quoted(6, ip6(17, udp()), kind))
        assert found is not None
        assert found[0] == ONE6 + TWO6 + PORTS + bytes([17, 6, 0, 0])
    assert _flow_py.parse_embedded(quoted(4, ip4(6, PORTS), 8)) is None
    assert _flow_py.parse_embedded(quoted(6, ip6(6, PORTS), 128)) is None
    assert _flow_py.parse_embedded(IP4 + ip4(6, PORTS + bytes(16))) is None
    assert _flow_py.parse_embedded(quoted(4, ip4(6, PORTS)[:10], 3)) == (bytes(40), 42, Flags.IPV4 | Flags.TRUNCATED)

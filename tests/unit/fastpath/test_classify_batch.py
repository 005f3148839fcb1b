"""Packets of a batch in a rule set: every level against the plain twin, on frames that were parsed before."""

from __future__ import annotations

import importlib
import random
import struct
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import ModuleType
from typing import Any

import pytest

from fastpath import _batch_py, _classify_py, _flow_py, _ruleset_py, _select
from fastpath.connections import Ct
from fastpath.rules import EGRESS, Rule, icmp
from tests.flow_frames import frame as any_frame
from tests.flow_frames import frames as sound_frames
from tests.frames import ethernet, ip, tcp
from tests.twins import BATCH_C, needs_build, stages

KEY = 40
pytestmark = pytest.mark.parametrize("stage", stages("classify"))


def setting(stage: ModuleType, frames: list[bytes]) -> tuple[Any, Any]:
    """A batch with these frames, parsed, and the type of rule set that goes with it."""
    if stage is _classify_py:
        batch: Any = _batch_py.Batch(max(1, len(frames)), slot=2048)
        flow: Any = _flow_py
        rule_set: Any = _ruleset_py.RuleSet
    else:
        assert BATCH_C is not None
        batch = BATCH_C.Batch(max(1, len(frames)), slot=2048)
        flow = _select.stage("flow", "baseline")
        rule_set = importlib.import_module("fastpath._ruleset_c").RuleSet
    batch.fill(frames)
    flow.extract(batch)
    return batch, rule_set


def segment(version: int = 4, *, flags: int = 2, dscp: int = 0) -> bytes:
    kind = 0x0800 if version == 4 else 0x86DD
    return ethernet(kind) + ip(version, 6, tcp(version, b"", flags=flags), tos=dscp << 2)


def look(stage: ModuleType, frames: list[bytes], rules: list[Rule], **arguments: Any) -> list[int]:
    batch, rule_set = setting(stage, frames)
    matched = stage.lookup(batch, rule_set(rules), **arguments)
    answers = list(batch.rule[: len(frames)])
    assert matched == sum(answer >= 0 for answer in answers)
    return answers


def test_both_versions_and_neither(stage: ModuleType) -> None:
    arp = ethernet(0x0806) + bytes(28)
    frames = [segment(4), segment(6), arp, b"", segment(4)]
    rules = [Rule(version=6), Rule(source=ip_network("10.0.0.0/24"))]
    assert look(stage, frames, rules) == [1, 0, -1, -1, 1]
    assert look(stage, frames, []) == [-1] * 5
    assert look(stage, [], rules) == []


def test_flags_and_dscp_are_the_packets_own(stage: ModuleType) -> None:
    rules = [Rule(protocol=6, tcp_flags=(2, 0x12)), Rule(dscp=46), Rule(version=6, priority=3, dscp=10)]
    for version in (4, 6):
        frames = [segment(version, flags=f, dscp=d) for f, d in ((2, 0), (0x12, 0), (0x12, 46), (2, 10))]
        assert look(stage, frames, rules) == [0, -1, 1, 0 if version == 4 else 2]


def test_later_fragments_show_no_ports(stage: ModuleType) -> None:
    first, later = (
        bytearray(ethernet(0x0800) + ip(4, 6, tcp(4, b""), df=False)),
        bytearray(ethernet(0x0800) + ip(4, 6, tcp(4, b""), df=False)),
    )
    first[20:22], later[20:22] = b"\x20\x00", b"\x20\x02"
    ports = _flow_py.parse(bytes(first))[0]
    port = int.from_bytes(ports[34:36], "big")
    rules = [
        Rule(priority=3, protocol=6, destination_ports=(port, port)),
        Rule(priority=2, destination_ports=(port, port)),
        Rule(priority=1, protocol=6, tcp_flags=(0, 0xFF)),
        Rule(protocol=6),
    ]
    assert look(stage, [bytes(first), bytes(later)], rules) == [0, 2]
    assert look(stage, [bytes(later)], [*rules[:2], rules[3]]) == [2]


def test_zone_of_the_key_or_of_the_argument(stage: ModuleType) -> None:
    rules = [Rule(zone=7, direction=EGRESS), Rule(zone=7), Rule(priority=0, zone=32767), Rule(zone=0)]
    batch, rule_set = setting(stage, [segment()] * 4)
    made = rule_set(rules)
    zones = (7, 32767, 7 | 0x8000, 0)
    column = batch.key.cast("B")
    for i, zone in enumerate(zones):
        column[i * KEY + 38 : i * KEY + 40] = zone.to_bytes(2, "little")
    stage.lookup(batch, made)
    assert list(batch.rule[:4]) == [1, 2, 1, 3]
    stage.lookup(batch, made, direction=EGRESS)
    assert list(batch.rule[:4]) == [0, 2, 0, 3]
    stage.lookup(batch, made, direction=EGRESS, zone=7)
    assert list(batch.rule[:4]) == [0] * 4
    stage.lookup(batch, made, zone=1)
    assert list(batch.rule[:4]) == [-1] * 4


def test_dropped_packets_are_passed_over(stage: ModuleType) -> None:
    batch, rule_set = setting(stage, [segment()] * 3)
    batch.verdict[1] = 9
    batch.rule[1] = 5
    assert stage.lookup(batch, rule_set([Rule()])) == 2
    assert list(batch.rule[:3]) == [0, -1, 0]


@pytest.mark.parametrize(
    "arguments", [{"direction": 2}, {"direction": -1}, {"zone": 32768}, {"zone": -1}, {"zone": 1 << 40}]
)
def test_arguments_that_do_not_exist(stage: ModuleType, arguments: dict[str, Any]) -> None:
    batch, rule_set = setting(stage, [segment()])
    with pytest.raises(ValueError, match=r"direction|zone"):
        stage.lookup(batch, rule_set([]), **arguments)


def around(chance: random.Random, key: bytes) -> Rule:
    """A rule that one packet, at least, is near to."""
    version = key[37] or 4
    size = 4 if version == 4 else 16
    net = IPv4Network if version == 4 else IPv6Network
    sides: list[Any] = [None, None]
    for side in range(2):
        length = chance.choice((0, 0, 8, 8 * size - 4, 8 * size))
        if length:
            sides[side] = net((key[16 * side : 16 * side + size], length), strict=False)
    port = int.from_bytes(key[34:36], "big")
    protocol = chance.choice((None, key[36]))
    return Rule(
        priority=chance.randrange(50),
        source=sides[0],
        destination=sides[1],
        protocol=protocol,
        destination_ports=chance.choice(((0, 65535), (port, port), (0, port))),
        source_ports=chance.choice(((0, 65535), icmp(key[33]), (0, 1023))),
        tcp_flags=chance.choice(((0, 0), (2, 2))) if protocol == 6 else (0, 0),
        dscp=chance.choice((None, None, None, 0, 46)),
        zone=chance.choice((None, None, 0, 5)),
        direction=chance.choice((None, None, 0, 1)),
    )


def test_answers_are_asked_about_as_what_they_answer(stage: ModuleType) -> None:
    one, other = "10.0.0.5", "192.0.2.9"
    ping = ethernet(0x0800) + ip(4, 1, struct.pack("!BBHHH", 0, 0, 0, 7, 1))
    frames = [segment(4), segment(6), ping]
    batch, rule_set = setting(stage, frames)
    rules = rule_set(
        [
            Rule(direction=EGRESS, source=ip_network(other), destination_ports=(40000, 40000), source_ports=(80, 80)),
            Rule(direction=EGRESS, version=6, source_ports=(80, 80), destination_ports=(40000, 40000), protocol=6),
            Rule(direction=EGRESS, protocol=1, source_ports=icmp(8, 0), destination=ip_network(one)),
            Rule(source=ip_network(one)),
        ]
    )
    forward, reverse = [3, -1, 3], [0, 1, 2]
    stage.lookup(batch, rules)
    assert list(batch.rule[:3]) == forward
    for ct, wanted in (
        (Ct.NEW, forward),
        (Ct.ESTABLISHED | Ct.REPLY | Ct.KNOWN, reverse),
        (Ct.NEW | Ct.REPLY | Ct.LOOKUP, reverse),
        (Ct.RELATED | Ct.REPLY, forward),
        (Ct.INVALID | Ct.REPLY, forward),
    ):
        for i in range(3):
            batch.ct[i] = ct
        stage.lookup(batch, rules, connections=True)
        assert list(batch.rule[:3]) == wanted
        stage.lookup(batch, rules)
        assert list(batch.rule[:3]) == forward


@needs_build
@pytest.mark.parametrize("count", [1, 20, 700])
def test_like_the_plain_twin(stage: ModuleType, count: int) -> None:
    if stage is _classify_py:
        pytest.skip("it is the plain twin")
    chance = random.Random(count)
    sound = sound_frames(chance)
    frames = [any_frame(chance)[:2000] if i % 2 else next(sound)[:2000] for i in range(600 if count < 700 else 150)]
    plain, plain_set = setting(_classify_py, frames)
    batch, rule_set = setting(stage, frames)
    keys = bytes(plain.key.cast("B"))
    rules: list[Rule] = []
    while len(rules) < count:
        i = chance.randrange(len(frames))
        rules.append(around(chance, keys[i * KEY : i * KEY + KEY]))
    dropped = chance.sample(range(len(frames)), 20)
    for each in (plain, batch):
        column = each.key.cast("B")
        for i in range(len(frames)):
            column[i * KEY + 38] = 5 if i % 3 == 0 else 0
        for i in dropped:
            each.verdict[i] = 3
    for i in range(len(frames)):
        plain.ct[i] = batch.ct[i] = chance.randrange(64)
    for arguments in ({}, {"direction": EGRESS, "zone": 5}, {"connections": True}):
        matched = _classify_py.lookup(plain, plain_set(rules), **arguments)
        assert stage.lookup(batch, rule_set(rules), **arguments) == matched
        assert list(batch.rule) == list(plain.rule)
        assert count == 1 or matched

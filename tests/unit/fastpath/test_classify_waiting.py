"""Broad rules that are new to a set: a few wait beside the bit rows, more go into tables made for rules like them."""

from __future__ import annotations

import importlib
import random
from ipaddress import IPv4Network, IPv6Network
from types import ModuleType
from typing import Any

import pytest

from fastpath.rules import Header, Rule
from tests.rulesets import answers, expected
from tests.twins import needs_build, stages

pytestmark = [needs_build, pytest.mark.parametrize("stage", stages("classify")[1:])]
WAITING = 16


def net(version: int, number: int, length: int) -> IPv4Network | IPv6Network:
    bits = 32 if version == 4 else 128
    address = (10 << (bits - 8) | number << (bits - (16 if version == 4 else 32))) >> (bits - length) << (bits - length)
    return IPv4Network((address, length)) if version == 4 else IPv6Network((address, length))


def rule(version: int, number: int, source: int, destination: int) -> Rule:
    return Rule(
        priority=number * 7919 % 1000,
        source=net(version, number % 199, source) if source else None,
        destination=net(version, number % 211, destination) if destination else None,
        destination_ports=(number, number + 50),
        version=4 if version == 4 else 6,
    )


def within(rule: Rule, version: int, pick: random.Random) -> Header:
    """A header that the rule matches."""
    source, destination = [
        int(net.network_address) + pick.randrange(min(net.num_addresses, 1 << 62))
        if net is not None
        else pick.getrandbits(32 if version == 4 else 128)
        for net in (rule.source, rule.destination)
    ]
    port = pick.randint(*rule.destination_ports)
    return Header(4 if version == 4 else 6, source, destination, 6, destination_port=port)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("source", "destination"), [(1, 1), (1, 0), (0, 1)])
def test_a_table_for_rules_like_those_that_waited(
    stage: ModuleType, version: int, source: int, destination: int
) -> None:
    pick = random.Random(version)
    half, bits = (16, 32) if version == 4 else (32, 128)
    rules: Any = importlib.import_module("fastpath._ruleset_c").RuleSet(
        [rule(version, i, 8, 0) for i in range(100)], background=False
    )
    made = dict(rules.rules())
    masks: list[tuple[int, int, int]] = []
    for kind in ((source * bits, destination * bits), (bits, 0), (0, half)):
        fits = any(kind[0] >= s and kind[1] >= d for s, d, _ in masks)
        for _ in range(4):
            some = [rule(version, pick.randrange(1000), *kind) for _ in range(WAITING)]
            made.update(zip(rules.update(add=some), some, strict=True))
        if not fits:
            masks.append((half if kind[0] else 0, half if kind[1] else 0, 0))
        said = rules.stats()[f"ipv{version}"]
        assert said["masks"] == masks
        assert said["waiting"] <= WAITING
        headers = [within(rule, version, pick) for rule in pick.sample(list(made.values()), 60)]
        assert answers(stage, rules, headers) == expected(made, headers)
    gone = pick.sample(sorted(made), 150)
    rules.update(remove=gone)
    for id in gone:
        del made[id]
    assert answers(stage, rules, headers) == expected(made, headers)

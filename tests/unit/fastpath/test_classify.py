"""A rule set at every level: transactions, lookups, and the corners of its forms."""

from __future__ import annotations

import importlib
import random
import threading
from array import array
from ipaddress import IPv4Network, ip_network
from types import ModuleType
from typing import Any

import pytest

from fastpath import _ruleset_py
from fastpath.rules import EGRESS, Header, Rule, RuleError, key, pack
from tests.rulesets import Shapes, answers, expected
from tests.twins import needs_build, stages

pytestmark = pytest.mark.parametrize("stage", stages("classify"))


def rule_set(stage: ModuleType, rules: Any = ()) -> Any:
    if stage.__name__.endswith("_py"):
        return _ruleset_py.RuleSet(rules)
    return importlib.import_module("fastpath._ruleset_c").RuleSet(rules)


def host(address: int, port: int = 80, **more: Any) -> Header:
    return Header(version=4, source=address, destination=1, protocol=6, destination_port=port, **more)


def test_nothing_matches_nothing(stage: ModuleType) -> None:
    rules = rule_set(stage)
    assert (len(rules), answers(stage, rules, [host(1)]), rules.rules()) == (0, [-1], {})


def test_transactions(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(priority=1), Rule(priority=1, protocol=6)])
    assert answers(stage, rules, [host(1)]) == [0]
    assert list(rules.update(add=[Rule(priority=2, protocol=6)], remove=[1])) == [1]
    assert answers(stage, rules, [host(1)]) == [1]
    rules.replace(1, Rule(priority=2, protocol=17))
    assert answers(stage, rules, [host(1)]) == [0]
    rules.remove(0)
    assert answers(stage, rules, [host(1)]) == [-1]
    assert (len(rules), 0 in rules, 1 in rules, rules.version) == (1, False, True, 4)
    assert rules.rule(1) == Rule(priority=2, protocol=17)


def test_a_replaced_rule_keeps_its_place_among_equals(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(protocol=6), Rule()])
    rules.replace(0, Rule())
    assert answers(stage, rules, [host(1)]) == [0]
    rules.remove(0)
    assert rules.add(Rule(protocol=6)) == 0
    assert answers(stage, rules, [host(1)]) == [1]


def test_a_transaction_happens_whole_or_not_at_all(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(), Rule()])
    for arguments in ({"remove": [0, 5]}, {"remove": [0, 0]}, {"remove": [0], "replace": {0: Rule()}}):
        with pytest.raises(KeyError):
            rules.update(add=[Rule()], **arguments)
    with pytest.raises(RuleError):
        rules.update(add=b"x" * 56)
    with pytest.raises(RuleError):
        rules.update(add=b"x")
    assert (len(rules), rules.version, list(rules.rules())) == (2, 1, [0, 1])
    with pytest.raises(KeyError):
        rules.rule(2)


def test_packed_rules(stage: ModuleType) -> None:
    made = [Shapes(3, 4).rule() for _ in range(100)]
    rules = rule_set(stage, pack(made))
    assert list(rules.rules().values()) == made


def test_both_versions_in_one_rule(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(protocol=6, zone=3)])
    six = Header(version=6, source=1, destination=2, protocol=6, zone=3, direction=EGRESS)
    assert answers(stage, rules, [six]) == [0]
    assert answers(stage, rules, [host(1, zone=3)]) == [0]
    rules.remove(0)
    assert answers(stage, rules, [six]) == answers(stage, rules, [host(1, zone=3)]) == [-1]


def test_rules_that_ask_for_flags_and_dscp(stage: ModuleType) -> None:
    shapes = Shapes(11, 4, more=True)
    made = dict(enumerate(shapes.rule() for _ in range(60)))
    rules = rule_set(stage, list(made.values()))
    headers = [shapes.header(list(made.values())) for _ in range(300)]
    assert answers(stage, rules, headers, more=True) == expected(made, headers, more=True)
    assert answers(stage, rules, headers) == expected(made, headers)
    assert list(rules.rules().values()) == list(made.values())


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 255, 256, 257, 600])
def test_any_number_of_keys(stage: ModuleType, count: int) -> None:
    rules = rule_set(stage, [Rule(source=IPv4Network((i, 32))) for i in range(50)])
    assert answers(stage, rules, [host(i % 60) for i in range(count)]) == [
        i % 60 if i % 60 < 50 else -1 for i in range(count)
    ]


def test_sizes_that_do_not_fit(stage: ModuleType) -> None:
    rules = rule_set(stage)
    out = array("i", [0] * 4)
    for arguments in (
        {"keys": bytes(15), "out": out},
        {"keys": bytes(16 * 5), "out": out},
        {"keys": bytes(32), "out": out, "more": bytes(2)},
        {"keys": bytes(64), "out": out, "version": 5},
    ):
        with pytest.raises(ValueError, match=r"keys|more|version"):
            stage.lookup_keys(rules, **arguments)


def test_addresses_at_both_ends(stage: ModuleType) -> None:
    nets = ["0.0.0.0/32", "255.255.255.255/32", "255.255.255.0/24", "0.0.0.0/1", "128.0.0.0/1"]
    made = dict(enumerate(Rule(priority=9 - i, source=ip_network(net)) for i, net in enumerate(nets)))
    rules = rule_set(stage, list(made.values()))
    headers = [host(a) for a in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFE, 0xFFFFFFFF)]
    assert answers(stage, rules, headers) == expected(made, headers)


@pytest.mark.parametrize("apart", [1, 3, 1000])
def test_addresses_close_together(stage: ModuleType, apart: int) -> None:
    """So many classes in few values of the upper bits: the way to a class is longer."""
    first, count = 0x0A00FE00, 200 if stage.__name__.endswith("_py") else 1000
    made = {
        i: Rule(source=IPv4Network((first + i * apart, 32)), destination=IPv4Network((first - i * apart, 32)))
        for i in range(count)
    }
    rules = rule_set(stage, list(made.values()))
    headers = [
        Header(version=4, source=first + i * apart + away, destination=first - i * apart, protocol=6)
        for i in range(count)
        for away in (-1, 0, 1)
    ]
    assert answers(stage, rules, headers) == [i // 3 if i % 3 == 1 else -1 for i in range(3 * count)]


def test_many_rules_of_one_bucket_and_none_that_fits_a_table(stage: ModuleType) -> None:
    """4,000 rules without addresses: no mask spreads them, and there are more than the rows take."""
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin has one form only")
    made = dict(
        enumerate(Rule(priority=i % 7, source_ports=(i, i + 3), destination_ports=(i // 2, 60000)) for i in range(4000))
    )
    rules = rule_set(stage, list(made.values()))
    assert rules.stats()["ipv4"]["tail"] > 0
    headers = [host(1, port=p, source_port=q) for p in range(0, 60001, 4000) for q in range(0, 4200, 600)]
    assert answers(stage, rules, headers) == expected(made, headers)
    gone = range(0, 4000, 2)
    rules.update(remove=gone)
    for id in gone:
        del made[id]
    assert answers(stage, rules, headers) == expected(made, headers)


def test_a_set_that_no_few_tables_take(stage: ModuleType) -> None:
    """Prefixes of all pairs of lengths around one place: every table would take a few of them."""
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin has one form only")
    pick = random.Random(2)

    def prefix() -> IPv4Network:
        length = pick.randrange(1, 33)
        place = 0x0A141E28 >> (32 - length) ^ pick.getrandbits(min(length, 6))
        return IPv4Network((place << (32 - length), length))

    made = {i: Rule(priority=pick.randrange(9), source=prefix(), destination=prefix()) for i in range(9000)}
    rules = rule_set(stage, list(made.values()))
    assert rules.stats()["ipv4"]["broad"] > 2048, rules.stats()
    headers = []
    for rule in pick.sample(list(made.values()), 12):
        assert rule.source is not None
        assert rule.destination is not None
        first, second = int(rule.source.broadcast_address), int(rule.destination.network_address)
        headers += [Header(4, first, second, 6, 1, 2), Header(4, second, first, 6, 1, 2)]
    assert answers(stage, rules, headers) == expected(made, headers)
    gone = pick.sample(sorted(made), 300)
    rules.update(remove=gone)
    for id in gone:
        del made[id]
    assert answers(stage, rules, headers) == expected(made, headers)


@pytest.mark.parametrize("version", [4, 6])
def test_a_thousand_changes_one_by_one(stage: ModuleType, version: int) -> None:
    shapes = Shapes(5, 4 if version == 4 else 6)
    count = 200 if stage.__name__.endswith("_py") else 1500
    made = dict(enumerate(shapes.rule() for _ in range(count)))
    rules = rule_set(stage, list(made.values()))
    for turn in range(count // 5):
        id = shapes.random.choice(list(made))
        rules.remove(id)
        del made[id]
        fresh = shapes.rule()
        made[rules.add(fresh)] = fresh
        if turn % 60 == 0:
            headers = [shapes.header(list(made.values())) for _ in range(40)]
            assert answers(stage, rules, headers) == expected(made, headers)
    rules.compact()
    headers = [shapes.header(list(made.values())) for _ in range(40)]
    assert answers(stage, rules, headers) == expected(made, headers)
    assert list(rules.rules().items()) == list(made.items())


@needs_build
def test_readers_see_one_version_or_the_other(stage: ModuleType) -> None:
    """A pair of rules is exchanged for another pair in one transaction: no lookup may find one of each, or neither."""
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin is for one thread")
    background = [Rule(priority=1, source=IPv4Network((0x0A000000 + i, 32))) for i in range(3000)]
    low = [
        Rule(priority=5, source=IPv4Network((0x14000000, 32))),
        Rule(priority=5, source=IPv4Network((0x1E000000, 32))),
    ]
    rules = rule_set(stage, background)
    pair = list(rules.update(add=low))
    keys = key(host(0x14000000)) + key(host(0x1E000000))
    done = threading.Event()
    wrong: list[list[int]] = []
    seen = 0

    def read() -> None:
        nonlocal seen
        out = array("i", [0, 0])
        while not done.is_set():
            stage.lookup_keys(rules, keys, out)
            seen += 1
            # Ids are handed out again in pairs, the last freed first.
            if -1 in out or out[0] == out[1]:
                wrong.append(list(out))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(1500):
        pair = list(rules.update(remove=pair, add=low))
        if turn % 100 == 0:
            rules.compact()
    while seen < 100:
        pass
    done.set()
    reader.join()
    assert not wrong


def test_a_copy_is_for_a_dry_run(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(priority=1), Rule(protocol=6), Rule(zone=3)])
    rules.remove(1)
    rules.update(add=[Rule(priority=4, protocol=6)], replace={2: Rule(zone=4)})
    trial = rules.copy()
    assert (trial.rules(), trial.version, len(trial)) == (rules.rules(), rules.version, 3)
    assert answers(stage, trial, [host(1)]) == [1]
    trial.update(remove=[1], add=[Rule(priority=9), Rule()])
    assert answers(stage, trial, [host(1)]) == [1]
    assert list(trial.rules()) == [0, 2, 1, 3]
    assert answers(stage, rules, [host(1)]) == [1]
    assert rules.rule(1) == Rule(priority=4, protocol=6)
    assert (len(rules), list(rules.rules())) == (3, [0, 2, 1])


def test_ids_that_are_none(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule()])
    for id in (-1, 1, 1 << 40):
        with pytest.raises(KeyError):
            rules.remove(id)
        with pytest.raises(KeyError):
            rules.rule(id)
        assert id not in rules
    assert "x" not in rules


def test_many_classes_of_protocols_and_ports(stage: ModuleType) -> None:
    """Rules whose protocols and ports make millions of combinations: memory stays small."""
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin has one form only")
    made = dict(
        enumerate(
            Rule(priority=i % 9, protocol=i) if i < 256 else Rule(destination_ports=(i * 30, 65535 - i * 30))
            for i in range(1020)
        )
    )
    rules = rule_set(stage, list(made.values()))
    assert rules.stats()["ipv4"]["broad"] == 1020
    assert rules.stats()["ipv4"]["lookup_bytes"] < 8 << 20
    headers = [
        Header(version=4, source=1, destination=1, protocol=i * 7 % 256, destination_port=i * 331 % 65536)
        for i in range(200)
    ]
    assert answers(stage, rules, headers) == expected(made, headers)


@needs_build
def test_numbers_that_rules_left_are_closed_up(stage: ModuleType) -> None:
    """Age among equals outlives many changes, and what remembers it stays small."""
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin has no numbers")
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet([Rule(protocol=17)] * 3, background=False)
    rules.remove(1)
    many = pack(Rule(priority=1, source=IPv4Network((i, 32))) for i in range(900))
    for _ in range(400):
        rules.update(remove=rules.update(add=many))
    assert len(rules) == 2
    assert rules.stats()["ipv4"]["rule_bytes"] < 3 << 20
    late = rules.add(Rule(protocol=17))
    udp = Header(version=4, source=1, destination=1, protocol=17)
    assert answers(stage, rules, [udp]) == [0]
    rules.remove(0)
    assert answers(stage, rules, [udp]) == [2]
    rules.remove(2)
    assert answers(stage, rules, [udp]) == [late]
    rules.compact()
    assert answers(stage, rules, [udp]) == [late]
    assert rules.stats()["ipv4"]["rule_bytes"] < 1 << 20

"""Broad rules that leave a set and come again: they take the places in the bit rows that their like has left."""

from __future__ import annotations

import dataclasses
import importlib
import ipaddress
import itertools
import random
from types import ModuleType
from typing import Any, Literal

import pytest

from fastpath import _ruleset_py
from fastpath.rules import Header, Rule
from tests.rulesets import Shapes, answers, expected
from tests.twins import needs_build, stages

pytestmark = pytest.mark.parametrize("stage", stages("classify"))
PORTS = [(port, port + 10) for port in range(0, 80, 10)]
HEADERS = [Header(4, 1, 2, 6, 1, port) for port in range(0, 90, 5)]


def rule_set(stage: ModuleType, rules: list[Rule]) -> Any:
    plain = stage.__name__.endswith("_py")
    kind: Any = _ruleset_py.RuleSet if plain else importlib.import_module("fastpath._ruleset_c").RuleSet
    made = kind(rules)
    made.compact()
    return made


def ladder(priorities: list[int]) -> list[Rule]:
    """Rules each of which overlaps its neighbours."""
    return [Rule(priority=p, destination_ports=ports) for p, ports in zip(priorities, PORTS, strict=True)]


def places(stage: ModuleType, rules: Any, version: int = 4) -> tuple[int, int] | None:
    """How many places are vacant, and how many rules wait beside the rows; the plain twin has no places."""
    said = rules.stats()[f"ipv{version}"]
    return None if stage.__name__.endswith("_py") else (said["vacant"], said["waiting"])


def check(stage: ModuleType, rules: Any, made: dict[int, Rule], headers: list[Header] = HEADERS) -> None:
    assert rules.rules() == made
    assert answers(stage, rules, headers) == expected(made, headers)


@pytest.mark.parametrize("gone", [[0], [7], [3], [2, 5], [6, 1, 0], list(range(8)), [7, 3, 5, 1, 6, 0, 2, 4]])
def test_rules_return_in_any_order(stage: ModuleType, gone: list[int]) -> None:
    made = dict(enumerate(ladder(list(range(8, 0, -1)))))
    rules = rule_set(stage, list(made.values()))
    for id in gone:
        rules.remove(id)
    left = {id: rule for id, rule in made.items() if id not in gone}
    check(stage, rules, left)
    assert places(stage, rules) in (None, (len(gone), 0))
    for id in reversed(gone):
        # Ids are handed out last in, first out.
        assert rules.add(made[id]) == id
        left[id] = made[id]
        check(stage, rules, left)
    assert places(stage, rules) in (None, (0, 0))
    if not stage.__name__.endswith("_py"):
        assert rules.stats()["ipv4"]["since_build"] == 0


def test_one_transaction_takes_out_and_puts_in(stage: ModuleType) -> None:
    made = dict(enumerate(ladder(list(range(8, 0, -1)))))
    rules = rule_set(stage, list(made.values()))
    for some in ([3], [0, 7], [4, 1, 2], [5, 6]):
        ids = rules.update(remove=some, add=[made[id] for id in some])
        again = [made.pop(id) for id in some]
        made.update(zip(ids, again, strict=True))
        check(stage, rules, made)
    assert places(stage, rules) in (None, (0, 0))


def test_the_newest_of_equals_loses_although_it_was_the_first(stage: ModuleType) -> None:
    made = dict(enumerate(ladder([5] * 8)))
    rules = rule_set(stage, list(made.values()))
    rules.remove(3)
    again = made.pop(3)
    assert rules.add(again) == 3
    made[3] = again
    check(stage, rules, made)
    assert places(stage, rules) in (None, (1, 1))
    # The last one may leave and come.
    rules.remove(7)
    again = made.pop(7)
    check(stage, rules, made)
    rules.add(again)
    made[7] = again
    check(stage, rules, made)


@pytest.mark.parametrize("by", ["replace", "update"])
@pytest.mark.parametrize("priority", [29, 30, 31, 50, 51, 90])
def test_another_priority_that_fits_or_does_not(stage: ModuleType, priority: int, by: str) -> None:
    made = dict(enumerate(ladder([80, 70, 60, 50, 40, 30, 20, 10])))
    rules = rule_set(stage, list(made.values()))
    for rule in (dataclasses.replace(made[4], priority=priority), made[4]):
        if by == "replace":
            rules.replace(4, rule)
            made[4] = rule
        else:
            rules.update(remove=[4], add=[rule])
            del made[4]
            made[4] = rule
        check(stage, rules, made)
        # A replaced rule keeps its age, an added one is the newest of its priority.
        fits = 30 < rule.priority <= 50 or (rule.priority == 30 and by == "replace")
        assert places(stage, rules) in (None, (0, 0) if fits else (1, 1))


def test_several_places_of_equal_matches(stage: ModuleType) -> None:
    rules = rule_set(stage, [])
    same = [Rule(priority=p, destination_ports=(0, 100)) for p in range(40, 0, -1)]
    between = [Rule(priority=p, destination_ports=(0, 100), protocol=17) for p in (35, 25, 15)]
    made = dict(zip(rules.update(add=same + between), same + between, strict=True))
    rules.compact()
    pick = random.Random(1)
    for _ in range(20):
        gone = pick.sample(sorted(made), 30)
        rules.update(remove=gone)
        out = [made.pop(id) for id in gone]
        check(stage, rules, made)
        pick.shuffle(out)
        for rule in out:
            made[rules.add(rule)] = rule
        check(stage, rules, made)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("count", [30, 900])
def test_many_that_come_and_go(stage: ModuleType, version: int, count: int) -> None:
    """With other priorities, beside new ones, through rebuilds of the rows and compactions."""
    shapes = Shapes(count + version, 4 if version == 4 else 6, more=count == 30)
    if stage.__name__.endswith("_py"):
        count = 30
    pick = shapes.random
    made = dict(enumerate(shapes.rule(priority=pick.choice((7, pick.randrange(5000)))) for _ in range(count)))
    rules = rule_set(stage, list(made.values()))
    out: list[Rule] = []
    returned = 0
    for turn in range(40):
        gone = pick.sample(sorted(made), pick.choice((1, 2, count // 10)))
        pick.shuffle(out)
        come, out = out[: len(gone)], out[len(gone) :]
        come = [pick.choice((rule, rule, moved(rule, pick))) for rule in come]
        if turn % 7 == 0:
            come.append(shapes.rule())
        changed = {id: moved(made[id], pick) for id in pick.sample(sorted(made), 2) if id not in gone}
        before = rules.stats()[f"ipv{version}"].get("vacant", 0)
        ids = rules.update(remove=gone, add=come, replace=changed)
        for id in gone:
            out.append(made.pop(id))
        made.update(changed)
        made.update(zip(ids, come, strict=True))
        returned += before + len(gone) > rules.stats()[f"ipv{version}"].get("vacant", 0)
        headers = [shapes.header(list(itertools.islice(made.values(), 50))) for _ in range(10)]
        headers += [shapes.header(out[-5:]), *(shapes.header([rule]) for rule in come[:10])]
        assert answers(stage, rules, headers, more=shapes.more) == expected(made, headers, more=shapes.more)
        if turn % 13 == 0:
            rules.compact()
    assert returned
    assert rules.rules() == made


def moved(rule: Rule, pick: random.Random) -> Rule:
    """The same match with a priority nearby."""
    return dataclasses.replace(rule, priority=max(0, rule.priority + pick.choice((-1, 1, 2))))


@needs_build
def test_a_set_whose_rules_return_needs_no_new_build(stage: ModuleType) -> None:
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin is not built")
    made = [Rule(priority=p, destination_ports=(p, p + 5)) for p in range(1, 1001)]
    rules = rule_set(stage, made)
    before = rules.stats()["ipv4"]
    del before["rule_bytes"]  # a table of ids and the places are made when the first rules leave
    ids = list(range(300, 400))
    for _ in range(20):
        rules.update(remove=ids)
        ids = list(rules.update(add=made[300:400]))
    after = rules.stats()["ipv4"]
    assert {key: after[key] for key in before} == before


@needs_build
@pytest.mark.parametrize("version", [4, 6])
def test_buckets_that_were_empty_leave_no_memory_behind(stage: ModuleType, version: Literal[4, 6]) -> None:
    if stage.__name__.endswith("_py"):
        pytest.skip("the plain twin has no buckets")
    network: Any = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    bits = 32 if version == 4 else 128
    nets = [network((i << bits - 16, 24)) for i in range(7000)]
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet(background=False)
    rules.update(add=[Rule(version=version, priority=5, source=net) for net in nets[:2000]])
    sizes = []
    for first in range(2000, 7000, 100):
        here, headers = (
            nets[first : first + 100],
            [Header(version, int(net[1]), 2, 6, 3, 4) for net in nets[first:][:100]],
        )
        better, others = (
            list(rules.update(add=[Rule(version=version, priority=p, source=net) for net in here])) for p in (9, 1)
        )
        assert answers(stage, rules, headers) == better
        # When the better one leaves, a bucket still leads to the other; then that leaves, too.
        rules.update(remove=better)
        assert answers(stage, rules, headers) == others
        rules.update(remove=others)
        assert set(answers(stage, rules, headers)) == {-1}
        sizes.append(rules.stats()[f"ipv{version}"]["lookup_bytes"])
    # Of 4,500 buckets. A leaf takes 128 bytes and more.
    assert sizes[-1] - sizes[4] < 800 * 128

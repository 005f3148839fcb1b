"""Rules that neither the first bit rows nor tables take: further blocks of rows, at every level."""

from __future__ import annotations

import importlib
import random
import threading
import time
from array import array
from types import ModuleType
from typing import Any

import pytest

from fastpath.rules import Header, Rule, key
from tests.rulesets import answers
from tests.twins import needs_build, stages

pytestmark = [needs_build, pytest.mark.parametrize("stage", stages("classify")[1:])]

COUNT = 7000
BLOCK = 2048


def rule(number: int) -> Rule:
    """Ranges of ports that no table takes; a header is one rule's at most."""
    low = number % 7 * 9000
    return Rule(source_ports=(8 * number, 8 * number + 3), destination_ports=(low, low + 4000))


def header(number: int, version: int) -> Header:
    return Header(
        version=6 if version == 6 else 4, source=1, destination=2, protocol=6,
        source_port=8 * number + number % 4, destination_port=number % 7 * 9000 + 5,
    )  # fmt: skip


def rule_set(count: int = COUNT) -> Any:
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet(map(rule, range(count)), background=False)
    for said in rules.stats().values():
        assert (said["tables"], said["broad"], said["tail"], said["linear"]) == (0, BLOCK, count - BLOCK, 0)
    return rules


def test_rules_of_every_block_are_found_and_go(stage: ModuleType) -> None:
    rules, choose = rule_set(), random.Random(1)
    # The first and last of blocks, some more, and what no rule has.
    asked = sorted({0, COUNT - 1, COUNT, *range(BLOCK - 1, COUNT, BLOCK), *range(BLOCK, COUNT, BLOCK),
                    *choose.sample(range(COUNT), 600)})  # fmt: skip
    ids = {number: number for number in range(COUNT)}

    def right() -> bool:
        wanted = [ids.get(number, -1) for number in asked]
        return all(answers(stage, rules, [header(number, v) for number in asked]) == wanted for v in (4, 6))

    assert right()
    for _ in range(3):
        gone = choose.sample(sorted(ids), 40) + choose.sample(sorted(ids.keys() & set(asked)), 40)
        gone = list(dict.fromkeys(gone))
        rules.update(remove=[ids.pop(number) for number in gone])
        assert right()
    for number in choose.sample(sorted(ids.keys() & set(asked)), 5):
        # Before all others, under the same id; then as it was.
        rules.replace(ids[number], Rule(priority=1))
        for version in (4, 6):
            assert answers(stage, rules, [header(n, version) for n in (number, COUNT)]) == [ids[number]] * 2
        rules.replace(ids[number], rule(number))
    assert right()
    back = [number for number in asked if number not in ids and number < COUNT]
    ids.update(zip(back, rules.update(add=map(rule, back)), strict=True))
    assert right()
    rules.compact()
    assert right()
    rules.update(remove=list(ids.values()))
    ids.clear()
    assert right()


def test_the_first_rule_wins_across_blocks(stage: ModuleType) -> None:
    """A rule of a later block that matches, too, is never the answer; once the first has gone, it is."""
    made = [rule(number) for number in range(6000)]
    wide = Rule(source_ports=(0, 60000), destination_ports=(1, 65000))
    made[5000] = wide
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet(made, background=False)
    assert rules.stats()["ipv4"]["tail"] == 6000 - BLOCK
    asked = [number for number in range(1, 6000, 13) if number % 7]
    for version in (4, 6):
        found = answers(stage, rules, [header(number, version) for number in asked])
        assert found == [min(number, 5000) for number in asked]
    rules.update(remove=asked[::2])
    found = answers(stage, rules, [header(number, 4) for number in asked])
    assert found == [min(number, 5000) if i % 2 else 5000 for i, number in enumerate(asked)]


def test_a_rule_that_leaves_beside_lookups_was_there_in_every_version_before(stage: ModuleType) -> None:
    """One rule after the other goes: what a call misses is the first so and so many of them, as many as had gone."""
    rules, choose = rule_set(), random.Random(2)
    leaving = choose.sample(range(BLOCK, COUNT), 240)
    keys = b"".join(key(header(number, 4)) for number in leaving) * 8
    done, seen = threading.Event(), [[], []]  # type: ignore[var-annotated]

    def look_up(samples: list[tuple[int, int, bytes]]) -> None:
        out = array("i", bytes(4 * 8 * len(leaving)))
        while not done.is_set():
            before = rules.version
            stage.lookup_keys(rules, keys, out, version=4)
            samples.append((before, rules.version + 1, out.tobytes()))

    readers = [threading.Thread(target=look_up, args=(samples,)) for samples in seen]
    for reader in readers:
        reader.start()
    first = rules.version
    try:
        for number in leaving:
            rules.remove(number)
        while not all(samples and samples[-1][0] == first + len(leaving) for samples in seen):
            time.sleep(0.001)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    for before, after, found in (sample for samples in seen for sample in samples):
        given = array("i", found)
        gone = sum(answer == -1 for answer in given) // 8
        assert list(given) == ([-1] * gone + leaving[gone:]) * 8
        assert before - first <= gone <= after - first


def test_memory_of_blocks_is_given_back(stage: ModuleType) -> None:
    """What changes leave behind is freed once nobody reads it: the set does not grow however often rules leave."""
    rules = rule_set(5000)
    answers(stage, rules, [header(1, 4)])
    sizes = []
    for _ in range(30):
        gone = list(range(3000, 3300))
        for number in gone:
            rules.remove(number)
        assert list(rules.update(add=[rule(number) for number in gone[::-1]])) == gone[::-1]
        rules.compact()
        said = rules.stats()["ipv4"]
        assert (said["broad"], said["tail"]) == (BLOCK, 5000 - BLOCK)
        sizes.append(said["lookup_bytes"] + said["rule_bytes"])
    assert max(sizes[2:]) <= 1.1 * sizes[1]

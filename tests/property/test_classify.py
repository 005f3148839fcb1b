"""Every level of the classifier against the definition: sets of every shape and size, interleaved with changes."""

from __future__ import annotations

import importlib
import os
import time
from types import ModuleType

import pytest

from fastpath.rules import Rule
from tests.rulesets import Shapes, answers, expected
from tests.twins import COMPILED_LEVELS, needs_build, stages

SECONDS = float(os.environ.get("NODEPLANE_FUZZ_SECONDS", "0"))
LEVELS = [parameter.values[0] for parameter in stages("classify")][1:]  # type: ignore[attr-defined]


def agree(rules: object, made: dict[int, Rule], shapes: Shapes, count: int, more: bool) -> None:
    headers = [shapes.header(list(made.values())) for _ in range(count)]
    want = expected(made, headers, more=more)
    for level in LEVELS:
        assert isinstance(level, ModuleType)
        assert answers(level, rules, headers, more=more) == want, level.__name__


def run(seed: int) -> None:
    """One set from empty or full through a dozen transactions."""
    shapes = Shapes(seed, 4 if seed % 2 else 6, more=seed % 5 == 0)
    pick = shapes.random
    rule_set = importlib.import_module("fastpath._ruleset_c").RuleSet
    first = [shapes.rule() for _ in range(pick.choice((0, 1, 3, 20, 70, 300, 1000, 1500)))]
    rules, made = rule_set(first), dict(enumerate(first))
    agree(rules, made, shapes, 60, shapes.more)
    for _ in range(8):
        size = pick.choice((0, 1, 1, 1, 3, 40))
        gone = pick.sample(sorted(made), min(len(made), size))
        left = [id for id in made if id not in gone]
        changed = {id: shapes.rule() for id in pick.sample(left, min(len(left), pick.choice((0, 0, 1, 2))))}
        fresh = [shapes.rule() for _ in range(pick.choice((0, 1, size)))]
        ids = rules.update(add=fresh, remove=gone, replace=changed)
        for id in gone:
            del made[id]
        made.update(changed)
        for id, rule in zip(ids, fresh, strict=True):
            assert id not in made
            made[id] = rule
        if pick.random() < 0.1:
            rules.compact()
        agree(rules, made, shapes, 25, shapes.more)
    assert rules.rules() == made


@needs_build
@pytest.mark.parametrize("seed", range(1, 9))
def test_against_the_definition(seed: int) -> None:
    assert COMPILED_LEVELS
    run(seed)


@needs_build
@pytest.mark.skipif(not SECONDS, reason="`make fuzz` runs it")
def test_for_long() -> None:
    end, seed = time.monotonic() + SECONDS, 1000
    while time.monotonic() < end:
        run(seed)
        seed += 1

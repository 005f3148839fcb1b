"""Lookups in 1,000 rules, a batch of 256 keys at every level that runs here, and one transaction of 100 rules.

For a quick look while working on the engine; `python -m bench run classify` has sets, traces and rte_acl.
"""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.classify import lookups, scan, traces
from bench.classify.files import Rules, Trace
from bench.perpacket import levels as ours
from bench.perpacket.levels import PLAIN, Level
from bench.rulegen import generate
from fastpath.rules import PACKED

BATCH = 256


def rule_set(level: Level, rules: Rules) -> Any:
    if level == PLAIN:
        from fastpath._ruleset_py import RuleSet as Plain

        return Plain(rules.records)
    from fastpath._ruleset_c import RuleSet

    return RuleSet(rules.records)


@pytest.mark.parametrize("version", [4, 6])
def test_lookup(benchmark: BenchmarkFixture, level: Level, version: int) -> None:
    rules = generate("acl", 1000, version=6 if version == 6 else 4)
    trace = traces.uniform(rules, 1, BATCH)
    if level == PLAIN:
        trace = Trace("few", trace.version, trace.keys[: 4 * trace.size])
    once, out = lookups.Engine(level, rule_set(level, rules)).calls(trace, BATCH)
    once()
    scan.compare(level.name, rules, trace, out, scan.answers(rules, trace))
    benchmark(once)


def test_update(benchmark: BenchmarkFixture) -> None:
    if not ours.compiled():
        pytest.skip("not built")
    rules = generate("acl", 1000)
    made = rule_set(ours.compiled()[0], rules)
    ids = range(100)

    def both() -> None:
        nonlocal ids
        made.update(remove=ids)
        ids = made.update(add=rules.records[: 100 * PACKED.size])

    benchmark(both)
    assert len(made) == 1000

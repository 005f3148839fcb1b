"""Memory that runs out: a transaction then changes nothing, whichever allocation it was, and the next one works."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from fastpath.rules import Header, Rule
from tests.rulesets import Shapes, answers, expected
from tests.twins import needs_build

SOURCE = Path(__file__).with_name("failing.c")
WITHIN = "NODEPLANE_TEST_FAILING"
"""Set in the process whose allocations fail."""


@needs_build
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.skipif(bool(os.environ.get("LD_PRELOAD")), reason="something else is preloaded")
@pytest.mark.parametrize("every", [0, 1])
def test_a_transaction_without_memory_changes_nothing(tmp_path: Path, every: int) -> None:
    library = tmp_path / "failing.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), WITHIN: str(every)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.fastpath.test_classify_memory"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all failed once" in done.stdout


def scenarios(rules: Any, shapes: Shapes) -> list[tuple[str, dict[str, Any]]]:
    """Transactions of every kind; ids that a rule set of `rules` has."""
    pick = shapes.random
    hosts = [Rule(priority=5, source=IPv4Network((pick.getrandbits(32), 32)), zone=3) for _ in range(20)]
    some = pick.sample(sorted(rules.rules()), min(len(rules), 8))
    return [
        ("add to tables", {"add": hosts[:3]}),
        ("add broad", {"add": [Rule(protocol=17, destination_ports=(i, 2 * i)) for i in range(1, 20)]}),
        ("add with flags", {"add": [Rule(protocol=6, tcp_flags=(2, 2)), Rule(dscp=10)]}),
        ("remove one", {"remove": some[:1]}),
        ("remove some, add some", {"remove": some[1:4], "add": hosts[3:9]}),
        ("replace", {"replace": {some[4]: shapes.rule(), some[5]: hosts[9]} if len(some) > 5 else {}}),
        ("both versions", {"add": [Rule(zone=7)], "remove": some[6:7]}),
        ("leave and return", {"remove": some[7:], "add": [rules.rule(id) for id in some[7:]]}),
        ("very many", {"add": [shapes.rule() for _ in range(len(rules) + 70)]}),
    ]


def blocks(failing: Any, stage: Any, rule_set: Any, every: int) -> int:
    """Rules that neither rows nor tables took leave; how often memory ran out."""
    count = 4400
    made = [
        Rule(source_ports=(8 * i, 8 * i + 3), destination_ports=(i % 7 * 9000, i % 7 * 9000 + 4000))
        for i in range(count)
    ]
    rules = rule_set(made, background=False)
    assert rules.stats()["ipv4"]["tail"] > 0
    asked = range(0, count, 100)
    headers = [
        Header(version=4, source=1, destination=2, protocol=6, source_port=8 * i, destination_port=i % 7 * 9000)
        for i in asked
    ]
    left, failures, after = set(asked), 0, 0
    while True:
        gone = max(left)
        failing.np_fail(after, every)
        try:
            rules.remove(gone)
            left.remove(gone)
        except MemoryError:
            pass
        finally:
            failed = failing.np_failed()
            failing.np_fail(-1, 0)
        assert answers(stage, rules, headers) == [i if i in left else -1 for i in asked], after
        if not failed:
            return failures
        failures += 1
        after += 1


def within(every: int) -> None:
    """What the child process does."""
    failing: Any = ctypes.CDLL(None)
    stage = importlib.import_module("fastpath._classify_c")
    rule_set: Any = importlib.import_module("fastpath._ruleset_c").RuleSet
    total = 0
    for count in (0, 40, 1100) if every else (40,):
        shapes = Shapes(count + 1, 4)
        pick = shapes.random
        made = dict(enumerate(shapes.rule() for _ in range(count)))
        rules = rule_set(list(made.values()))
        for name, change in scenarios(rules, shapes):
            after, failures, spare = 0, 0, rules.copy()
            headers = [shapes.header(list(made.values())) for _ in range(8)]
            while True:
                failing.np_fail(after, every)
                try:
                    ids = rules.update(**change)
                except MemoryError:
                    ids = None
                finally:
                    failed = failing.np_failed()
                    failing.np_fail(-1, 0)
                if ids is not None and not failed:
                    break
                failures += failed > 0
                if ids is not None:
                    # It found another way.
                    assert len(rules) == len(made) + len(change.get("add", ())) - len(change.get("remove", ()))
                    rules = spare.copy()
                if after < 3 or after % 7 == 0:
                    assert rules.rules() == made, (count, name, after)
                    assert answers(stage, rules, headers) == expected(made, headers), (count, name, after)
                after += 1 if after < 25 else pick.randrange(5, 60)
            for id in change.get("remove", ()):
                del made[id]
            made.update(change.get("replace", {}))
            made.update(zip(ids, change.get("add", ()), strict=True))
            assert rules.rules() == made, (count, name)
            assert answers(stage, rules, headers) == expected(made, headers), (count, name)
            total += failures
    assert total > 40
    ran_out = blocks(failing, stage, rule_set, every)
    assert ran_out >= 4, ran_out
    print("all failed once")


if __name__ == "__main__":
    within(int(os.environ[WITHIN]))

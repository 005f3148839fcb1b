"""Generated rule sets: sizes, seeds and the statistics that the docstring promises."""

from __future__ import annotations

import pytest

from bench.rulegen import KINDS, generate
from fastpath.rules import Rule

KIND_VERSIONS = [(kind, version) for kind in KINDS for version in (4, 6)]


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether every header of `narrow` matches `wide`."""
    for one, other in ((wide.source, narrow.source), (wide.destination, narrow.destination)):
        if one is not None and (other is None or not other.subnet_of(one)):  # type: ignore[arg-type]
            return False
    ranges = ((wide.source_ports, narrow.source_ports), (wide.destination_ports, narrow.destination_ports))
    if any(not (low <= low2 and high2 <= high) for (low, high), (low2, high2) in ranges):
        return False
    return wide.protocol in (None, narrow.protocol)


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
def test_a_set_is_as_described(kind: str, version: int) -> None:
    rules = generate(kind, 2000, version=6 if version == 6 else 4, seed=3)
    found = rules.rules()
    assert len(rules) == len({rule.__repr__().partition("source")[2] for rule in found}) == 2000
    assert [rule.priority for rule in found] == list(range(1999, -1, -1))
    assert all(rule.version == version for rule in found)
    assert not any(rule.source is rule.destination is None for rule in found)
    combinations = {(rule.source_ports, rule.destination_ports, rule.protocol) for rule in found}
    assert 50 < len(combinations) < 500
    lengths = {rule.source.prefixlen for rule in found if rule.source}
    assert lengths == {length for length, _ in KINDS[kind].source[rules.version]}
    if kind == "acl":
        assert {rule.source_ports for rule in found} == {(0, 65535)}
    nets = {rule.destination for rule in found}
    nested = sum(
        any(net is not None and net.supernet(new_prefix=length) in nets for length in range(8, net.prefixlen))
        for net in nets if net is not None
    )  # fmt: skip
    assert nested > len(nets) // 20


@pytest.mark.parametrize("kind", KINDS)
def test_no_rule_stands_behind_one_that_covers_it(kind: str) -> None:
    found = generate(kind, 400).rules()
    hidden = [(i, j) for j, rule in enumerate(found) for i in range(j) if covers(found[i], rule)]
    assert hidden == []


def test_the_seed_decides() -> None:
    assert generate("acl", 200, seed=1).records == generate("acl", 200, seed=1).records
    assert generate("acl", 200, seed=1).records != generate("acl", 200, seed=2).records


@pytest.mark.parametrize(("kind", "count"), [("nat", 1000), ("acl", 99), ("acl", 500_001)])
def test_other_kinds_and_sizes_are_refused(kind: str, count: int) -> None:
    with pytest.raises(ValueError, match=r"acl, fw, ipc|are not 100 to"):
        generate(kind, count)

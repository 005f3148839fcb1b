"""policy_shared: keys with the same lines have the same zone, through every change."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dataplane import policy_shared
from dataplane.errors import PolicyFullError
from dataplane.policy_rules import in_zone
from dataplane.policy_shared import SharedZones
from dataplane.policy_tables import Delta, Line, Table
from fastpath.rules import Rule

TCP, UDP, GRE = (Line(Rule(protocol=number)) for number in (6, 17, 47))
LINES = tuple(Line(Rule(protocol=number)) for number in range(5))


class World:
    def __init__(self, **content: tuple[Line, ...]) -> None:
        self.table: Table[None] = Table()
        self.zones: SharedZones[str] = SharedZones(self.table)
        for key, lines in content.items():
            for line in lines:
                self.zones.add(key, line)
        self.first = self.settle()

    def settle(self) -> Delta:
        self.zones.settle()
        return self.table.flush()

    def change(self, keys: str, come: tuple[Line, ...] = (), gone: tuple[Line, ...] = ()) -> Delta:
        for key in keys:
            for line in come:
                self.zones.add(key, line)
            for line in gone:
                self.zones.remove(key, line)
        return self.settle()

    def size(self, change: Delta) -> tuple[int, int]:
        return len(change.add), len(change.remove)


def test_equal_ones_share_and_different_ones_do_not() -> None:
    world = World(a=(TCP, UDP), b=(UDP, TCP), c=(TCP,))
    assert world.zones.of("a") == world.zones.of("b") != world.zones.of("c")
    assert (len(world.zones), world.size(world.first)) == (2, (3, 0))
    assert world.zones.of("nobody") is None


def test_who_is_alone_changes_in_place_and_who_is_not_moves() -> None:
    world = World(a=(TCP, UDP), b=(TCP, UDP), c=(TCP,))
    before = world.zones.of("a"), world.zones.of("c")
    assert world.size(world.change("c", (GRE,))) == (1, 0)
    assert world.zones.of("c") == before[1]
    assert world.size(world.change("a", (GRE,))) == (3, 0)
    assert world.zones.of("b") == before[0] != world.zones.of("a")
    assert world.size(world.change("b", (GRE,))) == (0, 2)
    assert world.zones.of("a") == world.zones.of("b")


def test_who_changes_alike_stays_together_in_place() -> None:
    world = World(a=(TCP, UDP), b=(TCP, UDP), c=(TCP,))
    before = world.zones.of("a")
    assert world.size(world.change("ab", (GRE,), (UDP,))) == (1, 1)
    assert world.zones.of("a") == world.zones.of("b") == before


def test_lines_count_and_what_comes_and_goes_at_once_is_nothing() -> None:
    world = World(a=(TCP, TCP), b=(TCP,))
    assert world.zones.of("a") == world.zones.of("b")
    assert world.change("a", (), (TCP,)) == Delta()
    assert world.change("a", (UDP,), (UDP,)) == Delta()
    assert world.size(world.change("b", (UDP,), (TCP,))) == (1, 0)
    assert world.change("ab", (), ()) == Delta()


def test_numbers_come_back_and_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_shared, "ZONES", 2)
    world = World(a=(TCP,), b=(UDP,))
    with pytest.raises(PolicyFullError):
        World(a=(TCP,), b=(UDP,), c=(GRE,))
    number = world.zones.of("a")
    assert world.size(world.change("a", (), (TCP,))) == (0, 1)
    assert world.zones.of("a") is None
    world.change("c", (GRE,))
    assert world.zones.of("c") == number


def test_lines_whose_hashes_are_equal_in_sum_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_shared, "_DIGEST", 0)
    world = World(a=(TCP,), b=(UDP,), c=(TCP,))
    assert world.zones.of("a") == world.zones.of("c") != world.zones.of("b")
    world.change("b", (TCP,), (UDP,))
    assert (len(world.zones), world.zones.of("b")) == (1, world.zones.of("a"))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_changes_the_table_holds_each_content_once(seed: int) -> None:
    choose = random.Random(seed)
    world, content = World(), {key: Counter[Line]() for key in "abcdef"}
    told: set[Line] = set()
    for _ in range(60):
        for _ in range(choose.randrange(1, 6)):
            key, line = choose.choice("abcdef"), choose.choice(LINES)
            if content[key][line] and choose.random() < 0.5:
                content[key][line] -= 1
                world.zones.remove(key, line)
            else:
                content[key][line] += 1
                world.zones.add(key, line)
        change = world.settle()
        assert not told & set(change.add)
        assert set(change.remove) <= told
        told = (told | set(change.add)) - set(change.remove)
        lines = {key: frozenset(+counts) for key, counts in content.items()}
        zones = {key: world.zones.of(key) for key in content}
        assert len({zones[key] for key in content if lines[key]}) == len({each for each in lines.values() if each})
        wanted = {in_zone(line, number) for key, number in zones.items() if number is not None for line in lines[key]}
        assert told == wanted == set(world.table.lines())
        assert all((zones[key] is None) == (not lines[key]) for key in content)

"""The flow cache at every level: what it answers is what the classifier answers; versions, bounds, floods."""

from __future__ import annotations

import importlib
import inspect
import random
import threading
from array import array
from ipaddress import IPv4Network
from types import ModuleType
from typing import Any

import pytest

from fastpath import _batch_py, _flow_py, _flowtable_py, _hasher_py, _ruleset_py, _select
from fastpath.connections import Ct
from fastpath.flows import CachedFlow
from fastpath.rules import Header, Rule, key
from tests.flow_frames import frames
from tests.rulesets import Shapes
from tests.twins import needs_build, stages

pytestmark = pytest.mark.parametrize("stage", stages("flowcache"))


def plain(stage: ModuleType) -> bool:
    return stage.__name__.endswith("_py")


def rule_set(stage: ModuleType, rules: Any = ()) -> Any:
    if plain(stage):
        return _ruleset_py.RuleSet(rules)
    return importlib.import_module("fastpath._ruleset_c").RuleSet(rules)


def cache_of(stage: ModuleType, capacity: int, seed: int | None = 7, always: bool = True) -> Any:
    table = _flowtable_py if plain(stage) else importlib.import_module("fastpath._flowtable_c")
    return table.FlowCache(capacity, seed=seed, always=always)


def classify(stage: ModuleType) -> ModuleType:
    return importlib.import_module(stage.__name__.replace("flowcache", "classify"))


def batch_of(stage: ModuleType, given: list[bytes]) -> Any:
    made = (_batch_py if plain(stage) else importlib.import_module("fastpath._batch_c")).Batch(len(given))
    made.fill(given)
    (_flow_py if plain(stage) else _select.stage("flow", "baseline")).extract(made)
    return made


def flood(count: int, seed: int = 1) -> bytes:
    chance = random.Random(seed)
    return b"".join(chance.randbytes(12) + b"\x0c\0" + chance.randbytes(2) for _ in range(count))


def host(number: int, **more: Any) -> Header:
    return Header(version=4, source=number, destination=1, protocol=6, destination_port=80, **more)


def ask(stage: ModuleType, cache: Any, rules: Any, *headers: Header, more: Any = None) -> list[int]:
    out = array("i", [-9] * len(headers))
    data = b"".join(map(key, headers))
    assert stage.lookup_keys(cache, rules, data, out, headers[0].version, more) == len(headers)
    return list(out)


@pytest.mark.parametrize("capacity", [1, 60, 5000])
@pytest.mark.parametrize("more", [False, True])
def test_batches_as_the_classifier(stage: ModuleType, capacity: int, more: bool) -> None:
    """Frames of every kind, again and again while the rules change, some rules asking for DSCP and TCP flags."""
    size = 60 if plain(stage) else 700
    chance, four, six = random.Random(capacity), Shapes(1, 4, more=more), Shapes(2, 6, more=more)
    source = frames(chance)
    batch = batch_of(stage, [next(source)[:1900] for _ in range(size)])
    for _ in range(size // 10):
        batch.verdict[chance.randrange(size)] = 1
    rules = rule_set(stage, [four.rule() for _ in range(30)] + [six.rule() for _ in range(30)] + [Rule()])
    cache = cache_of(stage, capacity)
    for i in range(size):
        batch.ct[i] = chance.randrange(64)
    for turn in range(8):
        for zone in (None, 2):
            given: Any = {"direction": turn % 2, "zone": zone, "connections": turn % 3 == 1}
            wanted = classify(stage).lookup(batch, rules, **given), list(batch.rule[:size])
            batch.rule[:size] = array("i", [77] * size)
            found = stage.lookup(batch, cache, rules, **given), list(batch.rule[:size])
            assert found == wanted
        if turn in (3, 5):
            rules.update(add=[four.rule(), six.rule(), Rule(priority=9, dscp=chance.randrange(64))], remove=[turn])
    assert len(cache) <= cache.slots
    if capacity == 5000:
        stats = cache.stats()
        assert stats["hits"] > 0
        assert stats["renewed"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_keys_as_the_classifier(stage: ModuleType, seed: int) -> None:
    version: Any = 4 if seed % 2 else 6
    shapes = Shapes(seed, version, more=seed % 3 == 0)
    count = 40 if plain(stage) else 400
    made = [shapes.rule() for _ in range(50)]
    rules, cache = rule_set(stage, made), cache_of(stage, shapes.random.choice((1, 100, 4000)))
    for _ in range(6):
        known = list(rules.rules().values())
        headers = [shapes.header(known) for _ in range(count)]
        data = b"".join(map(key, headers))
        marks = array("H", [header.dscp << 8 | header.tcp_flags for header in headers])
        for more in (None, marks, marks, None):
            wanted, found = array("i", bytes(4 * count)), array("i", bytes(4 * count))
            classify(stage).lookup_keys(rules, data, wanted, version, more)
            assert stage.lookup_keys(cache, rules, data, found, version, more) == count
            assert found == wanted
        id = shapes.random.choice(list(rules.rules()))
        rules.update(remove=[id], add=[shapes.rule()])


def test_an_answer_is_good_for_its_version(stage: ModuleType) -> None:
    rules, cache = rule_set(stage, [Rule(protocol=6)]), cache_of(stage, 100)
    assert ask(stage, cache, rules, host(1)) == [0]
    assert ask(stage, cache, rules, host(1)) == [0]
    better = rules.add(Rule(priority=5, source=IPv4Network((1, 32))))
    assert ask(stage, cache, rules, host(1), host(2)) == [better, 0]
    rules.remove(better)
    assert ask(stage, cache, rules, host(1)) == [0]
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["inserted"], stats["renewed"], stats["flows"]) == (1, 4, 2, 2, 2)


def test_rule_sets_are_kept_apart(stage: ModuleType) -> None:
    """Eight of them at once; more than that only cost hits."""
    cache = cache_of(stage, 1000)
    sets = [rule_set(stage, [Rule(protocol=17)] * i + [Rule()]) for i in range(12)]
    for some, hits in ((sets[:8], 56), (sets, 0)):
        before = cache.stats()["hits"]
        for turn in range(8):
            assert [ask(stage, cache, rules, host(turn // 8)) for rules in some] == [
                [sets.index(rules)] for rules in some
            ]
        assert cache.stats()["hits"] - before >= hits


def test_what_a_flow_counts(stage: ModuleType) -> None:
    rules, cache = rule_set(stage, [Rule()]), cache_of(stage, 100)
    header = host(0x0A000001, source_port=99, zone=5, direction=1)
    for _ in range(3):
        ask(stage, cache, rules, header)
    assert cache.flows() == [CachedFlow(4, 0x0A000001, 1, 6, 99, 80, 5, 1, 0, 3, 0)]
    six = Header(version=6, source=1 << 127, destination=3, protocol=17, source_port=1, destination_port=2)
    ask(stage, cache, rules, six)
    assert CachedFlow(6, 1 << 127, 3, 17, 1, 2, 0, 0, 0, 1, 0) in cache.flows()
    cache.clear()
    assert (len(cache), cache.flows()) == (0, [])
    udp = bytes(12) + bytes.fromhex("08004500001c00000000401100000a0000010a00000200350036000800ff")
    batch = batch_of(stage, [udp, udp + bytes(8)])
    for _ in range(2):
        assert stage.lookup(batch, cache, rules, zone=9) == 2
    assert cache.flows() == [CachedFlow(4, 0x0A000001, 0x0A000002, 17, 53, 54, 9, 0, 0, 4, 2 * (42 + 50))]


def test_a_flood_stays_within_bounds(stage: ModuleType) -> None:
    rules, cache = rule_set(stage, [Rule()]), cache_of(stage, 50)
    memory, count = cache.memory, 400 if plain(stage) else 20_000
    out = array("i", bytes(4 * count))
    for seed in range(2):
        stage.lookup_keys(cache, rules, flood(count, seed), out)
        assert set(out) == {0}
    assert len(cache) <= cache.slots <= 2 * 50 + 28
    assert cache.memory == memory
    stats = cache.stats()
    assert stats["inserted"] - stats["evicted"] == stats["flows"] == len(cache)
    assert stats["refused"] > stats["evicted"] > 0


def test_flows_that_come_again_outlive_those_that_come_once(stage: ModuleType) -> None:
    rules, cache = rule_set(stage, [Rule()]), cache_of(stage, 280)
    regular, out = flood(140, 5), array("i", bytes(4 * 140))
    for turn in range(30):
        if turn == 29:
            before = cache.stats()["hits"]
        stage.lookup_keys(cache, rules, regular, out)
        if turn < 29:
            stage.lookup_keys(cache, rules, flood(100, 100 + turn), array("i", bytes(400)))
    assert cache.stats()["hits"] - before > 126


@needs_build
def test_flows_chosen_to_collide(stage: ModuleType) -> None:
    """Who knows the seed can make all flows meet in one bucket; without it they spread. Every level hashes alike."""
    if plain(stage):
        pytest.skip("a dictionary has no buckets")
    hasher, mask, buckets = _hasher_py.Hasher(99), (1 << 64) - 1, 143
    k = hasher.keys

    def place(data: bytes) -> int:
        w = [int.from_bytes(data[i : i + 4], "little") for i in range(0, 16, 4)]
        total = hasher.odd + (k[10] * k[11])
        total += ((w[0] + k[0]) % 2**32) * ((w[1] + k[1]) % 2**32) + ((w[2] + k[2]) % 2**32) * ((w[3] + k[3]) % 2**32)
        total &= mask
        return ((total ^ total >> 32) * hasher.odd & mask) >> 32

    data = flood(20_000)
    chosen = [data[i : i + 16] for i in range(0, len(data), 16) if place(data[i : i + 16]) * buckets >> 32 == 17]
    assert len(chosen) > 100
    rules, keys, out = rule_set(stage, [Rule()]), b"".join(chosen), array("i", bytes(4 * len(chosen)))
    held = {}
    for seed in (99, 98, None):
        cache = cache_of(stage, 2000, seed)
        assert cache.slots == 28 * buckets
        stage.lookup_keys(cache, rules, keys, out)
        held[seed] = len(cache)
    assert held[99] == 28
    assert held[98] == held[None] == len(chosen)


@needs_build
def test_answers_while_the_rules_change(stage: ModuleType) -> None:
    """A reader gets the answer of a version that was there during its call, never an older one."""
    if plain(stage):
        pytest.skip("the plain twin is for one thread")
    rules, cache = rule_set(stage, [Rule()] * 40), cache_of(stage, 1000)
    keys, out, done = flood(64), array("i", bytes(256)), threading.Event()
    wrong: list[tuple[int, set[int], int]] = []
    # Versions up to `ended` are over: rule 0 to ended - 1 are removed, in that order.
    ended = 0

    def read() -> None:
        while not done.is_set():
            before = ended
            stage.lookup_keys(cache, rules, keys, out)
            if not set(out) <= set(range(before, ended + 2)):
                wrong.append((before, set(out), ended))

    reader = threading.Thread(target=read)
    reader.start()
    for id in range(20):
        rules.remove(id)
        ended = id + 1
        seen = cache.stats()["hits"]
        while cache.stats()["hits"] == seen and reader.is_alive():
            pass
    done.set()
    reader.join()
    assert not wrong


def test_a_cache_that_does_not_pay_rests(stage: ModuleType) -> None:
    """Flows that never come again: it is tried, given up, and tried again later; answers are right throughout."""
    rules, cache = rule_set(stage, [Rule()]), cache_of(stage, 5000, always=False)
    assert cache.stats()["state"] == "trying"
    count = 4 if plain(stage) else 512
    out = array("i", [-9] * count)
    for turn in range(3000):
        stage.lookup_keys(cache, rules, flood(count, turn), out)
        assert set(out) == {0}
        if cache.stats()["state"] == "resting":
            break
    assert cache.stats()["state"] == "resting"
    assert not cache.serving
    flows = len(cache)
    assert ask(stage, cache, rules, host(1 << 31)) == [0]
    assert len(cache) == flows
    assert cache.stats()["direct"] > 0


def test_past_the_cache_it_is_also_about_who_began(stage: ModuleType) -> None:
    rules = rule_set(stage, [Rule(direction=1)])
    batch = batch_of(stage, [next(common) for common in [frames(random.Random(3))] for _ in range(4)])
    batch.ct[:4] = array("I", [Ct.ESTABLISHED | Ct.REPLY] * 4)
    cache = cache_of(stage, 100, always=False)
    seen = set()
    for _ in range(3000):
        stage.lookup(batch, cache, rules)
        seen.add((tuple(batch.rule[:4]), False))
        stage.lookup(batch, cache, rules, connections=True)
        seen.add((tuple(batch.rule[:4]), True))
        if cache.stats()["direct"]:
            break
    assert cache.stats()["direct"]
    assert {rule for found, about in seen for rule in found if not about} == {-1}
    assert {tuple(rule >= 0 for rule in found) for found, about in seen if about} == {
        tuple(batch.key[i, 37] in (4, 6) for i in range(4))
    }


def test_arguments(stage: ModuleType) -> None:
    rules, cache, out = rule_set(stage, [Rule()]), cache_of(stage, 10), array("i", [0, 0])
    batch = batch_of(stage, [bytes(60)])
    for call, message in (
        (lambda: stage.lookup(batch, cache, rules, direction=2), "direction"),
        (lambda: stage.lookup(batch, cache, rules, zone=1 << 15), "zone"),
        (lambda: stage.lookup_keys(cache, rules, b"", out, 5), "version"),
        (lambda: stage.lookup_keys(cache, rules, bytes(17), out), "keys: 17 bytes"),
        (lambda: stage.lookup_keys(cache, rules, bytes(48), out), "out: 3 keys"),
        (lambda: stage.lookup_keys(cache, rules, bytes(32), out, 4, bytes(3)), "more: 2 keys"),
        (lambda: cache_of(stage, 0), "capacity"),
        (lambda: cache_of(stage, 1, 1 << 64), "seed"),
    ):
        with pytest.raises(ValueError, match=message):
            call()  # type: ignore[no-untyped-call]
    assert stage.lookup_keys(cache, rules, b"", array("i")) == 0
    assert ask(stage, cache, rules, host(1)) == [0]


def test_governor(stage: ModuleType) -> None:
    """What it decides, from costs that are given; both twins alike."""
    table = _flowtable_py if plain(stage) else importlib.import_module("fastpath._flowtable_c")

    def run(governor: Any, calls: int, cached: float, direct: float, hits: int = 90) -> int:
        past = 0
        for _ in range(calls):
            aside = governor.direct()
            past += aside
            governor.record(aside, 100, 0 if aside else hits, 100 * (direct if aside else cached))
        return past

    pays = table.Governor()
    assert run(pays, 69, 5.0, 9.0) == 4
    assert (pays.state, pays.costs) == ("serving", (5.0, 9.0))
    assert run(pays, 1024, 5.0, 9.0) == 4
    # Now the rules are cheaper than the cache; the samples of direct calls are renewed first.
    run(pays, 256 * 8, 5.0, 3.0)
    assert pays.state == "resting"
    # Nearly as dear is not worth it; a rest is longer each time.
    never = table.Governor()
    rests = []
    for _ in range(7):
        while never.state == "trying":
            run(never, 1, 8.8, 9.0)
        rests.append(0)
        while never.state == "resting":
            rests[-1] += run(never, 1, 8.8, 9.0)
    assert rests == [256, 512, 1024, 2048, 4096, 8192, 8192]
    # While the hit rate rises it is only warming up.
    warming = table.Governor()
    for hits in range(0, 90, 10):
        run(warming, 35, 20.0 - hits / 5, 9.0, hits)
    assert warming.state == "trying"
    run(warming, 100, 2.0, 9.0, 90)
    assert warming.state == "serving"
    warming.record(False, 0, 0, 1.0)
    # Three calls that something else disturbed change nothing.
    for turn in range(1280):
        governor_direct = warming.direct()
        warming.record(governor_direct, 1, 1, 9.0 if governor_direct else 1000.0 if turn % 16 == 0 else 2.0)
    assert warming.state == "serving"


def test_same_signatures(stage: ModuleType) -> None:
    from fastpath import _flowcache_py

    for name in ("lookup", "lookup_keys"):
        wanted = list(inspect.signature(getattr(_flowcache_py, name)).parameters)
        text = getattr(stage, name)
        try:
            assert list(inspect.signature(text).parameters) == wanted
        except ValueError:
            continue

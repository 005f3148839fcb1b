"""Lookups beside a writer: every lookup sees the rules of one version that was alive while it ran, whole."""

from __future__ import annotations

import importlib
import os
import random
import threading
import time
from array import array
from ipaddress import IPv4Network, IPv6Network
from types import ModuleType
from typing import Any, Final

import pytest

from fastpath import five_tuple
from fastpath.rules import Header, Rule, key, matches
from tests import rulesets
from tests.frames import ethernet, ip, tcp
from tests.twins import BATCH_C, needs_build, stages

SECONDS = float(os.environ.get("NODEPLANE_FUZZ_SECONDS", "0"))
"""Of each test that may take long: `make threads SECONDS=180`, or 180 for the readers of every level."""
HOT: Final = 40
REPEATS: Final = 64
SAMPLES: Final = 4000


class Scene:
    """Rules of which some come and go, headers that they compete for, and what is right in every version."""

    def __init__(self, seed: int, version: int, more: bool) -> None:
        """`more`: some rules ask for TCP flags or DSCP, so that there is a list of them, too."""
        self.random = random.Random(seed)
        self.version = version
        bits = 32 if version == 4 else 128
        net = IPv4Network if version == 4 else IPv6Network
        base = 10 << (bits - 8)
        background = [Rule(priority=1, source=net((base + i, bits))) for i in range(1400)]
        # Lengths that live in rows and in several tables; priorities are all different.
        self.hot: list[Rule] = []
        for i in range(HOT):
            lengths = [self.random.choice((0, 8, 16, 24, bits)) for _ in range(2)]
            nets = [net((base >> (bits - n) << (bits - n), n)) if n else None for n in lengths]
            protocol = self.random.choice((None, 6, 17))
            self.hot.append(
                Rule(
                    priority=1000 - i,
                    source=nets[0],
                    destination=nets[1],
                    protocol=protocol,
                    destination_ports=self.random.choice(((0, 65535), (80, 80), (1, 1024))),
                    tcp_flags=(2, 0x12) if more and protocol == 6 and i % 2 else (0, 0),
                    dscp=46 if more and i % 5 == 0 else None,
                )
            )
        self.headers = [
            Header(
                version=4 if version == 4 else 6,
                source=base + self.random.choice((0, 1, 256, 65536)),
                destination=base + self.random.choice((0, 1, 256, 65536)),
                protocol=self.random.choice((6, 17)),
                destination_port=self.random.choice((80, 443)),
                tcp_flags=self.random.choice((0x02, 0x12)) if more else 0,
                dscp=self.random.choice((0, 46)) if more else 0,
            )
            for _ in range(24)
        ]
        self.more = array("H", [header.dscp << 8 | header.tcp_flags for header in self.headers] * REPEATS)
        self.matching = [[i for i, rule in enumerate(self.hot) if matches(rule, header)] for header in self.headers]
        self.keys = b"".join(map(key, self.headers)) * REPEATS
        self.rules: Any = importlib.import_module("fastpath._ruleset_c").RuleSet(background)
        self.under = [header.source - base if header.source - base < 1400 else -1 for header in self.headers]
        self.ids: dict[int, int] = {}
        self.log = [b"", self._right()]
        # All of them live in the rows at first: they leave their places and come again.
        self.ids.update(enumerate(self.rules.update(add=self.hot)))
        self.log.append(self._right())
        self.rules.compact()

    def change(self) -> None:
        """One transaction: some of the hot rules go, some come."""
        some = self.random.sample(range(HOT), self.random.choice((1, 1, 1, 1, 2, 5)))
        gone = [i for i in some if i in self.ids]
        come = [i for i in some if i not in self.ids]
        remove = [self.ids.pop(i) for i in gone]
        # What is right is known before anybody can see it, but for the ids: those are handed out last in, first out.
        ids = self.rules.update(remove=remove, add=[self.hot[i] for i in come])
        self.ids.update(zip(come, ids, strict=True))
        self.log.append(self._right())

    def _right(self) -> bytes:
        answers = (
            next((self.ids[i] for i in matching if i in self.ids), under)
            for matching, under in zip(self.matching, self.under, strict=True)
        )
        return array("i", answers).tobytes()


def read(scene: Scene, stage: ModuleType, done: threading.Event, seen: list[tuple[int, int, bytes]]) -> None:
    """Look the headers up again and again; keep the answers and the versions that they may be of."""
    out = array("i", bytes(4 * len(scene.headers) * REPEATS))
    while not done.is_set():
        before = scene.rules.version
        stage.lookup_keys(scene.rules, scene.keys, out, version=scene.version, more=scene.more)
        # A version is counted just after it is published.
        seen.append((before, scene.rules.version + 1, out.tobytes()))
        if len(seen) >= SAMPLES:
            return


def read_cached(scene: Scene, stage: ModuleType, done: threading.Event, seen: list[tuple[int, int, bytes]]) -> None:
    """The same through a flow cache of one's own, too small for all flows of a call."""
    cache = importlib.import_module("fastpath._flowtable_c").FlowCache(16, always=True)
    out = array("i", bytes(4 * len(scene.headers) * REPEATS))
    while not done.is_set() and len(seen) < SAMPLES:
        before = scene.rules.version
        stage.lookup_keys(cache, scene.rules, scene.keys, out, version=scene.version, more=scene.more)
        seen.append((before, scene.rules.version + 1, out.tobytes()))


def compact(scene: Scene, done: threading.Event) -> None:
    """Build anew beside the changes."""
    while not done.wait(0.002):
        scene.rules.compact()


def check(scene: Scene, samples: list[tuple[int, int, bytes]]) -> None:
    for first, last, answers in samples:
        assert any(answers == right * REPEATS for right in scene.log[first : last + 1]), (first, last)


def check_each(scene: Scene, samples: list[tuple[int, int, bytes]]) -> None:
    """A call through a cache may give answers of several versions: every key's is of one that was alive."""
    for first, last, answers in samples:
        alive = [array("i", right) for right in scene.log[first : last + 1]]
        given = array("i", answers)
        for i in range(len(scene.headers)):
            assert set(given[i :: len(scene.headers)]) <= {right[i] for right in alive}, (first, last, i)


def run(stage: ModuleType, seed: int, version: int, more: bool, changes: int, readers: int) -> None:
    cached = "flowcache" in stage.__name__
    scene, done = Scene(seed, version, more), threading.Event()
    seen: list[list[tuple[int, int, bytes]]] = [[] for _ in range(readers)]
    target = read_cached if cached else read
    threads = [threading.Thread(target=target, args=(scene, stage, done, samples)) for samples in seen]
    builder = threading.Thread(target=compact, args=(scene, done))
    for thread in (*threads, builder):
        thread.start()
    try:
        for _ in range(changes):
            scene.change()
        while any(thread.is_alive() and not samples for thread, samples in zip(threads, seen, strict=True)):
            time.sleep(0.001)
    finally:
        done.set()
        for thread in (*threads, builder):
            thread.join()
    for samples in seen:
        (check_each if cached else check)(scene, samples)


@needs_build
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("stage", stages("classify")[1:])
def test_every_lookup_sees_one_version(stage: ModuleType, version: int, more: bool) -> None:
    run(stage, 3, version, more, 400, 2)


@needs_build
@pytest.mark.parametrize("broad", [True, False])
@pytest.mark.parametrize("stage", stages("classify")[1:])
def test_a_batch_of_both_ip_versions_sees_one_version_of_the_rules(stage: ModuleType, broad: bool) -> None:
    """Each transaction adds or removes a rule for IPv4 and one for IPv6: both win, or neither."""
    kinds: list[tuple[int, bytes, Any]] = [
        (0x0800, ip(4, 6, tcp(4, b"", flags=2)), IPv4Network),
        (0x86DD, ip(6, 6, tcp(6, b"", flags=2)), IPv6Network),
    ]
    frames = [ethernet(kind) + packet for kind, packet, _ in kinds]
    batch = BATCH_C.Batch(2048, slot=256)  # type: ignore[union-attr]
    batch.fill(frames * 1024)
    importlib.import_module("fastpath._flow_c").extract(batch)
    sources = [five_tuple(frame)[0] for frame in frames]  # type: ignore[index]
    pair = [
        Rule(priority=5, version=4 if net is IPv4Network else 6, source=None if broad else net(source))
        for source, (_, _, net) in zip(sources, kinds, strict=True)
    ]
    # Enough others that narrow rules live in tables.
    others = [
        Rule(priority=9, source=net((i << bits, 32))) for net, bits in ((IPv4Network, 0), (IPv6Network, 96))
        for i in range(1, 1400)
    ]  # fmt: skip
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet(others)
    done, seen = threading.Event(), set()

    def look_up() -> None:
        while not done.is_set():
            stage.lookup(batch, rules)
            seen.add((frozenset(batch.rule[0:2048:2]), frozenset(batch.rule[1:2048:2])))

    reader = threading.Thread(target=look_up)
    reader.start()
    try:
        for _ in range(6000):
            rules.update(remove=rules.update(add=pair))
    finally:
        done.set()
        reader.join()
    for four, six in seen:
        assert len(four) == len(six) == 1
        assert (four == {-1}) == (six == {-1})


@needs_build
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("stage", stages("flowcache")[1:])
def test_every_answer_of_a_cache_is_of_a_version_alive(stage: ModuleType, version: int, more: bool) -> None:
    run(stage, 4, version, more, 100, 2)


@needs_build
@pytest.mark.skipif(not SECONDS, reason="for NODEPLANE_FUZZ_SECONDS")
@pytest.mark.parametrize("stage", [*stages("classify")[1:], *stages("flowcache")[1:]])
def test_for_long(stage: ModuleType) -> None:
    end, seed = time.monotonic() + SECONDS, 100
    while time.monotonic() < end:
        run(stage, seed, 4 if seed % 2 else 6, seed % 3 == 0, 3000 if "classify" in stage.__name__ else 600, 3)
        seed += 1


@needs_build
def test_a_set_that_many_changes_made_slower_is_built_anew() -> None:
    rule_set = importlib.import_module("fastpath._ruleset_c").RuleSet
    made = [Rule(priority=i, source=IPv4Network((i << 8, 32))) for i in range(1200)]
    left_alone, tended = rule_set(made, background=False), rule_set(made)
    for turn in range(400):
        for rules in (left_alone, tended):
            rules.replace(turn, Rule(priority=turn, destination=IPv4Network((turn << 8, 32))))
    assert left_alone.stats()["ipv4"]["since_build"] == 400
    while tended.stats()["ipv4"]["since_build"] >= 300:
        time.sleep(0.001)
    assert tended.rules() == left_alone.rules()
    assert tended.version == left_alone.version == 401


@needs_build
def test_rules_of_a_table_that_return_are_nothing_to_build_anew_for() -> None:
    rule_set = importlib.import_module("fastpath._ruleset_c").RuleSet
    made = [Rule(priority=i, source=IPv4Network((i << 8, 32))) for i in range(3000)]
    rules = rule_set(made, background=False)
    ids = list(range(1000, 1200))
    for _ in range(5):
        rules.update(remove=ids)
        assert rules.stats()["ipv4"]["since_build"] == 200
        ids = list(rules.update(add=made[1000:1200]))
        assert rules.stats()["ipv4"]["since_build"] == 0
    rules.update(replace={ids[0]: made[0], ids[1]: made[1]})
    assert rules.stats()["ipv4"]["since_build"] == 0
    # More than there were is growth, which a directory was not made for.
    rules.update(add=made[:100])
    assert rules.stats()["ipv4"]["since_build"] == 100


@needs_build
def test_rules_of_long_buckets_return_to_them() -> None:
    """Two hundred rules of each network: no mask tells them apart, so some tables have long buckets."""
    made = [
        Rule(priority=port * 100 + i, source=IPv4Network((i << 16, 24)), destination_ports=(port, port + 999))
        for i in range(100) for port in range(200)
    ]  # fmt: skip
    rules = importlib.import_module("fastpath._ruleset_c").RuleSet(made, background=False)
    ids = list(range(0, 20000, 7))
    for _ in range(3):
        rules.update(remove=ids)
        ids = list(rules.update(add=made[::7]))
    said = rules.stats()["ipv4"]
    # A few take the place of another one. Of 17,148 changes.
    assert said["since_build"] < 600
    assert said["waiting"] == 0


@needs_build
def test_places_of_readers_are_given_back() -> None:
    """A set has places for 64 lookups at once; none is left taken."""
    stage = importlib.import_module("fastpath._classify_c")
    rules: Any = importlib.import_module("fastpath._ruleset_c").RuleSet([Rule()])
    out = array("i", [0])
    for _ in range(200):
        with pytest.raises(ValueError, match="keys"):
            stage.lookup_keys(rules, bytes(15), out)
        assert stage.lookup_keys(rules, key(Header(4, 1, 2, 6)), out) == 1


@needs_build
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_what_changes_while_a_set_is_built_anew_is_in_it(seed: int) -> None:
    """Rules come, go and are replaced under the ids and in the order that the plain twin says, and so are looked up."""
    shapes, done = rulesets.Shapes(seed, 6 if seed == 2 else 4, more=seed == 5), threading.Event()
    pick = shapes.random
    first = [shapes.rule() for _ in range(1500)]
    stage = importlib.import_module("fastpath._classify_c")
    rules: Any = importlib.import_module("fastpath._ruleset_c").RuleSet(first, background=False)
    plain = importlib.import_module("fastpath._ruleset_py").RuleSet(first)
    compactions = 0

    def build() -> None:
        nonlocal compactions
        while not done.is_set():
            rules.compact()
            compactions += 1

    builder = threading.Thread(target=build)
    builder.start()
    try:
        turn = 0
        while turn < 60 or compactions < 4:
            live = list(plain.rules())
            size = pick.choice((1, 2, 30, 700))
            some = pick.sample(live, min(size, len(live)))
            gone, changed = some[::2], dict.fromkeys(some[1 : size // 4 : 2], shapes.rule())
            fresh = [pick.choice(first) for _ in range(len(gone) + pick.choice((-1, 0, 0, 1)))]
            assert rules.update(fresh, gone, changed) == plain.update(fresh, gone, changed)
            turn += 1
            if turn % 10 == 0:
                assert list(rules.rules().items()) == list(plain.rules().items())
    finally:
        done.set()
        builder.join()
    made = plain.rules()
    assert list(rules.rules().items()) == list(made.items())
    assert rules.version == plain.version
    headers = [shapes.header(list(made.values())) for _ in range(40)]
    expected = rulesets.expected(made, headers, more=shapes.more)
    assert rulesets.answers(stage, rules, headers, more=shapes.more) == expected

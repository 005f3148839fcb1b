"""Changes of a rule set, alone and beside lookups: how many, what they cost the lookups, and how long one waits."""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import statistics
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.classify import renewal, scan
from bench.classify.files import NONE, Rules, Trace
from bench.classify.lookups import Engine
from bench.context import Context
from bench.cores import pinned
from bench.distance import round_trip
from bench.percentile import percentile
from bench.results import OURS
from fastpath.rules import PACKED

SHARE: Final = 10
"""One rule in so many is removed and added again."""
TRANSACTIONS: Final = (1, 100, 1000)
RATE: Final = 1_000_000
"""Changes a second of the limited writer, if --updates does not say another."""
REPEATS: Final = 3
SECONDS: Final = 0.2
STALL_BATCH: Final = 256
CHECKED: Final = 16
"""One pass in so many is checked while it is timed."""
WRITER_TARGET, KEPT_TARGET = 1e6, 0.70
METHOD: Final = (
    f"Updates: a thread on another core removes one rule in {SHARE} and adds it again, over and over, in transactions "
    f"of 1, 100 and 1,000 rules, or at a limited rate, {RATE:,}/s unless --updates says another; every rule removed or "
    "added is one update. Fresh: the rules come back with other addresses each time (the last "
    f"{renewal.BITS} bits of each prefix; making them is not counted), else as they were. Beside them a thread "
    "looks the whole trace up, a call for all of it: two threads of Python hand the interpreter's lock over at every "
    "call, and that is not the question. Kept: the rate of the median call beside the writer over that without one; "
    "control: the same writer on another rule set, which takes the same of both cores and of the interpreter. "
    "Distance: what a word takes from one core to the other and back, just before; a virtual machine's host moves its "
    "cores, and all that the writer writes and the lookups read goes that way.",
    f"Stalls: what a call of {STALL_BATCH} headers takes, from Python, so the handing over is in it. Controls: no "
    "writer, and one on another rule set.",
)


class Writer:
    """Removes and adds some of the rules of a set until it is told to stop; all are there again then.

    With `fresh` each comes back with other addresses.
    """

    def __init__(
        self, rules: Any, source: Rules, chosen: list[int], transaction: int, rate: float | None = None,
        *, fresh: bool = False,
    ) -> None:  # fmt: skip
        self.rules = rules
        self.source = source
        self.rate = rate
        self.fresh = fresh
        size, data = PACKED.size, source.records
        self.positions = [chosen[at : at + transaction] for at in range(0, len(chosen), transaction)]
        self.ids = [array("I", block) for block in self.positions]
        self.records = [b"".join(data[size * i : size * (i + 1)] for i in block) for block in self.positions]
        self.masks = [renewal.changing(block) if fresh else b"" for block in self.records]
        self.changes = 0
        self.seconds = 0.0
        self._preparing = 0.0
        self._chance = random.Random(f"fresh {transaction}")
        self.error: BaseException | None = None
        self._stop = threading.Event()

    @contextmanager
    def running(self, cores: frozenset[int]) -> Iterator[None]:
        """Work on `cores` meanwhile. What goes wrong is raised at the end."""
        thread = threading.Thread(target=self._run, args=(cores,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if self.error is not None:
            raise self.error

    def _run(self, cores: frozenset[int]) -> None:
        os.sched_setaffinity(0, cores)
        try:
            began = time.perf_counter()
            self._work(began)
            self.seconds = time.perf_counter() - began - self._preparing
        except BaseException as error:
            self.error = error

    def _work(self, began: float) -> None:
        update, stop = self.rules.update, self._stop.is_set
        while True:
            for block in range(len(self.records)):
                if stop():
                    return
                if self.fresh:
                    self._renew(block)
                removed = self.ids[block]
                update(remove=removed)
                self.ids[block] = update(add=self.records[block])
                self.changes += 2 * len(removed)
                if self.rate is not None:
                    late = began + self.changes / self.rate - time.perf_counter()
                    if late > 0:
                        time.sleep(late)

    def _renew(self, block: int) -> None:
        since = time.perf_counter()
        self.records[block] = renewal.renewed(self.records[block], self.masks[block], self._chance)
        self._preparing += time.perf_counter() - since

    def go_on_from(self, other: Writer) -> None:
        """Begin with the ids and records that another writer of the same rules has left."""
        self.ids, self.records = other.ids, other.records

    def left(self) -> Rules:
        """All rules as they are now."""
        records, size = bytearray(self.source.records), PACKED.size
        for block, data in zip(self.positions, self.records, strict=True):
            for number, i in enumerate(block):
                records[size * i : size * (i + 1)] = data[size * number : size * (number + 1)]
        return dataclasses.replace(self.source, records=bytes(records))

    def positions_by_id(self) -> dict[int, int]:
        """Which position the rules have that were removed and added."""
        return {
            id: position
            for ids, block in zip(self.ids, self.positions, strict=True)
            for id, position in zip(ids, block, strict=True)
        }


class Reader:
    """Looks a trace up, again and again, and checks the answers that no change can alter."""

    def __init__(self, engine: Engine, rules: Rules, trace: Trace, wanted: array[int], chosen: list[int],
                 touched: array[int] | None = None) -> None:  # fmt: skip
        moving = set(chosen)
        self.steady = array("i", (scan.ANY if rule in moving else rule for rule in wanted))
        if touched is not None:
            # Who comes with other addresses may win where it did not.
            self.steady = array("i", (
                right if other == NONE else scan.ANY for right, other in zip(self.steady, touched, strict=True)
            ))  # fmt: skip
        self.engine = engine
        self.rules = rules
        self.trace = trace
        self.wanted = wanted

    def rate(self, seconds: float) -> float:
        """Lookups a second of the median call, which is for the whole trace."""
        once, out = self.engine.calls(self.trace, len(self.trace))
        clock = time.perf_counter_ns
        took: list[int] = []
        ends = clock() + int(seconds * 1e9)
        while clock() < ends or not took:
            began = clock()
            once()
            took.append(clock() - began)
            if len(took) % CHECKED == 1:
                scan.compare(self.engine.name, self.rules, self.trace, out, self.steady)
        return len(self.trace) * 1e9 / statistics.median(took)

    def stalls(self, seconds: float) -> tuple[float, float]:
        """Microseconds of the 99.9th percentile and of the longest call."""
        keys, size = memoryview(self.trace.keys), self.trace.size
        out = array("i", bytes(4 * STALL_BATCH))
        pieces = [keys[at : at + STALL_BATCH * size] for at in range(0, len(keys), STALL_BATCH * size)]
        lookup_keys, rules = self.engine.level.function("classify", "lookup_keys"), self.engine.rules
        clock, version, took = time.perf_counter_ns, self.trace.version, []
        ends = clock() + int(seconds * 1e9)
        while clock() < ends:
            for piece in pieces:
                began = clock()
                lookup_keys(rules, piece, out, version)
                took.append(clock() - began)
        return percentile(took, 99.9) / 1e3, max(took) / 1e3

    def check(self, writer: Writer) -> None:
        """Every answer, once the writer is done."""
        positions = writer.positions_by_id()
        wanted = scan.answers(writer.left(), self.trace) if writer.fresh else self.wanted
        once, out = self.engine.calls(self.trace, 1024)
        once()
        found = array("i", (positions.get(id, id) if id != NONE else id for id in out))
        scan.compare(f"{self.engine.name} after updates", self.rules, self.trace, found, wanted)


def chosen(rules: Rules, seed: int) -> list[int]:
    """Positions of the rules that come and go."""
    return random.Random(f"updates {seed}").sample(range(len(rules)), max(1, len(rules) // SHARE))


def run(bench: Context, rules: Rules, trace: Trace, wanted: array[int], build: Callable[[bytes], Any],
        engine: Engine, targets: bool) -> None:  # fmt: skip
    """Measure one set; `build` makes rule sets, `engine` says the level."""
    for text in METHOD:
        bench.method(text)
    some = chosen(rules, bench.options.seed)
    for kind in _kinds(bench.options.updates or RATE, len(some)):
        touched = _touched(rules, trace, some) if kind.fresh else None
        for _ in range(min(REPEATS, bench.repeats(REPEATS))):
            mine, other = build(rules.records), build(rules.records)
            reader = Reader(Engine(engine.level, mine), rules, trace, wanted, some, touched)
            writer = functools.partial(Writer, source=rules, chosen=some, transaction=kind.size, rate=kind.rate,
                                       fresh=kind.fresh)  # fmt: skip
            _round(bench, reader, writer, other, kind, targets)
    bench.verified(
        "Beside a writer: answers that no change can alter, and all of them after it, against the linear check."
    )


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way of working of the writer."""

    name: str
    size: int
    """Rules of a transaction."""
    rate: float | None
    """Changes a second; None: as many as it can."""
    fresh: bool
    target: bool
    """Whether the targets are about it, that of the updates only where it is not limited."""


def _kinds(rate: int, moving: int) -> list[Kind]:
    """Each size of transactions, then a limited rate; the greatest and the limited one with fresh rules as well."""
    sizes = [count for count in TRANSACTIONS if count <= moving] or [moving]
    limited = max(1, min(100, rate // 1000, moving))
    kinds = [Kind(f"by {count:,}", count, None, False, count == sizes[-1]) for count in sizes]
    kinds.append(Kind(f"{rate:,}/s", limited, float(rate), False, rate == RATE))
    kinds.append(Kind(f"by {sizes[-1]:,}, fresh", sizes[-1], None, True, False))
    kinds.append(Kind(f"{rate:,}/s, fresh", limited, float(rate), True, False))
    return kinds


def _touched(rules: Rules, trace: Trace, some: list[int]) -> array[int]:
    """Of every header, whether any form of the rules that come and go matches it: NONE if not."""
    size = PACKED.size
    records = b"".join(rules.records[size * i : size * (i + 1)] for i in sorted(some))
    return scan.answers(dataclasses.replace(rules, records=renewal.envelope(records)), trace)


def _round(bench: Context, reader: Reader, writer: Callable[[Any], Writer], other: Any, kind: Kind,
           targets: bool) -> None:  # fmt: skip
    seconds, variant = bench.seconds(SECONDS), f"{reader.rules.name}, {kind.name}"
    cores = bench.cores
    with pinned(cores.server):
        alone = reader.rate(seconds)
        quiet = reader.stalls(seconds)
        elsewhere = writer(other)
        with elsewhere.running(cores.load):
            control = reader.rate(seconds)
            busy = reader.stalls(seconds)
        mine = writer(reader.engine.rules)
        distance = round_trip(cores)
        with mine.running(cores.load):
            beside = reader.rate(seconds)
        changes = mine.changes / mine.seconds
        reader.check(mine)
        last = writer(reader.engine.rules)
        last.go_on_from(mine)
        with last.running(cores.load):
            stalled = reader.stalls(seconds)
        reader.check(last)
    unlimited = kind.rate is None
    if unlimited:
        solo = writer(other)
        solo.go_on_from(elsewhere)
        with solo.running(cores.load):
            time.sleep(seconds)
        bench.record("updates alone", solo.changes / solo.seconds, "/s", variant=variant, better="higher")
    bench.record("updates beside lookups", changes, "/s", variant=variant, better="higher",
                 target=WRITER_TARGET if targets and kind.target and unlimited else None)  # fmt: skip
    bench.record("lookups kept", beside / alone, "x", subject=OURS, variant=variant, better="higher",
                 target=KEPT_TARGET if targets and kind.target else None)  # fmt: skip
    bench.record("lookups kept, control", control / alone, "x", variant=variant, better="higher")
    if distance is not None:
        bench.record("distance of the cores", distance, "ns", variant=variant)
    for name, (most, longest) in (("", stalled), (", no writer", quiet), (", other set", busy)):
        bench.record(f"p99.9 call{name}", most, "us", variant=variant, better="lower")
        bench.record(f"longest call{name}", longest, "us", variant=variant, better="lower")

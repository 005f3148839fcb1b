"""Counters, gauges and histograms of the daemon: plain numbers, cheap to change on the event loop.

The text is made of a snapshot by `metrics_text.render`, in another thread. Parts with counters of their own (the DHCP
core, the metadata server) register a reader that copies them into a `Sink` when somebody asks.
"""

from __future__ import annotations

import bisect
import gc
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dataplane import __version__
from dataplane.metrics_catalogue import FAMILIES, Family, Labels

# Chosen: from a metadata answer out of memory (20 us) to a guest that has lost patience.
LATENCY = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)

_BY_NAME = {family.name: family for family in FAMILIES}


class Counter:
    """A number that grows, per combination of label values."""

    def __init__(self, labels: int = 0) -> None:
        self.values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Count `amount` more; one value per label of the family."""
        self.values[labels] = self.values.get(labels, 0.0) + amount


class Gauge:
    """A number that goes up and down, per combination of label values."""

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """Set the current value."""
        self.values[labels] = value


class Histogram:
    """How often a duration fell into which bucket, per combination of label values."""

    def __init__(self, bounds: Sequence[float] = LATENCY) -> None:
        self.bounds = tuple(bounds)
        self.values: dict[Labels, list[float]] = {}
        """Observations per bucket, those above the last bound, then the sum of all of them in seconds."""

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one observation."""
        row = self._row(labels)
        row[bisect.bisect_left(self.bounds, seconds)] += 1
        row[-1] += seconds

    def observer(self, *labels: str) -> Callable[[float], None]:
        """`observe` for these labels alone, quicker; the series is there from now on."""
        row, bounds, find, least = self._row(labels), self.bounds, bisect.bisect_left, self.bounds[0]

        def observe(seconds: float) -> None:
            row[0 if seconds <= least else find(bounds, seconds)] += 1
            row[-1] += seconds

        return observe

    def _row(self, labels: Labels) -> list[float]:
        row = self.values.get(labels)
        if row is None:
            row = self.values[labels] = [0.0] * (len(self.bounds) + 2)
        return row


class Sink:
    """Takes what readers copy; values of the same series are summed."""

    def __init__(self, per_network: bool) -> None:
        self._per_network = per_network
        self.values: dict[str, dict[Labels, float]] = {}

    def add(self, name: str, value: float, *labels: str, network: str = "") -> None:
        """Add to a counter or gauge of FAMILIES; `network` is left out unless series per network are configured."""
        if self._per_network and _BY_NAME[name].per_network:
            labels = (*labels, network)
        series = self.values.setdefault(name, {})
        series[labels] = series.get(labels, 0.0) + value


@dataclass(frozen=True, slots=True)
class Series:
    """The series of one family at one moment; a row of a counter or gauge has one value."""

    family: Family
    labels: Labels
    """Label names, `network` included where it applies."""
    rows: dict[Labels, list[float]]
    bounds: tuple[float, ...] = ()


Reader = Callable[[Sink], None]


@dataclass
class Metrics:
    """All metrics of the process; the daemon makes one and hands out its parts."""

    per_network: bool = False
    fastpath: str = ""
    """Which build of it runs: `compiled` or `plain`."""
    _counters: dict[str, Counter] = field(default_factory=dict)
    _gauges: dict[str, Gauge] = field(default_factory=dict)
    _histograms: dict[str, Histogram] = field(default_factory=dict)
    _readers: list[Reader] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gauge("nodeplane_build_info").set(1, __version__, platform.python_version(), self.fastpath)
        self.add_reader(_read_gc)

    def counter(self, name: str) -> Counter:
        """The counter `name` of FAMILIES; always the same object."""
        family = _owned(name, "counter")
        return self._counters.setdefault(name, Counter(len(family.labels)))

    def gauge(self, name: str) -> Gauge:
        """The gauge `name` of FAMILIES."""
        _owned(name, "gauge")
        return self._gauges.setdefault(name, Gauge())

    def histogram(self, name: str) -> Histogram:
        """The histogram `name` of FAMILIES."""
        _owned(name, "histogram")
        return self._histograms.setdefault(name, Histogram())

    def add_reader(self, read: Reader) -> None:
        """Call `read` at every snapshot, on the event loop: it must be quick and must not raise."""
        self._readers.append(read)

    def snapshot(self) -> tuple[Series, ...]:
        """A copy of every series that has a value; cheap, for the event loop."""
        sink = Sink(self.per_network)
        for read in self._readers:
            read(sink)
        found = (self._series(family, sink.values.get(family.name, {})) for family in FAMILIES)
        return tuple(series for series in found if series.rows)

    def _series(self, family: Family, copied: dict[Labels, float]) -> Series:
        labels = (*family.labels, "network") if self.per_network and family.per_network else family.labels
        if histogram := self._histograms.get(family.name):
            rows = {values: list(row) for values, row in histogram.values.items()}
            return Series(family, labels, rows, histogram.bounds)
        own = self._counters.get(family.name) or self._gauges.get(family.name)
        totals = dict(own.values) if own else {}
        for values, amount in copied.items():
            totals[values] = totals.get(values, 0.0) + amount
        return Series(family, labels, {values: [amount] for values, amount in totals.items()})


def _owned(name: str, type_: str) -> Family:
    family = _BY_NAME[name]
    if family.type != type_ or family.per_network:
        raise ValueError(f"{name} is a {family.type}{', fed by readers' if family.per_network else ''}")
    return family


def _read_gc(sink: Sink) -> None:
    for generation, counts in enumerate(gc.get_stats()):
        sink.add("nodeplane_python_gc_collections_total", counts["collections"], str(generation))

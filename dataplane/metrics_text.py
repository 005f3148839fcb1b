"""The Prometheus text of a metrics snapshot, made by prometheus_client; slow, for a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dataplane.metrics import Series


def render(snapshot: Iterable[Series], accept: str = "") -> tuple[bytes, str]:
    """The text and its content type: OpenMetrics if the HTTP header `accept` asks for it, else Prometheus' own.

    The `process_*` families of the client library come with it.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    def __init__(self, snapshot: Iterable[Series]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Every family of the snapshot."""
        return map(_metric, self._snapshot)

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry is made for one rendering, there is nothing to clash with."""
        return iter(())


def _metric(series: Series) -> Metric:
    name, help_, labels = series.family.name, series.family.help, series.labels
    if series.family.type == "histogram":
        histogram = HistogramMetricFamily(name, help_, labels=labels)
        bounds = [*map(str, series.bounds), "+Inf"]
        for values, row in series.rows.items():
            histogram.add_metric(values, list(zip(bounds, accumulate(row[:-1]), strict=True)), row[-1])
        return histogram
    kind = CounterMetricFamily if series.family.type == "counter" else GaugeMetricFamily
    metric = kind(name, help_, labels=labels)
    for values, row in series.rows.items():
        metric.add_metric(values, row[0])
    return metric

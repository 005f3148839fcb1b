"""Metrics: values, sums over readers, the text as Prometheus parses it, and docs/metrics.md against the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import metadata.identity
from dataplane.dhcp.counters import DROP_REASONS, NOTES
from dataplane.metrics import Metrics, Sink
from dataplane.metrics_catalogue import FAMILIES, Family
from dataplane.metrics_text import render
from metadata.counters import DROP_REASONS as METADATA_REASONS

ROOT = Path(__file__).resolve().parents[3]


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, _ = render(metrics.snapshot())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_gauges_and_histograms() -> None:
    metrics = Metrics(fastpath="pure")
    requests = metrics.counter("nodeplane_control_requests_total")
    requests.add("apply", "200")
    requests.add("apply", "200", amount=2)
    assert metrics.counter("nodeplane_control_requests_total") is requests
    metrics.gauge("nodeplane_networks").set(5, "ready")
    metrics.gauge("nodeplane_networks").set(4, "ready")
    lag = metrics.histogram("nodeplane_event_loop_lag_seconds")
    for seconds in (0.0, 0.005, 0.0051, 100.0):
        lag.observe(seconds)
    found = samples(metrics)
    assert found["nodeplane_control_requests_total", (("code", "200"), ("operation", "apply"))] == 3
    assert found["nodeplane_networks", (("state", "ready"),)] == 4
    bucket = "nodeplane_event_loop_lag_seconds_bucket"
    assert [found[bucket, (("le", le),)] for le in ("5e-05", "0.0025", "0.005", "0.01", "10.0", "+Inf")] == [
        1, 1, 2, 3, 3, 4,
    ]  # fmt: skip
    assert found["nodeplane_event_loop_lag_seconds_count", ()] == 4
    assert found["nodeplane_event_loop_lag_seconds_sum", ()] == pytest.approx(100.0101)


def test_an_observer_counts_for_its_labels() -> None:
    histogram = Metrics().histogram("nodeplane_event_loop_lag_seconds")
    observe = histogram.observer()
    for seconds in (0.00005, 0.002, 100.0):
        observe(seconds)
        histogram.observe(seconds)
    (row,) = histogram.values.values()
    assert row[0] == row[-2] == 2
    assert sum(row[:-1]) == 6
    assert row[-1] == pytest.approx(200.0041)


def test_plain_counters_begin_at_zero_and_unused_families_are_left_out() -> None:
    metrics = Metrics()
    metrics.counter("nodeplane_links_resyncs_total")
    names = {name for name, _ in samples(metrics)}
    assert "nodeplane_links_resyncs_total" in names
    assert "nodeplane_build_info" in names
    assert "nodeplane_networks" not in names
    assert "process_open_fds" in names


@pytest.mark.parametrize("per_network", [False, True])
def test_readers_are_summed(per_network: bool) -> None:
    def read(sink: Sink) -> None:
        for network in ("blue", 'gr"een\n'):
            sink.add("nodeplane_dhcp_dropped_total", 2, "4", "rogue_server", network=network)

    metrics = Metrics(per_network=per_network)
    metrics.add_reader(read)
    metrics.add_reader(read)
    found = {labels: value for (name, labels), value in samples(metrics).items() if name.startswith("nodeplane_dhcp")}
    labels = (("family", "4"), ("reason", "rogue_server"))
    if per_network:
        assert found[(*labels[:1], ("network", "blue"), labels[1])] == 4
        assert len(found) == 2
    else:
        assert found == {labels: 8}


def test_own_and_read_values_are_one_series() -> None:
    metrics = Metrics()
    metrics.counter("nodeplane_log_suppressed_total").add(amount=3)
    metrics.add_reader(lambda sink: sink.add("nodeplane_log_suppressed_total", 4))
    assert samples(metrics)["nodeplane_log_suppressed_total", ()] == 7


def test_a_snapshot_is_a_copy() -> None:
    metrics = Metrics()
    lag = metrics.histogram("nodeplane_event_loop_lag_seconds")
    lag.observe(1)
    snapshot = metrics.snapshot()
    lag.observe(1)
    text, _ = render(snapshot)
    assert b"nodeplane_event_loop_lag_seconds_count 1.0" in text


def test_misuse_is_an_error() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.counter("nodeplane_nothing_total")
    with pytest.raises(ValueError, match="gauge"):
        metrics.counter("nodeplane_networks")
    with pytest.raises(ValueError, match="fed by readers"):
        metrics.counter("nodeplane_dhcp_dropped_total")


def test_openmetrics_when_asked_for() -> None:
    text, content_type = render(Metrics().snapshot(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_rules(family: Family) -> None:
    name, type_, help_, labels, _ = family
    assert re.fullmatch("nodeplane_[a-z_]+", name)
    assert name.endswith("_total") == (type_ == "counter")
    assert (type_ == "histogram") <= name.endswith("_seconds")
    assert help_.endswith(".")
    assert not set(labels) & {"port", "instance", "mac", "address", "network", "le"}


def test_docs_have_every_family() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(nodeplane_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    expected = []
    for family in FAMILIES:
        labels = [f"`{label}`" for label in family.labels] + ["*network*"] * family.per_network
        expected.append((family.name, family.type, ", ".join(labels) or "-", family.help))
    assert rows == expected


@pytest.mark.parametrize(
    ("metric", "reasons"),
    [
        ("nodeplane_dhcp_dropped_total", DROP_REASONS),
        ("nodeplane_dhcp_noted_total", NOTES),
        ("nodeplane_metadata_dropped_total", METADATA_REASONS),
        ("nodeplane_metadata_lookup_failures_total", metadata.identity.REASONS),
    ],
)
def test_docs_have_every_reason(metric: str, reasons: dict[str, str]) -> None:
    [part] = [part for part in (ROOT / "docs" / "metrics.md").read_text().split("\n### ") if f" of `{metric}`" in part]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE)) == reasons

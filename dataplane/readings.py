"""What the services count, copied into the metrics when somebody asks."""

from __future__ import annotations

from collections.abc import Callable

from dataplane.dhcp.counters import Counters as DhcpCounters
from dataplane.lease_book import LeaseBook
from dataplane.metrics import Sink
from dataplane.node import Node
from dataplane.store import Store
from metadata.counters import Counters as HttpCounters
from metadata.server import MetadataServer

_FAMILY = "4"


class Readings:
    """A reader of `dataplane.metrics.Metrics` over everything that counts for itself."""

    def __init__(
        self, store: Store, node: Node, leases: LeaseBook, metadata: MetadataServer, suppressed: Callable[[], int]
    ) -> None:
        """`suppressed` says how many log records were held back."""
        self._suppressed = suppressed
        self._store = store
        self._node = node
        self._leases = leases
        self._metadata = metadata

    def read(self, sink: Sink) -> None:
        """Copy all counts; quick, for the event loop."""
        sink.add("nodeplane_ready", self._node.ready)
        sink.add("nodeplane_instances", len(self._store.desired.instances))
        sink.add("nodeplane_desired_revision", self._store.position)
        sink.add("nodeplane_applied_revision", self._node.applied)
        sink.add("nodeplane_source_connected", 1, "embedded")
        sink.add("nodeplane_source_staleness_seconds", 0, "embedded")
        sink.add("nodeplane_log_suppressed_total", self._suppressed())
        for state, count in self._leases.count().items():
            sink.add("nodeplane_leases", count, state)
        self._read_networks(sink)
        self._read_metadata(sink)

    def _read_networks(self, sink: Sink) -> None:
        for state in ("pending", "ready", "error"):
            sink.add("nodeplane_networks", 0, state)
        sink.add("nodeplane_ports", 0, "plugged")
        sink.add("nodeplane_ports", 0, "waiting")
        sink.add("nodeplane_dhcp_held", 0)
        _read_dhcp(sink, "", self._node.retired)
        for network_id, served in self._node.networks.items():
            sink.add("nodeplane_networks", 1, served.state)
            sink.add("nodeplane_ports", len(served.plugged), "plugged")
            sink.add("nodeplane_ports", len(served.ports) - len(served.plugged), "waiting")
            sink.add("nodeplane_dhcp_held", served.dhcp.core.held, network=network_id)
            _read_dhcp(sink, network_id, served.dhcp.core.counters)

    def _read_metadata(self, sink: Sink) -> None:
        limiter = self._metadata.limiter
        sink.add("nodeplane_metadata_limited_ports", 0 if limiter is None else len(limiter))
        sink.add("nodeplane_metadata_held", 0)
        sink.add("nodeplane_metadata_connections", 0)
        _read_http(sink, "", self._metadata.retired)
        for network_id, listener in self._metadata.listeners.items():
            sink.add("nodeplane_metadata_held", len(listener.held), network=network_id)
            sink.add("nodeplane_metadata_connections", listener.connections, network=network_id)
            _read_http(sink, network_id, listener.counters)


def _read_dhcp(sink: Sink, network: str, counters: DhcpCounters) -> None:
    for name, counts in (
        ("nodeplane_dhcp_packets_received_total", counters.received),
        ("nodeplane_dhcp_packets_sent_total", counters.sent),
        ("nodeplane_dhcp_dropped_total", counters.dropped),
        ("nodeplane_dhcp_noted_total", counters.noted),
    ):
        for label, count in counts.items():
            sink.add(name, count, _FAMILY, label, network=network)


def _read_http(sink: Sink, network: str, counters: HttpCounters) -> None:
    for (api, code), count in counters.requests.items():
        sink.add("nodeplane_metadata_requests_total", count, api, code, network=network)
    for reason, count in counters.lookups.items():
        sink.add("nodeplane_metadata_lookup_failures_total", count, reason, network=network)
    for reason, count in counters.dropped.items():
        sink.add("nodeplane_metadata_dropped_total", count, reason, network=network)

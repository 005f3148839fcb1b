"""The catalogue of metrics: every family, its type, help and labels. docs/metrics.md describes them all.

Rules: base units in the name, `_total` on counters and nowhere else, no ids of guests or leases in labels; a label
`network` only where the operator asks for it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Labels = tuple[str, ...]
Type = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """All series of one name."""

    name: str
    type: Type
    help: str
    labels: Labels = ()
    per_network: bool = False
    """Whether it gets a further label `network` when metrics.per_network is on."""


FAMILIES: tuple[Family, ...] = (
    Family("nodeplane_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python", "fastpath")),
    Family("nodeplane_ready", "gauge", "1 after the first synchronisation, while every healthy network is served."),
    Family("nodeplane_networks", "gauge", "Networks on this node.", ("state",)),
    Family("nodeplane_ports", "gauge", "Ports of this node: plugged, or waiting for their device.", ("state",)),
    Family("nodeplane_instances", "gauge", "Instances whose documents are held."),
    Family("nodeplane_leases", "gauge", "Leases in the lease table.", ("state",)),
    Family("nodeplane_desired_revision", "gauge", "Position of the newest committed change."),
    Family("nodeplane_applied_revision", "gauge", "Position the kernel and the services have been brought to."),
    Family("nodeplane_source_connected", "gauge", "1 while the source of desired state answers.", ("source",)),
    Family("nodeplane_source_staleness_seconds", "gauge", "Age of the newest state known to be current.", ("source",)),
    Family("nodeplane_source_events_total", "counter", "Changed objects received from the source.", ("source", "kind")),
    Family("nodeplane_source_resyncs_total", "counter", "Snapshots taken instead of changes.", ("source", "reason")),
    Family("nodeplane_store_commits_total", "counter", "Transactions of the embedded store.", ("result",)),
    Family("nodeplane_store_commit_duration_seconds", "histogram", "Time from a request to its durable commit."),
    Family("nodeplane_reconcile_total", "counter", "Passes of the reconcile loop, per network.", ("result",)),
    Family("nodeplane_reconcile_duration_seconds", "histogram", "Duration of one pass over all changed networks."),
    Family("nodeplane_netns_operations_total", "counter", "Work in the namespace thread.", ("op", "result")),
    Family("nodeplane_netns_operation_duration_seconds", "histogram", "Duration of that work.", ("op",)),
    Family("nodeplane_links_resyncs_total", "counter", "Full link dumps after lost notifications."),
    Family("nodeplane_dhcp_packets_received_total", "counter", "DHCP messages from guests.", ("family", "type"), True),
    Family("nodeplane_dhcp_packets_sent_total", "counter", "DHCP messages to guests.", ("family", "type"), True),
    Family("nodeplane_dhcp_dropped_total", "counter", "Packets thrown away.", ("family", "reason"), True),
    Family("nodeplane_dhcp_noted_total", "counter", "What happened without a loss.", ("family", "what"), True),
    Family("nodeplane_dhcp_held", "gauge", "Requests waiting for their port to become known.", (), True),
    Family("nodeplane_dhcp_response_duration_seconds", "histogram", "From a packet read to its reply sent."),
    Family("nodeplane_metadata_requests_total", "counter", "Answered metadata requests.", ("api", "code"), True),
    Family("nodeplane_metadata_request_duration_seconds", "histogram", "From request to answer, without holding."),
    Family("nodeplane_metadata_lookup_failures_total", "counter", "Callers that are no known port.", ("reason",), True),
    Family("nodeplane_metadata_dropped_total", "counter", "Refused connections and requests.", ("reason",), True),
    Family("nodeplane_metadata_held", "gauge", "Requests waiting for their caller to become known.", (), True),
    Family("nodeplane_metadata_connections", "gauge", "Open connections of guests.", (), True),
    Family("nodeplane_metadata_upstream_requests_total", "counter", "Requests to Nova, by answer.", ("code",)),
    Family("nodeplane_metadata_upstream_duration_seconds", "histogram", "From request to answer.", ("code",)),
    Family("nodeplane_metadata_cache_hits_total", "counter", "Answers without a request to Nova.", ("kind",)),
    Family("nodeplane_metadata_limited_ports", "gauge", "Ports that the rate limit of requests knows."),
    Family("nodeplane_control_requests_total", "counter", "Requests on the control socket.", ("operation", "code")),
    Family("nodeplane_log_suppressed_total", "counter", "Log records held back by the rate limit."),
    Family("nodeplane_event_loop_lag_seconds", "histogram", "How late the event loop wakes up."),
    Family("nodeplane_python_gc_collections_total", "counter", "Runs of Python's garbage collector.", ("generation",)),
)

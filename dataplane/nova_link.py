"""The proxy to Nova as the configuration says it, and its metrics."""

from __future__ import annotations

from dataplane import config_nova
from dataplane.config_nova import NovaConfig
from dataplane.errors import ConfigError, Mistake
from dataplane.metrics import Metrics, Sink
from metadata.nova_client import NovaClient
from metadata.nova_proxy import NovaCounters, NovaProxy


def open_proxy(config: NovaConfig, metrics: Metrics) -> NovaProxy | None:
    """The proxy, on the running loop; None when there is no Nova. Its counts are read into `metrics`.

    Raises ConfigError when a secret, certificate or key cannot be read or is empty.
    """
    settings = config_nova.settings(config)
    if settings is None:
        return None
    try:
        client = NovaClient(settings)
    except OSError as error:
        raise ConfigError([Mistake("nova", f"a certificate or key cannot be read: {error}")]) from error
    proxy = NovaProxy(settings, client, metrics.histogram("nodeplane_metadata_upstream_duration_seconds").observe)
    metrics.add_reader(_Reading(proxy.counters).read)
    return proxy


class _Reading:
    """A reader of `dataplane.metrics.Metrics`."""

    def __init__(self, counters: NovaCounters) -> None:
        self._counters = counters

    def read(self, sink: Sink) -> None:
        for code, count in self._counters.requests.items():
            sink.add("nodeplane_metadata_upstream_requests_total", count, code)
        for kind, count in self._counters.hits.items():
            sink.add("nodeplane_metadata_cache_hits_total", count, kind)

"""The proxy as the configuration says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.config_nova import NovaConfig
from dataplane.errors import ConfigError
from dataplane.metrics import Metrics
from dataplane.nova_link import open_proxy
from metadata.nova import NovaBackend
from tests.nova import SECRET, nova
from tests.unit.metadata.asking import ask, subject
from tests.unit.metadata.sample import FULL


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], list[float]]:
    return next((found.rows for found in metrics.snapshot() if found.family.name == name), {})


@pytest.mark.asyncio
async def test_no_nova() -> None:
    assert open_proxy(NovaConfig(), Metrics()) is None


@pytest.mark.asyncio
async def test_what_it_counts_is_in_the_metrics() -> None:
    metrics = Metrics()
    async with nova(FULL) as upstream:
        proxy = open_proxy(NovaConfig(url=upstream.url, shared_secret=SECRET, prefetch=False), metrics)
        assert proxy is not None
        backend = NovaBackend(proxy, subject(FULL))
        for _ in range(3):
            assert (await ask(backend, "/openstack")).status == 200
        assert series(metrics, "nodeplane_metadata_upstream_requests_total") == {("200",): [1]}
        assert series(metrics, "nodeplane_metadata_cache_hits_total") == {("fresh",): [2]}
        (row,) = series(metrics, "nodeplane_metadata_upstream_duration_seconds").values()
        assert sum(row[:-1]) == 1
        await proxy.close()


@pytest.mark.asyncio
async def test_what_cannot_be_read(tmp_path: Path) -> None:
    url = "https://nova:8775"
    with pytest.raises(ConfigError, match="a certificate or key cannot be read"):
        open_proxy(NovaConfig(url=url, shared_secret="s", ca_file=str(tmp_path / "ca.pem")), Metrics())
    with pytest.raises(ConfigError, match="No such file"):
        open_proxy(NovaConfig(url=url, shared_secret_file=str(tmp_path / "secret")), Metrics())

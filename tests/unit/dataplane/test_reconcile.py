"""Passes over a kernel that misbehaves."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import cast

import pytest

from dataplane.errors import KernelError, NodeplaneError
from dataplane.kernel import Kernel
from dataplane.metrics import Metrics
from dataplane.model import Network, NetworkId
from dataplane.network import ServedNetwork
from dataplane.plan import DesiredNetwork, NamespaceState, NetworkState
from dataplane.reconcile import Reconciler

BLUE, GREEN = NetworkId("blue"), NetworkId("green")


class FakeKernel:
    """Has what `states` says; `failures` are raised first, one a call."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.states: dict[NetworkId, NetworkState] = {}
        self.asked: list[set[NetworkId]] = []
        self.applied: list[set[NetworkId]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def observe(self, desired: Mapping[NetworkId, DesiredNetwork]) -> dict[NetworkId, NetworkState]:
        return await self.refresh(desired)

    async def refresh(self, wanted: Mapping[NetworkId, DesiredNetwork | None]) -> dict[NetworkId, NetworkState]:
        self.asked.append(set(wanted))
        if self.failures:
            raise self.failures.pop(0)
        return dict(self.states)

    async def apply(self, actions: Mapping[NetworkId, object]) -> dict[NetworkId, NodeplaneError]:
        self.applied.append(set(actions))
        self.states = {}
        self.meanwhile()
        return {}


def made(kernel: FakeKernel, networks: Mapping[NetworkId, ServedNetwork] = MappingProxyType({})) -> Reconciler:
    return Reconciler(cast(Kernel, kernel), networks, Metrics(False, "pure"), 0.0)


def left(network_id: NetworkId) -> NetworkState:
    return NetworkState(network_id, NamespaceState(f"np-{network_id}", 1, owner=network_id))


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", [OSError(errno.EMFILE, "too many"), KernelError("dump", "links", errno.ENOBUFS)])
async def test_a_pass_that_fails_is_made_again(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.reconcile.RETRY_SECONDS", 0.0)
    kernel = FakeKernel()
    kernel.failures = [failure, failure]
    reconciler = made(kernel)
    arrived: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(reconciler.run(lambda: 7, arrived.set_result))
    reconciler.mark([BLUE])
    assert await asyncio.wait_for(arrived, 30) == 7
    assert kernel.asked == [{BLUE}] * 3
    running.cancel()


@pytest.mark.asyncio
@pytest.mark.parametrize("spare", [False, True])
async def test_leftovers_of_unknown_networks_can_be_spared(spare: bool) -> None:
    kernel = FakeKernel()
    kernel.states = {GREEN: left(GREEN)}
    reconciler = made(kernel)
    reconciler.spare_unknown = spare
    reconciler.mark_everything()
    await reconciler.once()
    assert kernel.applied == ([] if spare else [{GREEN}])


@pytest.mark.asyncio
async def test_a_network_that_was_deleted_here_is_never_spared() -> None:
    kernel = FakeKernel()
    kernel.states = {GREEN: left(GREEN)}
    reconciler = made(kernel)
    reconciler.spare_unknown = True
    reconciler.mark_everything()
    reconciler.mark([GREEN])
    await reconciler.once()
    assert kernel.applied == [{GREEN}]


@pytest.mark.asyncio
async def test_a_network_that_comes_back_while_it_is_removed_is_not_ready_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "nodeplane")
    kernel = FakeKernel()
    kernel.states = {GREEN: left(GREEN)}
    networks: dict[NetworkId, ServedNetwork] = {}
    reconciler = made(kernel, networks)
    again = SimpleNamespace(network=Network(GREEN), ports={}, serving_on=None, state="pending", error="")
    kernel.meanwhile = lambda: networks.update({GREEN: cast(ServedNetwork, again)})
    reconciler.mark([GREEN])
    await reconciler.once()
    assert (again.state, again.error) == ("pending", "")
    assert "network.ready" not in caplog.messages

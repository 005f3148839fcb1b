"""The kernel brought in step with the networks of this node: observe, plan, apply, open sockets, try again.

Level-triggered: a mark says only which network to look at, never what happened to it. All marked networks are done in
one go. A network that fails is tried again by itself and stops no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

from dataplane import names
from dataplane.errors import ForeignObjectError, NodeplaneError
from dataplane.kernel import Kernel, Place
from dataplane.links import LinkEvent, LinkEvents
from dataplane.metrics import Metrics
from dataplane.model import NetworkId
from dataplane.network import ServedNetwork
from dataplane.packets import NetworkSockets
from dataplane.plan import DesiredNetwork, NetworkState, Plan, plan, serving_on, waiting_for

log = logging.getLogger("nodeplane.node")

# Chosen: a failed network is tried again soon, then ever more seldom.
RETRY_SECONDS = 0.5
RETRY_LIMIT_SECONDS = 15.0
# Chosen: networks that one log line names.
NAMED = 20

T = TypeVar("T")
States = Mapping[NetworkId, NetworkState]
Errors = dict[NetworkId, NodeplaneError]


class Reconciler:
    """Owns the way from `networks` (changed by the node, who marks what it changed) to the kernel."""

    def __init__(
        self, kernel: Kernel, networks: Mapping[NetworkId, ServedNetwork], metrics: Metrics, coalesce_seconds: float
    ) -> None:
        self.coalesce_seconds = coalesce_seconds
        """How long marks are gathered before a pass."""
        self.spare_unknown = False
        """Leave what is in the kernel of networks that nobody ever told us about."""
        self._kernel = kernel
        self._networks = networks
        self._marked: set[NetworkId] = set()
        self._everything = False
        self._wake = asyncio.Event()
        self._links: LinkEvents | None = None
        self._own_devices: dict[str, NetworkId] = {}
        self._retries: dict[NetworkId, asyncio.TimerHandle] = {}
        self._passes = metrics.counter("nodeplane_reconcile_total")
        self._seconds = metrics.histogram("nodeplane_reconcile_duration_seconds")
        self._operations = metrics.counter("nodeplane_netns_operations_total")
        self._operation_seconds = metrics.histogram("nodeplane_netns_operation_duration_seconds")
        self._link_resyncs = metrics.counter("nodeplane_links_resyncs_total")

    def mark(self, network_ids: Iterable[NetworkId]) -> None:
        """Look at these networks in the next pass, whether they are here or no longer."""
        self._marked.update(network_ids)
        self._wake.set()

    def mark_everything(self) -> None:
        """Look at every network, and for leftovers of networks that nobody knows any more."""
        self._everything = True
        self._wake.set()

    def wake(self) -> None:
        """Make a pass even if nothing is marked, so that `run` reports progress."""
        self._wake.set()

    async def run(self, started: Callable[[], int], done: Callable[[int], None]) -> None:
        """Make passes whenever something is marked, until cancelled: `done(started())` after each."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self.coalesce_seconds)
            position = started()
            if await self.attempt():
                done(position)
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def attempt(self) -> bool:
        """One pass over everything marked; False if it has to be made again, which `run` does."""
        try:
            await self.once()
        except (NodeplaneError, OSError) as error:
            # Out of descriptors or memory, say: guests may cause that, and a daemon that ends helps nobody.
            log.error("network.failed", extra={"fields": {"error": str(error)}})
            return False
        return True

    async def listen(self) -> None:
        """Begin to hear of devices; call it before the first pass, so that nothing falls in between."""
        self._links = await self._kernel.watch()

    async def watch(self, of_ports: Callable[[str], Iterable[NetworkId]]) -> None:
        """Mark networks as their devices come and go; `of_ports` gives the networks of a port's device."""
        assert self._links is not None, "listen comes first"
        async for events in self._links:
            for event in events:
                self._notice(event, of_ports)

    def _notice(self, event: LinkEvent, of_ports: Callable[[str], Iterable[NetworkId]]) -> None:
        if event.change == "resync":
            self._link_resyncs.add()
            log.warning("links.resync", extra={"fields": {}})
            self.mark_everything()
            return
        concerned = {network_id for network_id in of_ports(event.name) if network_id in self._networks}
        # Our own devices appear and change by our own doing; only that one has gone is news.
        network_id = self._own_devices.get(event.name)
        if event.change == "gone" and network_id is not None and network_id in self._networks:
            concerned.add(network_id)
        if concerned:
            self.mark(concerned)

    def stop(self) -> None:
        """Hear no more, and give up on tries that were arranged for later."""
        if self._links is not None:
            self._links.close()
        for handle in self._retries.values():
            handle.cancel()
        self._retries.clear()

    async def teardown(self) -> None:
        """Plan toward nothing; what cannot be removed is logged and left."""
        states = await self._kernel.observe({})
        for network_id, error in (await self._kernel.apply(plan(states, {}).actions)).items():
            log.error("network.failed", extra={"fields": {"network": network_id, "error": str(error)}})

    async def once(self) -> None:
        """One pass over everything marked."""
        self._wake.clear()
        everything, marked = self._everything, self._marked
        self._everything, self._marked = False, set()
        if not everything and not marked:
            return
        try:
            await self._pass(everything, marked)
        except BaseException:
            self._everything = self._everything or everything
            self.mark(marked)
            raise

    async def _pass(self, everything: bool, marked: set[NetworkId]) -> None:
        began = time.perf_counter()
        ids = self._networks.keys() | marked if everything else marked
        wanted = {id_: served.desired() if (served := self._networks.get(id_)) else None for id_ in ids}
        desired = {id_: network for id_, network in wanted.items() if network is not None}
        if everything:
            states = await self._timed("observe", self._kernel.observe(desired))
            if self.spare_unknown:
                states = self._spared(states, ids)
        else:
            states = await self._timed("refresh", self._kernel.refresh(wanted))
        todo = plan(states, desired)
        errors: Errors = dict(todo.errors)
        if todo.actions:
            errors |= await self._timed("apply", self._kernel.apply(todo.actions))
            changed = {id_: wanted.get(id_) for id_ in todo.actions}
            states |= await self._timed("refresh", self._kernel.refresh(changed))
        await self._open(desired, states, errors)
        for network_id in ids | todo.actions.keys():
            served = self._networks.get(network_id)
            if served is None:
                self._settle_gone(network_id, todo, errors.get(network_id))
            elif network_id in desired:  # or it came back meanwhile, and is marked again
                self._settle(served, desired[network_id], states.get(network_id), errors.get(network_id))
        self._seconds.observe(time.perf_counter() - began)

    def _spared(self, states: States, ids: Collection[NetworkId]) -> dict[NetworkId, NetworkState]:
        """Only the networks that are known here; the others are named to the operator."""
        if left := sorted(states.keys() - ids):
            reason = "the store has never held anything: the networks in the kernel are left as they are"
            fields = {"error": reason, "count": len(left), "networks": left[:NAMED]}
            log.error("network.failed", extra={"fields": fields})
        return {id_: state for id_, state in states.items() if id_ in ids}

    async def _timed(self, operation: str, work: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            result = await work
        except BaseException:
            self._operations.add(operation, "error")
            raise
        self._operations.add(operation, "ok")
        self._operation_seconds.observe(time.perf_counter() - began, operation)
        return result

    async def _open(self, desired: Mapping[NetworkId, DesiredNetwork], states: States, errors: Errors) -> None:
        """Open sockets where there are none or where they are on what is gone; failures go into `errors`."""
        places: dict[NetworkId, Place] = {}
        keys: dict[NetworkId, tuple[int, int]] = {}
        for network_id, network in desired.items():
            served = self._networks.get(network_id)
            if served is None or served.desired().adopt != network.adopt:
                continue  # changed meanwhile, and marked again
            state = states.get(network_id)
            if state is not None and state.unreadable is not None:
                continue  # what is open may still be right
            key = serving_on(state, network) if state is not None else None
            if key is None:
                served.close()
            elif served.serving_on != key and network_id not in errors and not served.resume(key):
                places[network_id], keys[network_id] = served.place, key
        if not places:
            return
        for network_id, opened in (await self._timed("open_sockets", self._kernel.open_sockets(places))).items():
            served = self._networks.get(network_id)
            if not isinstance(opened, NetworkSockets):
                errors[network_id] = opened
            elif served is None or served.place != places[network_id]:
                opened.close()
            else:
                served.open(opened, keys[network_id])

    def _settle(
        self,
        served: ServedNetwork,
        desired: DesiredNetwork,
        state: NetworkState | None,
        error: NodeplaneError | None,
    ) -> None:
        """Write down what came of a network, and arrange for another try after a failure."""
        network_id = served.network.id
        self._own_devices[names.bridge(network_id)] = self._own_devices[names.veth(network_id)] = network_id
        if state is not None:
            came, went = served.see(state)
            for event, devices in (("port.plugged", came), ("port.unplugged", went)):
                for device in sorted(devices):
                    log.info(event, extra={"fields": {"network": network_id, "device": device}})
        reason = str(error) if error else ""
        if not reason and served.serving_on is None:
            reason = ", ".join(f"there is no {what}" for what in waiting_for(state, desired)) or "not served yet"
        self._passes.add("error" if reason else "ok")
        if not reason:
            if served.state != "ready":
                event = "network.adopted" if served.network.adopt else "network.ready"
                log.info(event, extra={"fields": {"network": network_id, "ports": len(served.ports)}})
            served.state, served.error, served.retry_seconds = "ready", "", 0.0
            return
        if served.error != reason:
            event = "network.foreign_object" if isinstance(error, ForeignObjectError) else "network.failed"
            log.error(event, extra={"fields": {"network": network_id, "error": reason}})
        served.state, served.error = "error", reason
        served.retry_seconds = min(RETRY_LIMIT_SECONDS, served.retry_seconds * 2 or RETRY_SECONDS)
        self._again(network_id, served.retry_seconds)

    def _settle_gone(self, network_id: NetworkId, todo: Plan, error: NodeplaneError | None) -> None:
        if error is not None:
            log.error("network.failed", extra={"fields": {"network": network_id, "error": str(error)}})
            self._again(network_id, RETRY_LIMIT_SECONDS)
            return
        for device in (names.bridge(network_id), names.veth(network_id)):
            self._own_devices.pop(device, None)
        if network_id in todo.actions:
            log.info("network.removed", extra={"fields": {"network": network_id}})

    def _again(self, network_id: NetworkId, seconds: float) -> None:
        def retry() -> None:
            del self._retries[network_id]
            self.mark([network_id])

        if network_id not in self._retries:
            self._retries[network_id] = asyncio.get_running_loop().call_later(seconds, retry)

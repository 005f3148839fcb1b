"""What the source wants, brought to the services of this node at once and to the kernel by the reconciler.

One task follows the source: an answer that needs no kernel work (a changed address, a new port in a network that is
up) is right before the acknowledged change is a millisecond old. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time

from dataplane.callers import Callers
from dataplane.closer import Closer
from dataplane.desired import Desired
from dataplane.dhcp.counters import Counters as DhcpCounters
from dataplane.dhcp.policy import Policy
from dataplane.errors import GapError
from dataplane.fdstore import FdStore
from dataplane.indexes import kind_of
from dataplane.kernel import Kernel
from dataplane.lease_book import LeaseBook
from dataplane.metrics import Metrics
from dataplane.model import Change, Instance, Network, NetworkId, Port, PortId
from dataplane.network import ServedNetwork, Services
from dataplane.reconcile import Reconciler
from dataplane.source import Source
from metadata.server import MetadataServer

log = logging.getLogger("nodeplane.node")

# Chosen: every network is compared with the kernel now and then even if nothing was heard, a part each second. More
# often would cost percents of a core with a thousand networks.
AUDIT_SECONDS = 300
# Chosen: nothing tells us what happens inside an adopted namespace, and its owner may make it again at any time.
ADOPTED_AUDIT_SECONDS = 5
# Chosen: after a restart guests that waited in the queues of kept sockets have the processor to themselves that long.
QUEUED_GUESTS_SECONDS = 0.5
# Chosen: leases end by the hour; a view that lags ten seconds is fine.
EXPIRE_SECONDS = 10


class Node:
    """Keeps this node as its source wants it: `start` brings it up, `run` keeps it so, `stop` ends it."""

    def __init__(
        self,
        name: str,
        source: Source,
        kernel: Kernel,
        metadata: MetadataServer,
        callers: Callers,
        desired: Desired,
        leases: LeaseBook,
        metrics: Metrics,
        fdstore: FdStore,
        policy: Policy,
        coalesce_seconds: float,
        *,
        serve: bool = True,
    ) -> None:
        """`desired` is the model that `callers` reads; it is empty now and changed only here.

        Without `serve` no network is brought up on this node: the model is for those who ask by other ways.
        """
        self.name = name
        self.networks: dict[NetworkId, ServedNetwork] = {}
        """Those with a port on this node; for reading."""
        self.ready = False
        self.applied = 0
        """Position that the services and the kernel have been brought to."""
        self.retired = DhcpCounters()
        """Counts of networks that are no longer here."""
        self.desired = desired
        self.reconciler = Reconciler(kernel, self.networks, metrics, coalesce_seconds)
        self._source = source
        self._metadata = metadata
        self._callers = callers
        self._leases = leases
        self._policy = policy
        self._serve = serve
        self._position = 0
        self._progress = asyncio.Event()
        self._events = metrics.counter("nodeplane_source_events_total")
        self._resyncs = metrics.counter("nodeplane_source_resyncs_total")
        durations = metrics.histogram("nodeplane_dhcp_response_duration_seconds")
        self._services = Services(metadata, leases.take, durations, Closer(), fdstore)

    @property
    def position(self) -> int:
        """Position that the model has been brought to; the kernel may be behind it."""
        return self._position

    async def start(self) -> None:
        """Take a snapshot and bring the kernel to it. Networks that fail are left for `run` to try again."""
        await self.reconciler.listen()
        await self._resync()
        if [served for served in self.networks.values() if served.resume_where_it_was()]:
            # Links are listened to already; a look at a kernel that did not change while we were away can wait.
            await asyncio.sleep(QUEUED_GUESTS_SECONDS)
        position = self._position
        # A store that nobody ever told anything is a new one, or in the place of a lost one, with guests running.
        self.reconciler.spare_unknown = position == 0
        done = await self.reconciler.attempt()
        for sock in self._services.fdstore.leftovers():
            self._services.closer.close(sock)
        if done:
            self._arrive(position)

    async def run(self) -> None:
        """Follow the source and the kernel until cancelled; raises what its tasks cannot live with."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="source")
            tasks.create_task(self.reconciler.watch(self._networks_of_device), name="links")
            tasks.create_task(self.reconciler.run(lambda: self._position, self._arrive), name="reconcile")
            tasks.create_task(self._tick(), name="tick")

    async def stop(self, teardown: bool) -> None:
        """Close all sockets; with `teardown` also plan toward nothing. Call it when `run` has ended."""
        self.ready = False
        self.reconciler.stop()
        for served in self.networks.values():
            served.close(keep=not teardown)
        if teardown:
            self.networks.clear()
            await self.reconciler.teardown()
        await self._services.closer.finish()
        await asyncio.to_thread(self._services.fdstore.finish)

    async def wait_applied(self, position: int, seconds: float) -> bool:
        """Wait until `applied` is at least `position`; False if it is not after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self.applied < position:
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def set_policy(self, policy: Policy) -> None:
        """Serve by another policy from now on, in networks that are here as in later ones."""
        self._policy = policy
        for served in self.networks.values():
            served.dhcp.core.set_policy(policy)

    def _arrive(self, position: int) -> None:
        self.ready = True
        self.applied = position
        self._progress.set()
        self._progress = asyncio.Event()

    async def _resync(self) -> None:
        """Take the whole state, as a difference to what is known."""
        position, state = await self._source.snapshot()
        self._take(self.desired.difference(state), position)
        self.reconciler.mark_everything()

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._source.changes(self._position):
                    self._take(change, change.position)
                return
            except GapError:
                self._resyncs.add("embedded", "gap")
                log.warning("source.gap", extra={"fields": {"position": self._position}})
                await self._resync()

    def _take(self, change: Change, position: int) -> None:
        """Bring the model and the services to a change, and mark the networks whose kernel side is concerned."""
        self._metadata.flush()  # answers of the model as it was go out before there is another
        undo = self.desired.apply(change)
        touched: set[NetworkId] = set()
        removed: set[PortId] = set()
        for old in undo.puts:
            if isinstance(old, Port):
                touched.add(old.network_id)
                new = self.desired.ports.get(old.id)
                if new is None:
                    removed.add(old.id)
                if new is None or new.network_id != old.network_id or not self._is_here(new):
                    self._lose(old)
        for item in change.puts:
            self._events.add("embedded", kind_of(item))
            match item:
                case Network():
                    touched.add(item.id)
                    self._change(item)
                case Port():
                    touched.add(item.network_id)
                    if self._is_here(item):
                        self._gain(item)
                case Instance():
                    touched.update(port.network_id for port in self.desired.ports_of_instance(item.id))
        self._callers.forget((*undo.puts, *change.puts))
        self._position = position  # those who are answered below are who this state says
        if removed:
            self._leases.forget_ports(removed)
        for network_id in touched:
            self._retire_if_empty(network_id)
            self._metadata.recheck(network_id)
        self.reconciler.wake()

    def _is_here(self, port: Port) -> bool:
        return self._serve and port.host in ("", self.name)

    def _change(self, network: Network) -> None:
        served = self.networks.get(network.id)
        if served is not None and served.set_network(network):
            self.reconciler.mark([network.id])

    def _gain(self, port: Port) -> None:
        served = self.networks.get(port.network_id)
        if served is None:
            network = self.desired.networks[port.network_id]
            served = ServedNetwork(network, self._policy, self._services)
            self.networks[network.id] = served
        if served.set_port(port):
            self.reconciler.mark([port.network_id])

    def _lose(self, port: Port) -> None:
        served = self.networks.get(port.network_id)
        if served is not None and served.remove_port(port.id):
            self.reconciler.mark([port.network_id])

    def _retire_if_empty(self, network_id: NetworkId) -> None:
        served = self.networks.get(network_id)
        if served is not None and not served.ports:
            served.close()
            self.retired.add(served.dhcp.core.counters)
            del self.networks[network_id]
            self.reconciler.mark([network_id])

    def _networks_of_device(self, name: str) -> set[NetworkId]:
        return {port.network_id for port in self.desired.ports_by_device.get(name, {}).values()}

    async def _tick(self) -> None:
        """Once a second: held packets, ended leases, and a part of all networks compared with the kernel."""
        second = 0
        while True:
            await asyncio.sleep(1)
            second += 1
            now = time.time()
            for served in self.networks.values():
                if served.dhcp.core.held:
                    served.dhcp.core.tick(now)
            if second % EXPIRE_SECONDS == 0:
                self._leases.expire(now)
            adopted = [id_ for id_, served in self.networks.items() if served.network.adopt]
            part = list(self.networks)[second % AUDIT_SECONDS :: AUDIT_SECONDS]
            part += adopted[second % ADOPTED_AUDIT_SECONDS :: ADOPTED_AUDIT_SECONDS]
            if part:
                self.reconciler.mark(part)

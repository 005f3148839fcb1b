"""The daemon as the control API sees it: `control_routes.Backend` over store, node and services."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Awaitable, Mapping, Sequence

from dataplane import __version__, documents
from dataplane.errors import DocumentError, StoreError
from dataplane.explain import Explainer
from dataplane.explain_packet import explain_packet
from dataplane.explanation import MetadataExplanation, MetadataQuestion, PacketExplanation, PacketQuestion
from dataplane.heartbeat import Heartbeat
from dataplane.lease_book import LeaseBook
from dataplane.leases import LeaseRow
from dataplane.metrics import Metrics
from dataplane.model import Kind, NetworkId, Object
from dataplane.node import Node
from dataplane.status import Outcome, Status, Traffic
from dataplane.store import Applied, Store
from metadata.server import MetadataServer

log = logging.getLogger("nodeplane.store")

_PAGE_BYTES = resource.getpagesize()


class NodeBackend:
    """Commits through the store, reports from the node."""

    def __init__(
        self,
        store: Store,
        node: Node,
        leases: LeaseBook,
        metadata: MetadataServer,
        explainer: Explainer,
        heartbeat: Heartbeat,
        metrics: Metrics,
    ) -> None:
        self._commits = metrics.counter("nodeplane_store_commits_total")
        self._commit_seconds = metrics.histogram("nodeplane_store_commit_duration_seconds")
        self._store = store
        self._node = node
        self._leases = leases
        self._metadata = metadata
        self._explainer = explainer
        self._heartbeat = heartbeat
        self._started_at = time.time()

    async def apply(self, document: object, *, prune: bool, dry_run: bool) -> Outcome:
        """Commit plain data as a document; raises DocumentError or StoreError, and then nothing is changed."""
        state = documents.decode(document, against=self._store.desired, prune=prune)
        return _outcome(await self._commit(self._store.apply(state, prune=prune, dry_run=dry_run)), dry_run)

    async def delete(self, refs: Sequence[tuple[Kind, str]]) -> Outcome:
        """Delete objects in one transaction; raises as `apply`."""
        return _outcome(await self._commit(self._store.delete(refs)), dry_run=False)

    async def _commit(self, transaction: Awaitable[Applied]) -> Applied:
        began = time.perf_counter()
        try:
            applied = await transaction
        except DocumentError:
            self._commits.add("refused")
            raise
        except StoreError as error:
            self._commits.add("failed")
            log.error("store.failed", extra={"fields": {"error": str(error)}})
            raise
        self._commits.add("ok")
        self._commit_seconds.observe(time.perf_counter() - began)
        return applied

    def objects(self, kind: Kind) -> Mapping[str, Object]:
        """The committed objects of a kind by id."""
        return self._store.desired.of_kind(kind)

    async def leases(self, network_id: NetworkId | None) -> Sequence[LeaseRow]:
        """What guests were told, of one network or all. What is shown survives a crash."""
        rows = self._leases.rows(network_id)
        await self._store.settled()
        return rows

    async def explain_metadata(self, question: MetadataQuestion) -> MetadataExplanation:
        """What becomes of a metadata request, by the parts that answer guests."""
        return await self._explainer.metadata(question)

    def explain_packet(self, question: PacketQuestion) -> PacketExplanation:
        """What becomes of a packet, by the tables that a packet engine would get; raises ValueError."""
        return explain_packet(self._store.desired, question)

    async def wait_applied(self, position: int, timeout: float) -> bool:  # noqa: ASYNC109 - part of the protocol
        """Wait until every network was brought to `position` (or failed); False after `timeout` seconds."""
        return await self._node.wait_applied(position, timeout)

    def status(self) -> Status:
        """The state of the node, now."""
        return Status(
            node=self._node.name,
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            ready=self._node.ready,
            revision=self._store.position,
            applied=self._node.applied,
            networks=tuple(served.status() for served in self._node.networks.values()),
            instances=len(self._store.desired.instances),
            leases=self._leases.count()["bound"],
            dhcp=self._dhcp(),
            metadata=self._http(),
            loop_lag_seconds=self._heartbeat.lag_seconds,
            resident_bytes=_resident_bytes(),
        )

    def _dhcp(self) -> Traffic:
        cores = [served.dhcp.core for served in self._node.networks.values()]
        counters = [self._node.retired, *(core.counters for core in cores)]
        return Traffic(
            received=sum(sum(each.received.values()) for each in counters),
            answered=sum(sum(each.sent.values()) for each in counters),
            dropped=sum(sum(each.dropped.values()) for each in counters),
            held=sum(core.held for core in cores),
        )

    def _http(self) -> Traffic:
        totals = self._metadata.totals()
        answered = sum(totals.requests.values())
        dropped = sum(totals.dropped.values())
        held = sum(len(listener.held) for listener in self._metadata.listeners.values())
        return Traffic(received=answered + dropped + held, answered=answered, dropped=dropped, held=held)


def _outcome(applied: Applied, dry_run: bool) -> Outcome:
    return Outcome(position=applied.position, changed=applied.changed, dry_run=dry_run)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * _PAGE_BYTES

"""A backend of the control API that lives in memory, and a control server over it in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dataplane import documents
from dataplane.callers import Callers
from dataplane.config import Config, ControlConfig
from dataplane.control import Backend, ControlServer
from dataplane.desired import Desired
from dataplane.explain import Explainer, Gate
from dataplane.explain_packet import explain_packet
from dataplane.explanation import MetadataExplanation, MetadataQuestion, PacketExplanation, PacketQuestion
from dataplane.leases import LeaseRow
from dataplane.metadata_view import Defaults
from dataplane.metrics import Metrics
from dataplane.model import Ip, Kind, Mac, NetworkId, Object, PortId
from dataplane.status import NetworkStatus, Outcome, Status, Traffic

LEASE = LeaseRow(
    network_id=NetworkId("blue-net"),
    port_id=PortId("blue-port"),
    mac=Mac("02:00:00:00:00:05"),
    address=Ip("10.0.0.5"),
    state="bound",
    since=1_700_000_000.0,
    updated=1_700_000_100.0,
    expires=4_000_000_000.0,
    hostname="blue-vm",
)

TENANT: dict[str, Any] = {
    "networks": [
        {
            "id": "blue-net",
            "name": "blue",
            "vni": 101,
            "subnets": [{"id": "blue-subnet", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"}],
        }
    ],
    "ports": [
        {
            "id": "blue-port",
            "network_id": "blue-net",
            "mac_address": "02:00:00:00:00:05",
            "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.5"}],
            "device_id": "00000000-0000-4000-8000-000000000001",
        }
    ],
    "instances": [
        {
            "id": "00000000-0000-4000-8000-000000000001",
            "project_id": "blue-project",
            "name": "blue-vm",
            "user_data": "#!/bin/sh\necho blue\n",
        }
    ],
}


class FakeBackend:
    """Applies to a model in memory; tests set `lag` (positions not carried out), `errors`, `ready` and `fault`."""

    def __init__(self) -> None:
        self.desired = Desired()
        self.position = 0
        self.lag = 0
        self.errors: dict[str, str] = {}
        self.ready = True
        self.fault: Exception | None = None
        self.rows: list[LeaseRow] = []
        self.gate: Gate | None = None

    async def apply(self, document: object, *, prune: bool, dry_run: bool) -> Outcome:
        self._check()
        state = documents.decode(document, against=self.desired, prune=prune)
        change = self.desired.stage(state, prune=prune)
        changed = self.desired.tally(change, state)
        return self._commit(change, changed, dry_run)

    async def delete(self, refs: Sequence[tuple[Kind, str]]) -> Outcome:
        self._check()
        change = self.desired.stage(deletes=refs)
        return self._commit(change, self.desired.tally(change), False)

    def objects(self, kind: Kind) -> Mapping[str, Object]:
        return self.desired.of_kind(kind)

    async def leases(self, network_id: NetworkId | None) -> Sequence[LeaseRow]:
        return [row for row in self.rows if network_id is None or row.network_id == network_id]

    def status(self) -> Status:
        self._check()
        networks = tuple(
            NetworkStatus(
                id=network.id,
                name=network.name,
                state="error" if network.id in self.errors else "ready",
                error=self.errors.get(network.id, ""),
                ports=1,
                plugged=1,
            )
            for network in self.desired.networks.values()
        )
        return Status(
            node="fake", version="0", pid=1, started_at=1_700_000_000.0, ready=self.ready, revision=self.position,
            applied=self.position - self.lag, networks=networks, instances=len(self.desired.instances),
            leases=len(self.rows), dhcp=Traffic(received=3, answered=2, dropped=1),
        )  # fmt: skip

    async def explain_metadata(self, question: MetadataQuestion) -> MetadataExplanation:
        self._check()
        callers = Callers(self.desired, Defaults(domain="novalocal"))
        return await Explainer(self.desired, callers, self).metadata(question)

    def explain_packet(self, question: PacketQuestion) -> PacketExplanation:
        self._check()
        return explain_packet(self.desired, question)

    async def wait_applied(self, position: int, timeout: float) -> bool:  # noqa: ASYNC109
        await asyncio.sleep(0)
        return self.position - self.lag >= position

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _commit(self, change: Any, changed: Any, dry_run: bool) -> Outcome:
        if not dry_run and (change.puts or change.deletes):
            self.desired.apply(change)
            self.position += 1
        return Outcome(position=self.position, changed=changed, dry_run=dry_run)


def _conforms(backend: FakeBackend) -> Backend:
    return backend


def config(path: Path, **control: Any) -> Config:
    """A configuration whose control socket is `path`."""
    return Config(control=ControlConfig(socket=str(path), **control))


@contextmanager
def served(
    backend: FakeBackend, settings: Config, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> Iterator[Metrics]:
    """A control server over `backend` in a thread, for clients that block."""
    metrics, started, failures = Metrics(), threading.Event(), list[BaseException]()
    loop = new_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = ControlServer(backend, settings, metrics)
        try:
            await server.start()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            started.set()
        await stop.wait()
        await server.close()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except Exception:
            assert failures  # told to the test below
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run, name="control server")
    thread.start()
    started.wait()
    if failures:
        thread.join()
        raise failures[0]
    try:
        yield metrics
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def as_json(value: object) -> bytes:
    return msgspec.json.encode(value)

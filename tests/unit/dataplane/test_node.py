"""A node without kernel: how the model, the callers and the metadata server hear of changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataplane.backends import Backends
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.dhcp.policy import Policy
from dataplane.fdstore import FdStore
from dataplane.kernel import Kernel
from dataplane.lease_book import LeaseBook
from dataplane.metadata_view import Defaults
from dataplane.metrics import Metrics
from dataplane.model import Change
from dataplane.node import Node
from dataplane.sdnotify import Notifier
from dataplane.source import MemorySource
from fastpath import sockets
from metadata.identity import Caller, Verdict
from metadata.server import MetadataServer
from metadata.settings import Settings
from metadata.stream import State
from tests.unit.dataplane.states import UUID, instance, network, port, state
from tests.unit.metadata.lab import Lab, until
from tests.unit.metadata.test_exchange import kept, posted

OWNED = port("p", 5, device_id=f"{UUID}1")
MAC = OWNED["mac_address"]


class Posts:
    """Passwords, each with the moment it was posted at."""

    def __init__(self) -> None:
        self.node: Node | None = None
        self.kept: list[tuple[bytes, int]] = []

    def load(self, instance: str) -> bytes:
        return b""

    def moment(self) -> int:
        assert self.node is not None
        return self.node.position

    async def keep(self, instance: str, password: bytes, moment: int) -> bool:
        self.kept.append((password, moment))
        return True


class Running(Lab):
    """The lab's server over a node's callers; every guest has the port's MAC and address."""

    def __init__(self) -> None:
        super().__init__(Settings(defer_accept_seconds=0, sweep_seconds=0.01))
        self.source = MemorySource()
        self.desired = Desired()
        self.posts = Posts()
        self.callers = Callers(self.desired, Defaults(domain=""), Backends(self.posts))
        self.server = MetadataServer(self, sockets, self.server.settings)
        leases = cast(LeaseBook, SimpleNamespace(take=None, forget_ports=lambda ports: None))
        self.node = self.posts.node = Node(
            "node", self.source, cast(Kernel, None), self.server, self.callers, self.desired, leases,
            Metrics(False, "pure"), FdStore(Notifier()), Policy(), 0.0, serve=False,
        )  # fmt: skip

    def lookup(self, caller: Caller) -> Verdict:
        return self.callers.lookup(Caller(caller.network_id, MAC, "10.0.0.5"))


@asynccontextmanager
async def running(*objects: Any) -> AsyncIterator[Running]:
    it = Running()
    it.attach("blue")
    it.source.put(state(*objects))
    await it.node._resync()
    following = asyncio.create_task(it.node._follow())
    try:
        yield it
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await it.close()


@pytest.mark.asyncio
async def test_a_change_of_the_network_alone_is_heard_by_those_who_wait() -> None:
    """Its documents were to be Nova's, of which there is none; now they are the node's own."""
    async with running([network(metadata_backend="nova")], [OWNED], [instance(1, hostname="one")]) as it:
        guest = await it.guest()
        asking = asyncio.create_task(guest.ask("/latest/meta-data/hostname"))
        await until(lambda: it.server.listeners["blue"].held)
        it.source.put(state([network()]))
        assert (await asking)[::2] == (200, b"one")


@pytest.mark.asyncio
async def test_who_is_answered_because_of_a_change_knows_it() -> None:
    async with running([network()], [OWNED]) as it:
        guest = await it.guest()
        await guest.send(b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        await until(lambda: it.server.listeners["blue"].held)
        position = it.source.put(state(instances=[instance(1)]))
        assert (await guest.answer())[0] == 200
        assert it.posts.kept == [(b"x", position)]


@pytest.mark.asyncio
async def test_answers_that_are_made_go_out_before_the_model_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those to requests that were sent ahead."""
    async with running([network()], [OWNED], [instance(1, hostname="one")]) as it:
        guest, connection = await kept(it, "127.0.0.5")
        await posted(guest, connection, *["/latest/meta-data/hostname"] * 3)
        states: list[State] = []
        apply = Desired.apply

        def applied(desired: Desired, change: Change) -> Change:
            states.append(connection.state)
            return apply(desired, change)

        monkeypatch.setattr(Desired, "apply", applied)
        change = it.desired.stage(state(instances=[instance(1, hostname="two")]))
        it.node._take(change, it.node.position + 1)
        assert states == [State.READING]
        assert [(await guest.answer())[2] for _ in range(3)] == [b"one"] * 3
        assert (await guest.ask("/latest/meta-data/hostname"))[2] == b"two"

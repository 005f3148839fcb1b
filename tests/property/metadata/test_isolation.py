"""From bytes to bytes: networks, ports and instances change at random while guests ask, and no answer is another's.

Everything is the real one but the wire and Nova: connections, the drop-in socket, tokens, the callers of the model,
documents, the cache before Nova. Guests are told apart on loopback by an address of their own, which stands for the
MAC and the address that the kernel would give.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
from collections.abc import Mapping
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataplane.backends import Backends
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.documents import decode
from dataplane.metadata_view import Defaults
from dataplane.model import NetworkId
from fastpath import sockets
from metadata import dropin_server, imds
from metadata.dropin import Forwarded
from metadata.http1 import Request
from metadata.identity import Caller, Verdict
from metadata.nova_proxy import NovaProxy
from metadata.responses import Response
from metadata.server import MetadataServer
from metadata.settings import Settings
from metadata.streamed import Streamed
from metadata.tokens import KeyRing, TokenKeys
from metadata.upstream import Answer, BrokenError, UnreachableError
from tests.moves import ADDRESSES, DOCUMENTS, MACS, NETWORKS, Guest, Owner, World, addresses, belongs, nova_body
from tests.unit.metadata.asking import Clock, Parts
from tests.unit.metadata.asking import settings as nova_settings
from tests.unit.metadata.lab import listening

NOW = 1.8e9
TOKEN = "x-aws-ec2-metadata-token"
PASSWORD = "/openstack/latest/password"
TOKENS = imds.TOKEN_PATH.decode()
METHODS = {(TOKENS, True): "PUT", (TOKENS, False): "PUT", (PASSWORD, False): "POST"}
PATHS = (*DOCUMENTS, "/", "/openstack", "/latest/meta-data/", "/none", TOKENS, PASSWORD)
LAST = ("/latest/user-data", "/openstack/latest/meta_data.json", "/openstack/latest/network_data.json")
SETTINGS = Settings(defer_accept_seconds=0, sweep_seconds=0.005, hold_seconds=0.01, linger_seconds=0.01, rate=0.0,
                    connections_per_port=1000, held_per_network=1000)  # fmt: skip
NUMBERS = itertools.count()
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GUESTS = [Guest(network, mac, address) for network in NETWORKS for mac in (*MACS, None) for address in ADDRESSES]


class Nova:
    """A `metadata.upstream.Client` that tells whom it was asked for, slowly, or fails."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.turns = 0
        self.failing = 0
        self.streamed = 0
        self.let_go: list[None] = []

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        instance, project = headers["X-Instance-ID"], headers["X-Tenant-ID"]
        told = nova_body(instance, project, self.world.versions[instance], target)
        failing = self.failing
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if failing:
            raise (UnreachableError, BrokenError)[failing - 1]("x")
        status = 404 if target == "/none" else 200
        if self.turns % 2 == 0:
            return Answer(status, "text/plain", (), told)
        self.streamed += 1
        return Answer(status, "text/plain", (), told[:2], Parts(told[2:], self.let_go), len(told))

    async def close(self) -> None:
        pass


class Node:
    """The model and the server over it, as the node has them; and the wire."""

    def __init__(self, world: World, prefetch: bool) -> None:
        self.world = world
        self.under_way: dict[int, tuple[Guest, set[Owner | None]]] = {}
        """Requests without an answer, and who may have been answered since they were sent."""
        self.kept: dict[str, bytes] = {}
        """Passwords by instance."""
        self.upstream = Nova(world)
        self.clock = Clock()
        proxy_settings = nova_settings("http://nova", prefetch=prefetch, connections=6, connections_per_project=3,
                                       cache_bytes=1 << 15, stale_after=0.0)  # fmt: skip
        self.proxy = NovaProxy(proxy_settings, self.upstream, clock=self.clock)
        self.desired = Desired()
        self.callers = Callers(self.desired, Defaults(domain="novalocal"), Backends(self, self.proxy))
        self.keys = TokenKeys(KeyRing.fresh(NOW))
        self.tokens: dict[str, str] = {}
        """Every token that was given out, and for which port."""
        self.wrong: list[str] = []
        self.right = 0
        self.server = MetadataServer(self, sockets, SETTINGS, access=self._written, gate=self._gate)
        self.where = {network: self._attach(network) for network in NETWORKS}
        self.unix = f"\0nodeplane isolation {os.getpid()} {next(NUMBERS)}"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.unix)
        sock.listen(64)
        dropin_server.attach(self.server, sock, lambda _: True)
        self.follow()

    def _attach(self, network: str) -> Any:
        sock = listening()
        self.server.attach(network, sock)
        return sock.getsockname()

    def follow(self) -> None:
        """Bring model and server to the world, as `dataplane.node` does."""
        self.server.flush()
        state = decode(self.world.document(), against=self.desired, prune=True)
        change = self.desired.stage(state, prune=True)
        undo = self.desired.apply(change)
        self.callers.forget((*undo.puts, *change.puts))
        for network in NETWORKS:
            self.server.recheck(network)
        for guest, owners in self.under_way.values():
            owners.add(self.world.owner(guest))

    async def close(self) -> None:
        self.server.close()
        await self.proxy.close()

    def load(self, instance: str) -> bytes:
        """`DurablePasswords`."""
        return self.kept.get(instance, b"")

    def moment(self) -> int:
        """`DurablePasswords`; the world and the model are one here."""
        return 0

    async def keep(self, instance: str, password: bytes, moment: int) -> bool:
        """`DurablePasswords`; a password is the number of the request that it came with."""
        _, owners = self.under_way[int(password)]
        if instance not in {owner.instance for owner in owners if owner is not None}:
            self.wrong.append(f"a password of {owners} was kept for {instance}")
        return self.kept.setdefault(instance, password) is password

    def guest(self, caller: Caller) -> Guest:
        """Who is behind a caller."""
        if isinstance(caller, Forwarded):
            return Guest(caller.network_id, None, caller.address)
        high, low = map(int, caller.address.split(".")[2:])
        found = GUESTS[high * 250 + low - 1]
        assert found.network == caller.network_id
        return found

    def lookup(self, caller: Caller) -> Verdict:
        """`CallerLookup`: what the kernel says of the connection, instead of what loopback says."""
        if isinstance(caller, Forwarded):
            return self.callers.lookup(caller)
        guest = self.guest(caller)
        return self.callers.lookup(Caller(NetworkId(guest.network), guest.mac, guest.address))

    def _gate(self, request: Request, known: Any, now: float) -> Response | None:
        return imds.gate(request, known, self.keys, NOW)

    def _written(
        self, caller: Caller, request: Request, response: Response | Streamed, port: str, seconds: float
    ) -> None:
        """An answer is written: whose is it, at this moment?"""
        if response.status != 200 or request.method == "POST":
            return
        guest, path = self.guest(caller), request.target.decode()
        owner = self.world.owner(guest)
        # What is passed on as it comes is looked at by the guest who gets it.
        content = response.content() if isinstance(response, Response) else None
        said = f"{guest} {request.method} {path} -> {content!r}; may see {owner}"
        if owner is None or owner.port != port:
            self.wrong.append(f"port {port!r}: {said}")
            return
        token = request.headers.get(TOKEN)
        if request.method == "PUT":
            assert content is not None
            self.tokens[content.decode()] = port
        elif token is not None and self.tokens.get(token) != port:
            self.wrong.append(f"by a token for {self.tokens.get(token)!r}: {said}")
        elif token is None and owner.tokens:
            self.wrong.append(f"without a token: {said}")
        elif path == PASSWORD and not owner.nova:
            if content != self.kept.get(owner.instance, b""):
                self.wrong.append(said)
        elif path in DOCUMENTS:
            self.right += 1
            if content is not None and not belongs(owner, path, content):
                self.wrong.append(said)


class Client:
    """One guest: its kept connection, and others for a request each."""

    def __init__(self, node: Node, guest: Guest) -> None:
        number = GUESTS.index(guest)
        self.guest = guest
        self._node = node
        self._source = f"127.0.{number // 250}.{number % 250 + 1}"
        self._kept: Link | None = None

    async def ask(self, method: str, path: str, token: str | None = None, keep: bool = False) -> int:
        """One request and its answer, which must be of one who owned the place meanwhile; 0: no answer."""
        node = self._node
        owners = {node.world.owner(self.guest)}
        number = next(NUMBERS)
        node.under_way[number] = self.guest, owners
        link = None
        try:
            if keep and self._kept is not None:
                link, self._kept = self._kept, None  # nobody else uses it meanwhile
            reader, writer = link = link or await self._connect()
            writer.write(self._request(method, path, token, str(number) if method == "POST" else ""))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            status = int(head.split()[1])
            if status == 200 and path in DOCUMENTS and method == "GET":
                assert any(owner is not None and belongs(owner, path, body) for owner in owners), (body, owners)
            if keep and b"\r\nconnection: close" not in head and self._kept is None:
                self._kept, link = link, None
            return status
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0
        finally:
            del node.under_way[number]
            if link is not None:
                link[1].close()

    def close(self) -> None:
        if self._kept is not None:
            self._kept[1].close()

    async def _connect(self) -> Link:
        if self.guest.mac is None:
            return await asyncio.open_unix_connection(self._node.unix)
        return await asyncio.open_connection(*self._node.where[self.guest.network], local_addr=(self._source, 0))

    def _request(self, method: str, path: str, token: str | None, body: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1"]
        if token is not None:
            lines.append(f"{TOKEN}: {token}")
        if method == "PUT":
            lines.append(f"{imds.TTL_HEADER}: 60")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        if self.guest.mac is None:
            lines += [f"X-OVN-Network-ID: {self.guest.network}", f"X-Forwarded-For: {self.guest.address}"]
        return "\r\n".join((*lines, "", body)).encode()


def pick(world: World, choose: random.Random) -> Guest:
    """A guest as some port has it, one with a port's MAC and any address, or any."""
    kind = choose.randrange(8)
    if kind == 0 or not world.ports:
        return choose.choice(GUESTS)
    port = choose.choice(list(world.ports.values()))
    address = choose.choice(ADDRESSES if kind < 3 else addresses(port))
    return Guest(port["network_id"], None if kind == 7 else port["mac_address"], address)


# Random by a seed, not step by step: what is shrunk is their number.
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(0, 1 << 32), st.booleans())
@example(400, 5, True)
@example(400, 6, False)
def test_no_answer_is_anothers(steps: int, seed: int, prefetch: bool) -> None:
    async def test() -> None:
        choose = random.Random(seed)
        node = Node(World(choose), prefetch)
        clients = {guest: Client(node, guest) for guest in GUESTS}
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(steps):
                    await take(node, clients, tasks, choose)
            node.upstream.turns = node.upstream.failing = 0
            node.clock.now += 1000.0
            await settled(node, clients)
        finally:
            for client in clients.values():
                client.close()
            await node.close()
            await asyncio.sleep(0)
        assert node.wrong == []
        assert len(node.upstream.let_go) == node.upstream.streamed

    asyncio.run(test())


async def take(node: Node, clients: dict[Guest, Client], tasks: asyncio.TaskGroup, choose: random.Random) -> None:
    """One step: a guest asks, something changes, time goes on, Nova gets slow or fails, or the loop runs."""
    kind = choose.randrange(20)
    if kind < 12:
        path = choose.choice(PATHS)
        method = METHODS.get((path, choose.random() < 0.5), "GET")
        token = choose.choice(list(node.tokens)) if node.tokens and choose.random() < 0.3 else None
        client = clients[pick(node.world, choose)]
        tasks.create_task(client.ask(method, path, token, choose.random() < 0.5))
    elif kind < 15:
        node.world.steps(choose.randint(1, 3))
        node.follow()
    elif kind == 15:
        node.clock.now += choose.randrange(12)
    elif kind == 16:
        node.upstream.turns, node.upstream.failing = choose.randrange(12), choose.choice([0, 0, 0, 1, 2])
    else:
        for _ in range(choose.randrange(12)):
            await asyncio.sleep(0)


async def settled(node: Node, clients: dict[Guest, Client]) -> None:
    """In the end everybody who may have documents has them, as they are now; nobody else has any."""

    async def check(client: Client) -> None:
        owner = node.world.owner(client.guest)
        if owner is None:
            assert await client.ask("GET", "/latest/user-data") in (403, 503)
            return
        assert await client.ask("GET", "/latest/user-data") == (401 if owner.tokens else 200)
        assert await client.ask("PUT", TOKENS) == 200
        token = next(token for token, port in node.tokens.items() if port == owner.port)
        for path in LAST:
            assert await client.ask("GET", path, token) == 200

    guests = {
        Guest(port["network_id"], mac, address)
        for port in node.world.ports.values()
        for address in addresses(port)
        for mac in (port["mac_address"], None)
    }
    async with asyncio.TaskGroup() as tasks:
        for guest in guests:
            tasks.create_task(check(clients[guest]))

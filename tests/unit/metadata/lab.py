"""A metadata server on loopback: a fake lookup, guests at 127.x.x.x, and a loop of either kind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastpath import sockets
from metadata.backend import OwnBackend
from metadata.identity import NO_PORT, Caller, Known, Verdict
from metadata.records import InstanceDocument
from metadata.server import MetadataServer
from metadata.settings import Settings
from metadata.tree import InstanceTree

TCP_SAVE_SYN = 27
LOOPBACK_MAC = "00:00:00:00:00:00"


class Ports:
    """A `CallerLookup` of a table: (network, address) to what the caller is."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, str], Verdict] = {}
        self.asked: list[Caller] = []

    def lookup(self, caller: Caller) -> Verdict:
        self.asked.append(caller)
        return self.verdicts.get((caller.network_id, caller.address), NO_PORT)

    def know(self, network: str, address: str, document: InstanceDocument) -> None:
        self.verdicts[network, address] = Known(f"port-{network}-{address}", OwnBackend(InstanceTree(document)))


def listening(address: str = "127.0.0.1", backlog: int = 128) -> socket.socket:
    """A socket as the opener inside a namespace makes it."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 2)
    sock.bind((address, 0))
    sock.listen(backlog)
    return sock


class Guest:
    """A client that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """One HTTP answer: status, headers by lower-case name, body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")[:-2]
        protocol, status, _ = first.split(" ", 2)
        assert protocol == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines)
        body = b"" if head_only else await self._reader.readexactly(int(headers["content-length"]))
        return int(status), headers, body

    async def ask(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        await self.send("\r\n".join((f"{method} {path} HTTP/1.1", *headers, "", "")).encode())
        return await self.answer(method == "HEAD")

    async def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b"<reset>"

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Lab:
    """The server and what talks to it."""

    def __init__(self, settings: Settings) -> None:
        self.ports = Ports()
        self.server = MetadataServer(self.ports, sockets, settings)
        self.where: dict[str, tuple[str, int]] = {}
        self._guests: list[Guest] = []

    def attach(self, network: str) -> None:
        sock = listening()
        self.where[network] = sock.getsockname()
        self.server.attach(network, sock)

    async def guest(
        self, address: str = "127.0.0.5", network: str = "blue", receive: int = 0, say: bytes = b""
    ) -> Guest:
        """Connect from an address; `receive` limits the client's receive buffer, in bytes; `say` is sent at once."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            if receive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            sock.bind((address, 0))
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, self.where[network])
        except OSError:
            sock.close()
            raise
        if say:
            sock.send(say)
        guest = Guest(*await asyncio.open_connection(sock=sock, limit=1 << 17))
        self._guests.append(guest)
        return guest

    async def close(self) -> None:
        self.server.close()
        for guest in self._guests:
            await guest.close()


@asynccontextmanager
async def lab(settings: Settings | None = None) -> AsyncIterator[Lab]:
    made = Lab(settings or Settings(defer_accept_seconds=0, sweep_seconds=0.01))
    made.attach("blue")
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

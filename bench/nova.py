"""A stand-in for nova-api-metadata in a process of its own: checks who is asking, takes its time, counts.

`python -m bench.nova ADDRESS PORT SECRET GUESTS SECONDS`: instance number n belongs to project n // GUESTS, and every
answer takes SECONDS. It is light, since it shares a core with the guests: aiohttp's server would be most of the load.
Orders come on standard input, one a line, and each is answered with a line of JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from bench import crawl
from bench.cores import pinned
from bench.machine import ROOT

SECRET = "secret"
"""What bench.peers.neutron configures, too."""


def project_id(network: int) -> str:
    """The project of all instances of network number `network`."""
    return f"{network:032x}"


class Stall:
    """Projects that are not answered at present, and the answers that wait."""

    def __init__(self) -> None:
        self.projects: frozenset[str] = frozenset()
        self.waiting: list[tuple[Protocol, bytes]] = []

    def begin(self, *projects: str) -> None:
        """Answer nothing of theirs from now on."""
        self.projects = frozenset(projects)

    def end(self) -> None:
        """Answer everybody, and what was asked meanwhile."""
        self.projects = frozenset()
        waiting, self.waiting = self.waiting, []
        for protocol, response in waiting:
            protocol.send(response)


class Service:
    """What all connections share."""

    def __init__(self, secret: str, guests: int, seconds: float) -> None:
        self.secret = secret.encode()
        self.guests = guests
        self.seconds = seconds
        self.stall = Stall()
        self.statuses: Counter[int] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        """By instance and path with query."""
        self.under_way = 0
        self.most = 0
        """Requests at the same time."""
        self._signatures: dict[str, str] = {}

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body, by Nova's rules for a request that names its instance."""
        instance, project = headers.get("x-instance-id", ""), headers.get("x-tenant-id", "")
        if not instance or not project or "x-forwarded-for" not in headers:
            return 400, b"header missing"
        if not hmac.compare_digest(self._signature(instance), headers.get("x-instance-id-signature", "")):
            return 403, b"Invalid proxy request signature."
        number = int(instance.rpartition("-")[2], 16)
        if project != project_id(number // self.guests):
            return 404, b"not found"
        self.asked[instance, target] += 1
        found = crawl.body(target.partition("?")[0], number) if method == "GET" else None
        return (404, b"not found") if found is None else (200, found)

    def _signature(self, instance: str) -> str:
        found = self._signatures.get(instance)
        if found is None:
            found = hmac.new(self.secret, instance.encode(), hashlib.sha256).hexdigest()
            self._signatures[instance] = found
        return found

    def order(self, line: str) -> dict[str, Any]:
        """Carry out `stall PROJECT...`, `go` or `count`, which also starts the counts anew."""
        word, *rest = line.split()
        if word == "stall":
            self.stall.begin(*rest)
        elif word == "go":
            self.stall.end()
        found = {"statuses": {str(status): count for status, count in self.statuses.items()}, "most": self.most,
                 "asked": self.asked.total(), "different": len(self.asked)}  # fmt: skip
        if word == "count":
            self.statuses.clear()
            self.asked.clear()
            self.most = self.under_way
        return found


class Protocol(asyncio.Protocol):
    """One connection: one request after the other, none with a body."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only

    def connection_lost(self, _failure: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            head, self._received = self._received.decode("latin-1"), b""
            self._take(head)

    def _take(self, head: str) -> None:
        line, *lines = head.split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        pairs = (text.partition(":") for text in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        service = self._service
        status, body = service.answer(method, target, headers)
        service.statuses[status] += 1
        service.under_way += 1
        service.most = max(service.most, service.under_way)
        kind = "application/json" if target.partition("?")[0].endswith(".json") else "text/plain; charset=UTF-8"
        response = (
            f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        if headers.get("x-tenant-id") in service.stall.projects:
            service.stall.waiting.append((self, response))
        else:
            asyncio.get_running_loop().call_later(service.seconds, self.send, response)

    def send(self, response: bytes) -> None:
        """The answer is ready."""
        self._service.under_way -= 1
        if self._transport is not None:
            self._transport.write(response)


async def serve(address: str, port: int, service: Service) -> None:
    """Until the end of standard input."""
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Protocol(service), address, port, backlog=4096)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("{}", flush=True)
    while line := await orders.readline():
        print(json.dumps(service.order(line.decode())), flush=True)


class Nova:
    """The stand-in's process, on `cores`."""

    def __init__(self, place: str, guests: int, seconds: float, cores: frozenset[int]) -> None:
        """`place` is address:port in this namespace. Returns when it listens."""
        self.place = place
        address, _, port = place.partition(":")
        with pinned(cores):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.nova", address, port, SECRET, str(guests), str(seconds)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, line: str) -> dict[str, Any]:
        """See `Service.order`."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in for Nova ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


if __name__ == "__main__":
    import uvloop

    place, number, key, per_project, duration = sys.argv[1:]
    uvloop.run(serve(place, int(number), Service(key, int(per_project), float(duration))))

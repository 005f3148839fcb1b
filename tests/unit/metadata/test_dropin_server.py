"""The metadata agent's socket: many guests' requests through one listener, each answered as its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from metadata import dropin_server
from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.identity import Caller, Known
from metadata.records import InstanceDocument
from metadata.responses import Response
from metadata.server import PROXIED
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Guest, Lab, lab, until
from tests.unit.metadata.sample import BARE

SETTINGS = Settings(defer_accept_seconds=0, sweep_seconds=0.01, held_per_network=2)
NAME = "/latest/meta-data/hostname"


def named(name: str) -> InstanceDocument:
    return msgspec.structs.replace(BARE, hostname=name)


class Proxies:
    """A lab whose server also listens on a Unix socket."""

    def __init__(self, it: Lab, path: Path) -> None:
        self.lab = it
        self.path = path
        self.allowed = True
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(64)
        self.listener = dropin_server.attach(it.server, sock, lambda _: self.allowed)
        self._open: list[Guest] = []

    async def connect(self, say: bytes = b"") -> Guest:
        """Connect; `say` is there when the connection is accepted."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self.path))
            sock.send(say)
        except OSError:
            sock.close()
            raise
        self._open.append(Guest(*await asyncio.open_unix_connection(sock=sock)))
        return self._open[-1]

    async def close(self) -> None:
        for guest in self._open:
            await guest.close()


@asynccontextmanager
async def proxies(path: Path, settings: Settings = SETTINGS) -> AsyncIterator[Proxies]:
    async with lab(settings) as it:
        for network in ("blue", "green"):
            it.ports.know(network, "10.0.0.5", named(network))
        made = Proxies(it, path)
        try:
            yield made
        finally:
            await made.close()


def of(network: str, address: str = "10.0.0.5") -> tuple[str, str]:
    return f"X-OVN-Network-ID: {network}", f"X-Forwarded-For: {address}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_every_request_is_its_own_guests(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            for network in ("blue", "green", "blue"):
                status, headers, text = await (await it.connect()).ask(NAME, *of(network))
                assert (status, text, headers["connection"]) == (200, network.encode(), "close")
            assert it.lab.server.listeners[PROXIED].counters.requests == {("ec2", "200"): 3}

    run(body())


def test_a_second_request_on_a_connection_is_not_answered(run: Run, path: Path) -> None:
    """It may be what the proxy took for the first one's body."""

    async def body() -> None:
        async with proxies(path) as it:
            proxy = await it.connect()
            one, two = ("\r\n".join((f"GET {NAME} HTTP/1.1", *of(network), "", "")) for network in ("blue", "green"))
            await proxy.send((one + two).encode())
            assert (await proxy.answer())[2] == b"blue"
            assert await proxy.rest() in (b"", b"<reset>")
            assert [caller.network_id for caller in it.lab.ports.asked] == ["blue"]

    run(body())


class Changing:
    """A backend whose port changes under the first request."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    async def answer(self, request: Request, caller: Caller, now: float) -> Response:
        self.callers.append(caller)
        await asyncio.sleep(0)
        if len(self.callers) == 1:
            raise RetiredError
        return Response(200, "text/plain", b"again")


def test_who_is_asked_again_is_the_same(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            backend = Changing()
            it.lab.ports.verdicts["blue", "10.0.0.8"] = Known("p", backend)
            one, two = (
                "\r\n".join((f"GET {NAME} HTTP/1.1", *of(*whose), "", ""))
                for whose in (("blue", "10.0.0.8"), ("green",))
            )
            proxy = await it.connect()
            await proxy.send((one + two).encode())
            assert (await proxy.answer())[2] == b"again"
            assert [caller.address for caller in backend.callers] == ["10.0.0.8"] * 2
            assert {caller.network_id for caller in it.lab.ports.asked} == {"blue"}

    run(body())


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "forwarded_network"),
        (("X-Forwarded-For: 10.0.0.5",), "forwarded_network"),
        ((*of("blue"), "X-OVN-Network-ID: green"), "forwarded_network"),
        ((*of("blue"), "X-Neutron-Router-ID: r"), "forwarded_network"),
        (("X-OVN-Network-ID: blue",), "forwarded_address"),
    ],
)
def test_what_is_not_plain_is_refused(run: Run, path: Path, lines: tuple[str, ...], reason: str) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            proxy = await it.connect()
            status, headers, _ = await proxy.ask(NAME, *lines)
            assert (status, headers["connection"]) == (400, "close")
            assert it.lab.server.totals().dropped == {reason: 1}
            assert it.lab.ports.asked == []

    run(body())


def test_an_unknown_guest_waits_for_its_port(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            proxy = await it.connect()
            asking = asyncio.create_task(proxy.ask(NAME, *of("blue", "10.0.0.7")))
            await until(lambda: it.listener.held)
            it.lab.ports.know("blue", "10.0.0.7", named("late"))
            it.lab.server.recheck("blue")
            assert (await asking)[2] == b"late"

    run(body())


def test_one_network_does_not_take_anothers_room_to_wait(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            waiting = [await it.connect() for _ in range(4)]
            for proxy in waiting[:2]:
                await proxy.send("\r\n".join((f"GET {NAME} HTTP/1.1", *of("red"), "", "")).encode())
            await until(lambda: len(it.listener.held) == 2)
            assert (await waiting[2].ask(NAME, *of("red")))[0] == 503
            other = asyncio.create_task(waiting[3].ask(NAME, *of("white")))
            await until(lambda: len(it.listener.held) == 3)
            it.lab.ports.know("white", "10.0.0.5", named("white"))
            it.lab.server.recheck("white")
            assert (await other)[2] == b"white"

    run(body())


def test_the_limit_of_a_ports_connections_is_the_proxys(run: Run, path: Path) -> None:
    """Those that wait are of any networks, so they say nothing of the guest whose answer is too large for one write."""

    async def body() -> None:
        async with proxies(path, msgspec.structs.replace(SETTINGS, connections_per_port=1)) as it:
            large = b"x" * (4 << 20)
            it.lab.ports.know("blue", "10.0.0.5", msgspec.structs.replace(BARE, user_data=large))
            held = await it.connect()
            await held.send("\r\n".join((f"GET {NAME} HTTP/1.1", *of("red"), "", "")).encode())
            await until(lambda: it.listener.held)
            say = "\r\n".join(("GET /latest/user-data HTTP/1.1", *of("blue"), "", "")).encode()
            status, _, text = await (await it.connect(say)).answer()
            assert (status, text == large) == (200, True)
            assert it.lab.server.totals().dropped == {}

    run(body())


def test_who_may_not_connect_is_closed(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            it.allowed = False
            proxy = await it.connect()
            assert await proxy.rest() == b""
            assert it.lab.server.totals().requests == {}

    run(body())


def test_closing_the_server_closes_the_socket(run: Run, path: Path) -> None:
    async def body() -> None:
        async with proxies(path) as it:
            assert (await (await it.connect()).ask(NAME, *of("blue")))[0] == 200
            waiting = await it.connect()
            it.lab.server.close()
            assert await waiting.rest() in (b"", b"<reset>")
            assert it.lab.server.totals().requests == {("ec2", "200"): 1}
            with pytest.raises(ConnectionError):
                await it.connect()

    run(body())

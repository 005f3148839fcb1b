"""Answers of other backends than the own documents: at once, later, never; and what may answer before them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable

import pytest

from metadata.http1 import Request
from metadata.identity import Caller, Known
from metadata.responses import TEXT, Response
from metadata.settings import Settings
from metadata.stream import borrowed
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Lab, lab, until

A = "127.0.0.5"
QUICK = Settings(defer_accept_seconds=0, sweep_seconds=0.01, answer_timeout=0.05)


class Answers:
    """A backend of one function."""

    def __init__(self, function: Callable[[Request, Caller], Response | Awaitable[Response]]) -> None:
        self._function = function

    def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Response]:
        return self._function(request, caller)


def use(it: Lab, function: Callable[[Request, Caller], Response | Awaitable[Response]]) -> None:
    it.ports.verdicts["blue", A] = Known("port", Answers(function))


def text(body: str, hop_limit: int | None = None) -> Response:
    return Response(200, TEXT, body.encode(), hop_limit=hop_limit)


def test_an_answer_may_come_later_and_requests_stay_in_order(run: Run) -> None:
    async def test() -> None:
        gone = asyncio.Event()

        async def later(request: Request, caller: Caller) -> Response:
            await gone.wait()
            return text(f"{caller.address} {request.target.decode()}")

        async with lab() as it:
            use(it, later)
            guest = await it.guest()
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].connections == 1)
            await guest.send(b"GET /3 HTTP/1.1\r\n\r\n")
            gone.set()
            for number in (1, 2, 3):
                assert (await guest.answer())[2] == f"{A} /{number}".encode()
            assert (await guest.ask("/4", "Connection: close"))[2] == f"{A} /4".encode()
            assert await guest.rest() == b""

    run(test())


def test_a_guest_that_goes_ends_its_own_wait_and_nobody_elses(run: Run) -> None:
    async def test() -> None:
        own: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begun: list[str] = []
        ended: list[str] = []

        async def fetch() -> Response:
            await own
            return text("shared")

        shared = asyncio.ensure_future(fetch())

        async def waits(request: Request) -> Response:
            begun.append(request.target.decode())
            try:
                return await asyncio.shield(shared)
            except asyncio.CancelledError:
                ended.append(request.target.decode())
                raise

        async with lab() as it:
            use(it, lambda request, caller: shared if request.target == b"/task" else waits(request))
            guests = [await it.guest() for _ in range(3)]
            for guest, path in zip(guests, ("/task", "/coroutine", "/stays"), strict=True):
                await guest.send(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            await until(lambda: it.server.listeners["blue"].connections == 3)
            await until(lambda: len(begun) == 2)
            await guests[0].close()
            await guests[1].close()
            await until(lambda: it.server.listeners["blue"].connections == 1)
            await until(lambda: ended == ["/coroutine"])
            own.set_result(None)
            assert (await guests[2].answer())[2] == b"shared"
            assert it.server.totals().dropped == {"disconnected": 2}

    run(test())


@pytest.mark.parametrize("reset", [True, False])
def test_a_guest_that_goes_before_the_server_has_looked(run: Run, reset: bool) -> None:
    """The first wait of a new connection costs no registration with the loop, so nobody is told that the guest went."""

    async def test() -> None:
        go_on = asyncio.Event()

        async def later(request: Request, caller: Caller) -> Response:
            await go_on.wait()
            return text("x" * 1000)

        async with lab(Settings(sweep_seconds=60.0)) as it:
            use(it, later)
            guest = await it.guest(say=b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].connections == 1)
            if reset:
                guest.writer.transport.abort()
            else:
                await guest.close()
            await asyncio.sleep(0.02)
            go_on.set()
            await until(lambda: not it.server.listeners["blue"].connections)

    run(test())


def test_what_is_sent_ahead_while_an_answer_is_waited_for_is_looked_at_once(run: Run) -> None:
    async def test() -> None:
        go_on = asyncio.Event()

        async def later(request: Request, caller: Caller) -> Response:
            await go_on.wait()
            return text(request.target.decode())

        async with lab(Settings(sweep_seconds=0.01)) as it:
            use(it, later)
            guest = await it.guest(say=b"GET /1 HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].connections == 1)
            await guest.send(b"GET /2 HTTP/1.1\r\n\r\n")
            (connection,) = it.server._waiting
            await until(lambda: connection._peeked)
            await asyncio.sleep(0.05)
            assert not connection._watching
            go_on.set()
            for number in (1, 2):
                assert (await guest.answer())[2] == f"/{number}".encode()

    run(test())


def test_a_detached_network_ends_what_waits_there(run: Run) -> None:
    async def test() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def never() -> Response:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        async with lab() as it:
            use(it, lambda request, caller: never())
            guest = await it.guest()
            await guest.send(b"GET / HTTP/1.1\r\n\r\n")
            await begun.wait()
            it.server.detach("blue")
            await ended.wait()
            assert await guest.rest() in (b"", b"<reset>")

    run(test())


@pytest.mark.parametrize("when", ["at once", "later", "cancelled"])
def test_a_mistake_of_a_backend_is_500_and_an_event(run: Run, when: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def fails() -> Response:
            await asyncio.sleep(0)
            raise ValueError(when)

        def answer(request: Request, caller: Caller) -> Awaitable[Response]:
            if when == "at once":
                raise ValueError(when)
            if when == "later":
                return fails()
            future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

        async with lab() as it:
            use(it, answer)
            guest = await it.guest()
            assert (await guest.ask("/"))[0] == 500
            assert it.server.totals().requests == {("none", "500"): 1}

    run(test())
    assert when == "cancelled" or "metadata.request_failed" in caplog.text


def test_a_backend_that_never_answers_is_504(run: Run) -> None:
    async def test() -> None:
        async with lab(QUICK) as it:
            use(it, lambda request, caller: asyncio.get_running_loop().create_future())
            guest = await it.guest()
            assert (await guest.ask("/"))[0] == 504
            assert it.server.totals().dropped == {"slow_backend": 1}
            assert it.server.totals().requests == {("none", "504"): 1}

    run(test())


def test_a_gate_answers_before_the_backend(run: Run) -> None:
    async def test() -> None:
        def gate(request: Request, known: Known, now: float) -> Response | None:
            assert known.port_id == "port"
            return text("token") if request.method == "PUT" else None

        async with lab() as it:
            it.server.gate = gate
            use(it, lambda request, caller: text("document"))
            guest = await it.guest()
            assert (await guest.ask("/", method="PUT"))[2] == b"token"
            assert (await guest.ask("/"))[2] == b"document"

    run(test())


def test_the_hop_limit_holds_for_the_rest_of_the_connection(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            use(it, lambda request, caller: text("token", hop_limit=3 if request.method == "PUT" else None))
            guest = await it.guest()
            hops: list[int] = []
            for method in ("GET", "PUT", "GET"):
                assert (await guest.ask("/", method=method))[0] == 200
                (connection,) = it.server._waiting
                with borrowed(connection.descriptor) as sock:
                    hops.append(sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL))
            assert hops == [64, 3, 3]

    run(test())


def test_every_request_has_an_id_of_its_own_also_when_it_was_known_by_its_bytes(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            use(it, lambda request, caller: text(request.id))
            ids = set()
            for _ in range(4):
                guest = await it.guest()
                for _ in range(3):
                    ids.add((await guest.ask("/"))[2].decode())
            assert len(ids) == 12
            assert all(re.fullmatch("req-[0-9a-f-]{36}", name) for name in ids)

    run(test())

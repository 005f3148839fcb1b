"""A port that changes while its guest waits: the request is asked again, of whatever the caller is by then."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.identity import NO_PORT, Caller, Known
from metadata.responses import TEXT, Response
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import lab, until

A = "127.0.0.5"
ONE = Settings(defer_accept_seconds=0, sweep_seconds=0.01, rate=0.001, burst=1)
"""A single request of each port."""


class Old:
    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.asked = 0

    async def answer(self, request: Request, caller: Caller, now: float) -> Response:
        self.asked += 1
        await self.changed.wait()
        raise RetiredError


class New:
    def answer(self, request: Request, caller: Caller, now: float) -> Response:
        return Response(200, TEXT, b"new " + request.target)


def test_asked_again(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            old = Old()
            it.ports.verdicts["blue", A] = Known("port", old)
            guest = await it.guest()
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
            await until(lambda: old.asked)
            it.ports.verdicts["blue", A] = Known("port", New())
            old.changed.set()
            assert (await guest.answer())[2] == b"new /1"
            assert (await guest.answer())[2] == b"new /2"

    run(test())


def test_a_port_that_has_gone_is_waited_for(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            old = Old()
            it.ports.verdicts["blue", A] = Known("port", old)
            guest = await it.guest()
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\n")
            await until(lambda: old.asked)
            it.ports.verdicts["blue", A] = NO_PORT
            old.changed.set()
            await until(lambda: it.server.listeners["blue"].held)
            it.ports.verdicts["blue", A] = Known("port", New())
            it.server.recheck("blue")
            assert (await guest.answer())[2] == b"new /1"

    run(test())


class Ready:
    """Has its answer in the same turn of the loop in which the port changes, and a moment before."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Response]] = []

    def answer(self, request: Request, caller: Caller, now: float) -> asyncio.Future[Response]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


def test_an_answer_that_was_ready_a_moment_before_the_change_is_not_given_out(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            ready = Ready()
            it.ports.verdicts["blue", A] = Known("port", ready)
            getting, posting = await it.guest(), await it.guest()
            await getting.send(b"GET /1 HTTP/1.1\r\n\r\n")
            await posting.send(b"POST /1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            await until(lambda: len(ready.asked) == 2)
            for asked in ready.asked:
                asked.set_result(Response(200, TEXT, b"old"))
            it.ports.verdicts["blue", A] = Known("port", New())
            assert (await getting.answer())[2] == b"new /1"
            # What was done is not done again.
            assert (await posting.answer())[2] == b"old"

    run(test())


@pytest.mark.parametrize("held", [False, True])
def test_a_request_that_is_asked_again_is_one_request(run: Run, held: bool) -> None:
    """To the limit of requests, and to the times that are measured."""

    async def test() -> None:
        async with lab(ONE) as it:
            times: list[float] = []
            it.server.observe = times.append
            old = Old()
            it.ports.verdicts["blue", A] = Known("port", old)
            guest = await it.guest()
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\n")
            await until(lambda: old.asked)
            it.ports.verdicts["blue", A] = NO_PORT if held else Known("port", New())
            old.changed.set()
            if held:
                await until(lambda: it.server.listeners["blue"].held)
                it.ports.verdicts["blue", A] = Known("port", New())
                it.server.recheck("blue")
            assert (await guest.answer())[::2] == (200, b"new /1")
            assert len(times) == (0 if held else 1)
            assert (await guest.ask("/2"))[0] == 429

    run(test())


def test_a_request_that_is_asked_again_and_waits_again_is_one_request(run: Run) -> None:
    async def test() -> None:
        async with lab(ONE) as it:
            times: list[float] = []
            it.server.observe = times.append
            olds = [Old(), Old()]
            guest = await it.guest()
            it.ports.verdicts["blue", A] = Known("port", olds[0])
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\n")
            await until(lambda: olds[0].asked)
            it.ports.verdicts["blue", A] = Known("port", olds[1])
            olds[0].changed.set()
            await until(lambda: olds[1].asked)
            it.ports.verdicts["blue", A] = Known("port", New())
            olds[1].changed.set()
            assert (await guest.answer())[::2] == (200, b"new /1")
            assert len(times) == 1
            # The next request is one of its own again.
            assert (await guest.ask("/2"))[0] == 429

    run(test())


def test_a_request_that_found_no_room_to_wait_pays_for_no_other(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(ONE, held_per_network=0)) as it:
            old = Old()
            it.ports.verdicts["blue", A] = Known("port", old)
            guest = await it.guest()
            await guest.send(b"GET /1 HTTP/1.1\r\n\r\n")
            await until(lambda: old.asked)
            it.ports.verdicts["blue", A] = NO_PORT
            old.changed.set()
            assert (await guest.answer())[0] == 503
            it.server.configure(ONE)
            await guest.send(b"GET /2 HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].held)
            it.ports.verdicts["blue", A] = Known("port", New())
            it.server.recheck("blue")
            assert (await guest.answer())[0] == 429

    run(test())

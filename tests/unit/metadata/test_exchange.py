"""Kept connections are read and answered together: each guest gets its own answer, in order, and none is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Awaitable

import msgspec
import pytest

from metadata.connection import Connection
from metadata.exchange import ROUND, Exchange
from metadata.http1 import READ_BYTES, Request
from metadata.identity import Caller, Known
from metadata.responses import TEXT, Response
from metadata.settings import Settings
from metadata.stream import State
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Guest, Lab, lab, until
from tests.unit.metadata.sample import FULL

A, B = "127.0.0.5", "127.0.0.6"
PATH = "/openstack/latest/meta_data.json"
OTHER = msgspec.structs.replace(FULL, uuid="00000000-0000-4000-8000-00000000000b")
ROOM = Settings(defer_accept_seconds=0, sweep_seconds=60.0, rate=0.0, connections_per_port=1024)


async def kept(it: Lab, address: str = A) -> tuple[Guest, Connection]:
    """A guest that has asked once, and its connection."""
    before = set(it.server._waiting)
    guest = await it.guest(address)
    assert (await guest.ask("/latest/meta-data/instance-id"))[0] == 200
    (connection,) = set(it.server._waiting) - before
    assert isinstance(connection, Connection)
    return guest, connection


async def posted(guest: Guest, connection: Connection, *paths: str) -> None:
    """The guest asks, and the loop does not go round between the reading and what the test does then."""
    connection.unwatch()
    await guest.send(b"".join(f"GET {path} HTTP/1.1\r\n\r\n".encode() for path in paths))
    connection.arrived(os.read(connection.descriptor, READ_BYTES))
    connection.watch()
    assert connection.state is State.SENDING


def go_round(it: Lab) -> None:
    """Read what is there, as the loop would have it done at some time."""
    epoll = it.server.exchange._epoll
    assert epoll is not None
    it.server.exchange._round(epoll)


def test_everyone_gets_the_own_answer(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            it.ports.know("blue", B, OTHER)
            guests = [(await kept(it, address), uuid) for address, uuid in ((A, FULL.uuid), (B, OTHER.uuid)) * 40]
            assert len(guests) > ROUND
            for _ in range(3):
                for (guest, _), _ in guests:
                    guest.writer.write(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
                for (guest, _), uuid in guests:
                    status, _, body = await guest.answer()
                    assert (status, json.loads(body)["uuid"]) == (200, uuid)

    run(test())


def test_requests_that_were_sent_ahead_are_answered_in_order(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH, "/nothing", "/latest/meta-data/instance-id", PATH)
            await guest.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert [(await guest.answer())[0] for _ in range(5)] == [200, 404, 200, 200, 200]
            assert await guest.rest() == b""

    run(test())


def test_bytes_that_come_before_the_answer_has_gone_out_wait_behind_it(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH)
            await guest.send(b"GET /nothing HTTP/1.1\r\n\r\n")
            go_round(it)
            assert [(await guest.answer())[0] for _ in range(2)] == [200, 404]

    run(test())


def test_bytes_that_come_while_the_next_request_waits_do_not_overtake_it(run: Run) -> None:
    """The first answer goes out, the second request has to wait for its backend, and a third comes in that moment."""

    class Slow:
        def __init__(self) -> None:
            self.asked: list[bytes] = []
            self.go_on = asyncio.Event()

        def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Response]:
            self.asked.append(request.target)
            return self.later(request) if request.target == b"/slow" else Response(200, TEXT, request.target)

        async def later(self, request: Request) -> Response:
            await self.go_on.wait()
            return Response(200, TEXT, request.target)

    async def test() -> None:
        async with lab(ROOM) as it:
            slow = Slow()
            it.ports.verdicts["blue", A] = Known("port", slow)
            guest = await it.guest()
            for _ in range(2):  # the second time its bytes are known
                assert (await guest.ask("/last"))[0] == 200
            (connection,) = it.server._waiting
            assert isinstance(connection, Connection)
            await posted(guest, connection, "/first", "/slow")
            await guest.send(b"GET /last HTTP/1.1\r\n\r\n")
            go_round(it)
            assert slow.asked[2:] == [b"/first", b"/slow"]
            slow.go_on.set()
            assert [(await guest.answer())[2] for _ in range(3)] == [b"/first", b"/slow", b"/last"]

    run(test())


def test_a_detached_network_still_sends_what_is_made(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH)
            it.server.detach("blue")
            assert connection.state is State.CLOSED
            assert (await guest.answer())[0] == 200
            assert await guest.rest() == b""

    run(test())


def test_a_closed_connection_sends_nothing(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH)
            connection.close()
            it.server.flush()
            assert await guest.rest() == b""

    run(test())


def test_an_answer_that_waits_its_turn_is_not_too_late(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH)
            connection.deadline = 0.0
            assert it.server._sweep is not None
            it.server._sweep.cancel()
            it.server._expire(asyncio.get_running_loop())
            assert connection.state is State.READING
            assert (await guest.answer())[0] == 200
            assert it.server.totals().dropped == {}

    run(test())


def test_a_mistake_with_one_answer_does_not_keep_back_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = Connection.written

    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            one, first = await kept(it)
            other, second = await kept(it)

            def broken(
                self: Connection, sent: int, data: bytes, stay: bool, shared: bytes = b"", now: float = 0.0
            ) -> None:
                if self is first:
                    raise RuntimeError("a mistake")
                written(self, sent, data, stay, shared, now)

            monkeypatch.setattr(Connection, "written", broken)
            await posted(one, first, PATH)
            await posted(other, second, PATH)
            it.server.flush()
            assert (await other.answer())[0] == 200
            assert (await one.answer())[0] == 200
            assert await one.rest() == b""
            assert first.state is State.CLOSED

    run(test())
    assert {record.message for record in caplog.records} == {"metadata.request_failed"}


def test_who_is_closed_in_a_round_is_not_answered_in_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            made = dict([await kept(it), await kept(it)])
            received = Connection.received

            def close_the_other(self: Connection, data: bytes) -> None:
                (other,) = set(made.values()) - {self}
                other.close()
                received(self, data)

            monkeypatch.setattr(Connection, "received", close_the_other)
            for guest in made:
                await guest.send(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
            go_round(it)
            (closed,) = (guest for guest, connection in made.items() if connection.state is State.CLOSED)
            (other,) = set(made) - {closed}
            assert (await other.answer())[0] == 200
            assert await closed.rest() in (b"", b"<reset>")
            assert it.server.totals().dropped == {}

    run(test())


def test_an_answer_does_not_go_to_who_has_the_descriptor_now(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await posted(guest, connection, PATH)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                connection.close()
                moved = os.dup2(ours.fileno(), connection.descriptor)
                it.server.flush()
                os.close(moved)
                theirs.setblocking(False)
                with pytest.raises(BlockingIOError):
                    theirs.recv(1)

    run(test())


def test_a_mistake_while_reading_is_one_guest_s(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guests = [(await kept(it)) for _ in range(3)]
            broken = guests[1][1]
            arrived = Connection.arrived

            def fail(self: Connection, data: bytes) -> None:
                if self is broken:
                    raise RuntimeError("a mistake")
                arrived(self, data)

            monkeypatch.setattr(Connection, "arrived", fail)
            for guest, _ in guests:
                await guest.send(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
            go_round(it)
            assert [(await guest.answer())[0] for guest, _ in (guests[0], guests[2])] == [200, 200]
            assert await guests[1][0].rest() in (b"", b"<reset>")
            assert broken.state is State.CLOSED

    run(test())
    assert {record.message for record in caplog.records} == {"metadata.request_failed"}


def test_the_end_of_a_kept_connection_is_noticed(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            guest, connection = await kept(it)
            await guest.close()
            await until(lambda: connection.state is State.CLOSED)
            assert not it.server._waiting
            assert not it.server.exchange._streams

    run(test())


def test_a_connection_that_cannot_be_watched_is_closed_and_the_others_keep_their_deadlines(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory or descriptors: also when it ends by an error answer in the sweep that looks after all others."""

    def fail(self: Exchange, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def test() -> None:
        settings = Settings(defer_accept_seconds=0, sweep_seconds=0.01, hold_seconds=0.05, idle_timeout=0.1)
        async with lab(settings) as it:
            it.ports.know("blue", A, FULL)
            _, waiting = await kept(it)
            held = await it.guest(B)  # nobody knows it
            await held.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].held)
            with monkeypatch.context() as patched:
                patched.setattr(Exchange, "watch", fail)
                status, headers, _ = await held.answer()
                assert (status, headers["retry-after"]) == (503, "1")
                assert await held.rest() in (b"", b"<reset>")
                assert it.server.totals().dropped == {"not_watched": 1}
            await until(lambda: waiting.state is State.CLOSED)
            assert it.server.totals().dropped == {"not_watched": 1, "idle": 1}

    run(test())


def test_a_mistake_in_the_sweep_is_one_connection_s(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        settings = Settings(defer_accept_seconds=0, sweep_seconds=0.01, idle_timeout=0.05)
        async with lab(settings) as it:
            it.ports.know("blue", A, FULL)
            (_, first), (_, second) = await kept(it), await kept(it)
            expire = Connection.expire

            def broken(self: Connection) -> None:
                if self is first:
                    raise RuntimeError("a mistake")
                expire(self)

            monkeypatch.setattr(Connection, "expire", broken)
            await until(lambda: first.state is second.state is State.CLOSED)

    run(test())
    assert {record.message for record in caplog.records} == {"metadata.request_failed"}


async def all_say(it: Lab, addresses: list[str], say: bytes) -> list[Guest]:
    """Guests that connect and ask while the server does not look, so that one round has them all."""
    return [await it.guest(address, say=say) for address in addresses]


ONCE = f"GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()


def accept_all(it: Lab) -> None:
    """Accept what waits, as the loop would have it done at some time."""
    listener = it.server.listeners["blue"]
    (listening,) = listener._sockets
    listener._accept(listening)


def quiet(it: Lab) -> None:
    """The loop accepts nothing by itself."""
    listener = it.server.listeners["blue"]
    listener.loop.remove_reader(listener._sockets[0].fileno())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_new_connections_are_answered_and_closed_together(run: Run) -> None:
    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            it.ports.know("blue", B, OTHER)
            quiet(it)
            guests = await all_say(it, [A, B, A], ONCE)
            silent = await it.guest(B)
            await silent.close()
            before = descriptors()
            accept_all(it)
            assert descriptors() == before
            for guest, uuid in zip(guests, (FULL.uuid, OTHER.uuid, FULL.uuid), strict=True):
                assert json.loads((await guest.answer())[2])["uuid"] == uuid
                assert await guest.rest() == b""
            assert not it.server._waiting

    run(test())


def test_the_limit_of_connections_holds_within_a_round(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(ROOM, connections_per_network=2)) as it:
            it.ports.know("blue", A, FULL)
            quiet(it)
            guests = await all_say(it, [A] * 4, b"GET / HTTP/1.1\r\n\r\n")
            accept_all(it)
            assert [(await guest.answer())[0] for guest in guests] == [200, 200, 503, 503]
            assert len(it.server._waiting) == it.server.listeners["blue"].connections == 2
            assert it.server.totals().dropped == {"too_many_connections": 2}

    run(test())


def test_the_limit_of_connections_holds_for_those_that_take_their_answers_slowly(run: Run) -> None:
    document = msgspec.structs.replace(FULL, user_data=bytes(range(256)) * 120)

    async def test() -> None:
        async with lab(msgspec.structs.replace(ROOM, connections_per_network=2)) as it:
            it.ports.know("blue", A, document)
            it.server.listeners["blue"]._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            quiet(it)
            ask = b"GET /latest/user-data HTTP/1.0\r\n\r\n"
            guests = [await it.guest(receive=2048, say=ask) for _ in range(4)]
            accept_all(it)
            assert len(it.server._waiting) == it.server.listeners["blue"].connections == 2
            assert it.server.totals().dropped == {"too_many_connections": 2}
            assert [(await guest.answer())[2] for guest in guests[:2]] == [document.user_data] * 2

    run(test())


def test_what_does_not_fit_of_a_last_answer_follows(run: Run) -> None:
    document = msgspec.structs.replace(FULL, user_data=bytes(range(256)) * 120)

    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, document)
            it.server.listeners["blue"]._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            guest = await it.guest(receive=2048, say=b"GET /latest/user-data HTTP/1.0\r\n\r\n")
            await until(lambda: it.server._waiting)
            (waiting,) = it.server._waiting
            assert waiting.state is State.WRITING
            assert (await guest.answer())[2] == document.user_data
            assert await guest.rest() == b""
            await until(lambda: waiting.state is State.CLOSED)
            assert not it.server._waiting

    run(test())


@pytest.mark.parametrize("where", ["__init__", "arrived"])
def test_a_mistake_with_a_new_connection_is_its_own_and_loses_no_descriptor(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    usual = getattr(Connection, where)
    calls: list[object] = []

    def fail_once(self: Connection, *arguments: object) -> None:
        calls.append(self)
        if len(calls) == 2:
            raise MemoryError
        usual(self, *arguments)

    async def test() -> None:
        async with lab(ROOM) as it:
            it.ports.know("blue", A, FULL)
            quiet(it)
            guests = await all_say(it, [A] * 3, ONCE)
            before = descriptors()
            with monkeypatch.context() as patched:
                patched.setattr(Connection, where, fail_once)
                accept_all(it)
            assert descriptors() == before
            assert [(await guest.answer())[0] for guest in (guests[0], guests[2])] == [200, 200]
            assert await guests[1].rest() in (b"", b"<reset>")

    run(test())
    assert {record.message for record in caplog.records} == {"metadata.request_failed"}

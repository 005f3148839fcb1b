"""Limits of a port on the server: 429 and 503 with Retry-After, both families together, nobody else concerned."""

from __future__ import annotations

import socket
import time
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from fastpath import sockets
from metadata.backend import OwnBackend
from metadata.identity import NO_MAC, Known
from metadata.limits import Window
from metadata.server import MetadataServer
from metadata.settings import Settings
from metadata.tree import InstanceTree
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Guest, Lab, Ports, lab, until
from tests.unit.metadata.sample import BARE, FULL

QUICK = Settings(defer_accept_seconds=0, sweep_seconds=0.01, hold_seconds=5.0)
SLOW = msgspec.structs.replace(QUICK, rate=0.01, burst=3)
A, B = "127.0.0.5", "127.0.0.6"


def one_port(it: Lab, *addresses: str) -> None:
    """All addresses are the same port's."""
    known = Known("port", OwnBackend(InstanceTree(FULL)))
    for address in addresses:
        it.ports.verdicts["blue", address] = known


def test_too_many_requests_are_429_and_the_connection_stays(run: Run) -> None:
    async def test() -> None:
        async with lab(SLOW) as it:
            one_port(it, A)
            guest = await it.guest()
            assert [(await guest.ask("/"))[0] for _ in range(3)] == [200] * 3
            status, headers, _ = await guest.ask("/")
            assert (status, headers["retry-after"]) == (429, "100")
            assert (await guest.ask("/"))[0] == 429
            assert it.server.totals().dropped == {"rate_limited": 2}
            assert it.server.totals().requests == {("ec2", "200"): 3, ("none", "429"): 2}

    run(test())


def test_one_port_has_one_limit_whatever_its_address(run: Run) -> None:
    async def test() -> None:
        async with lab(SLOW) as it:
            one_port(it, A, B)
            it.ports.know("blue", "127.0.0.7", BARE)
            answers = []
            for address in (A, B, A, B):
                guest = await it.guest(address)
                answers.append((await guest.ask("/"))[0])
            assert answers == [200, 200, 200, 429]
            other = await it.guest("127.0.0.7")
            assert (await other.ask("/"))[0] == 200
            assert len(it.server.limiter or ()) == 2

    run(test())


def test_the_boot_crawl_passes_with_the_defaults(run: Run) -> None:
    async def test() -> None:
        async with lab(QUICK) as it:
            one_port(it, A)
            for _ in range(4):
                guest = await it.guest()
                assert {(await guest.ask("/latest/meta-data/"))[0] for _ in range(28)} == {200}

    run(test())


def test_a_reload_with_the_same_limits_forgets_nothing(run: Run) -> None:
    async def test() -> None:
        async with lab(SLOW) as it:
            one_port(it, A)
            guest = await it.guest()
            assert [(await guest.ask("/"))[0] for _ in range(4)] == [200, 200, 200, 429]
            it.server.configure(msgspec.structs.replace(SLOW, retry_after=2))
            assert (await guest.ask("/"))[0] == 429
            it.server.configure(msgspec.structs.replace(SLOW, windows=(Window(10, 1), Window(10, 1))))
            assert [(await guest.ask("/"))[0] for _ in range(2)] == [200, 429]
            it.server.configure(msgspec.structs.replace(SLOW, rate=0))
            assert {(await guest.ask("/"))[0] for _ in range(9)} == {200}

    run(test())


def test_a_held_request_is_counted_once(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(SLOW, burst=1)) as it:
            guest = await it.guest()
            await guest.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].held)
            for _ in range(3):
                it.server.recheck("blue")
            one_port(it, A)
            it.server.recheck("blue")
            assert (await guest.answer())[0] == 200
            assert (await guest.ask("/"))[0] == 429

    run(test())


async def idle(it: Lab, count: int, address: str) -> list[Guest]:
    """Connections that are open and say nothing."""
    listener = it.server.listeners["blue"]
    before = listener.connections
    guests = [await it.guest(address) for _ in range(count)]
    await until(lambda: listener.connections == before + count)
    return guests


def test_a_port_that_holds_connections_has_no_more_and_others_are_served(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, connections_per_port=3)) as it:
            one_port(it, A, B)
            it.ports.know("blue", "127.0.0.7", BARE)
            listener = it.server.listeners["blue"]
            guests = await idle(it, 2, A) + await idle(it, 1, B)
            assert listener.owners == {"port": 3}
            late = await it.guest(B)
            status, headers, _ = await late.answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert await late.rest() == b""
            other = await it.guest("127.0.0.7")
            assert (await other.ask("/"))[0] == 200
            assert it.server.totals().dropped == {"too_many_connections_of_port": 1}
            await guests[0].close()
            await until(lambda: listener.owners["port"] == 2)
            again = await it.guest(A)
            assert (await again.ask("/"))[0] == 200
            await again.close()
            for guest in guests:
                await guest.close()
            await other.close()
            await until(lambda: not listener.owners)

    run(test())


def test_those_who_do_not_read_and_those_who_are_refused_count_as_well(run: Run) -> None:
    large = msgspec.structs.replace(FULL, user_data=bytes(8_000_000))

    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, connections_per_port=2, linger_seconds=60.0)) as it:
            it.ports.know("blue", A, large)
            listener = it.server.listeners["blue"]
            slow = await it.guest(receive=4096)
            await slow.send(b"GET /latest/user-data HTTP/1.1\r\n\r\n")
            await until(lambda: listener.connections == 1)
            bad = await it.guest()
            await bad.send(b"nonsense\r\n\r\n")
            assert (await bad.answer())[0] == 400
            assert listener.connections == 2
            for request, status in ((b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 200)):
                late = await it.guest(say=request)
                assert (await late.answer())[0] in (status, 503)
                assert await late.rest() in (b"", b"<reset>")
            cut = await it.guest(receive=4096, say=b"GET /latest/user-data HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert len(await cut.rest()) < 8_000_000
            assert listener.connections == 2
            assert it.server.totals().dropped["too_many_connections_of_port"] >= 2

    run(test())


def test_unknown_callers_have_a_limit_each(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, connections_per_port=2)) as it:
            listener = it.server.listeners["blue"]
            for _ in range(2):
                guest = await it.guest(A)
                await guest.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: len(listener.held) == 2)
            third = await it.guest(A)
            assert (await third.answer())[0] == 503
            one_port(it, A)
            it.server.recheck("blue")
            await until(lambda: not listener.held)

    run(test())


def test_socket_family_is_no_second_limit(run: Run) -> None:
    """Listeners of both families are one network's: the same table of owners, the same bucket."""

    async def test() -> None:
        async with lab(SLOW) as it:
            sock = socket.socket(socket.AF_INET6)
            sock.bind(("::1", 0))
            sock.listen()
            it.server.attach("blue", sock)
            it.where["blue6"] = sock.getsockname()[:2]
            one_port(it, A, "::1")
            answers = []
            for address, network in ((A, "blue"), ("::1", "blue6"), ("::1", "blue6"), (A, "blue"), ("::1", "blue6")):
                guest = await it.guest(address, network)
                answers.append((await guest.ask("/"))[0])
            assert answers == [200, 200, 200, 429, 429]

    run(test())


def test_a_connection_whose_mac_was_not_kept_is_not_held(run: Run) -> None:
    """Nothing can tell it later: the guest is to come again, by another connection."""

    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, sweep_seconds=60.0)) as it:
            it.ports.verdicts["blue", A] = NO_MAC
            guest = await it.guest()
            status, headers, _ = await guest.ask("/")
            assert (status, headers["retry-after"]) == (503, "1")
            assert it.server.totals().lookups == {"no_mac": 1}
            assert not it.server.listeners["blue"].held

    run(test())


def test_a_clock_that_is_set_back_does_not_silence_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 2e9
    monkeypatch.setattr("metadata.server.time.time", lambda: now)
    server = MetadataServer(Ports(), sockets)
    for _ in range(100):
        server.note("metadata.refused_caller", network="blue", reason="spoofed")
    later = server.ending(False)
    caplog.clear()
    now -= 3600
    server.note("metadata.refused_caller", network="blue", reason="spoofed")
    assert [record.msg for record in caplog.records] == ["metadata.refused_caller"]
    assert server.ending(False) != later


def test_the_date_goes_on_on_a_kept_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wall, later = 2e9, 0.0

    async def test() -> None:
        nonlocal later
        async with lab(QUICK) as it:
            one_port(it, A)
            guest = await it.guest()
            seen = []
            for moment in (0.0, 0.4, 1.0, 1.5, 3600.0):
                later = moment
                _, headers, _ = await guest.ask("/")
                seen.append(parsedate_to_datetime(headers["date"]).timestamp() - wall)
            assert seen == [0, 0, 1, 1, 3600]

    began = time.monotonic()
    monkeypatch.setattr("metadata.server.time.time", lambda: wall + later)
    monkeypatch.setattr("metadata.server.time.monotonic", lambda: began + later)
    monkeypatch.setattr("metadata.connection.monotonic", lambda: began + later)
    run(test())


def test_smaller_limits_hold_for_requests_that_were_seen_before(run: Run) -> None:
    async def test() -> None:
        async with lab(QUICK) as it:
            one_port(it, A)
            long = f"X: {'a' * 300}"
            for _ in range(2):
                assert (await (await it.guest()).ask("/", long))[0] == 200
            it.server.configure(msgspec.structs.replace(QUICK, header_bytes=256))
            assert (await (await it.guest()).ask("/", long))[0] == 431

    run(test())


def test_without_a_hold_an_unknown_caller_is_answered_at_once(run: Run) -> None:
    async def test() -> None:
        # Nothing that the time brings would answer it.
        async with lab(msgspec.structs.replace(QUICK, hold_seconds=0.0, sweep_seconds=60.0)) as it:
            guest = await it.guest()
            for _ in range(2):
                status, headers, _ = await guest.ask("/")
                assert (status, headers["retry-after"]) == (503, "1")
            assert it.server.totals().lookups == {"no_port": 2}
            assert it.server.totals().dropped == {}

    run(test())

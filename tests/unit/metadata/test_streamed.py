"""Answers of Nova that are passed on as they come: over the whole way, from a stand-in for Nova to a guest's socket."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from metadata import dropin_server, events
from metadata.identity import Known
from metadata.nova import NovaBackend
from metadata.nova_proxy import NovaProxy
from metadata.settings import Settings
from tests.nova import Hook, Nova, nova
from tests.unit.metadata.asking import proxy, subject
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Lab, lab, until
from tests.unit.metadata.sample import FULL

A = "127.0.0.5"
QUICK = Settings(defer_accept_seconds=0, sweep_seconds=0.01, rate=0)
LARGE = random.Random(7).randbytes(600_000)
"""Any bytes, also those that end lines and chunks."""
SMALL = LARGE[: 64 * 1024]
DOCUMENT = "/openstack/latest/vendor_data.json"


class Way:
    """Guest, server, backend, Nova."""

    def __init__(self, it: Lab, shared: NovaProxy, upstream: Nova) -> None:
        self.it = it
        self.shared = shared
        self.upstream = upstream
        self.backend = NovaBackend(shared, subject(FULL))
        it.ports.verdicts["blue", A] = Known("port", self.backend)

    def dropped(self) -> dict[str, int]:
        return self.it.server.totals().dropped

    async def quiet(self) -> None:
        """Nothing is under way at Nova."""
        await until(lambda: not self.shared.turns.used and not self.shared.tasks)


@asynccontextmanager
async def way(hook: Hook | None = None, settings: Settings = QUICK, **changes: Any) -> AsyncIterator[Way]:
    async with nova(FULL) as upstream, proxy(upstream, **changes) as shared, lab(settings) as it:
        upstream.hook = hook
        made = Way(it, shared, upstream)
        yield made
        await made.quiet()


def with_length(body: bytes, **headers: str) -> Hook:
    async def hook(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": "x/y", "ETag": '"1"', **headers})

    return hook


def in_chunks(body: bytes, size: int = 50_000) -> Hook:
    async def hook(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "x/y", "ETag": '"1"'})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
        return response

    return hook


def breaking(length: bool, begun: asyncio.Event, go_on: asyncio.Event) -> Hook:
    """Sends half of a body, and cuts the connection when told to."""

    async def hook(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if length:
            response.content_length = len(LARGE)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(LARGE[:300_000])
        begun.set()
        await go_on.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    return hook


def dechunked(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            assert data == b"\r\n"
            return body
        body += data[: int(size, 16)]
        assert data[int(size, 16) :][:2] == b"\r\n"
        data = data[int(size, 16) + 2 :]


def test_a_body_with_a_length_comes_byte_by_byte_and_the_connection_stays(run: Run) -> None:
    async def test() -> None:
        async with way(with_length(LARGE)) as it:
            guest = await it.it.guest()
            for _ in range(3):
                status, headers, body = await guest.ask(DOCUMENT)
                assert (status, body) == (200, LARGE)
                assert (headers["content-type"], headers["etag"]) == ("x/y", '"1"')
                assert "transfer-encoding" not in headers
            assert len(it.upstream.asked) == 3  # what is passed on is not kept
            assert len(it.upstream.connections) == 1
            assert it.shared.library.size == 0
            await it.quiet()
            assert it.shared.counters.requests == {"200": 3}
            assert (await guest.ask(DOCUMENT, "Connection: close"))[2] == LARGE
            assert await guest.rest() == b""

    run(test())


def test_a_body_without_a_length_comes_in_chunks(run: Run) -> None:
    async def test() -> None:
        async with way(in_chunks(LARGE)) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await guest.rest()).partition(b"\r\n\r\n")
            assert b"transfer-encoding: chunked" in head.lower()
            assert b"content-length" not in head.lower()
            assert dechunked(body) == LARGE

    run(test())


def test_requests_sent_ahead_are_answered_after_the_last_chunk(run: Run) -> None:
    async def test() -> None:
        async with way(in_chunks(LARGE)) as it:
            guest = await it.it.guest()
            request = f"GET {DOCUMENT} HTTP/1.1\r\n"
            await guest.send(f"{request}\r\n{request}\r\n{request}Connection: close\r\n\r\n".encode())
            data = await guest.rest()
            for _ in range(3):
                head, _, data = data.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                body, end, data = data.partition(b"\r\n0\r\n\r\n")
                assert dechunked(body + end) == LARGE
            assert data == b""

    run(test())


@pytest.mark.parametrize("hook", [with_length, in_chunks])
def test_http_1_0(run: Run, hook: Callable[[bytes], Hook]) -> None:
    async def test() -> None:
        async with way(hook(LARGE)) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await guest.rest()).partition(b"\r\n\r\n")
            assert b"transfer-encoding" not in head.lower()
            assert (b"Content-Length: 600000" in head) == (hook is with_length)
            assert b"Connection: close" in head
            assert body == LARGE

    run(test())


@pytest.mark.parametrize("hook", [with_length, in_chunks])
def test_head_has_no_body_and_the_connection_stays(run: Run, hook: Callable[[bytes], Hook]) -> None:
    async def test() -> None:
        async with way(hook(LARGE)) as it:
            guest = await it.it.guest()
            for _ in range(2):
                status, headers, _ = await guest.ask(DOCUMENT, method="HEAD")
                assert status == 200
                assert headers.get("content-length") == ("600000" if hook is with_length else None)
                assert "transfer-encoding" not in headers

    run(test())


@pytest.mark.parametrize("hook", [with_length, in_chunks])
def test_the_bound_between_kept_and_passed_on(run: Run, hook: Callable[[bytes], Hook]) -> None:
    async def test() -> None:
        async with way(hook(SMALL)) as it:
            guest = await it.it.guest()
            for _ in range(2):
                assert (await guest.ask(DOCUMENT))[2] == SMALL
            assert len(it.upstream.asked) == 1
        async with way(hook(LARGE[: len(SMALL) + 1])) as it:
            guest = await it.it.guest()
            for _ in range(2):
                await guest.ask(DOCUMENT, method="HEAD")
            assert len(it.upstream.asked) == 2

    run(test())


@pytest.mark.parametrize("status", [201, 206, 400, 404, 418, 500, 503, 599])
def test_every_status_is_passed_on(run: Run, status: int) -> None:
    async def hook(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, reason="Strange", body=LARGE)

    async def test() -> None:
        async with way(hook) as it:
            guest = await it.it.guest()
            found, _, body = await guest.ask(DOCUMENT)
            assert (found, body) == (status, LARGE)
            assert it.it.server.totals().requests == {("openstack", str(status)): 1}

    run(test())


def test_a_length_without_a_body(run: Run) -> None:
    async def hook(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 600000\r\n\r\n")
        request.transport.close()
        return web.Response()

    async def test() -> None:
        async with way(hook) as it:
            guest = await it.it.guest()
            status, headers, _ = await guest.ask(DOCUMENT, "If-None-Match: x", method="HEAD")
            assert status == 304
            assert "content-length" not in headers

    run(test())


def test_a_larger_document_takes_the_place_of_the_one_that_was_kept(run: Run) -> None:
    async def test() -> None:
        async with way(with_length(b"first"), cache_seconds=1e-9, stale_after=60.0) as it:
            it.shared.clock = time.monotonic  # uvloop's own clock may stand still between two requests
            guest = await it.it.guest()
            assert (await guest.ask(DOCUMENT))[2] == b"first"
            it.upstream.hook = with_length(LARGE)
            assert (await guest.ask(DOCUMENT))[2] == LARGE
            await it.quiet()
            assert it.shared.library.size == 0

    run(test())


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_that_breaks_off_never_looks_complete(run: Run, length: bool, version: str) -> None:
    async def test() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        async with way(breaking(length, begun, go_on)) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/{version}\r\n\r\n".encode())
            await begun.wait()
            await until(lambda: it.it.server.totals().requests)
            go_on.set()
            assert await guest.rest() == b"<reset>"
            assert it.dropped() == {"broken_backend": 1}
            assert it.shared.counters.requests == {"broken": 1}

    run(test())


@pytest.mark.parametrize("hook", [with_length, in_chunks])
def test_larger_than_what_is_taken(run: Run, hook: Callable[[bytes], Hook]) -> None:
    async def test() -> None:
        async with way(hook(LARGE), response_bytes=500_000) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            data = await guest.rest()
            assert data.startswith(b"HTTP/1.1 502") if hook is with_length else data == b"<reset>"
            assert it.shared.counters.requests == {"too_large": 1}

    run(test())


def test_a_nova_that_stops_in_the_middle_is_waited_for_no_longer_than_for_a_whole_answer(run: Run) -> None:
    async def test() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        async with way(breaking(True, begun, go_on), timeout=0.2) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\n\r\n".encode())
            assert await guest.rest() == b"<reset>"
            assert it.shared.counters.requests == {"timeout": 1}
            go_on.set()

    run(test())


def endless(sent: list[int], ended: asyncio.Event) -> Hook:
    async def hook(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(SMALL)
                sent[0] += len(SMALL)
        finally:
            ended.set()

    return hook


def test_a_slow_reader_holds_nova_back_and_is_let_go_in_time(run: Run) -> None:
    async def test() -> None:
        sent, ended = [0], asyncio.Event()
        settings = msgspec.structs.replace(QUICK, write_timeout=0.3)
        async with way(endless(sent, ended), settings, response_bytes=1 << 30) as it:
            guest = await it.it.guest(receive=8192)
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\n\r\n".encode())
            await until(lambda: it.dropped())
            assert it.dropped() == {"slow_reader": 1}
            await ended.wait()
            # What was under way is in sockets and buffers of fixed sizes.
            assert 0 < sent[0] < 64 << 20
            await it.quiet()
            assert it.shared.counters.requests == {"cancelled": 1}

    run(test())


def test_a_reader_that_is_slow_for_a_moment_gets_it_all(run: Run) -> None:
    async def test() -> None:
        body = LARGE * 8
        async with way(in_chunks(body), response_bytes=1 << 30) as it:
            guest = await it.it.guest(receive=8192)
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            await until(lambda: any(waiting.writing for waiting in it.it.server._waiting))
            assert dechunked((await guest.rest()).partition(b"\r\n\r\n")[2]) == body
            assert it.dropped() == {}

    run(test())


@pytest.mark.parametrize("flows", [True, False])
def test_a_guest_that_goes_ends_the_request_to_nova(run: Run, flows: bool) -> None:
    async def test() -> None:
        go_on = asyncio.Event()
        hook = endless([0], asyncio.Event()) if flows else breaking(True, asyncio.Event(), go_on)
        async with way(hook, response_bytes=1 << 30) as it:
            guest = await it.it.guest()
            await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\n\r\n".encode())
            await until(lambda: it.it.server.totals().requests)
            guest.writer.transport.abort()
            await it.quiet()
            assert it.shared.counters.requests == {"cancelled": 1}
            assert it.dropped() == {"disconnected": 1}
            go_on.set()

    run(test())


def test_a_guest_that_goes_before_the_head_leaves_nothing_open(run: Run) -> None:
    async def test() -> None:
        async with way(with_length(LARGE)) as it:
            it.upstream.stalled.add(FULL.uuid)
            for headers in ("", "Range: bytes=0-\r\n"):
                guest = await it.it.guest()
                await guest.send(f"GET {DOCUMENT} HTTP/1.1\r\n{headers}\r\n".encode())
                await until(lambda: it.upstream.asked)
                guest.writer.transport.abort()
                await until(lambda: it.dropped().get("disconnected"))
                it.upstream.go_on.set()
                await it.quiet()
                it.upstream.asked.clear()

    run(test())


def test_equal_requests_share_the_way_to_the_first_byte_and_each_gets_a_body_of_its_own(run: Run) -> None:
    async def test() -> None:
        async with way(with_length(LARGE)) as it:
            it.upstream.stalled.add(FULL.uuid)
            guests = [await it.it.guest() for _ in range(5)]
            asking = [asyncio.create_task(guest.ask(DOCUMENT)) for guest in guests]
            await until(lambda: it.shared.counters.hits.get("coalesced") == 4 and it.upstream.asked)
            assert len(it.upstream.asked) == 1
            it.upstream.go_on.set()
            assert {body for _, _, body in await asyncio.gather(*asking)} == {LARGE}
            assert len(it.upstream.asked) == 5

    run(test())


def test_streams_have_their_turn_as_long_as_they_last(run: Run) -> None:
    async def test() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        async with way(breaking(True, begun, go_on), connections_per_project=1) as it:
            first, second = await it.it.guest(), await it.it.guest()
            await first.send(f"GET {DOCUMENT} HTTP/1.1\r\n\r\n".encode())
            await begun.wait()
            asking = asyncio.create_task(second.ask("/latest/meta-data/hostname"))
            await until(lambda: it.shared.turns.waits("blue-project"))
            it.upstream.hook = None
            go_on.set()
            assert (await asking)[2] == b"blue-one.novalocal"

    run(test())


def test_a_port_that_is_retired_before_the_head_is_asked_again(run: Run) -> None:
    async def test() -> None:
        async with way(with_length(LARGE)) as it:
            it.upstream.stalled.add(FULL.uuid)
            guest = await it.it.guest()
            for headers in ([], ["Range: bytes=0-"]):
                asking = asyncio.create_task(guest.ask(DOCUMENT, *headers))
                await until(lambda: it.upstream.asked)
                old, it.backend = it.backend, NovaBackend(it.shared, subject(FULL))
                it.it.ports.verdicts["blue", A] = Known("port", it.backend)
                old.retire()
                it.upstream.go_on.set()
                assert (await asking)[2] == LARGE
                it.upstream.asked.clear()
                it.upstream.go_on.clear()

    run(test())


def test_a_refused_signature_of_any_size_has_the_other_secret_tried(run: Run) -> None:
    async def hook(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, body=LARGE)

    async def test() -> None:
        async with way(hook, secrets=("s3cr3t", "s3cr3t")) as it:
            guest = await it.it.guest()
            status, _, body = await guest.ask(DOCUMENT)
            assert (status, body) == (403, LARGE)
            await it.quiet()
            assert it.shared.counters.requests == {"cancelled": 1, "403": 1}

    run(test())


@pytest.mark.parametrize("hook", [with_length, in_chunks])
def test_behind_a_proxy(run: Run, hook: Callable[[bytes], Hook], tmp_path: Path) -> None:
    async def test() -> None:
        async with way(hook(LARGE)) as it:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(tmp_path / "proxy"))
            sock.listen()
            dropin_server.attach(it.it.server, sock, lambda _: True)
            it.it.ports.verdicts["blue-net", A] = Known("port", it.backend)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "proxy"))
            writer.write(
                f"GET {DOCUMENT} HTTP/1.1\r\nX-OVN-Network-ID: blue-net\r\nX-Forwarded-For: {A}\r\n\r\n".encode()
            )
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert (body if hook is with_length else dechunked(body)) == LARGE
            writer.close()
            await writer.wait_closed()

    run(test())


def test_what_a_guest_sends_reaches_nova_byte_by_byte(run: Run) -> None:
    body = LARGE[:1020]

    async def test() -> None:
        async with way() as it:
            guest = await it.it.guest()
            chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (1000, body[:1000], 20, body[1000:])
            path = b"POST /openstack/latest/password HTTP/1.1\r\n"
            await guest.send(path + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
            assert (await guest.answer())[0] == 200
            await guest.send(path + b"Content-Length: 1020\r\n\r\n" + body)
            assert (await guest.answer())[0] == 409
            assert it.upstream.bodies == [body, body]
            assert (await guest.ask("/openstack/latest/password"))[2] == body

    run(test())


def test_nova_is_told_the_id_that_the_access_log_has(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with way(with_length(LARGE)) as it:
            guest = await it.it.guest()
            await guest.ask(DOCUMENT)
            await guest.ask("/openstack/latest/password")
            upstream = [asked.headers["X-Openstack-Request-Id"] for asked in it.upstream.asked]
        logged = [vars(record)["fields"] for record in caplog.records if record.message == "metadata.request"]
        assert [fields["id"] for fields in logged] == upstream
        assert len(set(upstream)) == 2
        assert logged[0]["status"] == 200

    with caplog.at_level("DEBUG", logger=events.log.name):
        run(test())

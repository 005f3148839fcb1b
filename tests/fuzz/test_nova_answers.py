"""Any bytes from Nova's side: what it said, or an error of ours; never a traceback, never more than was sent."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from metadata.http1 import Request
from metadata.nova import NovaBackend
from metadata.nova_client import NovaClient
from metadata.nova_proxy import NovaProxy
from metadata.responses import Response, ending
from metadata.streamed import Relay, Streamed
from metadata.upstream import UpstreamError
from tests.unit.metadata.asking import CALLER, settings, subject
from tests.unit.metadata.sample import FULL

SEED = int(os.environ.get("NODEPLANE_FUZZ_SEED", "20261122"))
ROUNDS = int(os.environ.get("NODEPLANE_FUZZ_ROUNDS", "400"))
LIMIT = 5000

CORPUS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "a"\r\n\r\n5\r\nhello\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n',
    b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close, etag\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
]
PIECES = [
    b"\r", b"\n", b"\0", b" ", b"\r\n\r\n", b"A" * 9000, b"\xff", b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 200 OK\r\n", b"Content-Type: a\tb\x01\r\n",
    b"ffffffffffffffff\r\n", b"Set-Cookie: a=b; Domain=.\r\n",
]  # fmt: skip


def mutated(choose: random.Random) -> bytes:
    data = bytearray(choose.choice(CORPUS))
    for _ in range(choose.randint(0, 4)):
        at = choose.randrange(len(data))
        match choose.randrange(4):
            case 0:
                data[at] = choose.randrange(256)
            case 1:
                del data[at : at + choose.randint(1, 9)]
            case 2:
                data[at:at] = choose.choice(PIECES)
            case 3:
                line = data.find(b"\r\n") + 2
                data[line:line] = choose.choice(PIECES)
        data = data or bytearray(b"H")
    return bytes(data)


async def passed_on(streamed: Streamed, chunks: bool) -> bytes | None:
    """What a guest gets of an answer that is passed on; None: it sees that this is not all."""
    relay = Relay(streamed, chunks=chunks, keep_alive=True, patience=1.0)
    try:
        data = relay.begin(ending("x", relay.stay))
        while part := await relay.read():
            data += part
        return data + relay.end()
    except UpstreamError:
        return None
    finally:
        relay.close()


def body_of(data: bytes) -> bytes:
    """The body as a guest of HTTP/1.1 reads it, to its last byte."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b"transfer-encoding: chunked" in lines:
        whole = b""
        while size := int(body.partition(b"\r\n")[0], 16):
            part = body.partition(b"\r\n")[2]
            assert part[size : size + 2] == b"\r\n"
            whole, body = whole + part[:size], part[size + 2 :]
        assert body == b"0\r\n\r\n"
        return whole
    for line in lines:
        if line.startswith(b"content-length: "):
            assert int(line[16:]) == len(body)
    return body


@pytest.mark.asyncio
@pytest.mark.parametrize("whole", [LIMIT, 2])
async def test_any_bytes(caplog: pytest.LogCaptureFixture, whole: int) -> None:
    choose = random.Random(SEED)
    print(f"NODEPLANE_FUZZ_SEED={SEED}")
    given = b""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in (given[: len(given) // 2], given[len(given) // 2 :]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    chosen = settings(url, response_bytes=LIMIT, whole_bytes=whole, timeout=2.0, cache_seconds=0.0, stale_seconds=0.0)
    proxy = NovaProxy(chosen, NovaClient(chosen))
    backend = NovaBackend(proxy, subject(FULL))
    statuses: set[int] = set()
    streamed = 0
    for _ in range(ROUNDS):
        given = mutated(choose)
        answer = backend.answer(Request("GET", b"/latest/meta-data/", True), CALLER, 0.0)
        found = answer if isinstance(answer, Response) else await answer
        statuses.add(found.status)
        assert 200 <= found.status <= 599
        if isinstance(found, Streamed):
            encoded = await passed_on(found, choose.random() < 0.7)
            if encoded is None:
                continue
            streamed += 1
            assert body_of(encoded).startswith(found.first)
        else:
            encoded = found.encode(ending("x", True))
            assert body_of(encoded) == found.body
        assert len(body_of(encoded)) <= LIMIT
        head = encoded.partition(b"\r\n\r\n")[0]
        assert all(line.count(b"\n") == 0 and line.count(b"\r") == 0 for line in head.split(b"\r\n"))
        names = {line.partition(b":")[0] for line in head.lower().split(b"\r\n")}
        assert names.isdisjoint((b"set-cookie", b"location"))
    await proxy.close()
    server.close()
    await server.wait_closed()
    assert {200, 404, 502} <= statuses
    assert (streamed > 0) == (whole < LIMIT)
    assert proxy.turns.used == 0
    assert errors == []
    assert {record.message for record in caplog.records} <= {"metadata.nova_failed"}

"""Bad requests over a socket: each gets one complete answer or an end, is counted, and logs no traceback."""

from __future__ import annotations

import socket
import struct

import msgspec
import pytest

from metadata.http1 import STATUS_OF_REASON
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import lab, until
from tests.unit.metadata.sample import FULL
from tests.unit.metadata.test_http1 import REFUSED, get

A = "127.0.0.5"
TCPI_SEGS_IN = 140
"""Offset of the number of packets that came in in struct tcp_info."""


def test_every_bad_request_is_answered_counted_and_ends_its_connection(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    # the limits of the server are larger than those of the parser's tests
    larger = {
        "large header": b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        "endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 20000,
        "announced long body": b"POST / HTTP/1.1\r\nContent-Length: 16385\r\n\r\n",
        "length of a long body": b"POST / HTTP/1.1\r\nContent-Length: 16385\r\n\r\n" + b"a" * 16385,
        "too many ahead": get() * 18,
    }

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            counted: dict[str, int] = {}
            for name, (data, reason) in REFUSED.items():
                counted[reason] = counted.get(reason, 0) + 1
                guest = await it.guest()
                await guest.send(larger.get(name, data))
                for _ in range(16 if name == "too many ahead" else 0):
                    assert (await guest.answer())[0] == 404
                status, headers, _ = await guest.answer()
                assert status == STATUS_OF_REASON[reason], name
                assert headers["connection"] == "close"
                assert await guest.rest() == b"", name
                await guest.close()
            assert it.server.totals().dropped == counted
            await until(lambda: it.server.listeners["blue"].connections == 0)

    run(test())
    assert not caplog.records


def test_an_error_answer_survives_what_the_guest_still_sends(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            await guest.send(b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000))
            assert (await guest.answer())[0] == 413
            assert await guest.rest() == b""

    run(test())


def test_a_smuggled_request_is_not_answered(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            await guest.send(
                b"POST /latest HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\n\r\nGET /latest/user-data HTTP/1.1\r\n\r\n"
            )
            assert (await guest.answer())[0] == 400
            assert await guest.rest() == b""
            assert it.server.totals().requests == {}

    run(test())


def test_one_byte_at_a_time(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            for number in range(2):
                for byte in b"GET /latest/meta-data/hostname HTTP/1.1\r\nHost: a\r\n\r\n":
                    await guest.send(bytes((byte,)))
                assert (await guest.answer())[2] == b"blue-one.novalocal", number

    run(test())


@pytest.mark.parametrize(("path", "packets"), [("/latest/meta-data/instance-id", 2), ("/latest/user-data", 3)])
def test_the_answer_acknowledges_the_request(run: Run, path: str, packets: int) -> None:
    """On a new connection the guest gets three packets: the handshake's, the answer, the end; a short answer has it."""
    document = msgspec.structs.replace(FULL, user_data=bytes(4096))

    async def test() -> None:
        async with lab(Settings()) as it:
            it.ports.know("blue", A, document)
            guest = await it.guest(say=f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            assert (await guest.rest()).startswith(b"HTTP/1.1 200 ")
            info = guest.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            assert struct.unpack_from("=I", info, TCPI_SEGS_IN) == (packets,)

    run(test())

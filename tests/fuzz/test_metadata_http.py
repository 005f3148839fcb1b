"""Any bytes: complete HTTP answers or a closed connection, never a traceback, never a neighbour's bytes."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from typing import Any

import msgspec
import pytest

from metadata.settings import Settings
from tests.fuzz.bytes_mutator import mutations
from tests.fuzz.http_target import SEEDS, check, front, http
from tests.fuzz.stored import stored
from tests.unit.metadata.conftest import LOOPS
from tests.unit.metadata.lab import Lab, lab
from tests.unit.metadata.sample import BARE, FULL

SEED = int(os.environ.get("NODEPLANE_FUZZ_SEED", "20261122"))
ROUNDS = int(os.environ.get("NODEPLANE_FUZZ_ROUNDS", "400"))
SECRET = b"the neighbour's secret"

CORPUS = [
    b"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: 169.254.169.254\r\nAccept: */*\r\n\r\n",
    b"GET /latest/user-data HTTP/1.0\r\nX-Forwarded-For: 127.0.0.6\r\nX-Instance-ID: neighbour\r\n\r\n",
    b"POST /openstack/2013-04-04/password HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /openstack/latest/password HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    b"HEAD /latest/meta-data/ HTTP/1.1\r\nConnection: close\r\n\r\n",
]


def mutated(choose: random.Random) -> bytes:
    data = bytearray(b"".join(choose.choices(CORPUS, k=choose.randint(1, 3))))
    for _ in range(choose.randint(0, 6)):
        at = choose.randrange(len(data))
        kind = choose.randrange(4)
        if kind == 0:
            data[at] = choose.randrange(256)
        elif kind == 1:
            del data[at : at + choose.randint(1, 9)]
        elif kind == 2:
            data[at:at] = choose.choice([b"\r", b"\n", b"\0", b" ", b"\r\n\r\n", b"A" * 3000, b"%2e%2e/", b"\xff"])
        else:
            data[at:at] = data[: choose.randint(1, 60)]
        data = data or bytearray(b"G")
    return bytes(data)


async def one(it: Lab, data: bytes, pieces: int) -> None:
    guest = await it.guest()
    step = max(1, len(data) // pieces)
    try:
        for at in range(0, len(data), step):
            await guest.send(data[at : at + step])
            if pieces > 1:
                await asyncio.sleep(0)
        guest.writer.write_eof()
    except (ConnectionError, RuntimeError):
        pass
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # the connection was reset before its end was said
            raise
    received = await guest.rest()
    if not received.endswith(b"<reset>"):
        check(received)
    assert SECRET not in received
    await guest.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_any_bytes(caplog: pytest.LogCaptureFixture, loop: str) -> None:
    choose = random.Random(SEED)
    print(f"NODEPLANE_FUZZ_SEED={SEED}")

    async def test() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with lab(Settings(defer_accept_seconds=0, sweep_seconds=0.01, linger_seconds=0.05)) as it:
            it.ports.know("blue", "127.0.0.5", FULL)
            it.ports.know("blue", "127.0.0.6", msgspec.structs.replace(BARE, user_data=SECRET))
            for round_ in range(ROUNDS):
                await one(it, mutated(choose), 1 + 6 * (round_ % 2))
        assert errors == []

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(test())
    assert not caplog.records


def test_the_seeds_get_where_they_should() -> None:
    """Each of the four who send is answered what it is, so that what is changed in a seed begins from there."""
    first = {front().take(seed)[:12] for seed in SEEDS}
    assert {b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 403"} <= first
    assert any(b"of Nova" in front().take(seed) for seed in SEEDS)


def test_front() -> None:
    for mutant in mutations([*SEEDS, *stored("http")], share=0.7):
        http(mutant)

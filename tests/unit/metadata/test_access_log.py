"""The access log: what is in it, and that no load makes it a burden."""

from __future__ import annotations

import itertools
import logging
import re

import msgspec
import pytest

from fastpath import sockets
from metadata import server as server_module
from metadata.http1 import Request
from metadata.identity import SPOOFED, Caller
from metadata.responses import error
from metadata.server import MetadataServer
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import LOOPBACK_MAC, Ports, lab
from tests.unit.metadata.sample import FULL

QUICK = Settings(defer_accept_seconds=0, sweep_seconds=0.01)
A, B = "127.0.0.5", "127.0.0.6"


def test_the_access_log_is_written_at_debug_level_and_bounded(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            for number in range(400):
                await guest.ask(f"/latest?{number}")

    with caplog.at_level(logging.DEBUG, "metadata"):
        run(test())
    records = [vars(record)["fields"] for record in caplog.records if record.name == "metadata.access"]
    assert 0 < len(records) < 400
    assert len(records) + sum(record.get("suppressed", 0) for record in records) <= 400
    assert records[0].pop("seconds") >= 0
    assert re.fullmatch(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", records[0].pop("id"))
    assert records[0] == {
        "network": "blue",
        "port": f"port-blue-{A}",
        "mac": LOOPBACK_MAC,
        "address": A,
        "method": "GET",
        "path": "/latest?0",
        "status": 200,
    }


def test_the_access_log_says_what_it_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr("metadata.events.emit", lambda name, **fields: told.append({"name": name, **fields}))
    monkeypatch.setattr(server_module, "ACCESS_PER_SECOND", 2)

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            while not told or "suppressed" not in told[-1]:
                await guest.ask("/latest")

    with caplog.at_level(logging.DEBUG, "metadata"):
        run(test())
    assert len({fields["id"] for fields in told}) == len(told)
    assert isinstance(told[-1]["suppressed"], int)


def test_the_access_log_does_not_come_in_bursts_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    told: list[float] = []
    monkeypatch.setattr("metadata.events.emit", lambda name, **fields: told.append(now))
    monkeypatch.setattr("metadata.server.time.monotonic", lambda: now)
    server = MetadataServer(Ports(), sockets)
    caller, request, answer = Caller("blue", None, A), Request("GET", b"/", True), error(404)
    for tick in range(3000):
        now = 1000.0 + tick / 1000
        server._log_access(caller, request, answer, "", 0.0)
    assert 290 <= len(told) <= 400
    later = [moment for moment in told if moment >= 1001.5]
    assert min(after - before for before, after in itertools.pairwise(later)) > 0.009
    now += 10
    before = len(told)
    for _ in range(200):
        server._log_access(caller, request, answer, "", 0.0)
    assert len(told) - before == 100


def test_the_access_log_has_no_port_of_unknown_and_refused_callers(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, hold_seconds=0.0)) as it:
            it.ports.know("blue", A, FULL)
            it.ports.verdicts["blue", B] = SPOOFED
            for address in (A, B, "127.0.0.9"):
                await (await it.guest(address)).ask("/latest")

    with caplog.at_level(logging.DEBUG, "metadata"):
        run(test())
    found = [vars(record)["fields"] for record in caplog.records if record.message == "metadata.request"]
    assert [(fields["port"], fields["status"]) for fields in found] == [(f"port-blue-{A}", 200), ("", 403), ("", 503)]

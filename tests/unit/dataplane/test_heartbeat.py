"""The heartbeat: lateness is measured, the watchdog is fed only while all is well."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.heartbeat import WINDOW_BEATS, Heartbeat
from dataplane.metrics import Histogram
from dataplane.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def _drain(manager: socket.socket) -> int:
    """Take everything that was sent; how much it was."""
    for count in itertools.count():
        try:
            manager.recv(100)
        except BlockingIOError:
            return count
    raise AssertionError


async def _beats(lag: Histogram, more: int) -> None:
    """Wait until so many more measurements were taken."""
    goal = sum(lag.values[()][:-1]) + more
    while sum(lag.values[()][:-1]) < goal:  # noqa: ASYNC110 - a counter has no event
        await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_the_watchdog_is_fed_while_healthy(manager: socket.socket) -> None:
    healthy = [True]
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"})
    lag = Histogram()
    heartbeat = Heartbeat(lag, notifier, lambda: healthy[0])
    task = asyncio.create_task(heartbeat.run())
    loop = asyncio.get_running_loop()
    for _ in range(3):
        assert await asyncio.wait_for(loop.sock_recv(manager, 100), 10) == b"WATCHDOG=1"
    healthy[0] = False
    _drain(manager)  # nothing else runs in between
    await _beats(lag, 10)
    assert not _drain(manager)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    notifier.close()


def test_lateness_is_remembered_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    heartbeat = Heartbeat(Histogram(), Notifier({}))
    assert heartbeat.lag_seconds == 0
    heartbeat.beat(0.001)
    assert not caplog.records
    heartbeat.beat(0.7)
    heartbeat.beat(0.0)
    assert heartbeat.lag_seconds == 0.7
    assert [record.message for record in caplog.records] == ["daemon.loop_late"]
    for _ in range(WINDOW_BEATS):
        heartbeat.beat(0.0)
    assert heartbeat.lag_seconds == 0

"""The notification protocol against a notify socket of our own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.sdnotify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        address = str(tmp_path / "notify") if request.param == "path" else f"@nodeplane-test-{os.getpid()}"
        receiver.bind(address.replace("@", "\0"))
        yield receiver, address


def test_the_protocol(manager: tuple[socket.socket, str]) -> None:
    receiver, address = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "x"}
    notifier = Notifier(environment)
    assert environment == {"PATH": "x"}, "children must not speak for us"
    assert notifier.active
    assert notifier.watchdog_seconds == 3
    notifier.extend_timeout(1.5)
    notifier.ready("2 networks\nREADY=0")
    notifier.status("line")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    notifier.close()
    notifier.stopping()
    got = [receiver.recv(4096).decode() for _ in range(6)]
    assert got[:4] == ["EXTEND_TIMEOUT_USEC=1500000", "READY=1\nSTATUS=2 networks READY=0", "STATUS=line", "WATCHDOG=1"]
    assert got[4].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert got[5] == "STOPPING=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert not notifier.active
    assert notifier.watchdog_seconds is None
    notifier.ready()
    notifier.close()


def test_a_manager_that_does_not_read_does_not_block_us(manager: tuple[socket.socket, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[1]})
    for _ in range(5000):
        notifier.watchdog()
    notifier.close()

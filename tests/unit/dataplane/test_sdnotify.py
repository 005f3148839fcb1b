"""The notification protocol against a notify socket of our own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.sdnotify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
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


def test_descriptors_arrive_even_when_the_manager_is_busy(manager: tuple[socket.socket, str]) -> None:
    """More datagrams than the queue holds, and nobody reads at first: each is waited for."""
    receiver, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    end, other = os.pipe()
    count = 100

    def send() -> None:
        for number in range(count):
            notifier.keep(f"np-{number}", [end, other])

    sender = threading.Thread(target=send)
    sender.start()
    for number in range(count):
        data, descriptors, _, _ = socket.recv_fds(receiver, 4096, 10)
        assert data.decode() == f"FDSTORE=1\nFDNAME=np-{number}\nFDPOLL=0"
        assert [os.fstat(fd).st_ino for fd in descriptors] == [os.fstat(end).st_ino, os.fstat(other).st_ino]
        for descriptor in descriptors:
            os.close(descriptor)
    sender.join()
    notifier.forget("np-1")
    assert receiver.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=np-1"
    notifier.close()
    notifier.forget("np-2")
    for descriptor in (end, other):
        os.close(descriptor)


def test_a_manager_that_does_not_listen_is_waited_for_once(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand networks must not wait a thousand times at the end of the process."""
    monkeypatch.setattr("dataplane.sdnotify._PATIENCE_SECONDS", 0.05)
    waits: list[float] = []

    def select(readable: object, writable: object, failed: object, seconds: float) -> tuple[list[int], ...]:
        waits.append(seconds)
        return [], [], []

    monkeypatch.setattr("dataplane.sdnotify.select.select", select)
    notifier = Notifier({"NOTIFY_SOCKET": manager[1]})
    for _ in range(2000):
        notifier.forget("np-1")
    assert len(waits) == 1
    notifier.close()

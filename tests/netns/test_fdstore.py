"""fdstore: kept sockets come back, and only to the namespace and device that they are on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane import fdstore, packets
from dataplane.fdstore import FdStore
from dataplane.model import NetworkId
from dataplane.sdnotify import Notifier
from scripts import lab

BLUE, GREEN = NetworkId("blue"), NetworkId("green")
HERE = Path("/proc/self/ns/net").stat().st_ino


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[lab.Keeper]:
    keeper = lab.Keeper(tmp_path / "notify")
    yield keeper
    keeper.close()


class Process:
    """Makes stores, each as a process of its own would, and closes what they talk through."""

    def __init__(self) -> None:
        self.notifiers: list[Notifier] = []

    def store(self, environment: dict[str, str]) -> FdStore:
        self.notifiers.append(Notifier(environment))
        return FdStore(self.notifiers[-1], environment)

    def first(self, keeper: lab.Keeper) -> FdStore:
        return self.store({"NOTIFY_SOCKET": str(keeper.path)})


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    for notifier in process.notifiers:
        notifier.close()


def next_process(process: Process, keeper: lab.Keeper, monkeypatch: pytest.MonkeyPatch) -> FdStore:
    """A store as the next process makes it, from descriptors in a row."""
    rows = [(name, os.dup(descriptor)) for name, kept in keeper.kept.items() for descriptor in kept]
    first = 4000
    for number, (_, descriptor) in enumerate(rows, first):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)
    monkeypatch.setattr(fdstore, "FIRST_DESCRIPTOR", first)
    environment = {"NOTIFY_SOCKET": str(keeper.path), "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(rows)),
                   "LISTEN_FDNAMES": ":".join(name for name, _ in rows)}  # fmt: skip
    store = process.store(environment)
    assert environment == {}
    return store


@pytest.mark.parametrize(
    ("inode", "index", "device", "taken"),
    [(HERE, 1, "lo", True), (HERE + 1, 1, "lo", False), (HERE, 2, "lo", False), (HERE, 1, "svc0", False)],
)
def test_sockets_come_back_where_they_belong(
    process: Process,
    keeper: lab.Keeper,
    monkeypatch: pytest.MonkeyPatch,
    inode: int,
    index: int,
    device: str,
    taken: bool,
) -> None:
    sockets = packets.open_sockets("lo")
    first = process.first(keeper)
    first.put(BLUE, sockets)
    first.finish()
    lab.wait_until(lambda: keeper.kept, "kept")
    sockets.close()
    second = next_process(process, keeper, monkeypatch)
    assert second.take(GREEN, (inode, index), device) is None
    found = second.take(BLUE, (inode, index), device)
    if taken:
        assert found is not None
        assert found.metadata[0].getsockname() == ("169.254.169.254", 80)
        assert found.dhcp.family == socket.AF_PACKET
        found.close()
        assert second.leftovers() == []
        assert list(keeper.kept) == ["np-blue"]
    else:
        assert found is None
        for left in second.leftovers():
            left.close()
        lab.wait_until(lambda: not keeper.kept, "forgotten")
    second.drop(BLUE)
    second.finish()
    lab.wait_until(lambda: not keeper.kept, "dropped")


@pytest.mark.skipif(not packets.has_ipv6(), reason="there is one listener only")
def test_a_part_of_the_listeners_is_not_taken(
    process: Process, keeper: lab.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier release had one, and a manager whose store is full keeps what fits."""
    sockets = packets.open_sockets("lo")
    first = process.first(keeper)
    first.put(BLUE, packets.NetworkSockets(sockets.metadata[:1], sockets.dhcp, sockets.guard))
    first.finish()
    lab.wait_until(lambda: keeper.kept, "kept")
    sockets.close()
    second = next_process(process, keeper, monkeypatch)
    assert second.take(BLUE, (HERE, 1), "lo") is None
    left = second.leftovers()
    assert left
    for sock in left:
        sock.close()
    second.finish()
    lab.wait_until(lambda: not keeper.kept, "forgotten")


def test_what_is_put_in_the_place_of_others_stays(
    process: Process, keeper: lab.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager forgets all that has one name, so it is told before it gets the new ones."""
    lab.run("ip", "link", "add", "kept0", "type", "bridge")
    sockets = packets.open_sockets("kept0")
    first = process.first(keeper)
    first.put(BLUE, sockets)
    first.finish()
    lab.wait_until(lambda: keeper.kept, "kept")
    sockets.close()
    lab.run("ip", "link", "del", "kept0")
    second = next_process(process, keeper, monkeypatch)
    assert second.take(BLUE, (HERE, 1), "lo") is None
    opened = packets.open_sockets("lo")
    second.put(BLUE, opened)
    for left in second.leftovers():
        left.close()
    second.put(GREEN, opened)  # behind it
    second.finish()
    lab.wait_until(lambda: "np-green" in keeper.kept, "told")
    assert len(keeper.kept.get("np-blue", ())) == len(opened.all())
    opened.close()


def test_a_device_of_the_same_name_is_another_one(
    process: Process, keeper: lab.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> int:
        lab.run("ip", "link", "add", "kept0", "index", "777", "type", "bridge")
        lab.run("ip", "link", "set", "kept0", "up")
        return 777

    index = make()
    sockets = packets.open_sockets("kept0")
    first = process.first(keeper)
    first.put(BLUE, sockets)
    first.finish()
    lab.wait_until(lambda: keeper.kept, "kept")
    sockets.close()
    lab.run("ip", "link", "del", "kept0")
    make()
    second = next_process(process, keeper, monkeypatch)
    assert second.take(BLUE, (HERE, index), "kept0") is None
    for left in second.leftovers():
        left.close()
    second.finish()
    lab.run("ip", "link", "del", "kept0")


def test_descriptors_of_another_process_are_not_taken() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "np-blue:np-blue:np-blue"}
    assert FdStore(Notifier({}), environment).take(BLUE, (HERE, 1), "lo") is None
    assert environment == {}

"""A disk without room costs new transactions, and no guest its answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import lab


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """The daemon's state directory on a file system of its own, of half a megabyte."""
    directory = tmp_path / "daemon" / "state"
    directory.mkdir(parents=True)
    lab.run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", directory)
    yield directory
    lab.run("umount", "--lazy", directory)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_refuses_transactions_and_serves_guests_also_after_a_crash(
    small: Path, daemon: lab.Daemon, plug: Callable[..., lab.Vm], tmp_path: Path
) -> None:
    daemon.apply(lab.documents("blue"))
    vm = plug("blue")
    fill(small / "filler")
    for end in (None, daemon.kill, daemon.stop):
        if end is not None:
            end()
            daemon.start()
        assert vm.dhcp(tmp_path).address == "10.0.0.5"
        assert vm.get("/latest/meta-data/hostname").body == "blue-vm.novalocal"
        refused = daemon.apply(lab.documents("blue", "green"), check=False)
        assert refused.returncode != 0
        assert "make room" in refused.stderr
    (small / "filler").unlink()
    daemon.apply(lab.documents("blue", "green"))
    assert {network["name"] for network in daemon.status()["networks"]} == {"blue", "green"}

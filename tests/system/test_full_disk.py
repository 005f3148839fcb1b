"""A disk without room costs new transactions, and no guest its answer."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import lab

FIXTURES = Path(__file__).parents[1] / "unit" / "dataplane" / "store_fixtures"


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
        # The third part is longer than what is left of a page that the database has already.
        for size in (1, 1020):
            assert vm.get("/openstack/latest/password", "-d", "p" * size).status in (200, 409, 503)
        refused = daemon.apply(lab.documents("blue", "green"), check=False)
        assert refused.returncode != 0
        assert "make room" in refused.stderr
    (small / "filler").unlink()
    daemon.apply(lab.documents("blue", "green"))
    assert {network["name"] for network in daemon.status()["networks"]} == {"blue", "green"}


def test_an_upgrade_without_room_is_refused_and_leaves_the_store_as_it_was(small: Path, tmp_path: Path) -> None:
    """The daemon cannot write the newer schema; it says so and can be started again, also the older release."""
    store = small / "nodeplane.db"
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.executescript((FIXTURES / "v2.sql").read_text())
    before = store.read_bytes()
    fill(small / "filler")
    daemon = lab.Daemon(tmp_path / "daemon")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) != 0
    text = daemon.log.read_text()
    assert "daemon.failed" in text
    assert "full; make room" in text
    assert "Traceback" not in text
    assert store.read_bytes() == before
    (small / "filler").unlink()
    daemon.start()
    assert {network["id"] for network in daemon.get("networks")} == {"blue", "green"}
    daemon.clear()
    daemon.stop()


def test_the_first_start_without_room_is_refused(small: Path, tmp_path: Path) -> None:
    fill(small / "filler")
    daemon = lab.Daemon(tmp_path / "daemon")
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) != 0
    assert "make room" in daemon.log.read_text()
    (small / "filler").unlink()
    daemon.start()
    daemon.stop()


def test_a_store_without_keys_and_without_room_makes_tokens(
    small: Path, daemon: lab.Daemon, plug: Callable[..., lab.Vm], tmp_path: Path
) -> None:
    daemon.apply(lab.documents("blue"))
    vm = plug("blue")
    daemon.stop()
    with contextlib.closing(sqlite3.connect(small / "nodeplane.db")) as connection, connection:
        connection.execute("DELETE FROM secrets")
    fill(small / "filler")
    daemon.start()
    assert "tokens.not_kept" in daemon.log.read_text()
    vm.dhcp(tmp_path)
    made = vm.get("/latest/api/token", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60")
    assert made.status == 200
    (small / "filler").unlink()

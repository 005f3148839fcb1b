"""slowhttptest in one tenant: slow headers, bodies and readers, endless ranges; the other tenant notices nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

SLOW = os.environ.get("NODEPLANE_SLOWHTTPTEST", "")
NAME = "/latest/meta-data/hostname"
SECONDS = 4
MODES: dict[str, tuple[str, ...]] = {
    "headers": ("-H", "-i", "1"),
    "body": ("-B", "-i", "1", "-s", "1000"),
    "ranges": ("-R", "-b", "3000"),
    "reader": ("-X", "-n", "1", "-w", "10", "-y", "20", "-z", "5", "-k", "16"),
}

pytestmark = pytest.mark.skipif(not SLOW, reason="slowhttptest's package is not unpacked: scripts/test does it")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[lab.Daemon]:
    """Patience is short here, and what a port may do is no more than by default."""
    config = "[metadata]\nheader_timeout = 1.0\nidle_timeout = 1.0\n"
    instance = lab.Daemon(tmp_path / "daemon", config=config).start()
    yield instance
    instance.clear()
    instance.stop()
    assert "Traceback" not in instance.log.read_text()


def test_slow_guests_keep_nobody_else_waiting(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    document: dict[str, Any] = dict(lab.documents("blue", "green"))
    document["instances"][0]["user_data"] = "x" * 60000
    daemon.apply(document)
    blue, green = tenants["blue"], tenants["green"]
    for vm in tenants.values():
        vm.set_address("10.0.0.5/24")
    before = os.listdir(f"/proc/{daemon.pid}/fd")
    tests = [
        blue.start(SLOW, *options, "-c", "200", "-r", "200", "-l", str(SECONDS), "-p", "2",
                   "-u", f"{lab.METADATA_URL}/latest/user-data", log=tmp_path / name)
        for name, options in MODES.items()
    ]  # fmt: skip
    asked = 0
    while any(process.poll() is None for process in tests):
        answer = green.get(NAME)
        assert (answer.status, answer.body) == (200, "green-vm.novalocal")
        asked += 1
        time.sleep(0.05)  # green has a limit, too
        # What one port may have open, and the requests that are answered at this moment.
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= len(before) + 40
    assert asked > 0
    metrics = daemon.metrics()
    for reason in ("slow_request", "headers_too_large", "too_many_connections_of_port"):
        assert metrics[f'nodeplane_metadata_dropped_total{{reason="{reason}"}}'] > 0, reason
    lab.wait_until(lambda: blue.get(NAME).status == 200, "blue is answered again")

"""Nova's documents for two tenants with equal ranges, addresses and MACs, through the daemon as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts import lab
from tests.nova import SECRET

PORT = 8775
ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "00000000-0000-4000-8000-{:012x}"
META_DATA = "/openstack/latest/meta_data.json"
VENDOR_DATA = "/openstack/latest/vendor_data.json"
LARGE = "0123456789" * 50_000
CONFIG = f"""
[metadata]
backend = "nova"
hold_seconds = 2.0
[log]
level = "debug"
[nova]
url = "http://127.0.0.1:{PORT}"
shared_secret = "{SECRET}"
hold_seconds = 2.0
stale_after = 0.5
cache_seconds = 1.0
connections_per_project = 4
"""


@dataclass
class Upstream:
    """The stand-in's process; it stalls for the instance whose id is in `stall`."""

    directory: Path
    process: subprocess.Popen[str] | None = None

    @property
    def stall(self) -> Path:
        return self.directory / "nova.stall"

    def start(self) -> None:
        self.load()
        self.serve()

    def load(self) -> None:
        """All that takes time; nothing listens yet."""
        file = self.directory / "nova.json"
        file.write_text(json.dumps([
            {"uuid": INSTANCE.format(number), "project_id": f"{tenant}-project", "hostname": f"{tenant}-at-nova",
             "user_data": "AP8K" if tenant == "blue" else None,
             "vendor_data": {"of": tenant, "large": LARGE} if tenant == "green" else {"of": tenant}}
            for number, tenant in enumerate(("blue", "green", "own"), 1)
        ]))  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.nova", "127.0.0.1", str(PORT), str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self._says("loaded")

    def serve(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._says("ready")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def _says(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    made = Upstream(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def daemon(tmp_path: Path, upstream: Upstream) -> Iterator[lab.Daemon]:
    instance = lab.Daemon(tmp_path / "daemon", config=CONFIG)
    instance.start()
    yield instance
    if instance.process is not None and instance.process.poll() is None:
        instance.clear()
        instance.stop()
    assert "Traceback" not in instance.log.read_text()
    assert SECRET not in instance.log.read_text()


@pytest.fixture
def guests(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> dict[str, lab.Vm]:
    """`own` is in a network with documents of the store."""
    document: dict[str, Any] = dict(lab.documents("blue", "green", "own"))
    document["networks"][2]["metadata_backend"] = "own"
    # What only Nova knows: ports with a project are enough.
    document["instances"] = document["instances"][2:]
    for port, tenant in zip(document["ports"], ("blue", "green"), strict=False):
        port["project_id"] = f"{tenant}-project"
    daemon.apply(document)
    vms = {tenant: plug(tenant) for tenant in ("blue", "green", "own")}
    for vm in vms.values():
        vm.set_address("10.0.0.5/24")
    return vms


def hostname(vm: lab.Vm, *options: str) -> str:
    answer = vm.get(META_DATA, *options)
    assert answer.status == 200, answer
    found: str = json.loads(answer.body)["hostname"].partition(".")[0]
    return found


def test_each_tenant_has_its_own_documents(daemon: lab.Daemon, guests: dict[str, lab.Vm], tmp_path: Path) -> None:
    for _ in range(2):
        assert hostname(guests["blue"]) == "blue-at-nova"
        assert hostname(guests["green"]) == "green-at-nova"
        assert hostname(guests["own"]) == "own-vm"
    for header in (f"X-Instance-ID: {INSTANCE.format(2)}", "X-Tenant-ID: green-project", "X-Metadata-Provider: x"):
        assert hostname(guests["blue"], "-H", header) == "blue-at-nova"
    saved = tmp_path / "user-data"
    assert guests["blue"].get("/latest/user-data", "-o", str(saved)).status == 200
    assert saved.read_bytes() == b"\x00\xff\n"
    assert guests["green"].get("/latest/user-data").status == 404
    metrics = daemon.metrics()
    assert metrics['nodeplane_metadata_upstream_requests_total{code="200"}'] >= 3
    assert metrics['nodeplane_metadata_cache_hits_total{kind="fresh"}'] >= 2
    assert metrics['nodeplane_metadata_upstream_duration_seconds_count{code="200"}'] >= 3


def test_a_large_document_is_passed_on_whole_and_to_nobody_else(guests: dict[str, lab.Vm]) -> None:
    for options in ((), ("-0",), ("-r", "0-")):
        found = guests["green"].get(VENDOR_DATA, *options)
        assert found.status == 200
        assert json.loads(found.body) == {"of": "green", "large": LARGE}
        assert guests["blue"].get(VENDOR_DATA, *options).body == '{"of": "blue"}'
    head = guests["green"].get(VENDOR_DATA, "--head").body.lower()
    assert f"content-length: {len(found.body)}" in head


def test_passwords(guests: dict[str, lab.Vm]) -> None:
    path = "/openstack/2013-04-04/password"
    for tenant in ("blue", "own"):
        vm = guests[tenant]
        assert vm.get(path, "-d", "x" * 1021).status == 400
        assert vm.get(path, "-d", f"secret of {tenant}").status == 200
        assert vm.get(path, "-d", "again").status == 409
        assert vm.get(path).body == f"secret of {tenant}"
    assert guests["green"].get(path).body == ""


def test_a_stall_for_one_tenant_is_not_the_others(guests: dict[str, lab.Vm], upstream: Upstream) -> None:
    upstream.stall.write_text(INSTANCE.format(2))
    waiting = [
        guests["green"].start(
            "curl", "-s", "-o", "/dev/null", "--max-time", "20", lab.METADATA_URL + META_DATA + f"?{n}"
        )
        for n in range(10)
    ]
    for number in range(20):
        answer = guests["blue"].get(f"/openstack/latest/network_data.json?{number}")
        assert answer.status == 200
    assert all(process.poll() is None for process in waiting)
    upstream.stall.unlink()
    assert {process.wait(20) for process in waiting} == {0}


def test_nova_goes_and_comes_back(daemon: lab.Daemon, guests: dict[str, lab.Vm], upstream: Upstream) -> None:
    assert hostname(guests["blue"]) == "blue-at-nova"
    upstream.stop()
    upstream.load()  # to begin to listen may not take longer than a request is held
    lab.wait_until(
        lambda: (
            hostname(guests["blue"]) == "blue-at-nova"
            and daemon.metrics().get('nodeplane_metadata_cache_hits_total{kind="stale"}', 0) >= 1
        ),
        "a stale answer",
    )
    answer = guests["green"].get(META_DATA, "-D", "-")
    assert answer.status == 503
    assert "retry-after: 1" in answer.body.lower()
    waiting = guests["green"].start("curl", "-s", "-f", "-o", "/dev/null", lab.METADATA_URL + META_DATA)
    upstream.serve()
    assert waiting.wait(20) == 0
    assert "metadata.nova_back" in daemon.log.read_text()


def test_a_port_that_becomes_another_instance_s_is_answered_as_that_at_once(
    daemon: lab.Daemon, guests: dict[str, lab.Vm]
) -> None:
    assert hostname(guests["blue"]) == "blue-at-nova"
    document = dict(lab.documents("blue", "green"))
    document["instances"] = []
    document["ports"] = [{**document["ports"][0], "device_id": INSTANCE.format(2), "project_id": "green-project"}]
    document["networks"] = document["networks"][:1]
    daemon.apply(document)
    assert hostname(guests["blue"]) == "green-at-nova"
    document["ports"][0]["project_id"] = "blue-project"
    daemon.apply(document)
    assert guests["blue"].get(META_DATA).status == 404


def test_an_empty_secret_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    for line in ('shared_secret = ""', f'shared_secret_file = "{tmp_path / "secret"}"'):
        instance = lab.Daemon(tmp_path / "d", config=f'[nova]\nurl = "http://127.0.0.1:{PORT}"\n{line}\n')
        with pytest.raises(RuntimeError, match="empty"):
            instance.start()

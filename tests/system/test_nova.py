"""Nova's documents for two tenants with equal ranges, addresses and MACs, through the daemon as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import lab
from tests.system.nova_process import INSTANCE, LARGE, PORT, Upstream

META_DATA = "/openstack/latest/meta_data.json"
VENDOR_DATA = "/openstack/latest/vendor_data.json"


@pytest.fixture
def daemon(nova_daemon: lab.Daemon) -> lab.Daemon:
    return nova_daemon


@pytest.fixture
def guests(nova_guests: dict[str, lab.Vm]) -> dict[str, lab.Vm]:
    return nova_guests


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

"""Running it: start, reload, stop, watch, and be told clearly what is wrong."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane import cli_input
from scripts import lab


def log_events(daemon: lab.Daemon) -> list[dict[str, object]]:
    return [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]


def test_sigterm_leaves_the_kernel_as_it_is(daemon: lab.Daemon) -> None:
    daemon.apply(lab.documents("blue"))
    assert daemon.stop() == 0
    assert Path("/run/netns/np-blue-net").exists()
    daemon.start()


def test_teardown_when_asked(tmp_path: Path) -> None:
    config = f'[node]\nname = "lab"\nstate_dir = "{tmp_path}/state"\non_stop = "teardown"\n'
    daemon = lab.Daemon(tmp_path / "d", config=config).start()
    before = lab.run("ip", "link").stdout
    daemon.apply(lab.documents("blue", "green"))
    assert daemon.stop() == 0
    assert not Path("/run/netns/np-blue-net").exists()
    assert lab.run("ip", "link").stdout == before


def test_reload_takes_what_can_change_and_names_what_cannot(daemon: lab.Daemon) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('level = "debug"', 'level = "info"').replace('name = "lab"', 'name = "x"'))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    lab.wait_until(lambda: "daemon.reloaded" in daemon.log.read_text(), "reloaded")
    assert "node.name" in daemon.log.read_text()
    daemon.config.write_text(text + "\n[nonsense]\nkey = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    lab.wait_until(lambda: "daemon.reload_refused" in daemon.log.read_text(), "refused")
    assert daemon.cli("status", "--brief").returncode == 0
    daemon.config.write_text(text)


def test_logs_are_json_with_stable_event_names(tmp_path: Path) -> None:
    daemon = lab.Daemon(tmp_path / "d", config='[log]\nformat = "json"\n').start()
    daemon.apply(lab.documents("blue"))
    daemon.clear()
    daemon.stop()
    events = [str(row["event"]) for row in log_events(daemon)]
    assert "daemon.ready" in events
    assert "network.ready" in events
    assert all("." in event for event in events)


def test_notify_and_watchdog(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        daemon = lab.Daemon(tmp_path / "d", environment=environment).start(wait=False)
        seen = ""
        deadline = time.monotonic() + 60
        while not ("READY=1" in seen and "WATCHDOG=1" in seen) and time.monotonic() < deadline:
            seen += notify.recv(4096).decode() + "\n"
        daemon.stop()
        while "STOPPING=1" not in seen:
            seen += notify.recv(4096).decode() + "\n"
    assert "READY=1" in seen
    assert "WATCHDOG=1" in seen
    assert "STATUS=" in seen


def test_metrics_on_a_port_of_the_nodes_own(tmp_path: Path) -> None:
    daemon = lab.Daemon(tmp_path / "d", config='[metrics]\nlisten = "127.0.0.1:19100"\n').start()
    done = lab.run("curl", "-sS", "http://127.0.0.1:19100/metrics")
    assert "nodeplane_build_info" in done.stdout
    assert (
        lab.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:19100/v1/status").stdout
        == "404"
    )
    daemon.stop()


def test_strangers_may_not_use_the_control_socket(daemon: lab.Daemon) -> None:
    """The socket's mode is opened here, so that only the peer's credentials stand between."""
    if Path("/proc/self/uid_map").read_text().split()[2] != "4294967295":
        pytest.skip("a user namespace has one user only")
    for path in [daemon.socket, *daemon.socket.parents]:
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o007)
    argv = ["curl", "-sS", "-w", "%{http_code}", "--unix-socket", str(daemon.socket), "http://control/v1/status"]
    assert subprocess.run(argv, capture_output=True, text=True).stdout.endswith("200")
    done = subprocess.run(argv, capture_output=True, text=True, user=65534, group=65534)
    assert done.stdout.endswith("403")


def test_a_mistake_is_refused_whole_with_its_path(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    document = lab.documents("blue", "green")
    document["ports"][1]["fixed_ips"] = [{"subnet_id": "green-subnet", "ip_address": "10.0.9.5"}]
    document["ports"][0]["mac_adress"] = "x"
    done = daemon.apply(document, check=False)
    assert done.returncode != 0
    assert "ports[1].fixed_ips[0].ip_address: 10.0.9.5 is not in subnet 10.0.0.0/24" in done.stderr
    assert 'did you mean "mac_address"?' in done.stderr
    assert daemon.get("networks") == []


def test_get_prints_tables_json_and_yaml(daemon: lab.Daemon) -> None:
    daemon.apply(lab.documents("blue"))
    assert "blue-net" in daemon.cli("get", "networks").stdout
    assert daemon.get("ports")[0]["mac_address"] == "02:00:00:00:00:05"
    assert "hostname: blue-vm" in daemon.cli("get", "instances", "-o", "yaml").stdout


def test_security_groups_are_kept_and_explained(daemon: lab.Daemon) -> None:
    example = cli_input.read(str(Path(__file__).parents[2] / "examples" / "security-groups.yaml"))
    daemon.apply(example)
    assert "web-https" in daemon.cli("get", "security_groups", "web", "-o", "yaml").stdout
    where = ("explain", "packet", "--network", "shop", "--port", "shop-db")
    told = daemon.cli(*where, "tcp 10.0.0.10 > 10.0.0.20:5432").stdout
    assert "rule      db-from-web of security group db" in told
    done = daemon.cli(*where, "tcp 10.0.0.30 > 10.0.0.20:5432", check=False)
    assert (done.returncode, "default_deny" in done.stdout) == (1, True)
    daemon.cli("delete", "security_group", "web")
    done = daemon.cli(*where[:-1], "shop-web", "tcp 203.0.113.9 > 10.0.0.10:443", check=False)
    assert "default_deny" in done.stdout
    assert "web does not exist" in done.stdout


def test_delete(daemon: lab.Daemon) -> None:
    daemon.apply(lab.documents("blue", "green"))
    refused = daemon.cli("delete", "network", "blue-net", check=False)
    assert refused.returncode != 0
    assert "blue-port" in refused.stderr
    daemon.cli("delete", "port", "blue-port")
    daemon.cli("delete", "network", "blue-net")
    assert [row["id"] for row in daemon.get("networks")] == ["green-net"]
    lab.wait_until(lambda: not Path("/run/netns/np-blue-net").exists(), "blue's namespace gone")


def test_a_daemon_with_another_store_does_not_take_the_networks_down(daemon: lab.Daemon, tmp_path: Path) -> None:
    daemon.apply(lab.documents("blue"))
    other = lab.Daemon(tmp_path / "other").start(wait=False)
    assert other.process is not None
    assert other.process.wait(60) != 0
    assert "another nodeplane" in other.log.read_text()
    assert daemon.status()["networks"][0]["state"] == "ready"
    assert Path("/run/netns/np-blue-net").exists()


def test_a_local_user_cannot_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    if Path("/proc/self/uid_map").read_text().split()[2] != "4294967295":
        pytest.skip("a user namespace has one user only")
    ready, end = multiprocessing.Event(), multiprocessing.Event()

    def squat() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(b"\0nodeplane")
            sock.listen()
            ready.set()
            end.wait(60)

    squatter = multiprocessing.get_context("fork").Process(target=squat)
    squatter.start()
    assert ready.wait(60)
    daemon = lab.Daemon(tmp_path / "d").start()
    assert "daemon.claim_ignored" in daemon.log.read_text()
    assert daemon.stop() == 0
    end.set()
    squatter.join()


def test_a_second_daemon_does_not_disturb_the_first(daemon: lab.Daemon, tmp_path: Path) -> None:
    second = lab.Daemon(tmp_path / "daemon").start(wait=False)
    assert second.process is not None
    assert second.process.wait(60) != 0
    assert daemon.cli("status", "--brief").returncode == 0


def test_sighup_before_the_daemon_serves_is_harmless(daemon: lab.Daemon) -> None:
    daemon.stop()
    before = daemon.log.read_text().count("daemon.starting")
    daemon.start(wait=False)
    lab.wait_until(lambda: daemon.log.read_text().count("daemon.starting") > before, "the start")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    lab.wait_until(lambda: daemon.cli("status", "--brief", check=False).returncode == 0, "readiness")
    assert daemon.process.poll() is None


def test_leases_of_ports_that_are_gone_do_not_come_back(daemon: lab.Daemon) -> None:
    """The journal follows a transaction by a moment, and a lease without end would stay for ever."""
    daemon.stop()
    row = {"network_id": "n", "port_id": "gone", "mac": "02:00:00:00:00:05", "address": "10.0.0.5", "state": "bound",
           "since": 1.0, "updated": 1.0}  # fmt: skip
    with contextlib.closing(sqlite3.connect(daemon.directory / "state" / "nodeplane.db")) as database, database:
        database.execute("INSERT INTO leases VALUES (?, ?, ?)", (row["port_id"], row["address"], json.dumps(row)))
    daemon.start()
    assert daemon.get("leases") == []

"""The command line against a control server over a fake backend, through click's runner and as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

import fastpath
from dataplane import __version__, cli, cli_input
from fastpath import levels
from tests.unit.dataplane.fake_backend import LEASE, TENANT, FakeBackend, as_json, config, served

ROOT = Path(__file__).resolve().parents[3]
TEXT = as_json(TENANT).decode()


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def socket(tmp_path: Path, backend: FakeBackend) -> Iterator[Path]:
    path = tmp_path / "control.sock"
    with served(backend, config(path)):
        yield path


def run(socket: Path, *argv: str, input: str | None = None) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli.main, ["--socket", str(socket), *argv], input=input, prog_name="nodeplane")


def test_apply(socket: Path, backend: FakeBackend, tmp_path: Path) -> None:
    first = run(socket, "apply", "-f", "-", "--dry-run", input=TEXT)
    assert first.exit_code == 0
    assert "1 network created, 1 port created, 1 instance created (dry run: nothing was changed)" in first.output
    file = tmp_path / "document.yaml"
    file.write_text(TEXT)
    assert "(revision 1)" in run(socket, "apply", "-f", str(file)).output
    again = run(socket, "apply", "-f", str(file), "--wait")
    assert again.exit_code == 0
    assert again.output == "nothing to change (revision 1, carried out)\n"
    pruned = run(socket, "apply", "-f", "-", "--prune", "--wait", "2.5", input="{}")
    assert "1 port deleted" in pruned.output
    assert json.loads(run(socket, "apply", "-f", "-", "-o", "json", input=TEXT).output)["position"] == 3


def test_apply_is_refused_with_every_path(socket: Path, backend: FakeBackend) -> None:
    wrong: dict[str, Any] = json.loads(TEXT)
    wrong["ports"][0]["fixed_ips"][0]["ip_address"] = "10.0.9.5"
    wrong["networks"][0]["vni"] = 0
    done = run(socket, "apply", "-f", "-", input=json.dumps(wrong))
    assert done.exit_code == cli.REFUSED
    assert done.stdout == ""
    assert "2 mistakes" in done.stderr
    assert "\n  ports[0].fixed_ips[0].ip_address: 10.0.9.5 is not in subnet 10.0.0.0/24\n" in done.stderr
    assert backend.position == 0
    done = run(socket, "apply", "-f", "-", input="a: [")
    assert done.exit_code == cli.REFUSED
    assert "standard input:" in done.stderr
    done = run(socket, "apply", "-f", "/no/such/file")
    assert done.exit_code == cli.REFUSED
    assert "No such file" in done.stderr


def test_waiting_tells_what_went_wrong(socket: Path, backend: FakeBackend) -> None:
    backend.lag = 1
    late = run(socket, "apply", "-f", "-", "--wait", "0", input=TEXT)
    assert late.exit_code == cli.LATE
    assert "nodeplane status" in late.stderr
    backend.lag = 0
    backend.errors = {"blue-net": "no room"}
    failed = run(socket, "apply", "-f", "-", "--wait", input=TEXT)
    assert failed.exit_code == cli.FAILED
    assert "blue: no room" in failed.stderr


def test_delete(socket: Path, backend: FakeBackend) -> None:
    run(socket, "apply", "-f", "-", input=TEXT)
    refused = run(socket, "delete", "network", "blue-net")
    assert refused.exit_code == cli.REFUSED
    assert "blue-port" in refused.stderr
    assert run(socket, "delete", "ports", "blue-port", "--wait").output == "1 port deleted (revision 2, carried out)\n"
    assert run(socket, "delete", "port", "blue-port").exit_code == cli.REFUSED
    run(socket, "apply", "-f", "-", input=TEXT)
    assert run(socket, "delete", "-f", "-", input=TEXT).exit_code == 0
    assert backend.desired.networks == {}
    for wrong in ("{}", "[]", "ports: 5", "ports: [{name: x}]", "ports: [x]"):
        assert run(socket, "delete", "-f", "-", input=wrong).exit_code == cli.REFUSED


@pytest.mark.parametrize(
    "argv",
    [
        ("delete",), ("delete", "port"), ("delete", "port", "a", "-f", "x"), ("delete", "subnet", "a"),
        ("get",), ("get", "subnets"), ("get", "networks", "--network", "x"), ("get", "ports", "-o", "xml"),
        ("apply",), ("apply", "-f", "-", "--wait", "soon"), ("apply", "-f", "-", "--wait", "601"),
        ("status", "--wait", "-1"), ("nothing",),
    ],
)  # fmt: skip
def test_wrong_usage(tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert run(tmp_path / "none", *argv).exit_code == 2


def test_get(socket: Path, backend: FakeBackend) -> None:
    backend.rows = [LEASE]
    run(socket, "apply", "-f", "-", input=TEXT)
    assert "blue-net" in run(socket, "get", "networks").output
    assert json.loads(run(socket, "get", "ports", "-o", "json").output)[0]["id"] == "blue-port"
    assert json.loads(run(socket, "get", "ports", "blue", "-o", "json").output)["id"] == "blue-port"
    assert run(socket, "get", "ports", "--network", "other").output.splitlines()[1:] == []
    text = run(socket, "get", "instances", "0000", "-o", "yaml").output
    assert cli_input.parse(text)["instances"][0]["user_data"] == "#!/bin/sh\necho blue\n"
    assert run(socket, "apply", "-f", "-", input=text).output == "nothing to change (revision 1)\n"
    assert "blue-vm" in run(socket, "get", "leases", "blue").output
    assert json.loads(run(socket, "get", "leases", "green", "-o", "json").output) == []
    missing = run(socket, "get", "networks", "green")
    assert missing.exit_code == cli.REFUSED
    assert "nodeplane get networks lists them" in missing.stderr


def test_status(socket: Path, backend: FakeBackend) -> None:
    assert "READY" in run(socket, "status").output
    assert run(socket, "status", "--brief").output.startswith("ready · 0 networks")
    assert json.loads(run(socket, "status", "-o", "json").output)["node"] == "fake"
    backend.ready = False
    assert run(socket, "status", "--brief").exit_code == cli.REFUSED
    assert run(socket, "status", "--wait", "0").exit_code == cli.LATE


def test_status_waits_until_all_is_carried_out(socket: Path, backend: FakeBackend) -> None:
    backend.position, backend.lag = 5, 1
    assert run(socket, "status", "--wait", "0.01", "--brief").exit_code == cli.LATE
    looks = []

    def status(original: Any = backend.status) -> Any:
        looks.append(1)
        backend.lag = 0 if len(looks) > 4 else 1
        return original()

    backend.status = status  # type: ignore[method-assign]
    done = run(socket, "status", "--wait", "30", "--brief")
    assert done.exit_code == 0
    assert "revision 5" in done.output


def test_without_a_daemon(tmp_path: Path) -> None:
    for argv in (("status",), ("status", "--wait", "0"), ("get", "ports"), ("delete", "port", "x")):
        done = run(tmp_path / "none", *argv)
        assert done.exit_code == cli.UNREACHABLE
        assert done.stdout == ""
        assert "systemctl start nodeplane" in done.stderr


def test_check(tmp_path: Path) -> None:
    file = tmp_path / "nodeplane.toml"
    good = f"[node]\nstate_dir = '{tmp_path}'\n[control]\nsocket = '{tmp_path}/c'\n"
    file.write_text(good)
    assert run(tmp_path, "check", str(file)).output == f"{file} is valid\n"
    effective = run(tmp_path, "check", str(file), "--effective").output
    assert "lease_time = 86400" in effective
    file.write_text(good + "allow_users = ['no-such-user']\n")
    done = run(tmp_path, "check", str(file))
    assert done.exit_code == 2
    assert "no-such-user" in done.stderr
    file.write_text("[node]\nnmae = 1\n")
    done = run(tmp_path, "check", str(file))
    assert done.exit_code == 1
    assert f"{file}:2: node.nmae: unknown key" in done.stderr
    assert run(tmp_path, "check", str(tmp_path / "none")).exit_code == 1


def test_run_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nodeplane.toml"
    file.write_text("[node]\nnmae = 1\n")
    done = run(tmp_path, "run", "--config", str(file))
    assert done.exit_code == 1
    assert "node.nmae" in done.stderr


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "version").output == f"nodeplane {__version__}\n"
    assert run(tmp_path, "--version").output == f"nodeplane {__version__}\n"
    verbose = run(tmp_path, "version", "--verbose").output
    assert "msgspec" in verbose
    assert f"{fastpath.LEVEL}; this processor runs" in verbose
    for stage, choice in levels.choices().items():
        assert any(f"fastpath.{stage}" in line and f"{choice.level} (" in line for line in verbose.splitlines())


def test_version_where_the_fastpath_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("no such level")

    monkeypatch.setattr(levels, "choices", broken)
    assert "not usable: no such level" in run(tmp_path, "version", "--verbose").output


@pytest.mark.parametrize("verb", sorted(cli.main.commands))
def test_every_verb_has_help(verb: str, tmp_path: Path) -> None:
    done = run(tmp_path, verb, "--help")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: nodeplane {verb}")


def process(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "dataplane.cli", *argv]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, text=True, capture_output=True
    )


def test_as_a_process(socket: Path, backend: FakeBackend) -> None:
    done = process("status", "--brief", NODEPLANE_SOCKET=str(socket))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ready")
    done = process("--socket", str(socket), "get", "leases", "-o", "json")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert process("status", NODEPLANE_SOCKET="/no/where").returncode == cli.UNREACHABLE


def test_the_command_starts_light() -> None:
    """No verb but `run` pays for the daemon, and none for what it does not use."""
    code = (
        "import sys\nfrom dataplane import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'aiohttp', 'uvloop', 'pyroute2', 'asyncio', 'rich', 'yaml', 'prometheus_client', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for argv in (["version"], ["--help"], ["get", "networks"], ["check", "/none"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, text=True, capture_output=True)
        assert done.stdout.splitlines()[-1] == "[]", argv

"""`nodeplane explain metadata` against a control server, and the parts that it goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from dataplane import cli, documents
from metadata.http1 import Request
from metadata.identity import Known
from metadata.responses import Response, error
from tests.unit.dataplane.fake_backend import TENANT, FakeBackend, config, served

MAC = "02:00:00:00:00:05"
TOKEN = "x-aws-ec2-metadata-token"


@pytest.fixture
def backend() -> FakeBackend:
    made = FakeBackend()
    made.desired.apply(made.desired.stage(documents.decode(TENANT)))
    return made


@pytest.fixture
def socket(tmp_path: Path, backend: FakeBackend) -> Iterator[Path]:
    path = tmp_path / "control.sock"
    with served(backend, config(path)):
        yield path


def run(socket: Path, *argv: str) -> click.testing.Result:
    runner = click.testing.CliRunner()
    return runner.invoke(cli.main, ["--socket", str(socket), "explain", "metadata", *argv], prog_name="nodeplane")


def asked(socket: Path, *argv: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(socket, "--network", "blue-net", *argv, "-o", "json").stdout)
    return found


def test_a_known_caller(socket: Path) -> None:
    done = run(socket, "--network", "blue", "--ip", "10.0.0.5", "--mac", MAC, "/latest/meta-data/hostname")
    assert done.exit_code == 0
    rows = [(line[:9].strip(), line[10:]) for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert dict(rows) == {
        "request": "GET /latest/meta-data/hostname",
        "caller": f"10.0.0.5 {MAC} in network blue-net",
        "port": "blue-port",
        "instance": "00000000-0000-4000-8000-000000000001 of project blue-project",
        "policy": "endpoint enabled, tokens optional",
        "backend": "own documents",
        "answer": "200 text/plain; charset=UTF-8, 17 bytes",
    }
    assert "blue-vm" not in done.stdout


def test_as_json(socket: Path) -> None:
    found = asked(socket, "--ip", "10.0.0.5")
    assert found["by"] == "address"
    assert found["path"] == "/openstack/latest/meta_data.json"
    assert (found["verdict"], found["port"], found["status"], found["decided_by"]) == (
        "known", "blue-port", 200, "backend",
    )  # fmt: skip
    assert str(found["request_id"]).startswith("req-")


@pytest.mark.parametrize(
    ("argv", "verdict", "reason", "status"),
    [
        (("--ip", "10.0.0.9"), "unknown", "no_port", 503),
        (("--ip", "10.0.0.9", "--mac", MAC), "unknown", "address_not_of_port", 503),
        (("--ip", "10.0.0.5", "--mac", "02:00:00:00:00:06"), "unknown", "no_port", 503),
    ],
)
def test_callers_that_are_not_known(
    socket: Path, argv: tuple[str, ...], verdict: str, reason: str, status: int
) -> None:
    found = asked(socket, *argv)
    assert (found["verdict"], found["reason"], found["status"]) == (verdict, reason, status)
    text = run(socket, "--network", "blue-net", *argv)
    assert text.exit_code == cli.REFUSED
    assert reason in text.stdout
    assert "held until its port is known" in text.stdout


def test_a_neighbours_address_is_refused(socket: Path, backend: FakeBackend) -> None:
    other = {**TENANT["ports"][0], "id": "other-port", "mac_address": "02:00:00:00:00:06",
             "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.6"}]}  # fmt: skip
    change = backend.desired.stage(documents.decode({"ports": [other]}, against=backend.desired))
    backend.desired.apply(change)
    found = asked(socket, "--ip", "10.0.0.6", "--mac", MAC)
    assert (found["verdict"], found["reason"], found["status"]) == ("refused", "address_of_other_port", 403)


def test_a_missing_document(socket: Path) -> None:
    done = run(socket, "--network", "blue-net", "--ip", "10.0.0.5", "latest/nothing")
    assert done.exit_code == cli.REFUSED
    assert "GET /latest/nothing" in done.stdout
    assert "404" in done.stdout


def test_policy(socket: Path, backend: FakeBackend) -> None:
    def gate(request: Request, known: Known, now: float) -> Response | None:
        if request.method == "PUT":
            return Response(200, "text/plain", b"s3cr3t")
        return None if request.headers.get(TOKEN) == "s3cr3t" else error(401)

    backend.gate = gate
    refused = asked(socket, "--ip", "10.0.0.5")
    assert (refused["status"], refused["decided_by"]) == (401, "policy")
    done = run(socket, "--network", "blue-net", "--ip", "10.0.0.5", "--token", "-o", "json")
    assert json.loads(done.stdout)["status"] == 200
    assert "s3cr3t" not in done.output


def test_wrong_questions(socket: Path) -> None:
    for argv, said in (
        (("--network", "red", "--ip", "10.0.0.5"), "there is no network red"),
        (("--network", "blue-net", "--ip", "10.0.0"), "not an IP address"),
        (("--network", "blue-net", "--ip", "10.0.0.5", "--mac", "x"), "not a MAC address"),
    ):
        done = run(socket, *argv)
        assert done.exit_code == cli.REFUSED
        assert said in done.output
    assert run(socket, "--ip", "10.0.0.5").exit_code == 2

"""The control API over a real Unix socket, on both event loops; every answer must fit the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import uvloop

from dataplane import openapi
from dataplane.config import Config, MetricsConfig
from dataplane.control import ControlServer
from dataplane.control_client import ControlClient, RefusedError
from dataplane.errors import ListenError, StoreError
from dataplane.metrics import Metrics
from tests.unit.dataplane.fake_backend import LEASE, TENANT, FakeBackend, as_json, config, served

DOCUMENT = openapi.document()


def check(operation: str, body: bytes, code: int = 200) -> Any:
    """The decoded body, which must fit the document's schema for that answer."""
    [described] = [
        method for path in DOCUMENT["paths"].values() for method in path.values() if method["operationId"] == operation
    ]
    schema = described["responses"][str(code)]["content"]["application/json"]["schema"]
    answer = json.loads(body)
    jsonschema.validate(answer, {**schema, "components": DOCUMENT["components"]})
    return answer


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    made: Callable[[], asyncio.AbstractEventLoop] = request.param
    return made


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def client(
    backend: FakeBackend, path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[ControlClient]:
    with served(backend, config(path, body_bytes=4096), new_loop):
        yield ControlClient(str(path))


def refused(call: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def test_apply_get_delete(client: ControlClient) -> None:
    first = check("apply", client.post("v1", "apply", body=as_json(TENANT)))
    assert first["position"] == 1
    assert first["changed"]["ports"] == {"created": 1, "updated": 0, "deleted": 0, "unchanged": 0}
    assert not first["waited"]
    again = check("apply", client.post("v1", "apply", body=as_json(TENANT), wait=5))
    assert again["position"] == 1
    assert again["changed"]["ports"]["unchanged"] == 1
    assert again["waited"]
    assert again["applied"]

    assert check("list_networks", client.get("v1", "networks"))["networks"][0]["vni"] == 101
    assert check("list_ports", client.get("v1", "ports", network_id="blue-net"))["ports"][0]["id"] == "blue-port"
    assert check("list_ports", client.get("v1", "ports", network_id="green-net"))["ports"] == []
    assert check("list_instances", client.get("v1", "instances"))["instances"][0]["name"] == "blue-vm"
    assert check("get_network", client.get("v1", "networks", "blue-net"))["name"] == "blue"
    assert check("get_instance", client.get("v1", "instances", "0000"))["project_id"] == "blue-project"

    deleted = check("delete", client.post("v1", "delete", body=b'{"ports": ["blue-port"]}', wait=1))
    assert deleted["changed"]["ports"]["deleted"] == 1
    assert check("list_ports", client.get("v1", "ports"))["ports"] == []


def test_dry_run_and_prune(client: ControlClient, backend: FakeBackend) -> None:
    assert check("apply", client.post("v1", "apply", body=as_json(TENANT), dry_run=1))["dry_run"]
    assert backend.position == 0
    client.post("v1", "apply", body=as_json(TENANT))
    pruned = check("apply", client.post("v1", "apply", body=b"{}", prune="true"))
    assert [pruned["changed"][kind]["deleted"] for kind in ("networks", "ports", "instances")] == [1, 1, 1]


def test_mistakes_are_all_named(client: ControlClient, backend: FakeBackend) -> None:
    wrong = json.loads(as_json(TENANT))
    wrong["ports"][0]["fixed_ips"][0]["ip_address"] = "10.0.9.5"
    wrong["networks"][0]["vni"] = 1 << 24
    error = refused(lambda: client.post("v1", "apply", body=as_json(wrong)))
    assert error.status == 422
    assert {mistake.path for mistake in error.mistakes} == {"networks[0].vni", "ports[0].fixed_ips[0].ip_address"}
    assert backend.position == 0
    error = refused(lambda: client.post("v1", "delete", body=b'{"ports": ["x"], "netwroks": []}'))
    assert "did you mean" in error.mistakes[0].reason
    assert refused(lambda: client.post("v1", "delete", body=b"{}")).status == 422
    client.post("v1", "apply", body=as_json(TENANT))
    error = refused(lambda: client.post("v1", "delete", body=b'{"networks": ["blue-net"]}'))
    assert "blue-port" in str(error.mistakes)


def test_waiting(client: ControlClient, backend: FakeBackend) -> None:
    backend.lag = 1
    backend.errors = {"blue-net": "no room"}
    late = check("apply", client.post("v1", "apply", body=as_json(TENANT), wait=""))
    assert late["waited"]
    assert not late["applied"]
    assert late["failed"][0]["error"] == "no room"
    assert check("wait", client.get("v1", "wait", timeout=1)) == {
        "position": 1,
        "applied": False,
        "failed": late["failed"],
    }
    assert check("wait", client.get("v1", "wait", position=0))["applied"]


def test_status_and_leases(client: ControlClient, backend: FakeBackend) -> None:
    backend.rows = [LEASE]
    assert check("list_leases", client.get("v1", "leases"))["leases"][0]["hostname"] == "blue-vm"
    assert check("list_leases", client.get("v1", "leases", network_id="green-net"))["leases"] == []
    status = check("status", client.get("v1", "status"))
    assert status["node"] == "fake"
    assert status["dhcp"]["received"] == 3


def test_problems_have_one_shape(client: ControlClient, backend: FakeBackend) -> None:
    client.post("v1", "apply", body=as_json(TENANT))
    cases: list[tuple[Callable[[], object], int]] = [
        (lambda: client.get("v1", "ports", "nothing"), 404),
        (lambda: client.get("v1", "nothing"), 404),
        (lambda: client.get("v1", "apply"), 405),
        (lambda: client.post("v1", "apply", body=b"{"), 400),
        (lambda: client.post("v1", "apply", body=b'{"a": "\xff"}'), 400),
        (lambda: client.post("v1", "apply", body=b"{}", wait="long"), 400),
        (lambda: client.post("v1", "apply", body=b"{}", wait="nan"), 400),
        (lambda: client.post("v1", "apply", body=b"{}", wait=601), 400),
        (lambda: client.post("v1", "apply", body=b"{}", prune="perhaps"), 400),
        (lambda: client.get("v1", "wait", position="-1"), 400),
        (lambda: client.post("v1", "apply", body=b" " * 5000), 413),
    ]
    for call, code in cases:
        error = refused(call)
        assert error.status == code
        assert str(error)
    more = json.loads(as_json(TENANT))["networks"][0]
    client.post("v1", "apply", body=as_json({"networks": [{**more, "id": "blue-net-2", "vni": 9, "subnets": []}]}))
    assert client.get("v1", "networks", "blue-net")
    assert refused(lambda: client.get("v1", "networks", "blue")).status == 409


def test_failures_of_the_backend(client: ControlClient, backend: FakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    backend.fault = StoreError("disk full")
    error = refused(lambda: client.post("v1", "apply", body=b"{}"))
    assert error.status == 503
    assert "disk full" in str(error)
    backend.fault = KeyError("oh")
    assert refused(lambda: client.get("v1", "status")).status == 500
    assert "control.failed" in caplog.text


def test_probes_and_metrics(client: ControlClient, backend: FakeBackend) -> None:
    assert client.get("livez") == b"ok\n"
    assert client.get("readyz") == b"ready\n"
    backend.ready = False
    with pytest.raises(RefusedError):
        client.get("readyz")
    client.get("v1", "status")
    text = client.get("metrics").decode()
    assert 'nodeplane_control_requests_total{code="200",operation="status"} 1.0' in text
    assert 'nodeplane_control_requests_total{code="503",operation="readyz"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_openapi_is_served(client: ControlClient) -> None:
    assert json.loads(client.get("v1", "openapi.json")) == DOCUMENT


def test_strangers_are_refused(path: Path, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataplane import control_peer

    with served(backend, config(path)), monkeypatch.context() as patch:
        patch.setattr(control_peer.Gate, "allows", lambda self, peer: peer.uid != os.getuid())
        client = ControlClient(str(path))
        for call in (lambda: client.get("v1", "status"), lambda: client.get("metrics"), lambda: client.get("nowhere")):
            error = refused(call)
            assert error.status == 403
            assert "allow_users" in error.hint
        assert refused(lambda: client.post("v1", "apply", body=as_json(TENANT))).status == 403
    assert backend.position == 0


def test_another_user_is_refused_by_the_kernels_word(path: Path, backend: FakeBackend) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    code = (
        "import os, sys\nfrom dataplane.control_client import *\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
        "try: ControlClient(sys.argv[1]).get('v1', 'status')\nexcept RefusedError as error: print(error.status)\n"
    )
    # an own short directory: pytest's is closed to other users
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, "c")
        for allowed, printed in (((), "403"), ((65534,), "")):
            with served(backend, config(path, mode="666", allow_users=allowed)):
                done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
                assert done.stdout.strip() == printed, done.stderr


def test_socket_file(path: Path, backend: FakeBackend) -> None:
    """Permissions from the first moment, a dead socket is replaced, a live one is not, and it is gone at the end."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with asyncio.Runner() as runner:
        server = ControlServer(backend, config(path), Metrics())
        runner.run(server.start())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ListenError, match="another daemon"):
            runner.run(ControlServer(backend, config(path), Metrics()).start())
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        runner.run(server.close())
        runner.run(server.close())
    assert not path.exists()


def test_a_successors_socket_is_left_alone(path: Path, backend: FakeBackend) -> None:
    with asyncio.Runner() as runner:
        server = ControlServer(backend, config(path), Metrics())
        runner.run(server.start())
        path.unlink()
        path.write_text("somebody else's")
        runner.run(server.close())
        assert path.read_text() == "somebody else's"
        with pytest.raises(ListenError, match="not a socket"):
            runner.run(ControlServer(backend, config(path), Metrics()).start())


def test_no_room_for_the_socket(tmp_path: Path, backend: FakeBackend) -> None:
    (tmp_path / "file").touch()
    with asyncio.Runner() as runner, pytest.raises(ListenError, match="cannot open the control socket"):
        runner.run(ControlServer(backend, config(tmp_path / "file" / "socket"), Metrics()).start())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_the_tcp_port_has_health_and_metrics_only(path: Path, backend: FakeBackend) -> None:
    import http.client

    port = _free_port()
    settings = config(path)
    settings = Config(control=settings.control, metrics=MetricsConfig(listen=f"127.0.0.1:{port}"))
    with served(backend, settings):
        codes = {}
        for page in ("/metrics", "/livez", "/readyz", "/v1/status", "/v1/networks", "/v1/openapi.json"):
            wire = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            wire.request("GET", page)
            codes[page] = wire.getresponse().status
            wire.close()
        with (
            pytest.raises(ListenError, match=r"metrics\.listen"),
            served(backend, Config(control=config(path.with_name("other")).control, metrics=settings.metrics)),
        ):
            pass
    assert codes == {"/metrics": 200, "/livez": 200, "/readyz": 200, "/v1/status": 404, "/v1/networks": 404,
                     "/v1/openapi.json": 404}  # fmt: skip


def test_a_client_that_goes_away_does_not_interrupt_an_apply(path: Path) -> None:
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()

    class Slow(FakeBackend):
        async def apply(self, document: object, *, prune: bool, dry_run: bool) -> Any:
            entered.set()
            await asyncio.to_thread(leave.wait, 10)
            outcome = await super().apply(document, prune=prune, dry_run=dry_run)
            done.set()
            return outcome

    backend = Slow()
    body = as_json(TENANT)
    with served(backend, config(path)):
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(str(path))
            wire.sendall(b"POST /v1/apply HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            assert entered.wait(10)
        leave.set()
        assert done.wait(10)
    assert backend.position == 1


def test_aiohttp_needs_its_compiled_parser() -> None:
    """CVE-2025-53643, CVE-2025-69224 and others are in the parser that is written in Python."""
    (wanted,) = [each for each in requires("nodeplane") or () if each.startswith("aiohttp")]
    assert wanted == "aiohttp>=3.14.4"
    program = "from dataplane.control import require_compiled_parser as check; check()"
    expected = {"": "", "1": "ListenError: aiohttp runs without its compiled parser"}
    for value, said in expected.items():
        environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": value}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (said == "")
        assert said in done.stderr

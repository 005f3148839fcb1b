"""haproxy as Neutron's agents configure and start it, one per network, pointed at nodeplane's socket.

Two tenants with the same range, address and MAC; nodeplane makes no network of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scripts import lab
from tests.nova import SECRET
from tests.system.nova_process import INSTANCES, PORT, Upstream

HAPROXY = os.environ.get("NODEPLANE_HAPROXY", "")
SOCKET = Path("/run/nodeplane/metadata_proxy")
FAMILIES = 2
TENANTS = ("blue", "green")
MAC = "02:00:00:00:00:05"
NAME = "/latest/meta-data/hostname"

pytestmark = pytest.mark.skipif(not HAPROXY, reason="haproxy's package is not unpacked: scripts/test does it")

# What neutron 29's HaproxyConfigurator writes, but in the foreground and without a log.
CONFIG = """
global
    user        {user}
    group       {group}
    maxconn     1024
    nbthread    2
    pidfile     {directory}/{tenant}.pid

defaults
    log global
    mode http
    option httplog
    option dontlognull
    option http-server-close
    option forwardfor
    retries                 3
    timeout http-request    30s
    timeout connect         30s
    timeout client          32s
    timeout server          32s
    timeout http-keep-alive 30s

listen listener
    bind 169.254.169.254:80
    bind fe80::a9fe:a9fe:80 interface tap0
    server metadata {socket}
    {headers}
"""
HEADERS = {
    "neutron": """
    http-request del-header X-Neutron-Router-ID
    http-request set-header X-Neutron-Network-ID {tenant}-net""",
    "router": """
    http-request del-header X-Neutron-Network-ID
    http-request set-header X-Neutron-Router-ID {tenant}-r""",
    "ovn": "http-request add-header X-OVN-Network-ID {tenant}-net",
}
# The agents' own user is not root; in a user namespace there is no other.
WHOLE = (
    len(Path("/proc/self/uid_map").read_text().splitlines()) == 1
    and os.geteuid() == 0
    and (int(Path("/proc/self/uid_map").read_text().split()[2]) > 65535)
)
USER, GROUP = ("nobody", "nogroup") if WHOLE else ("root", "root")


@pytest.fixture
def vms() -> Iterator[dict[str, lab.Vm]]:
    """A namespace per tenant as the DHCP agent leaves it, and a configured VM beside it."""
    made: dict[str, lab.Vm] = {}
    with ExitStack() as stack:
        for tenant in TENANTS:
            space, bridge, outer = f"qdhcp-{tenant}", f"br-{tenant}", f"q-{tenant}"
            lab.run("ip", "link", "add", bridge, "type", "bridge")
            stack.callback(lab.run, "ip", "link", "del", bridge, check=False)
            lab.run("ip", "netns", "add", space)
            stack.callback(lab.run, "ip", "netns", "del", space, check=False)
            lab.run("ip", "link", "add", outer, "master", bridge, "type", "veth",
                    "peer", "name", "tap0", "netns", space)  # fmt: skip
            stack.callback(lab.run, "ip", "link", "del", outer, check=False)
            for argv in (("link", "set", "lo", "up"), ("link", "set", "tap0", "up"),
                         ("address", "add", "10.0.0.2/24", "dev", "tap0"),
                         ("address", "add", "169.254.169.254/32", "dev", "tap0"),
                         ("address", "add", "fe80::a9fe:a9fe/64", "dev", "tap0", "nodad")):  # fmt: skip
                lab.run("ip", *argv, netns=space)
            vm = made[tenant] = lab.Vm(f"vm-{tenant}", f"tap-{tenant}", MAC).plug()
            stack.callback(vm.unplug)
            for device in (outer, bridge, vm.device):
                lab.run("ip", "link", "set", device, "up")
            lab.run("ip", "link", "set", vm.device, "master", bridge)
            vm.set_address("10.0.0.5/24")
        yield made


def listens(netns: str) -> bool:
    return lab.run("ss", "-Hltn", "sport", "=", ":80", netns=netns).stdout.count("LISTEN") >= FAMILIES


@pytest.fixture
def proxies(vms: dict[str, lab.Vm], tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Start a haproxy in every tenant's namespace, by the kind of HEADERS."""
    with ExitStack() as stack:

        def start(kind: str) -> None:
            for tenant in TENANTS:
                headers = HEADERS[kind].format(tenant=tenant)
                file = tmp_path / f"{tenant}.conf"
                file.write_text(
                    CONFIG.format(
                        user=USER, group=GROUP, directory=tmp_path, tenant=tenant, socket=SOCKET, headers=headers
                    )
                )
                inside = lab.Vm(f"qdhcp-{tenant}", "", "")
                stack.callback(lab.stop, inside.start(HAPROXY, "-db", "-f", file, log=tmp_path / f"{tenant}.log"))
                lab.wait_until(lambda: listens(inside.name), f"haproxy (see {tmp_path}/{tenant}.log)")  # noqa: B023

        yield start


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[lab.Daemon]:
    settings = f'dropin_socket = "{SOCKET}"\ndropin_users = ["{USER}"]\ndropin_only = true\nhold_seconds = 5.0\n'
    instance = lab.Daemon(tmp_path / "daemon", config=f'[metadata]\n{settings}[log]\nlevel = "debug"\n').start()
    yield instance
    if instance.process is not None and instance.process.poll() is None:
        instance.stop()
    assert not SOCKET.exists()
    assert "Traceback" not in instance.log.read_text()


def routed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a router `<tenant>-r` in every network."""
    for tenant in TENANTS:
        document["ports"].append({
            "id": f"{tenant}-interface", "network_id": f"{tenant}-net", "mac_address": "02:00:00:00:00:01",
            "device_id": f"{tenant}-r", "device_owner": "network:router_interface",
            "fixed_ips": [{"subnet_id": f"{tenant}-subnet", "ip_address": "10.0.0.1"}],
        })  # fmt: skip
    return document


@pytest.mark.parametrize("kind", HEADERS)
def test_every_tenant_gets_its_own(
    daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None], kind: str
) -> None:
    proxies(kind)
    daemon.apply(routed(dict(lab.documents(*TENANTS))))
    for tenant, vm in vms.items():
        assert vm.get(NAME).body == f"{tenant}-vm.novalocal"
        assert vm.get("/openstack/latest/user_data").body == f"#!/bin/sh\necho {tenant}\n"
        assert vm.get("/latest/nothing").status == 404
    assert not [line for line in lab.run("ip", "netns").stdout.splitlines() if line.startswith("np-")]
    assert "npb" not in lab.run("ip", "-brief", "link").stdout
    assert daemon.status()["networks"] == []


def test_link_local_guests_are_the_macs_of_their_addresses(
    daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None]
) -> None:
    """As with Neutron's agent: haproxy passes on no more than the address."""
    proxies("neutron")
    daemon.apply(lab.documents(*TENANTS))
    url = f"http://[fe80::a9fe:a9fe%25eth0]{NAME}"
    for tenant, vm in vms.items():
        lab.wait_until(lambda: "tentative" not in vm.run("ip", "-6", "address").stdout, "an address")  # noqa: B023
        assert vm.run("curl", "-gsS", "--max-time", "15", url).stdout == f"{tenant}-vm.novalocal"
    blue = vms["blue"]
    blue.run("ip", "-6", "address", "flush", "dev", "eth0")
    blue.run("ip", "address", "add", "fe80::1234/64", "dev", "eth0", "nodad")
    done = blue.run("curl", "-gsS", "-w", "%{http_code}", "-o", "/dev/null", url)
    assert done.stdout == "503"


SPOOFS = (
    "X-Forwarded-For: 10.0.0.6",
    "X-Forwarded-For: 10.0.0.6, 10.0.0.6",
    "Forwarded: for=10.0.0.6",
    "X-Real-IP: 10.0.0.6",
    "X-Instance-ID: 00000000-0000-4000-8000-000000000002",
    "X-Tenant-ID: green-project",
    "X_Neutron_Network_ID: green-net",
    "X_OVN_Network_ID: green-net",
    "X-OVN-Router-ID: green-r",
)
CONFUSIONS = (
    "X-Neutron-Network-ID: green-net",
    "x-neutron-network-id: green-net",
    "X-Neutron-Router-ID: green-r",
    "X-OVN-Network-ID: green-net",
    "X-OVN-Network-ID: green-net, blue-net",
)


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_guests_change_nothing(
    daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None], kind: str
) -> None:
    """What haproxy replaces or appends to has no effect; what it lets through beside its own is refused."""
    proxies(kind)
    document = routed(dict(lab.documents(*TENANTS)))
    neighbour = {**document["ports"][1], "id": "green-other", "mac_address": "02:00:00:00:00:06", "device": "",
                 "fixed_ips": [{"subnet_id": "green-subnet", "ip_address": "10.0.0.6"}]}  # fmt: skip
    document["ports"].append(neighbour)
    daemon.apply(document)
    blue = vms["blue"]
    for header in SPOOFS:
        answer = blue.get(NAME, "-H", header)
        assert (answer.status, answer.body) == (200, "blue-vm.novalocal"), header
    replaced = "x-neutron" if kind != "ovn" else "none"
    for header in CONFUSIONS:
        answer = blue.get(NAME, "-H", header)
        expected = 200 if header.lower().startswith(replaced) else 400
        assert answer.status == expected, header
        assert "green" not in answer.body, header
        if expected == 200:
            assert answer.body == "blue-vm.novalocal"
    assert "metadata.forwarded_refused" in daemon.log.read_text()


TRAILER = """
import socket, sys
sock = socket.create_connection(("169.254.169.254", 80), timeout=10)
sock.sendall(("POST %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
              "1\\r\\nx\\r\\n0\\r\\n%s\\r\\n\\r\\n" % (sys.argv[1], sys.argv[2])).encode())
data = b""
while part := sock.recv(65536):
    data += part
print(data.decode())
"""


def test_trailers_of_guests_change_nothing(
    daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None]
) -> None:
    proxies("ovn")
    daemon.apply(lab.documents(*TENANTS))
    for trailer in ("X-OVN-Network-ID: green-net", "X-Forwarded-For: 10.0.0.9"):
        told = vms["blue"].run(sys.executable, "-c", TRAILER, NAME, trailer).stdout
        assert told.startswith("HTTP/1.1 405"), told  # the request of a known caller, with a method that does not fit
        assert "green" not in told


def test_a_port_that_comes_later_is_answered(
    patient: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None]
) -> None:
    proxies("neutron")
    daemon = patient
    process = vms["blue"].start("curl", "-sS", "--max-time", "30", lab.METADATA_URL + NAME, stdout=-1)
    lab.wait_until(lambda: "metadata.unknown_caller" in daemon.log.read_text(), "the request is held")
    daemon.apply(lab.documents(*TENANTS))
    assert process.communicate(timeout=40)[0] == "blue-vm.novalocal"
    assert process.returncode == 0


def test_a_restart_goes_on_behind_the_same_haproxies(
    daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None]
) -> None:
    proxies("ovn")
    daemon.apply(lab.documents(*TENANTS))
    assert vms["green"].get(NAME).body == "green-vm.novalocal"
    daemon.kill()
    assert vms["green"].get(NAME).status == 503
    daemon.start()
    assert vms["green"].get(NAME).body == "green-vm.novalocal"


def test_explain_says_the_same(daemon: lab.Daemon, vms: dict[str, lab.Vm], proxies: Callable[[str], None]) -> None:
    proxies("neutron")
    daemon.apply(lab.documents(*TENANTS))
    for tenant, vm in vms.items():
        size = len(vm.get(NAME).body)
        told = daemon.cli("explain", "metadata", "--network", f"{tenant}-net", "--ip", "10.0.0.5", NAME, "-o", "json")
        found = json.loads(told.stdout)
        assert (found["port"], found["status"], found["size"]) == (f"{tenant}-port", 200, size)
    unknown = daemon.cli("explain", "metadata", "--network", "blue-net", "--ip", "10.0.0.77", check=False)
    assert unknown.returncode == 1
    assert "no_port" in unknown.stdout


@pytest.mark.skipif(not WHOLE, reason="other users need the real root")
def test_only_the_user_of_haproxy_may_connect(daemon: lab.Daemon) -> None:
    headers = ("-H", "X-OVN-Network-ID: blue-net", "-H", "X-Forwarded-For: 10.0.0.5")
    ask = ("curl", "-sS", "--unix-socket", SOCKET, *headers, f"http://x{NAME}")
    daemon.apply(lab.documents(*TENANTS))
    for user, answered in (("nobody", True), ("daemon", False)):
        done = lab.run("setpriv", f"--reuid={user}", "--clear-groups", *ask, check=False)
        assert (done.stdout == "blue-vm.novalocal") is answered
    assert "dropin.denied" in daemon.log.read_text()


AGENT = f"""\
[DEFAULT]
metadata_proxy_socket = {SOCKET}
metadata_proxy_user = {USER}
nova_metadata_host = 127.0.0.1
nova_metadata_port = {PORT}
metadata_workers = 2
debug = true
"""


def test_in_the_agents_place_with_its_own_configuration(
    vms: dict[str, lab.Vm], proxies: Callable[[str], None], tmp_path: Path
) -> None:
    """From metadata_agent.ini to Nova's documents through Neutron's haproxies, and one request through both logs."""
    (tmp_path / "agent.ini").write_text(AGENT)
    (tmp_path / "secret.conf").write_text(f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n")
    imported = lab.run(sys.executable, "-m", "dataplane.cli", "config", "import-neutron",
                       tmp_path / "agent.ini", tmp_path / "secret.conf", cwd=lab.SCRIPTS.parent)  # fmt: skip
    assert "metadata_workers" in imported.stderr
    assert SECRET not in imported.stderr
    proxies("neutron")
    nova = Upstream(tmp_path, INSTANCES)
    nova.start()
    daemon = lab.Daemon(tmp_path / "daemon", config=imported.stdout)
    try:
        daemon.start()
        document = lab.documents(*TENANTS)
        daemon.apply(document)
        for tenant, vm in vms.items():
            answer = vm.get("/openstack/latest/meta_data.json")
            assert answer.status == 200
            assert json.loads(answer.body)["hostname"].startswith(f"{tenant}-at-nova")
            told = daemon.cli("explain", "metadata", "--network", f"{tenant}-net", "--ip", "10.0.0.5", "-o", "json")
            found = json.loads(told.stdout)
            assert (found["backend"], found["status"]) == ("nova", 200)
            assert found["upstream"]["headers"]["X-Tenant-ID"] == f"{tenant}-project"
            assert "Signature" not in told.stdout
        log = daemon.log.read_text()
        assert SECRET not in log
        assert log.count("metadata.request id=req-") == 2
        assert "port=blue-port" in log
    finally:
        daemon.stop()
        nova.stop()

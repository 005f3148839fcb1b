"""What the metadata service must never do, with two tenants who share range, addresses and MACs.

One test for each promise that no other file of these tests keeps; the threat model names all of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane import names
from dataplane.model import NetworkId
from dataplane.privileges import NAMESPACES, Capability
from scripts import lab
from tests.system.recorder import PORT, Recorder, recorder

MAC = "02:00:00:00:00:05"
INSTANCES = {"blue": "00000000-0000-4000-8000-000000000001", "green": "00000000-0000-4000-8000-000000000002"}
NAME = "/latest/meta-data/hostname"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
PASSWORD = "/openstack/latest/password"
CONFIG = f"""
[metadata]
hold_seconds = 0.5
[log]
access = true
[nova]
url = "http://127.0.0.1:{PORT}"
shared_secret = "s3cr3t"
fallback_secret = "the one before"
cache_seconds = 0.0
timeout = 4.0
response_bytes = 100000
"""


# One daemon for all of these tests: each applies what it needs.
@pytest.fixture(scope="module")
def nova() -> Iterator[Recorder]:
    with recorder() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, nova: Recorder) -> Iterator[lab.Daemon]:
    directory = tmp_path_factory.mktemp("daemon")
    config = CONFIG.replace("[metadata]", f'[metadata]\ndropin_socket = "{directory}/agent"')
    instance = lab.Daemon(directory, config=config).start()
    yield instance
    instance.clear()
    instance.stop()
    assert "Traceback" not in instance.log.read_text()


@pytest.fixture(scope="module")
def plugged(daemon: lab.Daemon) -> Iterator[dict[str, lab.Vm]]:
    """Blue and green with addresses of both families, the same in both."""
    daemon.apply(documents())
    vms = {tenant: lab.Vm(f"vm-{tenant}", f"tap-{tenant}", MAC).plug() for tenant in INSTANCES}
    for vm in vms.values():
        vm.set_address("10.0.0.5/24")
        vm.run("ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad")
        vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
        lab.wait_until(lambda vm=vm: "tentative" not in vm.run("ip", "address").stdout, "addresses")  # type: ignore[misc]
    yield vms
    for vm in vms.values():
        vm.unplug()


@pytest.fixture
def guests(daemon: lab.Daemon, nova: Recorder, plugged: dict[str, lab.Vm]) -> dict[str, lab.Vm]:
    """The guests, with the documents of the store and a Nova that has said nothing yet."""
    daemon.apply(documents(), "--prune")
    nova.asked.clear()
    nova.secrets = {"s3cr3t"}
    return plugged


def documents(backend: str = "own", **of_instance: Any) -> dict[str, Any]:
    """The lab's, with projects at the ports."""
    made: dict[str, Any] = dict(lab.documents(*INSTANCES))
    for network in made["networks"]:
        network["metadata_backend"] = backend
    for port, tenant in zip(made["ports"], INSTANCES, strict=True):
        port["project_id"] = f"{tenant}-project"
    made["instances"] = [{**instance, **of_instance} for instance in made["instances"]]
    return made


ALLOWED = {
    "accept": "text/x", "content-type": "text/y", "user-agent": "curl-ish", "range": "bytes=0-3", "if-match": '"a"',
    "if-none-match": '"b"', "if-modified-since": "c", "if-unmodified-since": "d", "if-range": '"e"',
}  # fmt: skip
OURS = {"host", "accept-encoding", "x-instance-id", "x-tenant-id", "x-instance-id-signature", "x-forwarded-for",
        "x-openstack-request-id"}  # fmt: skip
IDENTITY = (
    "X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Instance-ID", "X-Instance-ID-Signature", "X-Tenant-ID",
    "X-Metadata-Provider", "X-Metadata-Provider-Signature", "X-Neutron-Network-ID", "X-Neutron-Router-ID",
    "X-OVN-Network-ID",
)  # fmt: skip
DROPPED = ("Cookie", "Authorization", "Keep-Alive", "TE", "Proxy-Authorization", "Proxy-Connection", "Via", "X-Else")


def test_headers_that_name_a_caller_are_stripped_and_only_an_allow_list_goes_on(
    daemon: lab.Daemon, guests: dict[str, lab.Vm], nova: Recorder
) -> None:
    daemon.apply(documents("nova"))
    foreign = {"blue": INSTANCES["green"], "green": INSTANCES["blue"]}
    for tenant, vm in guests.items():
        spelled = [spell(name) for name in IDENTITY for spell in (str, str.lower, str.upper)]
        spelled += [name.replace("-", "_") for name in IDENTITY]
        lines = [f"{name}: {foreign[tenant]}" for name in (*spelled, *DROPPED)]
        lines += [f"{name}: {value}" for name, value in ALLOWED.items()]
        options = [option for line in lines for option in ("-H", line)]
        assert vm.get("/latest/meta-data/x", *options).body == INSTANCES[tenant]
        asked = nova.asked[-1]
        sent = {name.lower() for name, _ in asked.headers}
        assert sent == OURS | ALLOWED.keys()
        assert len(asked.headers) == len(sent)
        assert {name: asked.one(name) for name in ALLOWED} == ALLOWED
        assert (asked.one("X-Instance-ID"), asked.one("X-Tenant-ID")) == (INSTANCES[tenant], f"{tenant}-project")
        assert (asked.one("X-Forwarded-For"), asked.one("Accept-Encoding")) == ("10.0.0.5", "identity")


@pytest.mark.parametrize("backend", ["own", "nova"])
def test_the_project_is_sent_and_checked(
    daemon: lab.Daemon, guests: dict[str, lab.Vm], nova: Recorder, backend: str
) -> None:
    """A port that names another project's instance (CVE-2013-6419)."""
    document = documents(backend)
    document["ports"][1]["device_id"] = INSTANCES["blue"]
    daemon.apply(document)
    nova.asked.clear()
    for path in (NAME, "/", "/openstack/latest/meta_data.json", "/latest/user-data", "/nocloud/meta-data"):
        answer = guests["green"].get(path)
        assert answer.status == 403
        assert "blue" not in answer.body
    assert guests["green"].get("/latest/api/token", "-X", "PUT", "-H", f"{TTL}: 60").status == 403
    assert nova.asked == []
    assert guests["blue"].get(NAME).status == 200
    assert "instance_of_other_project" in daemon.log.read_text()


def test_secrets_are_exchanged_without_a_gap_and_nothing_secret_is_logged(
    daemon: lab.Daemon, guests: dict[str, lab.Vm], nova: Recorder
) -> None:
    daemon.apply(documents("nova"))
    for secrets in ({"s3cr3t"}, {"s3cr3t", "the one before"}, {"the one before"}, {"s3cr3t"}):
        nova.secrets = secrets
        for tenant, vm in guests.items():
            answer = vm.get(f"/latest/meta-data/{len(nova.asked)}")
            assert (answer.status, answer.body) == (200, INSTANCES[tenant])
    nova.secrets = {"neither"}
    assert guests["blue"].get("/latest/meta-data/y").status == 403
    said = ["s3cr3t", "the one before", *(asked.one("X-Instance-ID-Signature") for asked in nova.asked)]
    daemon.apply(documents("own"))
    for tenant, vm in guests.items():
        assert vm.get(PASSWORD, "-d", f"pass of {tenant}").status == 200
        token = vm.get("/latest/api/token", "-X", "PUT", "-H", f"{TTL}: 60").body
        assert vm.get("/latest/user-data", "-H", f"{TOKEN}: {token}").body == f"#!/bin/sh\necho {tenant}\n"
        assert vm.get("/latest/user-data", "-H", f"{TOKEN}: {token}x").status == 401
        said += [token, f"pass of {tenant}", f"echo {tenant}", f"AAAA{tenant}"]
    log = daemon.log.read_text()
    assert "metadata.request" in log
    assert [secret for secret in said if secret in log] == []


SAME = """
import socket, sys
for address in ("169.254.169.254", "fd00:ec2::254"):
    for token in sys.argv[1:]:
        with socket.create_connection((address, 80), 5) as wire:
            wire.sendall(f"GET / HTTP/1.0\\r\\nX-aws-ec2-metadata-token: {token}\\r\\n\\r\\n".encode())
            data = b""
            while part := wire.recv(65536):
                data += part
        print("|".join(line for line in data.decode().splitlines() if not line.startswith("Date:")))
"""


def test_tokens_are_the_ports_own_and_wrong_ones_look_alike_over_both_families(
    daemon: lab.Daemon, guests: dict[str, lab.Vm]
) -> None:
    daemon.apply(documents(metadata_options={"http_tokens": "required"}))
    base = {"4": lab.METADATA_URL, "6": "http://[fd00:ec2::254]", "link": "http://[fe80::a9fe:a9fe%25eth0]"}

    def ask(vm: lab.Vm, family: str, path: str, *options: str) -> str:
        return vm.run("curl", "-gsS", "--max-time", "5", "-w", " %{http_code}", *options, base[family] + path).stdout

    def put(vm: lab.Vm, family: str, seconds: int) -> str:
        token, status = ask(vm, family, "/latest/api/token", "-X", "PUT", "-H", f"{TTL}: {seconds}").split()
        assert status == "200"
        return token

    tokens = {tenant: {family: put(vm, family, 60) for family in base} for tenant, vm in guests.items()}
    ended = put(guests["blue"], "6", 1)
    for tenant, vm in guests.items():
        for family in base:
            for other in base:  # a token is the port's, however it asked for it
                said = ask(vm, other, NAME, "-H", f"{TOKEN}: {tokens[tenant][family]}")
                assert said == f"{tenant}-vm.novalocal 200"
            assert ask(vm, family, NAME).endswith(" 401")
            forwarded = ("-H", f"{TOKEN}: {tokens[tenant][family]}", "-H", "X-Forwarded-For: 10.0.0.9")
            assert ask(vm, family, NAME, *forwarded).endswith(" 403")
    lab.wait_until(lambda: ask(guests["blue"], "4", NAME, "-H", f"{TOKEN}: {ended}").endswith("401"), "its end")
    own, foreign = tokens["blue"]["4"], tokens["green"]["4"]
    wrong = [ended, foreign, "x", own[:-4] + ("AAAA" if own[-4:] != "AAAA" else "BBBB"), "A" * len(own), "="]
    told = guests["blue"].run(sys.executable, "-c", SAME, *wrong).stdout.splitlines()
    assert len(told) == 2 * len(wrong)
    assert len(set(told)) == 1
    assert told[0].startswith("HTTP/1.1 401 ")


def test_only_the_services_addresses_listen_and_only_on_their_device(
    daemon: lab.Daemon, guests: dict[str, lab.Vm]
) -> None:
    for tenant in INSTANCES:
        space = names.namespace(NetworkId(f"{tenant}-net"))
        lines = lab.run("ss", "-Hltn", netns=space).stdout.splitlines()
        assert sorted(line.split()[3] for line in lines) == sorted(
            ["169.254.169.254%svc0:80", "[fe80::a9fe:a9fe]%svc0:80", "[fd00:ec2::254]%svc0:80"]
        )
        assert lab.run("ss", "-Hlun", netns=space).stdout.split()[3] == "0.0.0.0%svc0:67"
    own = f"pid={daemon.pid},"
    assert [line for line in lab.run("ss", "-Hltnp").stdout.splitlines() if own in line] == []
    for vm in guests.values():
        for path in ("/metrics", "/livez", "/readyz", "/v1/status", "/v1/ports", "/debug", "/admin"):
            assert vm.get(path).status == 404


def test_nova_is_asked_for_normalised_paths_only_and_its_answers_are_passed_as_they_are(
    daemon: lab.Daemon, guests: dict[str, lab.Vm], nova: Recorder, tmp_path: Path
) -> None:
    daemon.apply(documents("nova"))
    paths = {
        "/latest/../openstack//latest/./meta_data.json?x=1&y=/../z": "/openstack/latest/meta_data.json?x=1&y=/../z",
        "//evil.example/latest": "/evil.example/latest",
        "/%2e%2e/%2e%2e/etc/passwd": "/etc/passwd",
        "/latest/%75ser-data/": "/latest/user-data",
        "/@10.0.0.1:22/": "/@10.0.0.1:22",
    }
    moved = (302, [("Location", "http://10.0.0.1/else"), ("Connection", "close, X-Hop"), ("X-Hop", "1"),
                   ("X-Secret", "2"), ("Content-Encoding", "gzip")], bytes(range(256)))  # fmt: skip
    nova.answers["/latest/moved"] = moved
    for tenant, vm in guests.items():
        for path, target in paths.items():
            assert vm.get(path, "--path-as-is").body == INSTANCES[tenant]
            assert nova.asked[-1].target.replace("%40", "@") == target
            assert nova.asked[-1].one("Host") == f"127.0.0.1:{PORT}"
        before = len(nova.asked)
        saved = tmp_path / tenant
        head = vm.get("/latest/moved", "-D", "-", "-o", str(saved)).body.lower()
        assert saved.read_bytes() == bytes(range(256))
        assert head.startswith("http/1.1 302")
        assert "content-encoding: gzip" in head
        assert "x-hop" not in head
        assert "x-secret" not in head
        assert "location" not in head  # it would show an address of ours
        assert len(nova.asked) == before + 1


def test_answers_of_nova_have_a_size_and_a_time(daemon: lab.Daemon, guests: dict[str, lab.Vm], nova: Recorder) -> None:
    daemon.apply(documents("nova"))
    for size in (100_000, 100_001):
        nova.answers[f"/latest/{size}"] = (200, [], b"x" * size)
    nova.slow = {"/latest/slow"}
    blue, green = guests["blue"], guests["green"]
    waiting = blue.start("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{lab.METADATA_URL}/latest/slow",
                         stdout=subprocess.PIPE)  # fmt: skip
    lab.wait_until(lambda: nova.asked and nova.asked[-1].target == "/latest/slow", "asked")
    for vm in (green, blue):
        assert len(vm.get("/latest/100000").body) == 100_000
        refused = vm.get("/latest/100001")
        assert refused.status == 502
        assert "xxx" not in refused.body
    assert waiting.communicate(timeout=60)[0] == "504"
    nova.go_on.set()
    assert blue.get("/latest/slow").status == 200


SIZES = """
import socket, sys
for address in ("169.254.169.254", "fd00:ec2::254"):
    for size in (8192, 8193):
        head = f"GET /latest/meta-data/hostname HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\nX: \\r\\n\\r\\n"
        head = head.replace("X: ", "X: " + "x" * (size - len(head)))
        for pieces in (1, 3):
            with socket.create_connection((address, 80), 5) as wire:
                for at in range(0, size, -(-size // pieces)):
                    wire.sendall(head[at : at + -(-size // pieces)].encode())
                print("head", size, wire.recv(65536).split()[1].decode())
    for size in (1021, 1020, 16384, 16385):
        for coding in ("Content-Length", "chunks"):
            with socket.create_connection((address, 80), 5) as wire:
                wire.sendall(b"POST /openstack/latest/password HTTP/1.1\\r\\n")
                if coding == "chunks":
                    wire.sendall(b"Transfer-Encoding: chunked\\r\\n\\r\\n%x\\r\\n" % size)
                else:
                    wire.sendall(b"Content-Length: %d\\r\\n\\r\\n" % size)
                wire.sendall(b"p" * size + (b"\\r\\n0\\r\\n\\r\\n" if coding == "chunks" else b""))
                print("body", size, wire.recv(65536).split()[1].decode())
"""


def test_heads_and_bodies_have_a_size_to_the_byte(daemon: lab.Daemon, guests: dict[str, lab.Vm]) -> None:
    for tenant, vm in guests.items():
        daemon.apply(documents(image_id=tenant))  # no password is there
        told = vm.run(sys.executable, "-c", SIZES).stdout.splitlines()
        half = len(told) // 2
        first, second = told[:half], told[half:]
        heads = ["head 8192 200"] * 2 + ["head 8193 431"] * 2
        assert first[:4] == second[:4] == heads
        # The first of 1,020 bytes is kept; whatever comes then is 409, unless it is not even taken.
        larger = ["body 16384 409"] * 2 + ["body 16385 413"] * 2
        assert first[4:] == ["body 1021 400"] * 2 + ["body 1020 200", "body 1020 409"] + larger
        assert second[4:] == ["body 1021 409"] * 2 + ["body 1020 409"] * 2 + larger
        assert vm.get(PASSWORD).body == "p" * 1020


def test_a_password_is_the_machines_own_and_ends_with_it(daemon: lab.Daemon, guests: dict[str, lab.Vm]) -> None:
    blue, green = guests["blue"], guests["green"]
    document = documents(image_id="one")
    daemon.apply(document)
    assert blue.get(PASSWORD, "-d", "of blue").status == 200
    assert blue.get(PASSWORD, "-d", "again").status == 409
    assert green.get(PASSWORD).body == ""
    assert green.get(PASSWORD, "-d", "of green").status == 200
    assert blue.get(PASSWORD).body == "of blue"
    # Rebuilt: another image.
    document["instances"][0]["image_id"] = "two"
    daemon.apply(document)
    assert (blue.get(PASSWORD).body, green.get(PASSWORD).body) == ("", "of green")
    assert blue.get(PASSWORD, "-d", "of the new blue").status == 200
    # In the hands of another project.
    document["instances"][0]["project_id"] = document["ports"][0]["project_id"] = "red-project"
    daemon.apply(document)
    assert blue.get(PASSWORD).body == ""
    daemon.kill()
    daemon.start()
    assert (blue.get(PASSWORD).body, green.get(PASSWORD).body) == ("", "of green")


def test_where_two_ports_fit_nobody_is_answered_and_the_operator_is_told(
    daemon: lab.Daemon, guests: dict[str, lab.Vm]
) -> None:
    """A router in two networks with equal addresses; and a MAC that two ports of a network may use."""
    document = documents()
    for tenant in INSTANCES:
        document["ports"].append({
            "id": f"{tenant}-r", "network_id": f"{tenant}-net", "mac_address": "02:00:00:00:00:01",
            "device_id": "router", "device_owner": "network:router_interface",
            "fixed_ips": [{"subnet_id": f"{tenant}-subnet", "ip_address": "10.0.0.1"}],
        })  # fmt: skip
    for number in (8, 9):
        document["ports"].append({
            "id": f"shares-{number}", "network_id": "blue-net", "mac_address": f"02:00:00:00:00:0{number}",
            "device_id": INSTANCES["blue"],
            "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": f"10.0.0.{number}"}],
            "allowed_address_pairs": [{"ip_address": "10.0.0.50", "mac_address": "02:00:00:00:00:50"}],
        })  # fmt: skip
    daemon.apply(document)
    ask = (
        "curl",
        "-sS",
        "--unix-socket",
        daemon.directory / "agent",
        "-w",
        " %{http_code}",
        "-H",
        "X-Forwarded-For: 10.0.0.5",
    )
    for tenant in INSTANCES:
        told = lab.run(*ask, "-H", f"X-Neutron-Network-ID: {tenant}-net", f"http://x{NAME}").stdout
        assert told == f"{tenant}-vm.novalocal 200"
    told = lab.run(*ask, "-H", "X-Neutron-Router-ID: router", f"http://x{NAME}").stdout
    assert told.endswith(" 403")
    assert "novalocal" not in told
    blue = guests["blue"]
    blue.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:50")
    blue.run("ip", "address", "add", "10.0.0.50/24", "dev", "eth0")
    answer = blue.get(NAME, "--interface", "10.0.0.50")
    blue.run("ip", "link", "set", "eth0", "address", MAC)
    assert answer.status in (403, 503)
    assert "novalocal" not in answer.body
    assert guests["green"].get(NAME).body == "green-vm.novalocal"
    log = daemon.log.read_text()
    assert "reason=several_ports" in log
    assert "reason=shared_mac" in log


def test_names_with_line_ends_are_refused_whole(daemon: lab.Daemon, guests: dict[str, lab.Vm]) -> None:
    """A list of the EC2 tree has a line for each name: one with a line end would be two."""
    document = documents()
    for tenant, instance in zip(INSTANCES, document["instances"], strict=True):
        instance["keys"] = [{"name": f"{tenant}\n1=evil", "data": f"ssh-ed25519 AAAA{tenant}"}]
        instance["security_groups"] = [f"{tenant}\ngroup"]
        instance["meta"] = {"a\nb": "c\nd"}
    applied = daemon.apply(document, check=False)
    assert applied.returncode == 1
    for number in range(2):
        for place in ("keys[0].name", "security_groups[0]", "meta['a\\nb']"):
            assert f"instances[{number}].{place}: contains a control character" in applied.stderr
    for tenant, vm in guests.items():
        assert vm.get("/latest/meta-data/public-keys/").body == f"0={tenant}"


NOISE = """
import socket
wires = [socket.create_connection(("169.254.169.254", 80), 5) for _ in range(10)]
for number in range(600):
    wire = wires[number % 10]
    method = ("GET", "PUT", "PURGE")[number % 3]
    wire.sendall(f"{method} /x{number}?{number} HTTP/1.1\\r\\nX-{number}: y\\r\\n\\r\\n".encode())
    wire.recv(65536)
print("sent")
"""


def test_a_guest_makes_no_state_and_no_log_without_end(daemon: lab.Daemon, guests: dict[str, lab.Vm]) -> None:
    blue, green = guests["blue"], guests["green"]
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("access = true", "access = false"))
    assert daemon.process is not None
    daemon.process.send_signal(1)
    for method in ("GET", "PUT", "PURGE"):
        blue.get("/x", "-X", method)
    for path in ("/", NAME, "/none"):
        green.get(path)
    lab.wait_until(lambda: "daemon.reloaded" in daemon.log.read_text(), "reloaded")
    before, size = daemon.metrics().keys(), daemon.log.stat().st_size
    assert blue.run(sys.executable, "-c", NOISE).stdout == "sent\n"
    # Beside its own address: 40 strangers, each of whom is held and logged.
    for number in range(100, 140):
        blue.run("ip", "address", "add", f"10.0.0.{number}/24", "dev", "eth0")
        blue.start("curl", "-s", "--max-time", "3", "--interface", f"10.0.0.{number}", lab.METADATA_URL)
    assert green.get(NAME).body == "green-vm.novalocal"
    for process in blue.processes:
        process.wait(60)
    new = {re.sub('le="[^"]*"', "", name) for name in daemon.metrics().keys() - before}
    assert all(re.search('reason="|code="', name) for name in new), new
    assert len(new) < 8, new
    assert daemon.log.stat().st_size - size < 60 * 300


def test_only_the_thread_that_enters_namespaces_may_and_nobody_gets_more(
    daemon: lab.Daemon, guests: dict[str, lab.Vm]
) -> None:
    """The threads that read what guests send could not be made to change the node's network, nor a program to."""
    document = documents()
    other = {**document["networks"][0], "id": "late-net", "name": "late", "vni": 4094}
    other["subnets"] = [{**other["subnets"][0], "id": "late-subnet"}]
    port = {**document["ports"][0], "id": "late-port", "network_id": "late-net", "device": "tap-late"}
    port["fixed_ips"] = [{"subnet_id": "late-subnet", "ip_address": "10.0.0.5"}]
    # A namespace that is made after all of this was given up.
    document["networks"].append(other)
    document["ports"].append(port)
    daemon.apply(document)
    assert names.namespace(NetworkId("late-net")) in lab.run("ip", "netns").stdout
    for tenant, vm in guests.items():
        assert vm.get(NAME).body == f"{tenant}-vm.novalocal"
    strong = {Capability.SYS_ADMIN, Capability.NET_ADMIN, Capability.NET_RAW}
    holders: dict[str, set[Capability]] = {}
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found = dict(line.split(":\t") for line in lines if line.startswith(("Cap", "NoNewPrivs")))
        assert found["NoNewPrivs"] == "1"
        assert int(found["CapPrm"], 16) & ~sum(1 << each for each in NAMESPACES) == 0
        assert found["CapEff"] == found["CapPrm"]
        assert {int(found[name], 16) for name in ("CapInh", "CapAmb")} == {0}
        if held := {each for each in strong if int(found["CapPrm"], 16) >> each & 1}:
            holders[task.name] = held
    assert list(holders.values()) == [strong]
    assert str(daemon.pid) not in holders
    assert "daemon.privileges_kept" not in daemon.log.read_text()

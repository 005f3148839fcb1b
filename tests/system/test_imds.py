"""Tokens and the EC2 tree as real clients use them: two tenants with the same range, address and MAC."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

TTL = "X-aws-ec2-metadata-token-ttl-seconds: 600"
CLIENTS = Path(__file__).with_name("ec2_clients.py")
HOSTNAME = "/latest/meta-data/hostname"


def documents(*tenants: str, **options: Any) -> dict[str, Any]:
    """The lab's documents, with what the EC2 tree shows and these metadata options."""
    document: dict[str, Any] = dict(lab.documents(*tenants))
    document["instances"] = [
        {**instance, "availability_zone": "north-1a", "flavor": "m1.small", "meta": {"owner": tenant, "role": "db"},
         "metadata_options": options}
        for tenant, instance in zip(tenants, document["instances"], strict=True)
    ]  # fmt: skip
    return document


def token(vm: lab.Vm) -> str:
    answer = vm.get("/latest/api/token", "-X", "PUT", "-H", TTL)
    assert answer.status == 200
    return f"X-aws-ec2-metadata-token: {answer.body}"


@pytest.fixture
def required(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> dict[str, lab.Vm]:
    """Blue and green, who may read with tokens only."""
    daemon.apply(documents("blue", "green", http_tokens="required", instance_metadata_tags="enabled"))
    vms = {tenant: plug(tenant) for tenant in ("blue", "green")}
    for vm in vms.values():
        vm.set_address("10.0.0.5/24")
    return vms


def test_a_token_is_needed_and_good_for_its_port_only(required: dict[str, lab.Vm]) -> None:
    blue, green = required["blue"], required["green"]
    mine, theirs = token(blue), token(green)
    for vm, own, foreign, tenant in ((blue, mine, theirs, "blue"), (green, theirs, mine, "green")):
        assert vm.get(HOSTNAME).status == 401
        assert vm.get("/openstack/latest/meta_data.json").status == 401
        assert vm.get("/nocloud/meta-data").status == 401
        assert vm.get(HOSTNAME, "-H", foreign).status == 401
        assert vm.get(HOSTNAME, "-H", f"{own}x").status == 401
        answer = vm.get(HOSTNAME, "-H", own)
        assert (answer.status, answer.body) == (200, f"{tenant}-vm.novalocal")
        assert vm.get(HOSTNAME, "-H", own.replace("aws-ec2-", "")).status == 200
        assert vm.get(HOSTNAME, "-H", own, "-H", "X-Forwarded-For: 10.0.0.6").status == 403


STATUSES = [
    ("PUT", "/latest/api/token", [], 400),
    ("PUT", "/latest/api/token", ["X-aws-ec2-metadata-token-ttl-seconds: 21601"], 400),
    ("PUT", "/latest/api/token", [TTL, "X-Forwarded-For: 10.0.0.6"], 403),
    ("PUT", "/latest/api/token/", [TTL], 403),
    ("PUT", "/2021-03-23/api/token", [TTL], 403),
    ("GET", "/latest/api/token", [TTL], 405),
    ("DELETE", "/latest/api/token", [TTL], 405),
    ("PUT", "/latest/api/token", ["X-metadata-token-ttl-seconds: 600"], 200),
]


def test_statuses_of_the_token_path(required: dict[str, lab.Vm]) -> None:
    for method, path, headers, status in STATUSES:
        options = [option for header in headers for option in ("-H", header)]
        answer = required["blue"].get(path, "-X", method, "-D", "-", *options)
        assert answer.status == status
        assert ("allow: options, put" in answer.body.lower()) == (status == 405)


def test_tokens_survive_a_restart_and_a_crash(daemon: lab.Daemon, required: dict[str, lab.Vm]) -> None:
    blue = required["blue"]
    mine = token(blue)
    daemon.stop()
    daemon.start()
    assert blue.get(HOSTNAME, "-H", mine).status == 200
    daemon.kill()
    daemon.start()
    assert blue.get(HOSTNAME, "-H", mine).status == 200
    assert daemon.log.read_text().count(mine.split()[-1]) == 0


def test_options_change_at_once(daemon: lab.Daemon, required: dict[str, lab.Vm]) -> None:
    blue, green = required["blue"], required["green"]
    mine = token(blue)
    document = documents("blue", "green", http_tokens="optional")
    document["instances"][1]["metadata_options"] = {"http_endpoint": "disabled"}
    daemon.apply(document)
    assert blue.get(HOSTNAME).status == 200
    assert blue.get("/latest/meta-data/tags/instance", "-H", mine).status == 404
    for path in ("/", HOSTNAME, "/openstack", "/nocloud/"):
        assert green.get(path).status == 403
    assert green.get("/latest/api/token", "-X", "PUT", "-H", TTL).status == 403


def test_the_nodes_defaults_and_their_reload(daemon: lab.Daemon, tenants: dict[str, lab.Vm]) -> None:
    blue = tenants["blue"]
    blue.set_address("10.0.0.5/24")
    assert blue.get(HOSTNAME).status == 200
    text = daemon.config.read_text()
    assert daemon.process is not None
    daemon.config.write_text(text.replace("[metadata]\n", '[metadata]\nhttp_tokens = "required"\n'))
    daemon.process.send_signal(1)
    lab.wait_until(lambda: blue.get(HOSTNAME).status == 401, "tokens are required")
    assert blue.get(HOSTNAME, "-H", token(blue)).status == 200


@pytest.fixture
def container(required: dict[str, lab.Vm]) -> Iterator[lab.Vm]:
    """Something behind a router inside blue's VM, which the network lets speak for itself: 172.16.0.2."""
    vm = required["blue"]
    inner = lab.Vm("vm-inner", "", "")
    lab.run("ip", "netns", "add", inner.name)
    vm.run("ip", "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", inner.name)
    vm.run("ip", "address", "add", "172.16.0.1/24", "dev", "inner")
    vm.run("ip", "link", "set", "inner", "up")
    vm.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.proxy_arp=1")
    inner.run("ip", "address", "add", "172.16.0.2/24", "dev", "eth0")
    inner.run("ip", "link", "set", "eth0", "up")
    inner.run("ip", "route", "add", "default", "via", "172.16.0.1")
    yield inner
    lab.run("ip", "netns", "del", inner.name)


@pytest.mark.parametrize(("hops", "status"), [(1, 0), (2, 200)])
def test_a_token_goes_no_further_than_the_hop_limit(
    daemon: lab.Daemon, required: dict[str, lab.Vm], container: lab.Vm, hops: int, status: int
) -> None:
    document = documents("blue", http_put_response_hop_limit=hops)
    pair = {"ip_address": "172.16.0.2"}
    document["ports"] = [{**document["ports"][0], "allowed_address_pairs": [pair]}]
    daemon.apply(document)
    assert container.get(HOSTNAME).body == "blue-vm.novalocal"
    assert container.get("/latest/api/token", "-X", "PUT", "-H", TTL, seconds=15 if status else 2).status == status
    # The guest itself goes on, on the same connection.
    vm = required["blue"]
    both = vm.run("curl", "-sS", "-X", "PUT", "-H", TTL, f"{lab.METADATA_URL}/latest/api/token", "--next",
                  "-sS", f"{lab.METADATA_URL}{HOSTNAME}").stdout  # fmt: skip
    assert both.endswith("blue-vm.novalocal")


WATCH = """
import socket, struct
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
wire.bind(("eth0", 0x86DD))
wire.settimeout(30)
print("listening", flush=True)
while True:
    packet = wire.recv(65536)[14:]
    if packet[6] != 6:
        continue
    port, data = struct.unpack("!H", packet[40:42])[0], packet[40 + (packet[52] >> 4) * 4 :]
    if port != 80 or not data.startswith(b"HTTP/1.1"):
        continue
    print(packet[7], data.split()[1].decode(), b"token-ttl" in data.lower(), flush=True)
    if b"Connection: close" in data:
        break
"""
TALK = """
import socket, sys
with socket.socket(socket.AF_INET6) as wire:
    wire.settimeout(30)
    wire.connect((sys.argv[1], 80, 0, socket.if_nametoindex("eth0")))
    for head in ("GET /none HTTP/1.1", "PUT /latest/api/token HTTP/1.1\\r\\n" + sys.argv[2], "GET /none HTTP/1.0"):
        wire.sendall(f"{head}\\r\\n\\r\\n".encode())
        wire.recv(65536)
"""


@pytest.mark.parametrize("address", ["fe80::a9fe:a9fe", "fd00:ec2::254"])
def test_the_hop_limit_over_ipv6_as_the_guests_see_it(
    daemon: lab.Daemon, required: dict[str, lab.Vm], address: str
) -> None:
    """Two tenants with different limits: the answer with the token has the tenant's, one before it has the usual."""
    limits = {"blue": 1, "green": 2}
    document = documents("blue", "green")
    for instance, hops in zip(document["instances"], limits.values(), strict=True):
        instance["metadata_options"] = {"http_put_response_hop_limit": hops}
    daemon.apply(document)
    for tenant, vm in required.items():
        vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
        vm.run("ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad")
        lab.wait_until(lambda vm=vm: "tentative" not in vm.run("ip", "address").stdout, "addresses")  # type: ignore[misc]
        watch = vm.start(sys.executable, "-c", WATCH, stdout=subprocess.PIPE)
        assert watch.stdout is not None
        assert watch.stdout.readline() == "listening\n"
        vm.run(sys.executable, "-c", TALK, address, TTL)
        seen = [line.split() for line in watch.communicate(timeout=60)[0].splitlines()]
        assert [(status, token) for _, status, token in seen] == [("404", "False"), ("200", "True"), ("404", "False")]
        hops_seen = [int(hop) for hop, *_ in seen]
        assert hops_seen[0] >= 64
        # What is sent again after a loss must not go further than it did at first: the connection stays like that.
        assert hops_seen[1:] == [limits[tenant]] * 2


@pytest.mark.parametrize(("hops", "status"), [(1, "000"), (2, "200")])
def test_a_token_goes_no_further_than_the_hop_limit_over_ipv6(
    daemon: lab.Daemon, required: dict[str, lab.Vm], container: lab.Vm, hops: int, status: str
) -> None:
    daemon.apply(documents("blue", "green", http_put_response_hop_limit=hops))
    vm, inner, url = required["blue"], "2001:db8:1::2", "http://[fd00:ec2::254]"
    vm.run("ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad")
    vm.run("ip", "address", "add", "2001:db8:1::1/64", "dev", "inner", "nodad")
    vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
    vm.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.eth0.proxy_ndp=1")
    vm.run("ip", "-6", "neigh", "add", "proxy", inner, "dev", "eth0")
    container.run("ip", "address", "add", f"{inner}/64", "dev", "eth0", "nodad")
    container.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    ask = ("curl", "-gsS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time")
    put = ("-X", "PUT", "-H", TTL, f"{url}/latest/api/token")
    assert container.run(*ask, "30", url + HOSTNAME).stdout == "200"
    assert container.run(*ask, "3" if status == "000" else "30", *put, check=False).stdout == status
    assert vm.run(*ask, "30", *put).stdout == "200"


def test_the_clients_of_pypi(required: dict[str, lab.Vm]) -> None:
    for tenant, vm in required.items():
        done = vm.run(sys.executable, CLIENTS, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        plain = found["plain"]
        assert plain["account_id"] == f"{tenant}-project"
        assert plain["private_ipv4"] == "10.0.0.5"
        assert plain["mac"] == "02:00:00:00:00:05"
        assert plain["instance_type"] == "m1.small"
        assert plain["private_hostname"] == f"{tenant}-vm.novalocal"
        assert (plain["availability_zone"], plain["region"]) == ("north-1a", "north-1")
        assert (plain["domain"], plain["partition"]) == ("novalocal", "openstack")
        assert (plain["iam_info"], plain["spot_instance_action"]) == (None, None)
        [(mac, interface)] = found["interfaces"].items()
        assert mac == "02:00:00:00:00:05"
        assert interface["private_ipv4s"] == ["10.0.0.5"]
        assert interface["subnet_ipv4_cidr_block"] == "10.0.0.0/24"
        assert interface["owner_id"] == f"{tenant}-project"
        assert found["tags"] == {"owner": tenant, "role": "db"}
        assert found["keys"] == {tenant: f"ssh-ed25519 AAAA{tenant}"}
        assert found["user_data"] == f"#!/bin/sh\necho {tenant}\n"
        assert found["botocore"]["credentials"] == {}
        assert found["botocore"]["region"] == "north-1"
        assert found["botocore"]["hostname"] == [200, f"{tenant}-vm.novalocal"]

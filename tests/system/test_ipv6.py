"""IPv6 through the daemon: two tenants with equal addresses, IPv6-only networks, the boot race, one limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import lab

LINK, GLOBAL = "http://[fe80::a9fe:a9fe%25eth0]", "http://[fd00:ec2::254]"
DOCUMENT = "/openstack/latest/meta_data.json"
ADDRESS, OTHER = "2001:db8::5", "2001:db8::6"
MAC = "02:00:00:00:00:05"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[lab.Daemon]:
    """As everywhere, with a limit that a test can reach."""
    config = '[metadata]\nhold_seconds = 3.0\nrate = 0.01\nburst = 20\n[log]\nlevel = "debug"\n'
    instance = lab.Daemon(tmp_path / "daemon", config=config)
    instance.start()
    yield instance
    instance.clear()
    instance.stop()
    assert "Traceback" not in instance.log.read_text()


def ipv6_only(*tenants: str) -> dict[str, Sequence[dict[str, Any]]]:
    """A document of networks that have no IPv4, all with the same range, address and MAC."""
    document = lab.documents(*tenants)
    for network, tenant in zip(document["networks"], tenants, strict=True):
        network["subnets"] = [
            {"id": f"{tenant}-subnet", "cidr": "2001:db8::/64", "gateway_ip": "2001:db8::1", "enable_dhcp": False}
        ]
    for port in document["ports"]:
        port["fixed_ips"] = [{"subnet_id": port["network_id"].replace("net", "subnet"), "ip_address": ADDRESS}]
    return document


def configure(vm: lab.Vm, *addresses: str) -> None:
    """Give the VM IPv6 addresses, and the route to the service that has no zone."""
    for address in addresses:
        vm.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
    vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
    lab.wait_until(lambda: "tentative" not in vm.run("ip", "-6", "address", "show", "dev", "eth0").stdout, "addresses")


def get(vm: lab.Vm, base: str, path: str = DOCUMENT, *options: str) -> lab.Answer:
    """Fetch with curl over IPv6."""
    done = vm.run("curl", "-gsS", "--max-time", "90", "-w", "\n%{http_code} %{time_total}", *options, base + path,
                  check=False)  # fmt: skip
    body, _, tail = done.stdout.rpartition("\n")
    status, elapsed = tail.split()
    return lab.Answer(int(status), body, float(elapsed))


@pytest.fixture
def only(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> dict[str, lab.Vm]:
    """Blue and green without IPv4, configured."""
    daemon.apply(ipv6_only("blue", "green"))
    vms = {tenant: plug(tenant) for tenant in ("blue", "green")}
    for vm in vms.values():
        configure(vm, ADDRESS)
    return vms


@pytest.mark.parametrize("base", [LINK, GLOBAL])
def test_tenants_without_ipv4_get_their_own(only: dict[str, lab.Vm], base: str) -> None:
    for tenant, vm in only.items():
        answer = get(vm, base)
        assert answer.status == 200
        assert json.loads(answer.body)["project_id"] == f"{tenant}-project"
        for host in ("Host: [fe80::a9fe:a9fe%25eth0]", "Host:", "Host: somewhere.example"):
            assert get(vm, base, "/latest/user-data", "-H", host).body == f"#!/bin/sh\necho {tenant}\n"


def test_privacy_addresses_are_the_ports_and_another_ports_address_is_refused(
    daemon: lab.Daemon, plug: Callable[..., lab.Vm]
) -> None:
    document = ipv6_only("blue")
    second = {**document["ports"][0], "id": "second-port", "device": "tap-second", "mac_address": "02:00:00:00:00:06",
              "device_id": "00000000-0000-4000-8000-000000000099",
              "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": OTHER}]}  # fmt: skip
    document["ports"] = [*document["ports"], second]
    instance = {**document["instances"][0], "id": second["device_id"], "hostname": "second-vm"}
    document["instances"] = [*document["instances"], instance]
    daemon.apply(document)
    blue = plug("blue")
    private = "2001:db8::d9f1:4c27:88aa:e0b"
    configure(blue, ADDRESS, private, OTHER)
    for source, status in ((ADDRESS, 200), (private, 200), (OTHER, 403)):
        answer = get(blue, GLOBAL, "/latest/meta-data/hostname", "--interface", f"host!{source}")
        assert answer.status == status, source
        assert "second" not in answer.body
    # The address of the other port with the other port's MAC is the other port.
    other = plug("second", mac="02:00:00:00:00:06")
    configure(other, "2001:db8::aaaa")
    assert get(other, LINK, "/latest/meta-data/hostname").body == "second-vm.novalocal"
    assert get(other, GLOBAL, "/latest/meta-data/hostname").body == "second-vm.novalocal"


@pytest.mark.parametrize("base", [LINK, GLOBAL])
def test_a_request_waits_for_its_port_and_is_answered_the_moment_it_is_there(
    patient: lab.Daemon, plug: Callable[..., lab.Vm], base: str
) -> None:
    daemon = patient
    document = ipv6_only("blue", "green")
    (late,) = [port for port in document["ports"] if port["id"] == "blue-port"]
    first = {**late, "id": "first-port", "mac_address": "02:00:00:00:00:77", "device_id": "",
             "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "2001:db8::77"}]}  # fmt: skip
    daemon.apply({**document, "ports": [port if port is not late else first for port in document["ports"]]})
    blue, green = plug("blue"), plug("green")
    configure(blue, ADDRESS)
    configure(green, ADDRESS)
    answers: list[lab.Answer] = []
    asking = threading.Thread(target=lambda: answers.append(get(blue, base)))
    asking.start()
    held = "nodeplane_metadata_held"
    lab.wait_until(lambda: daemon.metrics().get(held), "the request held")
    assert json.loads(get(green, base).body)["project_id"] == "green-project"
    daemon.apply({**document, "ports": [{**late, "device": "tap-late"}, *document["ports"][1:], first]})
    asking.join()
    assert answers[0].status == 200
    assert json.loads(answers[0].body)["project_id"] == "blue-project"
    assert answers[0].seconds < 60  # when the hold would have ended


def test_who_stays_unknown_gets_503_and_when_to_come_again(daemon: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    daemon.apply(ipv6_only("blue"))
    stranger = plug("blue", mac="02:00:00:00:00:99")
    configure(stranger, "2001:db8::99")
    answer = get(stranger, LINK, DOCUMENT, "-D", "-")
    assert answer.status == 503
    assert "retry-after: 1" in answer.body.lower()
    assert 2.5 < answer.seconds < 8


def test_both_families_have_one_limit_and_tenants_do_not_share_it(
    daemon: lab.Daemon, plug: Callable[..., lab.Vm]
) -> None:
    daemon.apply(lab.documents("blue", "green"))
    vms = {tenant: plug(tenant) for tenant in ("blue", "green")}
    for vm in vms.values():
        vm.set_address("10.0.0.5/24")
        configure(vm, ADDRESS)
    blue = vms["blue"]
    statuses = [
        answer.status for _ in range(7) for answer in (blue.get("/"), get(blue, LINK, "/"), get(blue, GLOBAL, "/"))
    ]
    assert statuses == [200] * 20 + [429]
    refused = blue.get("/", "-D", "-")
    assert refused.status == 429
    assert "retry-after: " in refused.body.lower()
    assert vms["green"].get("/").status == 200
    assert get(vms["green"], LINK, "/").status == 200
    metrics = daemon.metrics()
    assert metrics['nodeplane_metadata_dropped_total{reason="rate_limited"}'] == 2
    assert metrics["nodeplane_metadata_limited_ports"] == 2

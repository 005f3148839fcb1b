"""Malformed packets and requests: counted under their reason, no traceback, and the service goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from scripts import lab

MAC = "02:00:00:00:00:05"
SEND = Path(__file__).with_name("send_frames.py")


def send(vm: lab.Vm, *frames: bytes) -> None:
    vm.run(sys.executable, SEND, "eth0", input="\n".join(frame.hex() for frame in frames))


def discover(bootp: dict[str, Any] | None = None, options: object = None, source: str = MAC) -> Packet:
    chaddr = bytes.fromhex(MAC.replace(":", ""))
    return (
        Ether(src=source, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(**{"chaddr": chaddr, "xid": 7, **(bootp or {})})
        / DHCP(options=options or [("message-type", "discover"), "end"])
    )


def udp(payload: bytes) -> Packet:
    return (
        Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / Raw(payload)
    )


def bad_checksum() -> Packet:
    packet = discover()
    packet[UDP].chksum = 0x1234
    return packet


COOKIE = bytes.fromhex("63825363")
HEADER = bytes([1, 1, 6, 0]) + bytes(24) + bytes.fromhex("020000000005") + bytes(10 + 192)
MALFORMED = {
    "short": udp(b"\x01\x01\x06\x00"),
    "no cookie": udp(HEADER + bytes(60)),
    "bad op": udp(b"\x07" + HEADER[1:] + COOKIE + b"\x35\x01\x01\xff"),
    "bad hlen": udp(HEADER[:2] + b"\x11" + HEADER[3:] + COOKIE + b"\x35\x01\x01\xff"),
    "option past the end": udp(HEADER + COOKIE + b"\x35\x01\x01\x3d\xff\x00"),
    "no end": udp(HEADER + COOKIE + b"\x35\x01\x01"),
    "unknown type": udp(HEADER + COOKIE + b"\x35\x01\xee\xff"),
    "message type of two bytes": udp(HEADER + COOKIE + b"\x35\x02\x01\x01\xff"),
    "a server's offer": discover({"op": 2}, [("message-type", "offer"), "end"]),
    "somebody else's chaddr": discover(source="02:00:00:00:00:66"),
    "bad UDP checksum": bad_checksum(),
}


def dropped(daemon: lab.Daemon) -> dict[str, float]:
    prefix = "nodeplane_dhcp_dropped_total"
    return {name: value for name, value in daemon.metrics().items() if name.startswith(prefix)}


@pytest.fixture
def vm(tenants: dict[str, lab.Vm]) -> lab.Vm:
    lab.wait_until(lambda: "LOWER_UP" in tenants["blue"].run("ip", "link", "show", "eth0").stdout, "link")
    return tenants["blue"]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_dhcp_is_counted(name: str, daemon: lab.Daemon, vm: lab.Vm, tmp_path: Path) -> None:
    before = sum(dropped(daemon).values())
    lab.wait_until(lambda: daemon.status()["networks"][0]["plugged"] == 1, "plugged")
    send(vm, bytes(MALFORMED[name]))
    lab.wait_until(lambda: sum(dropped(daemon).values()) == before + 1, f"{name} counted")
    assert vm.dhcp(tmp_path).address == "10.0.0.5"


def test_a_storm_of_noise_does_not_stop_the_service(daemon: lab.Daemon, vm: lab.Vm, tmp_path: Path) -> None:
    """Mutated packets by the hundred; the other tenant is served meanwhile, the log stays small."""
    chance = random.Random(2131)
    good = bytes(discover())
    frames = []
    for _ in range(500):
        frame = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            frame[chance.randrange(14, len(frame))] = chance.randrange(256)
        frames.append(bytes(frame))
    send(vm, *frames)
    green = lab.Vm("vm-green", "tap-green", MAC)
    assert green.dhcp(tmp_path).address == "10.0.0.5"
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert daemon.log.stat().st_size < 500_000


REQUESTS = {
    "not HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"),
    "absolute form": (400, b"GET http://10.0.0.1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "authority form": (400, b"GET 10.0.0.1:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (405, b"CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "OPTIONS *": (400, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "both lengths": (400, b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "folded header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "NUL": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "bare CR": (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "huge header": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n"),
    "huge body": (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"),
}
TALK = """
import socket, sys
address, text = sys.argv[1:]
with socket.create_connection((address, 80), 5) as wire:
    wire.sendall(bytes.fromhex(text))
    data = b""
    while part := wire.recv(65536):
        data += part
print(data.decode("latin-1"))
"""


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests_are_refused(name: str, daemon: lab.Daemon, tenants: dict[str, lab.Vm]) -> None:
    """Of both tenants, over both families: one answer that says so, and the end of the connection."""
    status, request = REQUESTS[name]
    # A request for user data follows: whatever is made of the first one, the second is not answered.
    request += b"GET /latest/user-data HTTP/1.1\r\nHost: a\r\n\r\n"
    for tenant, vm in tenants.items():
        vm.set_address("10.0.0.5/24")
        vm.run("ip", "-6", "route", "add", "fd00:ec2::254", "dev", "eth0")
        lab.wait_until(lambda vm=vm: "tentative" not in vm.run("ip", "address").stdout, "addresses")  # type: ignore[misc]
        for address in ("169.254.169.254", "fd00:ec2::254"):
            said = vm.run(sys.executable, "-c", TALK, address, request.hex()).stdout
            assert said.startswith(f"HTTP/1.1 {status} "), said
            assert "\nConnection: close\n" in said
            assert said.count("HTTP/1.1") == 1
            assert f"echo {tenant}" not in said
    rejected = {key: value for key, value in daemon.metrics().items() if "metadata_dropped_total" in key and value}
    assert list(rejected.values()) == [4]
    for tenant, vm in tenants.items():
        assert vm.get("/latest/meta-data/hostname").body == f"{tenant}-vm.novalocal"


def test_slow_and_many_connections_stay_bounded(daemon: lab.Daemon, vm: lab.Vm) -> None:
    """A guest that opens connections and says nothing does not keep its neighbour from an answer."""
    vm.set_address("10.0.0.5/24")
    hog = vm.start(sys.executable, "-c",
                   "import socket,time\nkept=[socket.create_connection(('169.254.169.254',80)) for _ in range(300)]\n"
                   "print('open',flush=True)\ntime.sleep(30)", stdout=subprocess.PIPE)  # fmt: skip
    assert hog.stdout is not None
    assert hog.stdout.readline() == "open\n"
    green = lab.Vm("vm-green", "tap-green", MAC)
    green.set_address("10.0.0.5/24")
    assert green.get("/latest/meta-data/hostname").status == 200
    assert vm.get("/latest/meta-data/hostname").status == 200


CONNECT = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept = []
for number in range(3000):
    kept.append(socket.socket())
    kept[-1].setblocking(False)
    kept[-1].connect_ex(("169.254.169.254", 80))
    if number % 200 == 0:
        time.sleep(0.02)
print("open", flush=True)
time.sleep(60)
"""


def test_a_guest_that_connects_and_says_nothing_leaves_its_neighbours_their_names(
    daemon: lab.Daemon, two_ports: tuple[dict[str, Any], lab.Vm, lab.Vm]
) -> None:
    """Its connections wait in the kernel's queue of the network. Were that full, the kernel would keep nobody's MAC."""
    _, hog, neighbour = two_ports
    hog.set_address("10.0.0.5/24")
    neighbour.set_address("10.0.0.6/24")
    lab.wait_until(lambda: neighbour.get("/latest/meta-data/hostname").status == 200, "plugged")
    process = hog.start(sys.executable, "-c", CONNECT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"

    def limited() -> bool:
        answer = neighbour.get("/latest/meta-data/hostname")
        assert (answer.status, answer.body) == (200, "second-vm.novalocal")
        return daemon.metrics().get('nodeplane_metadata_dropped_total{reason="too_many_connections_of_port"}', 0) > 0

    # In a moment they are taken from the queue, and the limit of the port is the hog's own.
    lab.wait_until(limited, "its connections are counted")

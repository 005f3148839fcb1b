"""A tenant's bridge gives no way to the host: no ARP, no IPv4, no IPv6, whatever the guest sends.

Each test first shows, on a bridge of the ordinary kind, that the same frame would get through.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from struct import pack

import pytest

from dataplane import names
from dataplane.kernel import Kernel
from dataplane.model import NetworkId
from dataplane.plan import SERVICE_ADDRESSES
from fastpath.framing import udp4_frame
from scripts import lab
from tests.netns.conftest import ADDRESS, BLUE, MAC, addresses, inside

pytestmark = pytest.mark.asyncio

HOST = "192.0.2.1"
GUEST = bytes.fromhex(MAC.replace(":", ""))
PORT = 5555


@pytest.fixture
def host_address() -> Iterator[None]:
    """An address of the host on a device of its own, with the kernel's own weak defaults (no reverse-path filter)."""
    before = lab.run("sysctl", "-n", "net.ipv4.conf.all.rp_filter").stdout.strip()
    lab.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    lab.run("ip", "address", "add", f"{HOST}/32", "dev", "lo")
    yield
    lab.run("ip", "address", "del", f"{HOST}/32", "dev", "lo")
    lab.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={before}")


@pytest.fixture
def listener(host_address: None) -> Iterator[socket.socket]:
    """A service of the host that listens everywhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", PORT))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def wire(tenants: dict[NetworkId, lab.Vm]) -> Iterator[socket.socket]:
    """A raw socket on the blue VM's device."""

    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        sock.bind(("eth0", 0x0806))
        sock.setblocking(False)
        return sock

    with inside("vm-blue", opener) as sock:
        yield sock


def weaken(bridge: str) -> None:
    """Make our bridge one of the ordinary kind."""
    for setting in ("rp_filter", "arp_ignore"):
        lab.run("sysctl", "-qw", f"net.ipv4.conf.{bridge}.{setting}=0")


def readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def arp_request(address: str) -> bytes:
    body = pack("!HHBBH", 1, 0x0800, 6, 4, 1) + GUEST + socket.inet_aton(ADDRESS) + bytes(6) + socket.inet_aton(address)
    return b"\xff" * 6 + GUEST + b"\x08\x06" + body


def arp_answers(sock: socket.socket, address: str) -> bool:
    """True when somebody answers for the address; the service's answer says when the wait is over."""
    sock.send(arp_request(address))
    sock.send(arp_request("169.254.169.254"))
    answered = False
    while True:
        assert readable(sock, 5)
        frame = sock.recv(2000)
        if frame[20:22] == b"\0\2":
            if frame[28:32] == socket.inet_aton("169.254.169.254"):
                return answered
            answered = True


async def test_the_host_does_not_answer_arp(kernel: Kernel, host_address: None, wire: socket.socket) -> None:
    assert not arp_answers(wire, HOST)
    weaken(names.bridge(BLUE))
    assert arp_answers(wire, HOST)


async def test_the_host_takes_no_packet(kernel: Kernel, listener: socket.socket, wire: socket.socket) -> None:
    bridge = names.bridge_mac(BLUE)
    for source in (ADDRESS, "198.51.100.9", "127.0.0.1", HOST):
        wire.send(udp4_frame(bridge, GUEST, socket.inet_aton(source), socket.inet_aton(HOST), 1, PORT, b"closed"))
    # The service's ARP answer comes after the frames above went through the same bridge.
    assert not arp_answers(wire, HOST)
    assert not readable(listener, 0)
    weaken(names.bridge(BLUE))
    wire.send(udp4_frame(bridge, GUEST, socket.inet_aton(ADDRESS), socket.inet_aton(HOST), 1, PORT, b"open"))
    assert readable(listener, 5)
    assert listener.recv(100) == b"open"


async def test_a_routers_advertisement_gives_the_host_nothing(
    kernel: Kernel, tenants: dict[NetworkId, lab.Vm], wire: socket.socket
) -> None:
    bridge = names.bridge(BLUE)
    source, everyone = socket.inet_pton(socket.AF_INET6, "fe80::1"), socket.inet_pton(socket.AF_INET6, "ff02::1")
    prefix = pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::")
    body = pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
    total = source + everyone + pack("!II", len(body), 58) + body
    words = sum(int.from_bytes(total[at : at + 2], "big") for at in range(0, len(total), 2))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    body = body[:2] + pack("!H", ~words & 0xFFFF) + body[4:]
    frame = bytes.fromhex("333300000001") + GUEST + b"\x86\xdd"
    frame += pack("!IHBB", 6 << 28, len(body), 58, 255) + source + everyone + body
    wire.send(frame)
    assert not arp_answers(wire, HOST)
    for name, netns in ((bridge, ""), (names.veth(BLUE), ""), ("svc0", names.namespace(BLUE))):
        mine = [each for each in SERVICE_ADDRESSES if ":" in each] if netns else []
        assert sorted(each for each in addresses(name, netns) if ":" in each) == sorted(mine)
    # The same frame on a bridge with IPv6 is taken: the frame is right, and the setting is what keeps it out.
    lab.run("sysctl", "-qw", f"net.ipv6.conf.{bridge}.disable_ipv6=0")
    wire.send(frame)
    lab.wait_until(lambda: any(each.startswith("2001:db8:") for each in addresses(bridge)), "an address by SLAAC")


async def test_a_plugged_device_gets_no_address_of_the_hosts(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    # lab.Vm brings its device up before it is plugged, as some hypervisors do: what the kernel gave it then stays.
    for name in (names.bridge(BLUE), names.veth(BLUE)):
        assert addresses(name) == []

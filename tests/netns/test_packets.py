"""What the sockets of a network hear, from two VMs that look the same from outside."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from struct import pack

import pytest
import pytest_asyncio

from dataplane import names, packets
from dataplane.kernel import Kernel
from dataplane.model import METADATA_IPV4, NetworkId
from dataplane.packets import NetworkSockets
from fastpath.checksum import internet_checksum
from fastpath.framing import parse_udp4, udp4_frame
from scripts import lab
from tests.netns.conftest import ADDRESS, BLUE, GREEN, MAC, TENANTS, inside, open_sockets

pytestmark = pytest.mark.asyncio

GUEST = bytes.fromhex(MAC.replace(":", ""))
BROADCAST = b"\xff" * 6
TCP_SAVED_SYN = 28


@pytest_asyncio.fixture
async def sockets(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> dict[NetworkId, NetworkSockets]:
    """Sockets of both networks, with both VMs plugged in; closed by `close_all`."""
    return await open_sockets(kernel, *TENANTS)


@pytest.fixture(autouse=True)
def close_all(sockets: dict[NetworkId, NetworkSockets]) -> Iterator[None]:
    yield
    for each in sockets.values():
        each.close()


@pytest.fixture
def wire(tenants: dict[NetworkId, lab.Vm]) -> Iterator[dict[NetworkId, socket.socket]]:
    """A raw socket on each VM's device, to send any frame."""

    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("eth0", 0))
        return sock

    opened = {each: inside(f"vm-{each}", opener) for each in tenants}
    yield opened
    for sock in opened.values():
        sock.close()


def readable(sock: socket.socket, seconds: float = 5.0) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def drain(sock: socket.socket) -> list[bytes]:
    """Everything that waits in a DHCP socket."""
    frames: list[bytes] = []
    while True:
        try:
            frames.append(packets.receive(sock)[0])
        except BlockingIOError:
            return frames


def discover(
    destination: str = "255.255.255.255", mac: bytes = BROADCAST, payload: bytes = b"first", **change: int
) -> bytes:
    return udp4_frame(
        mac, GUEST, bytes(4), socket.inet_aton(destination), change.get("source", 68), change.get("port", 67), payload
    )


async def test_the_saved_syn_gives_the_clients_mac(
    sockets: dict[NetworkId, NetworkSockets], tenants: dict[NetworkId, lab.Vm]
) -> None:
    tenants[GREEN].run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    for each, mac in ((BLUE, MAC), (GREEN, "02:00:00:00:00:99")):
        client = inside(f"vm-{each}", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with client:
            client.settimeout(5)
            client.connect(("169.254.169.254", 80))
            assert readable(sockets[each].metadata[0])
            accepted, (address, _) = sockets[each].metadata[0].accept()
            with accepted:
                saved = accepted.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
                assert address == ADDRESS
                assert saved[:6] == names.service_mac(each)
                assert saved[6:12].hex(":") == mac
                assert saved[12:14] == b"\x08\x00"
                # Once read, the kernel forgets it.
                assert accepted.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256) == b""
    other = GREEN
    with pytest.raises(BlockingIOError):
        sockets[other].metadata[0].accept()


async def test_dhcp_frames_are_heard_by_broadcast_and_unicast_to_any_address(
    sockets: dict[NetworkId, NetworkSockets], wire: dict[NetworkId, socket.socket]
) -> None:
    for each in TENANTS:
        service = names.service_mac(each)
        sent = [
            discover(payload=b"broadcast"),
            discover("169.254.169.254", service, b"unicast to the server"),
            discover("10.0.0.2", service, b"unicast to a server of old"),
            discover("203.0.113.77", service, b"unicast to anywhere"),
            discover(payload=b"from a relay", source=67),
        ]
        for frame in sent:
            wire[each].send(frame)
        heard: list[bytes] = []
        while len(heard) < len(sent):
            assert readable(sockets[each].dhcp)
            heard += drain(sockets[each].dhcp)
        assert heard == sent
        assert parse_udp4(heard[0]).payload == b"broadcast"
    # And the neighbour heard only its own.
    assert drain(sockets[BLUE].dhcp) == []


async def test_nothing_else_is_heard(
    sockets: dict[NetworkId, NetworkSockets], wire: dict[NetworkId, socket.socket]
) -> None:
    service = names.service_mac(BLUE)
    good = discover(payload=b"marker")
    fragment_first = bytearray(discover(payload=b"more fragments"))
    fragment_first[20] = 0x20
    fragment_later = bytearray(discover(payload=b"later fragment"))
    fragment_later[20:22] = pack("!H", 5)
    tcp = bytearray(discover(payload=b"tcp"))
    tcp[23] = socket.IPPROTO_TCP
    other = [
        discover(port=68),
        bytes(fragment_first),
        bytes(fragment_later),
        bytes(tcp),
        discover("10.0.0.2", bytes.fromhex("020000000077"), b"to another station's MAC"),
        service + GUEST + b"\x86\xdd" + bytes(60),
        # In a VLAN of the tenant's own.
        good[:12] + b"\x81\x00\x00\x05" + good[12:],
        b"\xff" * 6 + GUEST + b"\x08\x00",
    ]
    for frame in [*other, good]:
        wire[BLUE].send(frame)
    assert readable(sockets[BLUE].dhcp)
    assert drain(sockets[BLUE].dhcp) == [good]


async def test_ip_options_move_the_ports_and_are_followed(
    sockets: dict[NetworkId, NetworkSockets], wire: dict[NetworkId, socket.socket]
) -> None:
    frame = discover(payload=b"with options")
    # Four no-operations.
    header = bytearray(b"\x46" + frame[15:34] + b"\x01" * 4)
    header[2:4] = pack("!H", len(frame) - 14 + 4)
    header[10:12] = bytes(2)
    header[10:12] = pack("!H", internet_checksum(bytes(header)))
    sent = frame[:14] + bytes(header) + frame[34:]
    wire[BLUE].send(sent)
    assert readable(sockets[BLUE].dhcp)
    assert drain(sockets[BLUE].dhcp) == [sent]


async def test_a_guest_that_leaves_the_checksum_to_its_card_is_known(
    sockets: dict[NetworkId, NetworkSockets], tenants: dict[NetworkId, lab.Vm]
) -> None:
    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("0.0.0.0", 68))
        return sock

    with inside("vm-blue", opener) as client:
        client.sendto(b"by the kernel", ("255.255.255.255", 67))
    assert readable(sockets[BLUE].dhcp)
    frame, unset = packets.receive(sockets[BLUE].dhcp)
    assert unset
    assert parse_udp4(frame, check_udp=False).payload == b"by the kernel"


async def test_a_complete_checksum_is_not_taken_for_an_unset_one(
    sockets: dict[NetworkId, NetworkSockets], wire: dict[NetworkId, socket.socket]
) -> None:
    wire[BLUE].send(discover())
    assert readable(sockets[BLUE].dhcp)
    assert packets.receive(sockets[BLUE].dhcp) == (discover(), False)


async def test_port_67_answers_no_icmp_error(
    sockets: dict[NetworkId, NetworkSockets], tenants: dict[NetworkId, lab.Vm]
) -> None:
    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("169.254.169.254", 67))
        sock.settimeout(5)
        return sock

    with inside("vm-blue", opener) as client:
        client.send(b"renewal")
        assert readable(sockets[BLUE].dhcp)
        # A port that nobody holds does answer, so the error would have been here by now.
        closed = inside("vm-blue", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with closed:
            closed.settimeout(5)
            closed.connect(("169.254.169.254", 9))
            closed.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                closed.recv(1)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


async def test_a_reply_reaches_the_guest(
    sockets: dict[NetworkId, NetworkSockets], wire: dict[NetworkId, socket.socket]
) -> None:
    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        sock.bind(("eth0", 0x0800))
        sock.settimeout(5)
        return sock

    service = names.service_mac(GREEN)
    server = socket.inet_aton("169.254.169.254")
    reply = udp4_frame(GUEST, service, server, socket.inet_aton(ADDRESS), 67, 68, b"offer")
    with inside("vm-green", opener) as guest:
        sockets[GREEN].dhcp.send(reply)
        assert guest.recv(2000) == reply


async def test_a_device_that_goes_is_reported_by_the_socket(
    sockets: dict[NetworkId, NetworkSockets],
) -> None:
    lab.run("ip", "link", "del", names.veth(BLUE))
    assert readable(sockets[BLUE].dhcp)
    with pytest.raises(OSError, match="Network is down"):
        packets.receive(sockets[BLUE].dhcp)
    with pytest.raises(BlockingIOError):
        packets.receive(sockets[GREEN].dhcp)


async def test_a_server_that_is_there_already_keeps_its_port(
    sockets: dict[NetworkId, NetworkSockets],
) -> None:
    def opener() -> tuple[socket.socket | None, int]:
        second = packets.open_dhcp_guard("svc0")
        with pytest.raises(OSError, match="in use") as error:
            packets.open_metadata_listener("svc0", METADATA_IPV4)
        return second, error.value.errno or 0

    assert sockets[BLUE].guard is not None
    guard, number = inside(names.namespace(BLUE), opener)
    assert guard is None
    assert number

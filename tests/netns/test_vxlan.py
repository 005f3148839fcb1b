"""What Linux's vxlan device makes of our frames, and we of its; over IPv4 and IPv6, with and without UDP checksums.

Two tenants have the same inner addresses and MACs, in VNIs 1 and 2. Their ends are vxlan devices of the kernel, each in
a namespace of its own; the far end is a packet socket, with frames that `fastpath.vxlan` writes and reads.
"""

from __future__ import annotations

import array
import fcntl
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pytest

from fastpath.batch import Batch
from fastpath.flags import Flags
from fastpath.flow import five_tuple
from fastpath.reasons import Reason
from fastpath.vxlan import DroppedError, Tunnels, Vtep, decap, decapsulate, encap
from scripts import lab
from tests.netns.conftest import inside
from tests.vxlan_frames import Outer, checked, ethernet, ip4, ip6, tcp, udp

T = TypeVar("T")

HOST, WIRE = "vx-host", "vx-wire"
TENANTS = {1: "vx-one", 2: "vx-two"}
HOST_MAC, WIRE_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02"
INNER_MAC, GUEST_MAC = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
UNDERLAY = {4: ("192.0.2.2", "192.0.2.1"), 6: ("2001:db8::2", "2001:db8::1")}
"""The kernel's address, and ours."""
ADDRESS, GUEST = "10.0.0.2", "10.0.0.1"
ADDRESS6, GUEST6 = "fd00::2", "fd00::1"
PORT = 7777
PACKET_IGNORE_OUTGOING = 23


@dataclass
class Overlay:
    """The far end of the wire and the tenants' sockets."""

    version: int
    checksum: bool
    wire: socket.socket
    sockets: dict[int, socket.socket]
    sockets6: dict[int, socket.socket]

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.wire.send(frame)

    def underlay_frames(self, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        """What the kernel sends to us, VXLAN only, until there is enough."""
        found: list[bytes] = []
        ends = time.monotonic() + 10
        while not enough(found):
            assert time.monotonic() < ends, f"only {len(found)} frames came"
            if select.select([self.wire], [], [], 0.1)[0]:
                frame = self.wire.recv(4096)
                key = five_tuple(frame)
                if key is not None and key.destination_port == 4789:
                    found.append(frame)
        return found


def no_transmit_offload(device: str) -> None:
    """Checksums are to be in the frames, as on a wire (SIOCETHTOOL, ETHTOOL_STXCSUM)."""
    value = array.array("I", [0x17, 0])
    request = struct.pack("16sQ16x", device.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8946, request)


def packet_socket() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)
    sock.bind(("u1", 0))
    return sock


def tenant_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", PORT))
    sock.settimeout(10)
    return sock


@pytest.fixture(params=[(4, False), (4, True), (6, True), (6, False)], ids=["v4", "v4-csum", "v6", "v6-zero"])
def overlay(request: pytest.FixtureRequest) -> Iterator[Overlay]:
    version, checksum = request.param
    local, remote = UNDERLAY[version]
    run = partial(lab.run, "ip")
    for name in (HOST, WIRE, *TENANTS.values()):
        run("netns", "add", name)
        lab.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", netns=name)
    try:
        run("link", "add", "u0", "netns", HOST, "address", HOST_MAC, "mtu", "1600", "type", "veth",
            "peer", "name", "u1", "address", WIRE_MAC, "mtu", "1600", "netns", WIRE)  # fmt: skip
        run("link", "set", "u1", "up", netns=WIRE)
        run("link", "set", "u0", "up", netns=HOST)
        inside(HOST, lambda: no_transmit_offload("u0"))
        run("address", "add", f"{local}/{24 if version == 4 else 64}", "dev", "u0", netns=HOST)
        run("neighbour", "add", remote, "lladdr", WIRE_MAC, "dev", "u0", netns=HOST)
        choice = ["udpcsum" if checksum else "noudpcsum"]
        if version == 6 and not checksum:
            choice += ["udp6zerocsumtx", "udp6zerocsumrx"]
        for vni, tenant in TENANTS.items():
            run("link", "add", f"vx{vni}", "type", "vxlan", "id", str(vni), "local", local, "remote", remote,
                "dstport", "4789", *choice, netns=HOST)  # fmt: skip
            run("link", "set", f"vx{vni}", "netns", tenant, "name", "vx", netns=HOST)
            run("link", "set", "vx", "address", INNER_MAC, "mtu", "1400", netns=tenant)
            run("address", "add", f"{ADDRESS}/24", "dev", "vx", netns=tenant)
            run("link", "set", "vx", "up", netns=tenant)
            run("address", "add", f"{ADDRESS6}/64", "dev", "vx", "nodad", netns=tenant)
            run("neighbour", "add", GUEST, "lladdr", GUEST_MAC, "dev", "vx", netns=tenant)
            run("neighbour", "add", GUEST6, "lladdr", GUEST_MAC, "dev", "vx", netns=tenant)
        made = Overlay(
            version,
            checksum,
            inside(WIRE, packet_socket),
            {vni: inside(tenant, lambda: tenant_socket(socket.AF_INET)) for vni, tenant in TENANTS.items()},
            {vni: inside(tenant, lambda: tenant_socket(socket.AF_INET6)) for vni, tenant in TENANTS.items()},
        )
        yield made
        for sock in (made.wire, *made.sockets.values(), *made.sockets6.values()):
            sock.close()
    finally:
        for name in (HOST, WIRE, *TENANTS.values()):
            run("netns", "del", name, check=False)


def endpoint(overlay: Overlay) -> Vtep:
    local, remote = UNDERLAY[overlay.version]
    vtep = Vtep(addresses=[remote], zero_checksum6=not overlay.checksum)
    for vni in TENANTS:
        vtep.allow(vni, 100 + vni, [local])
    return vtep


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def inner(payload: bytes, six: bool = False, tos: int = 0) -> bytes:
    """A guest's datagram to the tenant's address."""
    packet = ip6(udp(payload, 5555, PORT), tos=tos, source=GUEST6, destination=ADDRESS6) if six else (
        ip4(udp(payload, 5555, PORT), tos=tos, source=GUEST, destination=ADDRESS)
    )  # fmt: skip
    macs = {"source_mac": GUEST_MAC, "destination_mac": INNER_MAC}
    return ethernet(checked(packet), (), None, **{name: packed(mac) for name, mac in macs.items()})


def wrapped(overlay: Overlay, numbers: list[int], frames: list[bytes], **fields: Any) -> list[bytes]:
    """Frames through our encapsulation; `numbers` are VNIs."""
    local, remote = UNDERLAY[overlay.version]
    tunnels = Tunnels()
    number = {
        vni: tunnels.add(vni=vni, source=remote, destination=local, source_mac=WIRE_MAC, destination_mac=HOST_MAC,
                         checksum="full" if overlay.checksum else "zero", **fields)
        for vni in TENANTS
    }  # fmt: skip
    batch = Batch(len(frames))
    batch.fill(frames)
    for i, vni in enumerate(numbers):
        batch.tunnel[i] = number[vni]
    assert encap(batch, tunnels) == len(frames)
    return batch.frames()


def test_the_kernel_takes_our_frames(overlay: Overlay) -> None:
    sizes = [0, 1, 2, 63, 64, 65, 500, 1300, *range(100, 120)]
    for six in (False, True):
        sockets = overlay.sockets6 if six else overlay.sockets
        frames = [inner(bytes([vni]) + bytes(size), six) for size in sizes for vni in TENANTS]
        overlay.send(*wrapped(overlay, list(TENANTS) * len(sizes), frames))
        for vni, sock in sockets.items():
            assert [sock.recv(2000) for _ in sizes] == [bytes([vni]) + bytes(size) for size in sizes]


def test_we_take_the_kernels_frames(overlay: Overlay) -> None:
    sizes = [0, 1, 64, 500, 1300]
    for vni in TENANTS:
        for size in sizes:
            overlay.sockets[vni].sendto(bytes([vni]) * (size + 1), (GUEST, 8888))
            overlay.sockets6[vni].sendto(bytes([vni]) * (size + 1), (GUEST6, 8888))
    vtep = endpoint(overlay)
    batch = Batch(64)
    got: dict[int, list[bytes]] = {vni: [] for vni in TENANTS}

    def payloads(frames: list[bytes]) -> bool:
        for each in got.values():
            each.clear()
        batch.fill(frames[:64])
        decap(batch, vtep)
        for i, frame in enumerate(batch.frames()):
            # Strict, with checksums verified: all that the kernel sends is taken.
            assert batch.verdict[i] == Reason.PASS, Reason(batch.verdict[i])
            key = five_tuple(frame)
            if key is not None and key.destination_port == 8888:
                assert batch.tunnel[i] == 100 + batch.vni[i]
                got[batch.vni[i]].append(frame[42 if len(key.source) == 4 else 62 :])
        return all(len(each) >= 2 * len(sizes) for each in got.values())

    frames = overlay.underlay_frames(payloads)
    for vni in TENANTS:
        assert sorted(got[vni], key=len) == sorted([bytes([vni]) * (size + 1) for size in sizes] * 2, key=len)
    # The other end is another one: refused for all that it sends.
    with pytest.raises(DroppedError, match="DESTINATION"):
        decapsulate(frames[0], Vtep(addresses=["192.0.2.77"], any_vni=True, zero_checksum6=True))


def test_congestion_marks_are_what_the_kernel_makes_of_them(overlay: Overlay) -> None:
    local, remote = UNDERLAY[overlay.version]
    for six in (False, True):
        for inner_ecn in range(4):
            for outer_ecn in range(4):
                payload = bytes([inner_ecn, outer_ecn])
                guest = inner(payload, six, tos=0x28 | inner_ecn)
                outer = Outer(guest, overlay.version == 6, vni=1, source=remote, destination=local, tos=outer_ecn)
                frame = outer.but(checksum=None if overlay.checksum else 0).build()
                frame = packed(HOST_MAC + WIRE_MAC) + frame[12:]
                # What comes behind it shows that the kernel has seen it.
                last = wrapped(overlay, [1], [inner(b"last", six)])
                overlay.send(frame, *last)
                sock, marks = (overlay.sockets6 if six else overlay.sockets)[1], []
                while True:
                    data, ancillary, _, _ = sock.recvmsg(100, 100)
                    if data == b"last":
                        break
                    assert data == payload
                    marks.append(int.from_bytes(ancillary[0][2][:1], "little"))
                if inner_ecn == 0 and outer_ecn == 3:
                    assert marks == []
                    with pytest.raises(DroppedError, match=Reason.ECN.name):
                        decapsulate(frame)
                    continue
                _, ours = decapsulate(frame)
                mark = struct.unpack_from("!H", ours, 14)[0] >> 4 & 0xFF if six else ours[15]
                assert marks == [mark], (inner_ecn, outer_ecn)


def test_the_kernel_takes_marks_and_tunnels_of_every_kind(overlay: Overlay) -> None:
    kinds: list[dict[str, Any]] = [
        {"ttl": "inherit", "dscp": "inherit"},
        {"df": "inherit", "dscp": 46},
        {"df": False, "ecn": "compatible"},
    ]
    for number, fields in enumerate(kinds):
        tos = 0xB8 | number
        overlay.send(*wrapped(overlay, [2], [inner(bytes([number]), tos=tos)], **fields))
        data, ancillary, _, _ = overlay.sockets[2].recvmsg(100, 100)
        assert (data, ancillary[0][2][:1]) == (bytes([number]), bytes([tos]))


def test_an_inner_tcp_checksum_vouches_for_the_outer(overlay: Overlay) -> None:
    """Local Checksum Offload gives what the kernel verifies."""
    if not overlay.checksum:
        pytest.skip("there is no outer checksum")
    local, remote = UNDERLAY[overlay.version]
    tunnels = Tunnels()
    tunnels.add(
        vni=1, source=remote, destination=local, source_mac=WIRE_MAC, destination_mac=HOST_MAC, checksum="local"
    )
    frames = [inner(bytes(size)) for size in range(1, 60)]
    batch = Batch(64)
    batch.fill([*frames, ethernet(checked(ip4(tcp(), 6)))])
    for i in range(len(batch)):
        batch.flags[i] = Flags.VALID_CHECKSUM
    assert encap(batch, tunnels) == 60
    overlay.send(*batch.frames())
    assert [len(overlay.sockets[1].recv(100)) for _ in frames] == list(range(1, 60))

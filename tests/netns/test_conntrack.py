"""Connection tracking says of every packet what the kernel's says: both see the same exchanges, packet by packet.

A router of its own forwards what two raw sockets send, and nftables writes into each packet's DSCP what the kernel's
conntrack took it for.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fastpath import _conntrack_py, _flow_py
from fastpath._checksum_py import internet_checksum
from fastpath.batch import Batch
from fastpath.connections import TIMEOUTS, Ct
from scripts import lab
from tests.exchanges import (
    ACK,
    FIN,
    RST,
    SYN,
    addresses,
    frame,
    icmp,
    ip,
    mixture,
    tcp,
    udp,
    unreachable,
)
from tests.netns.conftest import inside
from tests.twins import built

pytestmark = pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")

CONNTRACK_C = built("fastpath._conntrack_c")
TWINS = [each for each in (_conntrack_py, CONNTRACK_C) if each is not None]
STREAMS = int(os.environ.get("NODEPLANE_STREAMS", "12"))
"""Of 1,500 packets; 240 take half a minute."""
SO_RCVBUFFORCE = 33
NETLINK_NETFILTER = 12
REPLY = 8
RULES = (
    "table inet seen { chain forward { type filter hook forward priority 0;\n"
    + "".join(
        f"ct state {state} {direction} {family} dscp set {number + extra}\n"
        for state, number in (("new", 1), ("established", 2), ("related", 3), ("invalid", 4), ("untracked", 5))
        for direction, extra in (
            (("ct direction original", 0), ("ct direction reply", REPLY)) if number < 4 else (("", 0),)
        )
        for family in ("ip", "ip6")
    )
    + "}\n}\n"
)
LINKS = (("left", "ra", "1"), ("right", "rb", "2"))
KINDS = {Ct.NEW: 1, Ct.ESTABLISHED: 2, Ct.RELATED: 3, Ct.INVALID: 4, Ct.NONE: 5}
Exchange = Sequence[tuple[int, bytes]]


class Router:
    """The kernel's conntrack between two raw sockets."""

    def __init__(self) -> None:
        lab.run("ip", "netns", "add", "router")
        for outside, within, net in LINKS:
            lab.run("ip", "link", "add", outside, "type", "veth", "peer", "name", within, "netns", "router")
            lab.run("ip", "link", "set", outside, "address", f"02:00:00:00:01:0{net}")
            for each in (f"/proc/sys/net/ipv6/conf/{outside}/disable_ipv6",):
                Path(each).write_text("1")
            lab.run("ip", "link", "set", outside, "up")
            self.run("ip", "link", "set", within, "address", f"02:00:00:00:02:0{net}", "up")
            self.run("ip", "address", "add", f"10.{net}.0.1/24", "dev", within)
            self.run("ip", "address", "add", f"fd0{net}::1/64", "dev", within, "nodad")
            for address in (f"10.{net}.0.2", f"fd0{net}::2"):
                self.run("ip", "neighbour", "add", address, "lladdr", f"02:00:00:00:01:0{net}", "dev", within)
        inside("router", lambda: [Path(f"/proc/sys/net/{name}").write_text("1") for name in (
            "ipv4/ip_forward", "ipv6/conf/all/forwarding",
        )])  # fmt: skip
        rules = Path("/run/tmp/rules.nft")
        rules.write_text(RULES)
        self.run("nft", "-f", str(rules))
        self.wires = []
        for outside, _, _ in LINKS:
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            wire.bind((outside, 3))
            self.wires.append(wire)
        self.number = 0

    def run(self, *command: str) -> None:
        lab.run("ip", "netns", "exec", "router", *command)

    def setting(self, name: str, value: int) -> None:
        inside("router", lambda: Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").write_text(str(int(value))))

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        for outside, _, _ in LINKS:
            lab.run("ip", "link", "delete", outside)
        lab.run("ip", "netns", "delete", "router")

    def send(self, many: Exchange) -> list[int]:
        """What the kernel took each datagram for; 0 of those it did not forward."""
        seen: dict[int, int] = {}
        first = self.number
        for who, datagram in many:
            self.number += 1
            head = bytes.fromhex(f"02000000020{who + 1}02000000010{who + 1}")
            self.wires[who].send(head + frame(numbered(datagram, self.number & 0xFFFF))[12:])
        marker = self.number + 1 & 0xFFFF
        self.number += 1
        head = bytes.fromhex("020000000201020000000101")
        self.wires[0].send(head + frame(numbered(ip(*addresses(4), 253, b"end"), marker))[12:])
        for wire in (self.wires[1], self.wires[0]):
            while wire is self.wires[1] or select.select([wire], [], [], 0)[0]:
                assert select.select([wire], [], [], 5)[0], "the marker was not forwarded"
                got, address = wire.recvfrom(4096)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                number, dscp = found(got[14:])
                seen[number] = dscp
                if wire is self.wires[1] and number == marker:
                    break
        return [seen.get(first + 1 + i & 0xFFFF, 0) for i in range(len(many))]


def numbered(datagram: bytes, number: int) -> bytes:
    """With a number where conntrack does not look: IPv4's identification, IPv6's flow label."""
    if datagram[0] >> 4 == 6:
        return datagram[:2] + number.to_bytes(2, "big") + datagram[4:]
    head = datagram[:4] + number.to_bytes(2, "big") + datagram[6:10] + b"\0\0" + datagram[12:20]
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + datagram[20:]


def found(datagram: bytes) -> tuple[int, int]:
    """The number and the DSCP."""
    if datagram[0] >> 4 == 6:
        return int.from_bytes(datagram[2:4], "big"), int.from_bytes(datagram[:2], "big") >> 6 & 63
    return int.from_bytes(datagram[4:6], "big"), datagram[1] >> 2


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # one queue, so that packets of both sides keep their order
    made = Router()
    yield made
    made.close()
    os.sched_setaffinity(0, allowed)


def ours(table: _conntrack_py.Conntrack, many: Exchange) -> list[int]:
    """What the table takes each datagram for."""
    said = []
    batch = Batch(1, slot=4096, huge=False)
    for _, datagram in many:
        batch.fill([frame(datagram)])
        _flow_py.keys(batch)
        table.track(batch, time.monotonic_ns())
        ct = batch.ct[0]
        table.commit(batch, time.monotonic_ns())
        assert batch.verdict[0] == 0
        said.append(KINDS[Ct(ct & Ct.KIND)] + (REPLY if ct & Ct.REPLY else 0))
    return said


def compare(router: Router, many: Exchange, *, windows: bool, pick_up: bool = True) -> None:
    router.setting("tcp_be_liberal", not windows)
    router.setting("tcp_ignore_invalid_rst", not windows)
    router.setting("tcp_loose", pick_up)
    flush(router)
    theirs = router.send(many)
    for twin in TWINS:
        table = twin.Conntrack(4096, window_check=windows, pick_up=pick_up)
        mine = ours(table, many)
        assert mine == theirs, explain(many, theirs, mine)


def flush(router: Router) -> None:
    """Let the kernel forget all connections: IPCTNL_MSG_CT_DELETE without attributes, acknowledged."""

    def delete() -> bytes:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.send(struct.pack("=IHHII", 20, 0x0102, 5, 1, 0) + bytes(4))
            return netlink.recv(4096)

    assert struct.unpack_from("=i", inside("router", delete), 16) == (0,)


def explain(many: Exchange, theirs: list[int], mine: list[int]) -> str:
    at = next(i for i, pair in enumerate(zip(theirs, mine, strict=True)) if pair[0] != pair[1])
    key = flow(many[at][1])
    lines = [f"packet {at}: the kernel {theirs[at]}, here {mine[at]}"]
    lines += [
        f"{i} from {who}: {datagram[(40 if datagram[0] >> 4 == 6 else 20):].hex()} kernel {theirs[i]} here {mine[i]}"
        for i, (who, datagram) in enumerate(many[: at + 1]) if flow(datagram) == key
    ]  # fmt: skip
    return "\n".join(lines)


def flow(datagram: bytes) -> tuple[object, ...]:
    six = datagram[0] >> 4 == 6
    layer4 = datagram[40:] if six else datagram[20:]
    return six, datagram[6 if six else 9], *sorted((layer4[:2], layer4[2:4]))


def script(version: int) -> dict[str, Callable[[], Exchange]]:
    one, other = addresses(version)

    def out(flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> tuple[int, bytes]:
        return 0, tcp(one, other, 1234, 80, flags, seq=seq, ack=ack, payload=payload)

    def back(flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> tuple[int, bytes]:
        return 1, tcp(other, one, 80, 1234, flags, seq=seq, ack=ack, payload=payload)

    opened = [out(SYN, 100), back(SYN | ACK, 500, 101), out(ACK, 101, 501)]
    closed = [out(FIN | ACK, 101, 501), back(FIN | ACK, 501, 102), out(ACK, 102, 502)]
    query, answer = (128, 129) if version == 6 else (8, 0)
    ident = struct.pack("!HH", 7, 1)
    ask, told = udp(one, other, 5000, 53), udp(other, one, 53, 5000)
    return {
        "handshake, data, close": lambda: [*opened, out(ACK, 101, 501, b"hello"), back(ACK, 501, 106), *closed],
        "the same ports again": lambda: [
            *opened, *closed, out(SYN, 90000), back(SYN | ACK, 7, 90001), out(ACK, 90001, 8),
        ],
        "refused": lambda: [out(SYN, 100), back(RST | ACK, 0, 101), back(ACK, 1, 101), out(SYN, 200)],
        "reset": lambda: [*opened, back(RST, 501), out(ACK, 101, 501), out(SYN, 900), back(SYN | ACK, 3, 901)],
        "both at once": lambda: [
            out(SYN, 100), back(SYN, 500), out(SYN | ACK, 100, 501), back(SYN | ACK, 500, 101), out(ACK, 101, 501),
            back(ACK, 501, 101), out(ACK, 101, 501, b"x"),
        ],
        "in the middle": lambda: [out(ACK, 5, 6, b"abc"), back(ACK, 6, 8), out(ACK, 8, 6), *closed],
        "answers to nothing": lambda: [back(SYN | ACK, 5, 6), back(FIN | ACK, 5, 6), back(RST, 5), back(ACK, 5, 5)],
        "a SYN in between": lambda: [*opened, out(SYN, 4000), back(ACK, 501, 101), out(RST, 101), out(SYN, 4000)],
        "out of step": lambda: [*opened, out(SYN, 4000), back(SYN | ACK, 9000, 4001), out(ACK, 4001, 9001)],
        "a RST after a SYN of one's own": lambda: [
            *opened, out(SYN, 4000), out(RST | ACK, 900000, 4001), back(ACK, 501, 101), out(SYN, 7000),
        ],
        "a RST after an ACK of one's own": lambda: [
            out(SYN, 100), back(SYN | ACK, 500, 101), back(ACK, 501, 101), back(RST | ACK, 100501, 501),
            out(ACK, 101, 501), out(SYN, 9000),
        ],
        "a RST at what was picked up": lambda: [
            out(ACK, 5), back(ACK, 6, 5), back(RST | ACK, 90, 5), out(SYN, 900), back(SYN | ACK, 3, 901),
            out(ACK, 901, 4),
        ],
        "nonsense": lambda: [out(0, 1), out(SYN | FIN, 1), out(63, 1), out(SYN, 1), out(FIN, 2), back(SYN | RST, 2)],
        "datagrams": lambda: [(0, ask), (0, ask), (1, told), (0, ask), (1, unreachable(told)), (0, unreachable(ask))],
        "error to the asker": lambda: [(0, ask), (1, unreachable(ask)), (1, told), (0, unreachable(told))],
        "error about nothing": lambda: [(1, unreachable(ask)), (0, ask), (1, unreachable(udp(one, other, 5001, 53)))],
        "error to somebody else": lambda: [
            (0, ask), (1, unreachable(udp(one[:-1] + b"\x09", other, 5000, 53), other, one)),
        ],
        "error about TCP": lambda: [out(SYN, 100), (1, unreachable(out(SYN, 100)[1])), back(SYN | ACK, 5, 101)],
        "echo": lambda: [
            (1, icmp(other, one, answer, 0, ident)), (0, icmp(one, other, query, 0, ident)),
            (0, icmp(one, other, query, 0, ident)), (1, icmp(other, one, answer, 0, ident)),
            (0, icmp(one, other, query, 0, ident)), (1, icmp(other, one, query, 0, ident)),
            (1, unreachable(icmp(one, other, query, 0, ident))),
        ],
        "other protocols": lambda: [(0, ip(one, other, 99, b"abc")), (1, ip(other, one, 99, b"abc")),
                                    (0, ip(one, other, 99, b"abc")), (1, ip(other, one, 50, b"abcdefgh"))],
    }  # fmt: skip


@pytest.mark.parametrize("windows", [False, True], ids=["liberal", "windows"])
@pytest.mark.parametrize("version", [4, 6])
def test_scripts(router: Router, version: int, windows: bool) -> None:
    for name, many in script(version).items():
        try:
            compare(router, many(), windows=windows)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_nothing_is_picked_up(router: Router) -> None:
    for version in (4, 6):
        compare(router, script(version)["in the middle"](), windows=True, pick_up=False)


@pytest.mark.parametrize("seed", range(6))
def test_random_exchanges_with_windows(router: Router, seed: int) -> None:
    source = mixture(random.Random(seed), 4, (0.0, 0.1, 0.3)[seed % 3])
    compare(router, [next(source) for _ in range(600)], windows=True)


@pytest.mark.parametrize("seed", range(100, 100 + STREAMS))
def test_streams_of_nonsense(router: Router, seed: int) -> None:
    source = mixture(random.Random(seed), 4, (0.05, 0.3, 0.6)[seed % 3])
    compare(router, [next(source) for _ in range(1500)], windows=True)


@pytest.mark.parametrize("seed", range(3))
def test_random_exchanges_without_windows(router: Router, seed: int) -> None:
    # What is right about its numbers: without windows nothing looks at them, while the kernel still checks a RST's.
    source = mixture(random.Random(seed), 4, 0.0)
    compare(router, [next(source) for _ in range(600)], windows=False)


def test_timeouts_are_the_kernels(router: Router) -> None:
    names = {name: name for name in TIMEOUTS} | {
        "tcp_syn_sent2": "tcp_syn_sent", "tcp_retransmitted": "tcp_max_retrans", "other": "generic", "icmp6": "icmpv6",
    }  # fmt: skip
    del names["tcp_syn_sent2"]
    folder = Path("/proc/sys/net/netfilter")

    def read() -> dict[str, int]:
        return {ours: int((folder / f"nf_conntrack_{setting(theirs)}").read_text()) for ours, theirs in names.items()}

    assert inside("router", read) == {name: TIMEOUTS[name] for name in names}


def setting(name: str) -> str:
    """As the kernel calls it."""
    if name.startswith("tcp"):
        return name.replace("tcp_", "tcp_timeout_")
    return "udp_timeout_stream" if name == "udp_stream" else f"{name}_timeout"

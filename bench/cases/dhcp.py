"""How many DHCP exchanges a second, how long does one take, and what does it cost?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import documents, loads, segment
from bench.asker import Asker
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.cores import pinned
from bench.ours import LOAD_CONFIG, Node
from bench.peers import debian, dnsmasq, kea
from bench.processes import MIB, memory
from bench.results import OURS
from bench.segment import Segment, Server
from bench.spaces import settle, within
from scripts.lab import Vm, wait_until

HOSTS = 1000
WINDOW = 64
RELAYED, DIRECT, OPEN = "relayed, closed loop", "direct, closed loop", "relayed, perfdhcp"
SERVICE = "169.254.169.254"


@dataclass
class Subject:
    """A server that is up, the client's namespace, and where relayed requests go."""

    server: Server
    vm: Vm
    address: str
    stop: Callable[[], None]


Start = Callable[[Context, int], Subject]


def run(bench: Context) -> None:
    """One server after the other, since each keeps its core busy; then the figures stand side by side."""
    bench.method(
        f"{bench.cores}. {HOSTS:,} hosts with fixed addresses, as many clients; an exchange is DISCOVER, OFFER, "
        "REQUEST, ACK, and only an ACK with the host's own address counts."
    )
    bench.method(
        f"Closed loop: bench/load/dhcp_loop.c keeps {WINDOW} exchanges under way (recvmmsg, sendmmsg); relayed: as a "
        "relay agent over UDP, direct: as the guests, in raw Ethernet frames through one tap."
    )
    bench.method(
        "perfdhcp (always a relay agent for DHCPv4): the highest rate of which at most 0.1 % is lost and 95 % is "
        "reached in every repetition. From about 6,000/s on it loses packets itself on a slow core: where the "
        "server's CPU is far from full, the figure is perfdhcp's."
    )
    bench.method(
        "nodeplane's rate limit per port ([dhcp] rate, burst) is lifted for the load. dnsmasq: Neutron's options and "
        "files, lease file on disk. Kea: one reservation per host, memfile on disk, one thread, udp sockets for "
        "relayed and raw sockets for direct clients."
    )
    starts: list[tuple[str, Start, Start]] = [(OURS, _ours, _ours)] if bench.options.ours else []
    if bench.asked("dnsmasq"):
        starts.append(("dnsmasq", _dnsmasq, _dnsmasq))
    if bench.asked("kea"):
        starts.append(("kea", lambda b, n: _kea(b, n, "udp"), lambda b, n: _kea(b, n, "raw")))
    with_perfdhcp = debian.find("perfdhcp") is not None
    if not with_perfdhcp:
        bench.missing("perfdhcp's figures: perfdhcp is not here (--with perfdhcp)")
    for number, (name, relayed, direct) in enumerate(starts):
        try:
            bench.step(f"{name}: start")
            subject = relayed(bench, number)
        except MissingToolError as error:
            bench.missing(f"{name}: {error}")
            continue
        try:
            _closed(bench, subject, RELAYED)
            if with_perfdhcp:
                _open(bench, subject)
            if direct is not relayed:
                subject.stop()
                subject = direct(bench, number)
            _closed(bench, subject, DIRECT)
            weight = memory(subject.server.pids())
            bench.record("PSS after the load", weight.pss / MIB, "MiB", subject=name, better="lower")
        finally:
            subject.stop()
    settle()


def _closed(bench: Context, subject: Subject, variant: str) -> None:
    name, seconds = subject.server.name, bench.seconds(2.0)
    for repetition in range(bench.repeats(3)):
        bench.step(f"{name}: {variant}, {repetition + 1}")
        before = subject.server.cpu_seconds()
        if variant == RELAYED:
            load = loads.dhcp_relayed(subject.vm.name, bench.cores, subject.address, documents.RELAY,
                                      documents.HOSTS_FIRST, HOSTS, WINDOW, seconds)  # fmt: skip
        else:
            load = loads.dhcp_direct(subject.vm.name, bench.cores, "eth0", documents.HOSTS_FIRST, HOSTS, WINDOW,
                                     seconds)  # fmt: skip
        used = subject.server.cpu_seconds() - before
        if load.failures.get("wrong"):
            raise RuntimeError(f"{name}: {load.failures['wrong']} wrong addresses or NAKs")
        bench.record("exchanges", load.rate, "/s", subject=name, variant=variant, better="higher")
        bench.record("p50", load.p50 / 1000, "ms", subject=name, variant=variant, better="lower")
        bench.record("p99", load.p99 / 1000, "ms", subject=name, variant=variant, better="lower")
        bench.record("CPU per exchange", used / max(1, load.answered) * 1e6, "us", subject=name, variant=variant,
                     better="lower")  # fmt: skip
        bench.record("lost", load.failures.get("lost", 0), "", subject=name, variant=variant, better="lower")


def _open(bench: Context, subject: Subject) -> None:
    """Double the rate until it is not held, halve the gap three times, then confirm."""
    name = subject.server.name

    def attempt(rate: int) -> bool:
        bench.step(f"{name}: perfdhcp at {rate}/s")
        return loads.perfdhcp(subject.vm.name, bench.cores, subject.address, "eth0", rate, HOSTS, 1).held

    good, bad = 0, 125
    while attempt(bad):
        good, bad = bad, bad * 2
    while not good and bad > 4:
        bad //= 2
        good = bad if attempt(bad) else 0
    if not good:
        bench.missing(f"{name}: perfdhcp lost packets even at {bad}/s")
        return
    for _ in range(3):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if attempt(middle) else (good, middle)
    for _ in range(10):
        runs = []
        for _ in range(bench.repeats(3)):
            bench.step(f"{name}: perfdhcp confirms {good}/s")
            before = subject.server.cpu_seconds()
            made = loads.perfdhcp(subject.vm.name, bench.cores, subject.address, "eth0", good, HOSTS, 2)
            if not made.held:
                break
            runs.append((made, subject.server.cpu_seconds() - before))
        else:
            for made, used in runs:
                bench.record("exchanges", made.rate, "/s", subject=name, variant=OPEN, better="higher")
                bench.record("CPU per exchange", used / made.exchanges * 1e6, "us", subject=name, variant=OPEN,
                             better="lower")  # fmt: skip
                bench.record("server's CPU", 100 * used / made.seconds, "% of a core", subject=name, variant=OPEN)
            return
        good = good * 9 // 10
    bench.missing(f"{name}: no rate was held in {bench.repeats(3)} perfdhcp runs in a row")


def _check(bench: Context, subject: Subject) -> Subject:
    """The first and the last host get their own address, directly."""
    for number in (0, HOSTS - 1):
        mac, address = documents.host(number)
        asker = Asker(subject.vm.name, mac)
        try:
            _, offer = asker.offered(address, 20)
            asker.acknowledged(offer)
        finally:
            asker.close()
    bench.verified(f"{subject.server.name}: the first and the last host are given their own addresses.")
    return subject


def _ours(bench: Context, number: int) -> Subject:
    document = dict(documents.hosts(HOSTS))
    # The relay agent's own port: its device is what all clients come through.
    mac, _ = documents.host(65535)
    document["ports"] = [*document["ports"], documents.host_port(65535, "tap-relay", documents.RELAY)]
    vm = Vm(f"client{number}", "tap-relay", mac).plug()
    segment.configure(vm, f"{documents.RELAY}/16", (f"{SERVICE} dev eth0",))
    node = Node(bench.directory / "nodeplane", LOAD_CONFIG, on_stop="teardown").start(bench.cores.server)
    node.apply(document)
    node.wait_ready(1)

    def stop() -> None:
        node.stop()
        vm.unplug()

    return _check(bench, Subject(Server(OURS, {"daemon": node.daemon.pid}), vm, SERVICE, stop))


def _place(number: int) -> Segment:
    return Segment(number, (f"{documents.HOSTS_GATEWAY}/16", f"{SERVICE}/32"), f"{documents.RELAY}/16").plug()


def _dnsmasq(bench: Context, number: int) -> Subject:
    bench.versions["dnsmasq"] = dnsmasq.program().version
    directory = _directory(bench, "dnsmasq")
    place = _place(number)
    hosts = [documents.host(i) for i in range(HOSTS)]
    dnsmasq.write_files(directory, "n", hosts, documents.HOSTS_GATEWAY, documents.HOSTS_GATEWAY)
    with pinned(bench.cores.server):
        dnsmasq.start(place.netns, dnsmasq.command(directory, "n", "10.64.0.0", "255.255.0.0", 65536))
    return _check(bench, _served("dnsmasq", {"dnsmasq": dnsmasq.pid(directory)}, place))


def _kea(bench: Context, number: int, sockets: str) -> Subject:
    bench.versions["kea"] = debian.need("kea-dhcp4", "kea").version
    directory = _directory(bench, f"kea-{sockets}")
    place = _place(number)
    hosts = [documents.host(i) for i in range(HOSTS)]
    config = kea.configure(directory, "svc0", documents.HOSTS_SUBNET, documents.RELAY, documents.HOSTS_GATEWAY, hosts,
                           sockets)  # fmt: skip
    with pinned(bench.cores.server):
        process = kea.start(place.netns, directory, config)
    subject = _served("kea", {"kea": process.pid}, place)
    wait_until(lambda: _bound(place.netns), "Kea listens", 20)
    return _check(bench, subject) if sockets == "raw" else subject


def _bound(netns: str) -> bool:
    """Whether something is bound to UDP port 67 in the namespace."""
    return within(netns, lambda: ":0043 " in Path("/proc/thread-self/net/udp").read_text())


def _served(name: str, roots: dict[str, int], place: Segment) -> Subject:
    server = Server(name, roots)

    def stop() -> None:
        server.stop()
        place.unplug()

    return Subject(server, place.vm, documents.HOSTS_GATEWAY, stop)


def _directory(bench: Context, name: str) -> Path:
    path = bench.directory / name
    path.mkdir()
    os.chmod(path, 0o755)
    return path


CASE = Case("dhcp", "How many DHCP exchanges a second, how long does one take, what does it cost?",
            ("dnsmasq", "kea", "perfdhcp"), run)  # fmt: skip

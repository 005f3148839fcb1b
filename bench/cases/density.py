"""What do N networks cost as Neutron runs them, one haproxy and one dnsmasq each, and in one process?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench import documents, processes, spaces
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.guests import SERVICE, Guest, Guests
from bench.ours import Node
from bench.peers import debian, dnsmasq, haproxy
from bench.processes import MIB
from bench.results import OURS
from bench.spaces import settle
from bench.sweep import sweep

NETWORKS = 500
WORKERS = 4
"""Neutron's num_sync_threads: so many processes are started at the same time."""
NEUTRON = "haproxy + dnsmasq each"
IDLE_SECONDS = 3.0


def run(bench: Context) -> None:
    """nodeplane, then the processes, with the same guests asking."""
    count = bench.networks(NETWORKS)
    bench.method(
        f"{count} networks with one port each. Answering: every network's guest has an OFFER of its address and a 200 "
        "from 169.254.169.254. Everything may use every core."
    )
    bench.method(
        f"{NEUTRON}: Neutron's options, files and configuration, started by {WORKERS} threads with plain `ip netns "
        "exec`; the namespaces exist before. Not included: the agents themselves (neutron-metadata-agent alone: see "
        "the metadata case), their RPC, rootwrap, and making namespaces and files: a lower bound."
    )
    bench.method(
        f"{OURS}: one apply to a running daemon, which makes namespaces, bridges and addresses, too. MemAvailable "
        "differences also hold what the kernel keeps for processes; for nodeplane also the namespaces."
    )
    for _ in range(bench.repeats(1)):
        if bench.options.ours:
            _ours(bench, count)
        if bench.asked("haproxy") and bench.asked("dnsmasq"):
            try:
                _neutron(bench, count)
            except MissingToolError as error:
                bench.missing(f"{NEUTRON}: {error}")
    if not (bench.asked("haproxy") and bench.asked("dnsmasq")):
        bench.missing(f"{NEUTRON}: --with haproxy,dnsmasq")


def _ours(bench: Context, count: int) -> None:
    document, each = documents.networks(count, bench.options.seed)
    guests = Guests(each).plug()
    node = Node(bench.directory / "nodeplane", on_stop="teardown")
    try:
        bench.step(f"{OURS}: {count} networks")
        before = processes.available()
        began = time.monotonic()
        node.start()
        node.apply(document)
        node.wait_ready(count)
        _serve(bench, OURS, guests, began)
        _weigh(bench, OURS, lambda: node.pids, before)
        node.clear()
    finally:
        node.stop()
        guests.unplug()
    settle()


def _serve(bench: Context, subject: str, guests: Guests, began: float) -> None:
    answers = sweep(guests, metadata=False)
    guests.learn(answers.servers)
    sweep(guests, dhcp=False, check=None if subject == OURS else lambda _, response: b" 200 " in response[:16])
    bench.record("all answered", time.monotonic() - began, "s", subject=subject, better="lower")
    bench.verified(f"{subject}: every network's guest was offered its own address and had a 200.")


def _weigh(bench: Context, subject: str, pids: Callable[[], list[int]], before: int, ended: float = 0.0) -> None:
    """`ended`: CPU seconds of processes that are no more, such as those that started the others."""
    bench.step(f"{subject}: memory, and CPU while idle")
    time.sleep(1)
    weight = processes.memory(pids())
    after = processes.available()
    started = processes.cpu_seconds(pids())
    time.sleep(IDLE_SECONDS)
    idle = processes.cpu_seconds(pids()) - started
    bench.record("processes", weight.processes, "", subject=subject, better="lower")
    bench.record("PSS", weight.pss / MIB, "MiB", subject=subject, better="lower")
    bench.record("RSS", weight.rss / MIB, "MiB", subject=subject, better="lower")
    bench.record("MemAvailable difference", (before - after) / MIB, "MiB", subject=subject, better="lower")
    bench.record("CPU until then", started + ended, "s", subject=subject, better="lower")
    bench.record("CPU while idle", 100 * idle / IDLE_SECONDS, "% of a core", subject=subject, better="lower")


def _neutron(bench: Context, count: int) -> None:
    bench.versions["haproxy"] = debian.need("haproxy", "haproxy").version
    bench.versions["dnsmasq"] = dnsmasq.program().version
    bench.step(f"{NEUTRON}: {count} namespaces and their files")
    directory = bench.directory / "neutron"
    directory.mkdir()
    _, each = documents.networks(count, bench.options.seed)
    names = [f"d{number}" for number in range(count)]
    spaces.batch(f"netns add {name}" for name in names)
    # Made where they belong: moving a device to another namespace takes the kernel 20 ms.
    guests = Guests([replace(guest, tap="svc0", netns=name) for guest, name in zip(each, names, strict=True)]).plug()
    files = [_files(directory, number, guest) for number, guest in enumerate(guests.guests)]
    # What the agent would answer: every haproxy passes its requests on to this one.
    (directory / "body").write_text("{}")
    haproxy.start(haproxy.configure(directory, "agent", body=directory / "body", bind=f"unix@{directory}/agent.sock"))
    pids = [haproxy.pid(directory, "agent")]
    try:
        _address(names)

        def start(number: int) -> list[int]:
            network, config = files[number]
            argv = dnsmasq.command(directory / network, network, "10.0.0.0", "255.255.255.0", 256)
            dnsmasq.start(names[number], argv)
            haproxy.start(config, names[number])
            return [dnsmasq.pid(directory / network), haproxy.pid(directory, network)]

        bench.step(f"{NEUTRON}: start {2 * count} processes")
        before, forks = processes.available(), os.times()
        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            for started in pool.map(start, range(count)):
                pids += started
        _serve(bench, NEUTRON, guests, began)
        after = os.times()
        starting = after.children_user + after.children_system - forks.children_user - forks.children_system
        _weigh(bench, NEUTRON, lambda: pids[1:], before, starting)
    finally:
        bench.step(f"{NEUTRON}: end")
        processes.end(pids)
        guests.unplug()
        spaces.batch(f"netns del {name}" for name in names)
    settle()


def _files(directory: Path, number: int, guest: Guest) -> tuple[str, Path]:
    network = f"2f5b2f3e-3c0d-4c5e-9a53-{number:012d}"
    (directory / network).mkdir()
    dnsmasq.write_files(directory / network, network, [(guest.mac, guest.address)], "10.0.0.1", "10.0.0.2")
    return network, haproxy.configure(directory, network, socket=directory / "agent.sock")


def _address(names: list[str]) -> None:
    """The addresses that Neutron gives the device of its service namespaces."""

    def configure(name: str) -> None:
        spaces.batch(("addr add 10.0.0.2/24 dev svc0", f"addr add {SERVICE}/32 dev svc0", "link set svc0 up",
                      "link set lo up"), name)  # fmt: skip

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(configure, names))


CASE = Case("density", f"What do {NETWORKS} networks cost in one process, and as Neutron runs them?",
            ("haproxy", "dnsmasq"), run)  # fmt: skip

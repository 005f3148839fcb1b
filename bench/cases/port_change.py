"""A port of a network with 10,000 hosts gets another address: how long until its VM is offered it?"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from bench import documents
from bench.asker import Asker
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.ours import LOAD_CONFIG, Node
from bench.peers import dnsmasq, neutron
from bench.processes import MIB
from bench.segment import Segment
from bench.spaces import settle
from scripts.lab import Vm

HOSTS = 10_000
TARGET = 10.0
"""Milliseconds: the issue's own."""
DNSMASQ_INTERVAL = 0.05
"""Seconds between two questions to dnsmasq: it must answer those that it did not hear while it was busy, afterwards."""
OTHER = "10.64.200.1"
"""The address that host 0 changes to and back from; no other host has it."""


def run(bench: Context) -> None:
    """nodeplane first, then the peers, each with the same hosts and the same client."""
    bench.method(
        f"One network of {HOSTS:,} hosts. Host 0's address changes to and fro; its VM sends a DISCOVER (to dnsmasq 20, "
        "to nodeplane 1,000 a second) from the moment the change is handed over, and a REQUEST after the OFFER."
    )
    if bench.options.ours:
        _ours(bench)
    for name, measure in (("dnsmasq", _dnsmasq), ("neutron", _neutron)):
        if bench.asked(name):
            try:
                measure(bench)
            except MissingToolError as error:
                bench.missing(f"{name}: {error}")
    settle()


def _ours(bench: Context) -> None:
    bench.method("nodeplane: 'after apply' is from the moment the control socket's answer to apply has arrived, "
                 "'in all' from the moment it was sent.")  # fmt: skip
    mac, usual = documents.host(0)
    node = Node(bench.directory / "nodeplane", LOAD_CONFIG, on_stop="teardown")
    vm = Vm("client0", "tap-h00000", mac).plug()
    asker = Asker(vm.name, mac)
    try:
        bench.step(f"apply {HOSTS:,} hosts")
        node.start(bench.cores.server)
        began = time.monotonic()
        node.apply(documents.hosts(HOSTS), wait=60)
        bench.record(f"apply of {HOSTS:,} hosts", time.monotonic() - began, "s", better="lower")
        node.wait_ready(1)
        _, offer = asker.offered(usual)
        asker.acknowledged(offer)
        bench.verified(
            "nodeplane: host 0 has its first address before the first change, and each OFFER and ACK that is timed "
            "carries the new one."
        )
        bench.record("PSS", node.memory().pss / MIB, "MiB", better="lower")
        for repetition in range(bench.repeats(20)):
            bench.step(f"nodeplane, change {repetition + 1}")
            address = usual if repetition % 2 else OTHER
            body = json.dumps({"ports": [documents.host_port(0, address=address)]}).encode()
            asked = time.monotonic()
            node.post(body)
            applied = time.monotonic()
            offered, offer = asker.offered(address)
            acknowledged = asker.acknowledged(offer)
            bench.record("apply", (applied - asked) * 1000, "ms", better="lower")
            bench.record("OFFER after apply", (offered - applied) * 1000, "ms", better="lower", target=TARGET)
            bench.record("ACK after apply", (acknowledged - applied) * 1000, "ms", better="lower", target=TARGET)
            bench.record("ACK in all", (acknowledged - asked) * 1000, "ms", better="lower")
            time.sleep(0.02)
    finally:
        asker.close()
        node.stop()
        vm.unplug()


def _dnsmasq(bench: Context) -> None:
    bench.versions["dnsmasq"] = dnsmasq.program().version
    bench.method(
        "dnsmasq: Neutron's options and files; its files are written by a script, then SIGHUP; 'after apply' is from "
        "the signal, 'in all' from the start of the writing."
    )
    directory = bench.directory / "dnsmasq"
    directory.mkdir()
    place = Segment(1, ("10.64.0.1/16", "169.254.169.254/32"), "10.64.255.254/16", documents.host(0)[0]).plug()
    asker = Asker(place.vm.name, place.mac, interval=DNSMASQ_INTERVAL)
    pid = 0
    try:
        bench.step(f"dnsmasq: start with {HOSTS:,} hosts")
        hosts = [documents.host(number) for number in range(HOSTS)]
        dnsmasq.write_files(directory, "n", hosts, "10.64.0.1", "10.64.0.1")
        argv = dnsmasq.command(directory, "n", "10.64.0.0", "255.255.0.0", 65536)
        dnsmasq.start(place.netns, argv)
        pid = dnsmasq.pid(directory)
        os.sched_setaffinity(pid, bench.cores.server)
        asker.offered(hosts[0][1])
        bench.verified("dnsmasq: host 0 is offered its first address before the first change.")
        for repetition in range(bench.repeats(3)):
            bench.step(f"dnsmasq, change {repetition + 1}")
            address = hosts[0][1] if repetition % 2 else OTHER
            asked = time.monotonic()
            dnsmasq.write_files(directory, "n", [(hosts[0][0], address), *hosts[1:]], "10.64.0.1", "10.64.0.1",
                                leases=False)  # fmt: skip
            written = time.monotonic()
            os.kill(pid, signal.SIGHUP)
            offered, offer = asker.offered(address)
            acknowledged = asker.acknowledged(offer)
            bench.record("OFFER after apply", (offered - written) * 1000, "ms", subject="dnsmasq", better="lower")
            bench.record("ACK after apply", (acknowledged - written) * 1000, "ms", subject="dnsmasq", better="lower")
            bench.record("ACK in all", (acknowledged - asked) * 1000, "ms", subject="dnsmasq", better="lower")
    finally:
        asker.close()
        if pid:
            os.kill(pid, signal.SIGKILL)
        place.unplug()


def _neutron(bench: Context) -> None:
    bench.step("neutron's DHCP driver")
    bench.versions["neutron"] = neutron.version()
    bench.method(
        "neutron: 'apply' is what its own DHCP driver takes to compare and write the files of one changed port "
        "(objects in memory, no message bus), before it signals dnsmasq: add dnsmasq's time."
    )
    for repetition in range(min(3, bench.repeats(3))):
        directory = Path(bench.directory / f"neutron{repetition}")
        directory.mkdir()
        seconds = neutron.change_seconds(directory, HOSTS)
        bench.record("apply", seconds * 1000, "ms", subject="neutron", better="lower")


CASE = Case("port-change", f"A port among {HOSTS:,} hosts gets another address: how long until its VM has it?",
            ("dnsmasq", "neutron"), run)  # fmt: skip

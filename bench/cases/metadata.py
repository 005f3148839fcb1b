"""How many metadata requests a second, how long does one take, and what does it cost?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import documents, loads, segment
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.cores import pinned
from bench.loads import Load
from bench.ours import LOAD_CONFIG, Node
from bench.peers import debian, haproxy, neutron
from bench.processes import MIB, memory
from bench.results import OURS
from bench.segment import Segment, Server
from bench.spaces import settle
from scripts.lab import Vm, wait_until

PATH = "/openstack/latest/meta_data.json"
CLIENTS = (1, 16, 64, 256)
NEW, KEPT = "new connections", "keep-alive"


@dataclass
class Subject:
    """A server that is up, and the client that asks it."""

    server: Server
    vm: Vm
    stop: Callable[[], None]


def run(bench: Context) -> None:
    """All servers are up at once; every repetition goes round them in turn."""
    bench.method(f"{bench.cores}. Every server has its own segment: client namespace, tap, bridge, veth, server "
                 "namespace; all are up, and repetitions take them in turn.")  # fmt: skip
    bench.method(
        "New connections: bench/load/http_close.c, one connection per request, time from connect() to the last byte. "
        "Keep-alive: wrk -t1, whole seconds; its latencies count failed answers, too. Only complete answers 200 of "
        "the right length count."
    )
    bench.method("CPU per request: all threads of all processes of the server (neutron: agent and haproxy, without the "
                 "stand-in for Nova, which runs on the load's core), without the kernel's work that the client's core "
                 "does for it.")  # fmt: skip
    keep_alive = debian.find("wrk") is not None
    if not keep_alive:
        bench.missing("keep-alive figures: wrk is not here (--with wrk)")
    subjects: list[Subject] = []
    try:
        body = json.dumps(documents.instance(0, bench.options.seed)).encode()
        if bench.options.ours:
            bench.step("start nodeplane")
            subjects.append(_ours(bench))
            body = _check(subjects[0], None, bench)
        for number, (name, start) in enumerate((("haproxy", _haproxy), ("neutron", _neutron)), 1):
            if bench.asked(name):
                try:
                    bench.step(f"start {name}")
                    subjects.append(start(bench, number, body))
                    _check(subjects[-1], body, bench)
                except MissingToolError as error:
                    bench.missing(f"{name}: {error}")
        seconds = bench.seconds(1.5)
        for repetition in range(-1, bench.repeats(3)):  # the first round warms up
            for mode in (NEW, KEPT)[: 1 + keep_alive]:
                for clients in CLIENTS if repetition >= 0 else CLIENTS[1:2]:
                    for subject in subjects:
                        bench.step(f"{mode}, {clients} clients, {subject.server.name}, {repetition + 1}")
                        _load(bench, subject, mode, clients, seconds, len(body), record=repetition >= 0)
        for subject in subjects:
            weight = memory(subject.server.pids())
            bench.record("PSS after the load", weight.pss / MIB, "MiB", subject=subject.server.name, better="lower")
    finally:
        for subject in reversed(subjects):
            subject.stop()
    settle()


def _load(bench: Context, subject: Subject, mode: str, clients: int, seconds: float, size: int, record: bool) -> None:
    before = subject.server.cpu_seconds()
    load: Load
    if mode == NEW:
        load = loads.http_close(subject.vm.name, bench.cores, PATH, clients, seconds, size)
    else:
        load = loads.wrk(subject.vm.name, bench.cores, PATH, clients, seconds, bench.directory)
    used = subject.server.cpu_seconds() - before
    if not record:
        return
    name, variant = subject.server.name, f"{mode}, {clients} clients"
    failed = sum(load.failures.values())
    bench.record("requests", load.rate, "/s", subject=name, variant=variant, better="higher")
    bench.record("p50", load.p50 / 1000, "ms", subject=name, variant=variant, better="lower")
    bench.record("p99", load.p99 / 1000, "ms", subject=name, variant=variant, better="lower")
    bench.record("CPU per request", used / max(1, load.answered) * 1e6, "us", subject=name, variant=variant,
                 better="lower")  # fmt: skip
    bench.record("failed", 100 * failed / max(1, failed + load.answered), "%", subject=name, variant=variant,
                 better="lower")  # fmt: skip


def _check(subject: Subject, body: bytes | None, bench: Context) -> bytes:
    """The whole answer, compared with nodeplane's (which must be the instance's own)."""
    answer = wait_until(lambda: _answer(subject.vm), f"{subject.server.name} answers", 30)
    assert isinstance(answer, bytes)
    if body is None:
        wanted = documents.instance_id(0)
        if json.loads(answer)["uuid"] != wanted:
            raise RuntimeError(f"wrong document: {answer[:200]!r}")
        bench.verified(f"{subject.server.name}: the meta_data.json of its instance, {len(answer)} bytes.")
    elif answer != body:
        raise RuntimeError(f"{subject.server.name} answers something else: {answer[:200]!r}")
    else:
        bench.verified(f"{subject.server.name}: the same {len(answer)} bytes.")
    return answer


def _answer(vm: Vm) -> bytes | None:
    answer = vm.get(PATH, seconds=2)
    return answer.body.encode() if answer.status == 200 else None


def _ours(bench: Context) -> Subject:
    document, (guest,) = documents.networks(1, bench.options.seed)
    vm = Vm("client0", guest.tap, guest.mac).plug()
    segment.configure(vm, guest.cidr, ("169.254.169.254 dev eth0",))
    node = Node(bench.directory / "nodeplane", LOAD_CONFIG, on_stop="teardown").start(bench.cores.server)
    node.apply(document)
    node.wait_ready(1)

    def stop() -> None:
        node.stop()
        vm.unplug()

    return Subject(Server(OURS, {"daemon": node.daemon.pid}), vm, stop)


def _haproxy(bench: Context, number: int, body: bytes) -> Subject:
    """A constant answer: the limit of one C proxy."""
    bench.versions["haproxy"] = debian.need("haproxy", "haproxy").version
    directory = _directory(bench, "haproxy")
    (directory / "body").write_bytes(body)
    place = Segment(number, ("10.0.0.2/24", "169.254.169.254/32"), "10.0.0.5/24").plug()
    config = haproxy.configure(directory, "constant", body=directory / "body")
    with pinned(bench.cores.server):
        haproxy.start(config, place.netns)
    server = Server("haproxy", {"haproxy": haproxy.pid(directory, "constant")})
    return Subject(server, place.vm, lambda: _stop(server, place))


def _neutron(bench: Context, number: int, body: bytes) -> Subject:
    """haproxy, neutron-metadata-agent and a stand-in for Nova that answers from memory."""
    bench.versions["neutron"] = neutron.version()
    directory = _directory(bench, "neutron")
    (directory / "body").write_bytes(body)
    place = Segment(number, ("10.0.0.2/24", "169.254.169.254/32"), "10.0.0.5/24").plug()
    with pinned(bench.cores.load):
        haproxy.start(haproxy.configure(directory, "nova", body=directory / "body", bind=neutron.NOVA))
    nova = Server("nova", {"haproxy": haproxy.pid(directory, "nova")})
    with pinned(bench.cores.server):
        agent = neutron.start_agent(
            directory, [neutron.AgentPort(neutron.NETWORK, "10.0.0.5", documents.instance_id(0), "project")]
        )
        haproxy.start(neutron.haproxy_config(directory), place.netns)
    server = Server("neutron", {"agent": agent.pid, "haproxy": haproxy.pid(directory, neutron.NETWORK)})
    bench.method("neutron: the complete neutron-metadata-agent with its defaults; only the RPC get_ports is answered "
                 "from memory (in production it goes to neutron-server for every request), and Nova is a haproxy with "
                 "a constant answer, so the real path is slower.")  # fmt: skip

    def stop() -> None:
        nova.stop()
        _stop(server, place)

    return Subject(server, place.vm, stop)


def _stop(server: Server, place: Segment) -> None:
    server.stop()
    place.unplug()
    time.sleep(0.1)


def _directory(bench: Context, name: str) -> Path:
    path = bench.directory / name
    path.mkdir()
    return path


CASE = Case("metadata", "How many metadata requests a second, how long does one take, what does it cost?",
            ("haproxy", "neutron", "wrk"), run)  # fmt: skip

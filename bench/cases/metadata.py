"""How many metadata requests a second, how long does one take, and what does it cost?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
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
COMPARED = 64
"""Clients of the rates that have a target, and of Nova's documents."""
TURNS = 4
"""Loads in each repetition with the most clients, of which the slowest hundredth is compared.

In one of 1.5 s that hundredth is about one answer for each client: whatever stops a core once decides it.
"""
CACHED, FETCHED = "Nova's, kept", "Nova's, fetched"
NOVA_CONFIG = f"""
[nova]
url = "http://{neutron.NOVA}"
shared_secret = "secret"
prefetch = false
"""

RATES = {
    NEW: ("haproxy", 0.9), KEPT: ("haproxy", 1.2),
    f"{CACHED}, {NEW}": ("haproxy", 0.9), f"{CACHED}, {KEPT}": ("haproxy", 1.2),
    f"{FETCHED}, {NEW}": ("neutron", 10.0), f"{FETCHED}, {KEPT}": ("neutron", 10.0),
}  # fmt: skip
"""Whose rate nodeplane's is compared with, and the least it is to be of it."""
REST_SECONDS, QUIET = 10.0, 0.2
"""How long is waited at most for what an earlier load left, and how long nobody must work, in seconds."""
CPU_OF_HAPROXY = 30 / 21
"""30 us where haproxy needs 21."""


@dataclass
class Subject:
    """A server that is up, and the client that asks it."""

    server: Server
    vm: Vm
    stop: Callable[[], None]
    what: str = ""
    """Which documents, where there are several kinds."""
    path: str = PATH

    @property
    def fetches(self) -> bool:
        """Whether Nova is behind it."""
        return bool(self.what)


@dataclass(frozen=True)
class Sample:
    """Timed load and what it cost."""

    load: Load
    seconds: float
    """CPU of all answers."""

    @property
    def cpu(self) -> float:
        """Microseconds a request."""
        return self.seconds / max(1, self.load.answered) * 1e6

    @classmethod
    def together(cls, samples: Sequence[Sample]) -> Sample:
        """Several as one."""
        return cls(loads.together([sample.load for sample in samples]), sum(sample.seconds for sample in samples))


def run(bench: Context) -> None:
    """All servers are up at once; every repetition goes round them in turn, forth or back."""
    bench.method(f"{bench.cores}. Every server has its own segment: client namespace, tap, bridge, veth, server "
                 "namespace; all are up. A repetition takes them in turn, the next one backwards.")  # fmt: skip
    bench.method(
        "New connections: bench/load/http_close.c, one connection per request, time from connect() to the last byte, "
        "without those of the first tenth of a load. Keep-alive: wrk -t1, whole seconds; its latencies count failed "
        "answers, too. Only complete answers 200 of the right length count."
    )
    bench.method(
        f"{CACHED}: documents of a network that is served from Nova, within the seconds that they are kept. "
        f"{FETCHED}: every request has a query of its own, so Nova is asked for it. Nova is a haproxy with a constant "
        "answer, on the load's core. nodeplane's access log is on (log level debug)."
    )
    bench.method(
        "'Of haproxy's' and 'of Neutron's': nodeplane's figure divided by theirs in the same repetition; Neutron asks "
        "Nova for everything."
    )
    bench.method(
        f"With {CLIENTS[-1]} clients a repetition takes nodeplane and haproxy {TURNS} times, in changing order, "
        "neutron once; its percentiles are those of all these answers together."
    )
    bench.method("A load begins when no server uses more than a twentieth of a core any more, or after ten seconds.")
    bench.method("CPU per request: all threads of all processes of the server (neutron: agent and haproxy, without the "
                 "stand-in for Nova, which runs on the load's core), without the kernel's work that the client's core "
                 "does for it.")  # fmt: skip
    keep_alive = debian.find("wrk") is not None
    if not keep_alive:
        bench.missing("keep-alive figures: wrk is not here (--with wrk)")
    subjects: list[Subject] = []
    nova: Server | None = None
    try:
        body = json.dumps(documents.instance(0, bench.options.seed)).encode()
        if bench.options.ours:
            bench.step("start nodeplane")
            subjects += _ours(bench)
            body = _check(subjects[0], None, bench)
        nova = _nova(bench, body)
        if nova is None:
            subjects = subjects[:1]
        for subject in subjects[1:]:
            _check(subject, body, bench)
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
                    samples: dict[str, dict[str, Sample]] = {}
                    for subject, taken in _rounds(bench, subjects, mode, clients, repetition, seconds, len(body)):
                        what = _what(subject, mode)
                        sample = samples.setdefault(what, {})[subject.server.name] = Sample.together(taken)
                        if repetition >= 0:
                            _record(bench, subject.server.name, f"{what}, {clients} clients", sample)
                    if repetition >= 0:
                        _compare(bench, mode, clients, samples)
        for name, server in {subject.server.name: subject.server for subject in subjects}.items():
            bench.record("PSS after the load", memory(server.pids()).pss / MIB, "MiB", subject=name, better="lower")
    finally:
        if nova is not None:
            nova.stop()
        for subject in reversed(subjects):
            subject.stop()
    settle()


def _rounds(bench: Context, subjects: Sequence[Subject], mode: str, clients: int, repetition: int, seconds: float,
            size: int) -> list[tuple[Subject, list[Sample]]]:  # fmt: skip
    """The loads of one repetition, by subject.

    Those that are compared follow each other, and Neutron's agent, equally often.
    """
    asked = [subject for subject in subjects if not subject.fetches or clients == COMPARED or repetition < 0]
    taken: list[tuple[Subject, list[Sample]]] = [(subject, []) for subject in asked]
    turns = TURNS if clients == CLIENTS[-1] else 1
    for turn in range(turns):
        for subject, samples in taken if (turn if turns > 1 else repetition) % 2 == 0 else reversed(taken):
            if turn > 0 and subject.server.name not in (OURS, RATES[mode][0]):
                continue
            which = f"{repetition + 1}" + (f".{turn + 1}" if turns > 1 else "")
            bench.step(f"{_what(subject, mode)}, {clients} clients, {subject.server.name}, {which}")
            _rest(subjects)
            samples.append(_load(bench, subject, mode, clients, seconds, size))
    return taken


def _what(subject: Subject, mode: str) -> str:
    return f"{subject.what}, {mode}" if subject.what else mode


def _rest(subjects: Sequence[Subject]) -> None:
    """Until nobody works off what an earlier load left in its queues, which would fall to the next one's core."""
    end = time.monotonic() + REST_SECONDS
    while time.monotonic() < end:
        before = _cpu(subjects)
        time.sleep(QUIET)
        if _cpu(subjects) - before < QUIET / 20:
            return


def _cpu(subjects: Sequence[Subject]) -> float:
    """Seconds of all servers together."""
    return sum(
        server.cpu_seconds() for server in {subject.server.name: subject.server for subject in subjects}.values()
    )


def _load(bench: Context, subject: Subject, mode: str, clients: int, seconds: float, size: int) -> Sample:
    before = subject.server.cpu_seconds()
    load: Load
    if mode == NEW:
        load = loads.http_close(subject.vm.name, bench.cores, subject.path, clients, seconds, size)
    else:
        load = loads.wrk(subject.vm.name, bench.cores, subject.path, clients, seconds, bench.directory)
    return Sample(load, subject.server.cpu_seconds() - before)


def _record(bench: Context, name: str, variant: str, sample: Sample) -> None:
    load = sample.load
    failed = sum(load.failures.values())
    bench.record("requests", load.rate, "/s", subject=name, variant=variant, better="higher")
    bench.record("p50", load.p50 / 1000, "ms", subject=name, variant=variant, better="lower")
    bench.record("p99", load.p99 / 1000, "ms", subject=name, variant=variant, better="lower")
    bench.record("CPU per request", sample.cpu, "us", subject=name, variant=variant, better="lower")
    bench.record("failed", 100 * failed / max(1, failed + load.answered), "%", subject=name, variant=variant,
                 better="lower")  # fmt: skip


def _compare(bench: Context, mode: str, clients: int, samples: dict[str, dict[str, Sample]]) -> None:
    """nodeplane's figures as multiples of a peer's in the same repetition."""
    for what, by_name in samples.items():
        ours = by_name.get(OURS)
        name, least = RATES[what]
        peer = samples.get(mode, {}).get(name)
        if ours is None or peer is None or not peer.load.answered or not ours.load.answered:
            continue
        whose, variant = f"of {name.capitalize() if name == 'neutron' else name}'s", f"{what}, {clients} clients"
        if clients == COMPARED:
            bench.record(f"requests, {whose}", ours.load.rate / peer.load.rate, "x", variant=variant, better="higher",
                         target=least)  # fmt: skip
            if name == "haproxy":
                bench.record(f"CPU per request, {whose}", ours.cpu / peer.cpu, "x", variant=variant, better="lower",
                             target=CPU_OF_HAPROXY)  # fmt: skip
        elif clients == CLIENTS[-1]:
            bench.record(f"p99, {whose}", ours.load.p99 / peer.load.p99, "x", variant=variant, better="lower",
                         target=1.0)  # fmt: skip


def _check(subject: Subject, body: bytes | None, bench: Context) -> bytes:
    """The whole answer, compared with nodeplane's (which must be the instance's own)."""
    answer = wait_until(lambda: _answer(subject), f"{subject.server.name} answers", 30)
    assert isinstance(answer, bytes)
    if body is None:
        wanted = documents.instance_id(0)
        if json.loads(answer)["uuid"] != wanted:
            raise RuntimeError(f"wrong document: {answer[:200]!r}")
        bench.verified(f"{subject.server.name}: the meta_data.json of its instance, {len(answer)} bytes.")
    elif answer != body:
        raise RuntimeError(f"{subject.server.name} answers something else: {answer[:200]!r}")
    else:
        what = f", {subject.what}" if subject.what else ""
        bench.verified(f"{subject.server.name}{what}: the same {len(answer)} bytes.")
    return answer


def _answer(subject: Subject) -> bytes | None:
    answer = subject.vm.get(subject.path.replace("#", "0"), seconds=2)
    return answer.body.encode() if answer.status == 200 else None


def _ours(bench: Context) -> list[Subject]:
    """Its own documents in one network, Nova's in another."""
    document, guests = documents.networks(2, bench.options.seed)
    nova = {**document["networks"][1], "metadata_backend": "nova"}
    document = {**document, "networks": [document["networks"][0], nova]}
    vms = [Vm(f"guest{number}", guest.tap, guest.mac).plug() for number, guest in enumerate(guests)]
    for vm, guest in zip(vms, guests, strict=True):
        segment.configure(vm, guest.cidr, ("169.254.169.254 dev eth0",))
    node = Node(bench.directory / "nodeplane", LOAD_CONFIG + NOVA_CONFIG, on_stop="teardown", log="debug")
    node.start(bench.cores.server)
    node.apply(document)
    node.wait_ready(2)
    server = Server(OURS, {"daemon": node.daemon.pid})

    def stop() -> None:
        node.stop()
        for vm in vms:
            vm.unplug()

    def nothing() -> None:
        """It is stopped once."""

    return [
        Subject(server, vms[0], stop),
        Subject(server, vms[1], nothing, CACHED),
        Subject(server, vms[1], nothing, FETCHED, f"{PATH}?#"),
    ]


def _nova(bench: Context, body: bytes) -> Server | None:
    """A constant answer where Nova is for nodeplane and for Neutron's agent."""
    if debian.find("haproxy") is None:
        bench.missing("documents of Nova: the stand-in is a haproxy (--with haproxy)")
        return None
    directory = _directory(bench, "nova")
    (directory / "body").write_bytes(body)
    with pinned(bench.cores.load):
        haproxy.start(haproxy.configure(directory, "nova", body=directory / "body", bind=neutron.NOVA))
    return Server("nova", {"haproxy": haproxy.pid(directory, "nova")})


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


def _neutron(bench: Context, number: int, _: bytes) -> Subject:
    """haproxy, neutron-metadata-agent and a stand-in for Nova that answers from memory."""
    bench.versions["neutron"] = neutron.version()
    debian.need("haproxy", "haproxy")
    directory = _directory(bench, "neutron")
    place = Segment(number, ("10.0.0.2/24", "169.254.169.254/32"), "10.0.0.5/24").plug()
    with pinned(bench.cores.server):
        agent = neutron.start_agent(
            directory, [neutron.AgentPort(neutron.NETWORK, "10.0.0.5", documents.instance_id(0), "project")]
        )
        haproxy.start(neutron.haproxy_config(directory), place.netns)
    server = Server("neutron", {"agent": agent.pid, "haproxy": haproxy.pid(directory, neutron.NETWORK)})
    bench.method("neutron: the complete neutron-metadata-agent with its defaults; only the RPC get_ports is answered "
                 "from memory (in production it goes to neutron-server for every request), and Nova is a haproxy with "
                 "a constant answer, so the real path is slower.")  # fmt: skip

    return Subject(server, place.vm, lambda: _stop(server, place))


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

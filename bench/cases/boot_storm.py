"""Do 500 VMs that boot within ten seconds all get their metadata, and how long do they wait for it?"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bench import crawl, processes, tenants
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.cores import pinned
from bench.http_guests import HttpGuests, Reply
from bench.percentile import percentile
from bench.results import OURS
from bench.spaces import settle
from bench.tenants import GUESTS, Served

NETWORKS = 50
SECONDS = 10.0
"""In which all VMs begin."""
NOVA_SECONDS = 0.020
RETRIES = 5
"""Of one request, a second apart, on 5xx and on connections that fail: cloud-init's rule for documents."""
PAUSE = 1.0
WORKERS = 16
"""Of Neutron's agent, in its second run: a node with more cores than a benchmark's has more of them."""
PATIENCE = 100.0
"""Seconds until a storm is over, whoever has not got everything."""


@dataclass
class Storm:
    """What the guests saw."""

    vms: int
    requests: list[float] = field(default_factory=list)
    """Seconds of those that were answered rightly."""
    crawls: list[float] = field(default_factory=list)
    """Seconds of the complete ones, from the VM's start."""
    failures: Counter[str] = field(default_factory=Counter)
    """Status or kind of everything else."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Of the client, in seconds."""

    @property
    def server_errors(self) -> int:
        """5xx answers."""
        return sum(count for kind, count in self.failures.items() if kind.startswith("5"))


@dataclass
class _Crawl:
    """One VM's way through PATHS."""

    number: int
    began: float
    storm: Storm
    client: HttpGuests
    position: int = 0
    retries: int = 0

    def ask(self) -> None:
        self.client.ask(self.number, crawl.PATHS[self.position], self._answered)

    def _answered(self, reply: Reply) -> None:
        path = crawl.PATHS[self.position]
        if reply.status == 200 and reply.body == crawl.body(path, self.number):
            self.storm.requests.append(reply.seconds)
            self.position += 1
            self.retries = 0
            if self.position < len(crawl.PATHS):
                self.ask()
            else:
                self.storm.crawls.append(time.monotonic() - self.began)
            return
        self.storm.failures["wrong" if reply.status == 200 else reply.failure or str(reply.status)] += 1
        if self.retries < RETRIES and (reply.failure or reply.status >= 500 or reply.status == 429):
            self.retries += 1
            self.client.at(time.monotonic() + PAUSE, self.ask)


def arrivals(vms: int, seconds: float, seed: int) -> list[float]:
    """When each VM begins: anywhere within `seconds`, the first at 0."""
    choose = random.Random(seed)
    moments = [choose.uniform(0, seconds) for _ in range(vms)]
    first = min(moments)
    return [moment - first for moment in moments]


def storm(moments: list[float], patience: float = PATIENCE) -> Storm:
    """Have guest i crawl from moment i on; called in the guests' namespace."""
    found = Storm(len(moments))
    client = HttpGuests()
    cpu, began = time.thread_time(), time.monotonic() + 0.05
    for number, moment in enumerate(moments):
        client.at(began + moment, _Crawl(number, began + moment, found, client).ask)
    while not client.idle and time.monotonic() < began + patience:
        client.step()
    client.close()
    found.seconds = time.monotonic() - began
    found.cpu = time.thread_time() - cpu
    return found


def run(bench: Context) -> None:
    """One storm after the other, each over a server that has just been started."""
    networks, seconds = bench.networks(NETWORKS), bench.seconds(SECONDS)
    vms = networks * GUESTS
    bench.method(
        f"{vms} VMs in {networks} networks of a project each, with the same range and the same {GUESTS} addresses in "
        f"all of them, each VM with a MAC and a veth pair of its own. All begin within {seconds:g} s, at moments "
        f"drawn from the seed, and ask for what cloud-init asks for on a first boot: {len(crawl.PATHS)} documents, one "
        "after the other, over a new connection each. What fails is asked for again up to five times, a second apart."
    )
    bench.method(
        f"{bench.cores}. Nova is a stand-in in its own process on the load's core: it checks tenant and signature, and "
        f"each of its answers takes {1000 * NOVA_SECONDS:g} ms. Every server is a fresh process with its defaults. One "
        "client process for all VMs, one epoll loop; the time of a request is from connect() to the last byte, that "
        "of a crawl from the VM's start to its last answer. What failed is in no time."
    )
    bench.verified("every answer that counts is compared as a whole with the instance's own document; each document "
                   "is one instance's only.")  # fmt: skip
    subjects: list[tuple[str, Callable[[], Served]]] = []
    if bench.options.ours:
        subjects.append((OURS, partial(tenants.ours, bench, networks, NOVA_SECONDS)))
    if bench.asked("neutron"):
        for workers in (None, WORKERS):
            name = f"neutron, {workers} workers" if workers else "neutron"
            subjects.append((name, partial(tenants.neutrons, bench, networks, NOVA_SECONDS, workers)))
        bench.method(
            "neutron: the complete neutron-metadata-agent with its defaults (half as many worker threads as cores, "
            f"here {max(1, (os.cpu_count() or 1) // 2)}), once more with metadata_workers = {WORKERS}, and a haproxy "
            "for each network with the configuration that Neutron writes; only the RPC get_ports is answered from "
            "memory. "
            f"Whoever has not got everything {PATIENCE:g} s after the first VM's start is not waited for."
        )
    for repetition in range(bench.repeats(1)):
        for name, start in subjects:
            bench.step(f"start {name}, {repetition + 1}")
            try:
                served = start()
            except MissingToolError as error:
                bench.missing(f"{name}: {error}")
                continue
            try:
                bench.step(f"storm over {name}, {repetition + 1}")
                _measure(bench, served, arrivals(vms, seconds, bench.options.seed + repetition))
            finally:
                bench.step(f"stop {name}")
                served.stop()
            settle()


def _measure(bench: Context, served: Served, moments: list[float]) -> None:
    name, nova = served.name, served.nova
    nova.order("count")
    server, stand_in = served.server.cpu_seconds(), processes.cpu_seconds([nova.pid])
    with pinned(bench.cores.load):
        found = served.guests.within(lambda: storm(moments))
    server = served.server.cpu_seconds() - server
    stand_in = processes.cpu_seconds([nova.pid]) - stand_in
    upstream = nova.order("count")

    def record(measure: str, value: float, unit: str, better: str = "lower", target: float | None = None) -> None:
        bench.record(measure, value, unit, subject=name, better=better, target=target if name == OURS else None)  # type: ignore[arg-type]

    record("crawls complete", len(found.crawls), f"of {found.vms}", "higher", found.vms)
    record("5xx answers", found.server_errors, "", target=0)
    record("other failures", found.failures.total() - found.server_errors, "", target=0)
    for measure, values, scale, unit in (("request", found.requests, 1e3, "ms"), ("crawl", found.crawls, 1.0, "s")):
        if values:
            record(f"{measure}, p50", percentile(values, 50) * scale, unit)
            record(f"{measure}, p99", percentile(values, 99) * scale, unit)
            record(f"{measure}, longest", max(values) * scale, unit)
    record("first VM to last answer", found.seconds, "s")
    record("server's CPU", server, "s")
    record("server's CPU per request", server / max(1, len(found.requests)) * 1e6, "us")
    record("requests to Nova", upstream["asked"], "")
    record("different ones", upstream["different"], "")
    record("requests at Nova at once", upstream["most"], "")
    record("client's CPU", 100 * found.cpu / found.seconds, "% of a core")
    record("stand-in's CPU", 100 * stand_in / found.seconds, "% of a core")
    if served.node is not None:
        metrics = served.node.daemon.metrics()
        for kind in ("fresh", "coalesced"):
            hits = metrics.get(f'nodeplane_metadata_cache_hits_total{{kind="{kind}"}}', 0)
            record(f"answered without asking Nova, {kind}", hits, "", "higher")
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(found.failures.items()))
    bench.method(f"{name}: what failed, by status or kind: {said or 'nothing'}.")


CASE = Case("boot-storm", "500 VMs boot within 10 s, their documents are Nova's: does each get all of them, and when?",
            ("neutron",), run)  # fmt: skip

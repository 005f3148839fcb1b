"""Nova stops answering for some tenants: does another one notice?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import crawl, tenants
from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.cores import pinned
from bench.http_guests import HttpGuests, Reply
from bench.nova import Nova, project_id
from bench.percentile import percentile
from bench.results import OURS
from bench.spaces import settle
from bench.tenants import CONFIG, GUESTS, Served

META_DATA = f"{crawl.TREE}/meta_data.json"
NOVA_SECONDS = 0.005
SECONDS = 10.0
"""Of each phase: before, during and after the stall."""
RATE = 200.0
"""Requests a second of the tenant that is not stalled, none of them kept in the cache."""
SLOW_RATE = 50.0
"""The same over Neutron's agent, which cannot do more with one request at a time."""
HANGING = (1, 8)
"""Tenants whose answers stall."""
CONNECTIONS = {1: 32, 8: 4}
"""Of each port of theirs: together more than one project, or all of them, may have under way at Nova by default."""
RAMP = 0.1
"""The part of the stall in which these are opened: hundreds at one moment are a burst of work, the client's, too."""
TARGET = 1.5
PHASES = ("before", "during", "after")
PATIENCE = 60.0
LIMITS = CONFIG.replace("[nova]", "rate = 1000000.0\nburst = 1000000\n[nova]")
"""The defaults but for the requests of a port a second, which would end both loads at once."""


@dataclass
class Seen:
    """What the guests saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    """Of the other tenant's right answers, by the phase in which they were due to be asked for."""
    failures: Counter[str] = field(default_factory=Counter)
    """Of the other tenant, by status or kind."""
    hanging: Counter[str] = field(default_factory=Counter)
    """What came of the stalled tenants' requests."""


class _Watch:
    """The other tenant asks at a steady rate, whatever becomes of its requests; the others keep theirs under way."""

    def __init__(self, nova: Nova, hanging: int, connections: int, rate: float, length: float) -> None:
        self.nova = nova
        self.hanging = hanging
        self.connections = connections
        self.rate = rate
        self.length = length
        self.seen = Seen()
        self.stalled = False
        self.asked = 0

    def run(self) -> Seen:
        """Called in the guests' namespace."""
        self.client = HttpGuests(PATIENCE)
        began = time.monotonic() + 0.1
        for number in range(round(len(PHASES) * self.length * self.rate)):
            due = began + number / self.rate
            phase = PHASES[min(int((due - began) / self.length), len(PHASES) - 1)]
            self.client.at(due, lambda number=number, due=due, phase=phase: self._ask(number, due, phase))  # type: ignore[misc]
        self.client.at(began + self.length, self._stall)
        self.client.at(began + 2 * self.length, self._go)
        while not self.client.idle and time.monotonic() < began + len(PHASES) * self.length + PATIENCE:
            self.client.step()
        self.client.close()
        return self.seen

    def _ask(self, number: int, due: float, phase: str) -> None:
        guest = self.hanging * GUESTS + number % GUESTS

        def answered(reply: Reply) -> None:
            if reply.status == 200 and reply.body == crawl.body(META_DATA, guest):
                self.seen.seconds[phase].append(time.monotonic() - due)
            else:
                self.seen.failures[reply.failure or str(reply.status)] += 1

        self.client.ask(guest, f"{META_DATA}?{number}", answered)

    def _stall(self) -> None:
        self.stalled = True
        self.nova.order("stall " + " ".join(map(project_id, range(self.hanging))))
        guests = [guest for _ in range(self.connections) for guest in range(self.hanging * GUESTS)]
        pause = RAMP * self.length / len(guests)
        for number, guest in enumerate(guests):
            self.client.at(time.monotonic() + number * pause, lambda guest=guest: self._hang(guest))  # type: ignore[misc]

    def _go(self) -> None:
        self.stalled = False
        self.nova.order("go")

    def _hang(self, guest: int) -> None:
        if not self.stalled:
            return
        self.asked += 1

        def answered(reply: Reply) -> None:
            self.seen.hanging[reply.failure or str(reply.status)] += 1
            self.client.at(time.monotonic() + 0.1, lambda: self._hang(guest))

        self.client.ask(guest, f"{META_DATA}?hangs-{self.asked}", answered)


def run(bench: Context) -> None:
    """One tenant's requests before, during and after the stall of others."""
    length = bench.seconds(SECONDS)
    bench.method(
        f"Tenants with {GUESTS} VMs each and equal addresses. One asks for its documents {RATE:g} times a second, each "
        "time for one that is not in the cache, whether the last is answered or not; the time of a request is from the "
        f"moment when it was due to the last byte. After {length:g} s Nova answers nothing of the others any more for "
        f"as long. Within {RAMP * length:g} s their VMs open {CONNECTIONS[1] * GUESTS} connections, if it is one "
        f"tenant, or {CONNECTIONS[8] * GUESTS} of each, if there are eight, and keep them waiting: more than "
        "nova.connections_per_project lets one have under way at Nova, and than nova.connections lets all."
    )
    bench.method(f"{bench.cores}. Nova is a stand-in on the load's core that answers in {1000 * NOVA_SECONDS:g} ms. "
                 "Defaults, but for the limit of requests a second of a port, which is lifted.")  # fmt: skip
    bench.verified("every answer of the tenant that is not stalled is its VM's own.")
    subjects: list[tuple[str, float, Callable[[int], Served]]] = []
    if bench.options.ours:
        subjects.append((OURS, RATE, lambda hanging: tenants.ours(bench, hanging + 1, NOVA_SECONDS, LIMITS)))
    if bench.asked("neutron"):
        subjects.append(("neutron", SLOW_RATE, lambda hanging: tenants.neutrons(bench, hanging + 1, NOVA_SECONDS)))
        bench.method(f"neutron: the complete metadata agent with its defaults, {SLOW_RATE:g} requests a second.")
    for repetition in range(bench.repeats(1)):
        for hanging in HANGING:
            for name, rate, start in subjects:
                if name != OURS and hanging != HANGING[0]:
                    continue  # one tenant is enough to see it
                bench.step(f"{hanging} stalled, {name}, {repetition + 1}")
                try:
                    served = start(hanging)
                except MissingToolError as error:
                    bench.missing(f"{name}: {error}")
                    continue
                try:
                    _measure(bench, served, _Watch(served.nova, hanging, CONNECTIONS[hanging], rate, length))
                finally:
                    served.stop()
                settle()


def _measure(bench: Context, served: Served, watch: _Watch) -> None:
    served.nova.order("count")
    with pinned(bench.cores.load):
        seen = served.guests.within(watch.run)
    upstream = served.nova.order("count")
    ours = served.name == OURS

    def record(measure: str, value: float, unit: str, target: float | None = None) -> None:
        bench.record(measure, value, unit, subject=served.name, better="lower", target=target if ours else None,
                     variant=f"{watch.hanging} stalled")  # fmt: skip

    for percent in (50, 99):
        for phase in PHASES:
            if seen.seconds[phase]:
                record(f"p{percent} {phase}", 1e3 * percentile(seen.seconds[phase], percent), "ms")
    if (worse := ratio(seen.seconds["before"], seen.seconds["during"])) is not None:
        record("p99 during / before", worse, "", TARGET)
    record("failed", seen.failures.total(), "", 0)
    record("requests at Nova at once", upstream["most"], "")
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(seen.hanging.items()))
    bench.method(f"{served.name}, {watch.hanging} stalled: what came of the {watch.asked} requests that met the stall: "
                 f"{said or 'nothing'}.")  # fmt: skip


def ratio(before: Sequence[float], during: Sequence[float]) -> float | None:
    """How many times the p99 of before the other is; None where one of them has nothing."""
    return percentile(during, 99) / percentile(before, 99) if before and during else None


CASE = Case("nova-stall", "Nova stalls for one tenant, or for eight: what does another tenant's p99 become?",
            ("neutron",), run)  # fmt: skip

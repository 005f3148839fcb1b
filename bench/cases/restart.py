"""How long do guests wait when the daemon is restarted?"""

from __future__ import annotations

import time

from bench import documents
from bench.context import Case, Context
from bench.guests import Guests
from bench.ours import Node
from bench.spaces import settle
from bench.sweep import sweep
from scripts.lab import Keeper, wait_until

NETWORKS = 1000
TARGET = 1.0
"""Seconds until all 1,000 networks answer again: the issue's own."""


def run(bench: Context) -> None:
    """SIGTERM and SIGKILL, each followed at once by a start; the guests ask all the time."""
    count = bench.networks(NETWORKS)
    target = TARGET if count == NETWORKS else None
    bench.method(f"{count} networks with a guest each. From the moment the new process is started, the guests ask: a "
                 "DISCOVER per network, repeated every 50 ms until it has its OFFER, and a meta_data.json over a new "
                 "TCP connection per network, at most 32 at a time, again when refused; attempts are limited to 4,000 "
                 "of each kind a second while nobody answers.")  # fmt: skip
    bench.method("Times are the guests'. 'all' ends with the last complete answer of the last network and so contains "
                 "the asking itself. The daemon has every core, the guests share them.")  # fmt: skip
    bench.method(
        "'from the signal' contains the end of the old process, which its supervisor waits for before it starts the "
        "new one; the other times begin with the start of the new process, whose bytecode is there. 'Sockets kept': "
        "the supervisor keeps the descriptors as systemd's FileDescriptorStoreMax= does."
    )
    document, each = documents.networks(count, bench.options.seed)
    guests = Guests(each).plug()
    node = Node(bench.directory / "node")
    keeper = Keeper(bench.directory / "keeper")
    try:
        bench.step(f"bring up {count} networks")
        node.start()
        node.apply(document)
        node.wait_ready(count)
        guests.learn(sweep(guests, metadata=False).servers)
        for kind, dhcp in (("DHCP", True), ("metadata", False)):
            began = time.monotonic()
            sweep(guests, dhcp=dhcp, metadata=not dhcp)
            bench.record("asking all of a running daemon", time.monotonic() - began, "s", variant=kind)
        bench.verified("every network: OFFER with the port's address, meta_data.json of the own instance; the same "
                       "check holds for every answer that is timed.")  # fmt: skip
        for repetition in range(bench.repeats(3)):
            for name, end, kept in (
                ("SIGTERM", node.stop, None),
                ("SIGTERM, sockets kept", node.stop, keeper),
                ("SIGKILL, sockets kept", node.daemon.kill, keeper),
                ("SIGKILL", node.daemon.kill, None),
            ):
                bench.step(f"{name}, {repetition + 1}")
                if node.daemon.keeper is not kept:
                    # The process that is going to be ended must be one that has put its sockets by, or has not.
                    node.stop()
                    keeper.forget()
                    node.daemon.keeper = kept
                    node.start()
                    if kept:
                        wait_until(lambda: len(keeper.kept) == count, "sockets kept", 30)
                asked = time.monotonic()
                end()
                ended = time.monotonic()
                began = node.launch()
                answers = sweep(guests, start=began)
                times = [*answers.dhcp.values(), *answers.metadata.values()]
                bench.record("process ended", ended - asked, "s", variant=name, better="lower")
                bench.record("first answer", min(times), "s", variant=name, better="lower")
                bench.record("all answered DHCP", max(answers.dhcp.values()), "s", variant=name, better="lower")
                bench.record("all answered metadata", max(answers.metadata.values()), "s", variant=name, better="lower")
                bench.record("all answered", max(times), "s", variant=name, better="lower", target=target)
                bench.record("all answered, from the signal", max(times) + began - asked, "s", variant=name,
                             better="lower", target=target)  # fmt: skip
                node.wait_ready(count)
        node.clear()
    finally:
        node.stop()
        keeper.close()
        guests.unplug()
    settle()


CASE = Case("restart", f"How long do guests in {NETWORKS:,} networks wait when the daemon is restarted?", (), run)

"""What does the daemon weigh with N networks?"""

from __future__ import annotations

import time

from bench import documents, processes
from bench.context import Case, Context
from bench.guests import Guests
from bench.ours import Node
from bench.processes import MIB
from bench.spaces import settle
from bench.sweep import sweep

SIZES = (100, 500, 1000)
TARGETS = {500: 70.0}
"""MiB of PSS by number of networks: the issue's own."""


def run(bench: Context) -> None:
    """For each size a fresh daemon: after the apply, restarted from its store, and after serving every network."""
    sizes = (bench.options.networks,) if bench.options.networks else SIZES
    bench.method("PSS of the daemon and everything it started (smaps_rollup), one VM per network plugged in. "
                 "'served' is after one DHCP exchange and one metadata request in every network.")  # fmt: skip
    bench.method("Kernel: MemAvailable before the start minus after, less the daemon's PSS; namespaces, devices and "
                 "sockets. It is noisy.")  # fmt: skip
    served: dict[int, float] = {}
    for count in sizes:
        document, each = documents.networks(count, bench.options.seed)
        guests = Guests(each).plug()
        node = Node(bench.directory / str(count), on_stop="teardown")
        variant = f"{count} networks"
        try:
            bench.step(f"{count} networks: apply")
            before = processes.available()
            node.start()
            node.apply(document)
            node.wait_ready(count)
            time.sleep(0.5)
            after = processes.available()
            weight = node.memory()
            bench.record("PSS after apply", weight.pss / MIB, "MiB", variant=variant, better="lower")
            bench.record("kernel memory", (before - after - weight.pss) / MIB, "MiB", variant=variant, better="lower")
            node.stop()
            bench.step(f"{count} networks: restart and serve")
            node.start()
            node.wait_ready(count)
            bench.record("PSS after restart", node.memory().pss / MIB, "MiB", variant=variant, better="lower")
            guests.learn(sweep(guests, metadata=False).servers)
            sweep(guests, dhcp=False)
            bench.verified("every network answered its guest before the last figure.")
            weight = node.memory()
            served[count] = weight.pss
            bench.record("PSS served", weight.pss / MIB, "MiB", variant=variant, better="lower",
                         target=TARGETS.get(count))  # fmt: skip
            bench.record("RSS served", weight.rss / MIB, "MiB", variant=variant, better="lower")
            bench.record("processes", weight.processes, "", variant=variant, better="lower", target=1)
        finally:
            node.stop()
            guests.unplug()
        settle()
    if len(served) > 1:
        few, many = min(served), max(served)
        bench.record("PSS per further network", (served[many] - served[few]) / (many - few) / 1024, "KiB",
                     variant=f"{few} to {many}", better="lower")  # fmt: skip


CASE = Case("memory", "What does the daemon weigh with N networks?", (), run)

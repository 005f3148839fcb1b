"""How long until N networks serve, from nothing?"""

from __future__ import annotations

import json
import random
import time

from bench import documents
from bench.context import Case, Context
from bench.guests import Guest, Guests
from bench.ours import Node
from bench.spaces import settle
from bench.sweep import sweep

NETWORKS = 1000
SAMPLE = 5
TARGET = 5.0
"""Seconds for 1,000 networks on two cores: the issue's own."""


def run(bench: Context) -> None:
    """Each repetition: apply on a running daemon, teardown, start with the filled store, teardown."""
    count = bench.networks(NETWORKS)
    target = TARGET if count == NETWORKS else None
    document, guests = documents.networks(count, bench.options.seed)
    body = json.dumps(document).encode()
    chosen = sorted({0, count - 1, *random.Random(bench.options.seed).sample(range(count), min(SAMPLE, count))})
    sample = Guests([guests[number] for number in chosen], "sample")
    bench.method(f"{count} networks, each with one subnet, port and instance; the daemon has every core. Ready: the "
                 f"status says so of every network, and {len(chosen)} guests in networks spread over all of them have "
                 "an OFFER of their address and their own meta_data.json.")  # fmt: skip
    for repetition in range(bench.repeats(2)):
        node = Node(bench.directory / str(repetition), on_stop="teardown")
        sample.plug()
        try:
            bench.step(f"apply of {count} networks, {repetition + 1}")
            node.start()
            busy = node.cpu_seconds()
            began = time.monotonic()
            node.post(body)
            applied = time.monotonic()
            ready = node.wait_ready(count)
            sweep(sample, start=began)
            done = time.monotonic()
            bench.record("apply returned", applied - began, "s", better="lower")
            bench.record("status ready", ready - began, "s", variant="from apply", better="lower")
            bench.record("sample answered", done - began, "s", variant="from apply", better="lower", target=target)
            bench.record("daemon's CPU", node.cpu_seconds() - busy, "s", variant="from apply", better="lower")
            if repetition == 0:
                _all(bench, guests, chosen)
            _teardown(bench, node)
            bench.step(f"start with {count} networks in the store, {repetition + 1}")
            began = node.launch()
            ready = node.wait_ready(count)
            sweep(sample, start=began)
            done = time.monotonic()
            bench.record("status ready", ready - began, "s", variant="from start", better="lower")
            bench.record("sample answered", done - began, "s", variant="from start", better="lower", target=target)
            bench.record("daemon's CPU", node.cpu_seconds(), "s", variant="from start", better="lower")
            _teardown(bench, node)
        finally:
            node.stop()
            sample.unplug()
        settle()


def _all(bench: Context, guests: list[Guest], chosen: list[int]) -> None:
    """Plug in the guests that are not in the sample, and let every one of them be answered."""
    bench.step("every network answers")
    rest = Guests([guest for number, guest in enumerate(guests) if number not in chosen], "rest")
    if not rest.guests:
        return
    rest.plug()
    try:
        answers = sweep(rest, metadata=False)
        rest.learn(answers.servers)
        sweep(rest, dhcp=False)
    finally:
        rest.unplug()
    bench.verified(f"all {len(guests)} networks: OFFER with the port's address, meta_data.json of the own instance.")


def _teardown(bench: Context, node: Node) -> None:
    began = time.monotonic()
    node.stop()
    bench.record("teardown on SIGTERM", time.monotonic() - began, "s", better="lower")


CASE = Case("networks-up", f"How long until {NETWORKS:,} networks serve, from nothing?", (), run)

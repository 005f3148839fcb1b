"""What does a packet of a known connection cost?"""

from __future__ import annotations

import random
import statistics
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from bench.compile import MissingToolError
from bench.context import Case, Context
from bench.perpacket import clock, native
from bench.perpacket.clock import Contender
from bench.perpacket.profiles import count
from fastpath import _conntrack_py, _flow_py
from fastpath.batch import Batch
from fastpath.connections import Ct

CONNECTIONS: Final = (1, 1000, 64_000, 1 << 20)
BATCH: Final = 256
MOST_SETS: Final = 2048
PLAIN_MOST: Final = 1000
"""Connections that the plain twin, which takes some 15 microseconds a packet, is measured with."""
TARGETS: Final = {1: 25.0, 1 << 20: 60.0}
SECOND: Final = 1_000_000_000
SYN, ACK, SYNACK = 0x02, 0x10, 0x12
VARIANTS: Final[dict[str, tuple[int, int, dict[str, bool]]]] = {
    "TCP": (6, 4, {}),
    "TCP over IPv6": (6, 6, {}),
    "TCP, windows checked": (6, 4, {"window_check": True}),
    "TCP, counted": (6, 4, {"count": True}),
    "UDP": (17, 4, {}),
}


class Keys:
    """Flow keys of numbered connections, as parsing leaves them."""

    def __init__(self, protocol: int, version: int) -> None:
        self._tail = bytes([protocol, version, 0, 0])
        self._pad = bytes(12) if version == 4 else b""
        self._head = b"" if version == 4 else bytes.fromhex("fd00" + "00" * 10)

    def key(self, number: int, reply: bool = False) -> bytes:
        """One connection's, in one direction."""
        ends = [
            (self._head + struct.pack("!I", address) + self._pad, struct.pack("!H", port))
            for address, port in ((0x0A000000 + number, 1024 + number % 60000), (0xC0A80001 + number % 256, 80))
        ]
        (one, port), (other, other_port) = ends[::-1] if reply else ends
        return one + other + port + other_port + self._tail


def _frame(protocol: int, version: int, flags: int) -> bytes:
    layer4 = struct.pack("!HHIIBBHHH", 1024, 80, 1, 1, 0x50, flags, 1000, 0, 0)
    if protocol == 17:
        layer4 = struct.pack("!HHHH", 1024, 80, 20, 0) + bytes(12)
    if version == 6:
        return bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(layer4), protocol, 64) + bytes(32) + layer4
    return (
        bytes(12) + b"\x08\0" + struct.pack("!BBHIBBHII", 0x45, 0, 20 + len(layer4), 0, 64, protocol, 0, 1, 2) + layer4
    )


def _fill(batch: Batch, frame: bytes) -> memoryview:
    batch.fill([frame] * BATCH)
    _flow_py.keys(batch)
    return batch.key.cast("B")


def _established(kind: type, connections: int, protocol: int, version: int, options: dict[str, bool],
                 batch: Batch) -> Any:  # fmt: skip
    """A table in which all connections are established."""
    table, keys = kind(max(connections, 1024), **options), Keys(protocol, version)
    for step, (flags, reply) in enumerate(((SYN, False), (SYNACK, True), (ACK, False))):
        column = _fill(batch, _frame(protocol, version, flags))
        for start in range(0, connections, BATCH):
            many = [keys.key(min(start + i, connections - 1), reply) for i in range(BATCH)]
            column[: BATCH * 40] = b"".join(many)
            table.track(batch, step * SECOND)
            table.commit(batch, step * SECOND)
    if len(table) != connections:
        raise AssertionError(f"{len(table)} of {connections} connections")
    return table


def _timed(table: Any, batch: Batch, sets: list[bytes]) -> Callable[[int], float]:
    """Nanoseconds of a pass, which tracks every set of keys: the median call's, without putting the keys in."""

    def run(passes: int) -> float:
        column, took = batch.key.cast("B"), []
        for _ in range(passes):
            for keys in sets:
                column[: BATCH * 40] = keys
                began = time.perf_counter_ns()
                table.track(batch, 3 * SECOND)
                took.append(time.perf_counter_ns() - began)
        return statistics.median(took) * len(sets)

    return run


def _contender(bench: Context, subject: str, kind: type, batch_kind: type[Batch], variant: str,
               connections: int) -> Contender:  # fmt: skip
    protocol, version, options = VARIANTS[variant]
    batch = batch_kind(BATCH, slot=256, headroom=64)
    table = _established(kind, connections, protocol, version, options, batch)
    chance, keys = random.Random(bench.options.seed), Keys(protocol, version)
    count_sets = min(MOST_SETS, max(16, connections // 128)) if subject != "plain" else 1
    sets = [
        b"".join(keys.key(chance.randrange(connections), chance.random() < 0.5) for _ in range(BATCH))
        for _ in range(count_sets)
    ]
    run = _timed(table, batch, sets)
    run(1)
    if any(ct & Ct.KIND != Ct.ESTABLISHED for ct in batch.ct[:BATCH]):
        raise AssertionError("not every packet is of an established connection")
    target = TARGETS.get(connections) if variant == "TCP" and subject != "plain" else None
    return Contender(subject, f"{variant}, {count(connections)}", run, len(sets) * BATCH, target=target)


def run(bench: Context) -> None:
    """Established packets of 1 to 1 M connections."""
    bench.method(
        f"Batches of {BATCH} packets, both directions, of connections drawn uniformly. The packets stay the same all "
        "the time, parsed; their keys are put in before each call, outside the clock. A repetition is the median call."
    )
    try:
        compiled, batches = _compiled(), native.batch_class()
    except MissingToolError as error:
        bench.missing(str(error))
        return
    for variant in VARIANTS:
        for connections in CONNECTIONS:
            bench.step(f"{variant}, {count(connections)} connections")
            contenders = [_contender(bench, "compiled", compiled, batches, variant, connections)]
            if connections <= PLAIN_MOST:
                contenders.append(_contender(bench, "plain", _conntrack_py.Conntrack, batches, variant, connections))
            clock.race(bench, contenders)
    bench.verified("Every packet of the last batch of each pass is of an established connection.")


def _compiled() -> type:
    try:
        from fastpath._conntrack_c import Conntrack
    except ImportError as error:
        raise MissingToolError("fastpath is not built: make build") from error
    return Conntrack


CASE = Case("conntrack", "What does a packet of a known connection cost?", (), run, network=False)

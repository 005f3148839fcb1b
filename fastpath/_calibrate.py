"""Which level serves a stage, where the highest is not the fastest on every machine.

Some processors slow down for 512-bit registers, or gain nothing by them. Where both AVX2 and AVX-512 run and
`NODEPLANE_FASTPATH` does not say, a stage is tried at both when it is first imported, a millisecond or two of processor
time; nothing is measured before, and results are the same at every level.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastpath import _select
from fastpath.rules import PACKED

if TYPE_CHECKING:
    from fastpath.batch import Batch

RIVALS: Final[tuple[_select.Level, _select.Level]] = ("avx2", "avx512")
ROUNDS: Final = 24
"""Most rounds for each level, in turn; the best counts, since others on the machine can only slow one down."""
BUDGET_NS: Final = 4_500_000
"""For all stages together."""
MARGIN: Final = 0.97
"""The lower level has to be this much faster: a tie goes to the same level everywhere."""


class Choice(NamedTuple):
    """What serves a stage, and why."""

    level: _select.Level
    reason: str


def serving(name: str) -> ModuleType:
    """Return the module that serves stage `name` of `_select.LEVELLED`.

    Raises ImportError if it is not built or cannot be loaded.
    """
    return _select.stage(name, choice(name).level)


@functools.cache
def choice(name: str) -> Choice:
    """Decide for stage `name`, once for the process."""
    if _select.FORCED:
        return Choice(_select.LEVEL, f"{_select.VARIABLE} says so")
    if _select.LEVEL == "pure":
        return Choice("pure", "the extensions are not built")
    return decide(name, _select.runnable(), measure)


def decide(
    name: str,
    running: tuple[_select.Level, ...],
    measured: Callable[[str, _select.Level, _select.Level], tuple[int, int]],
) -> Choice:
    """Decide among the levels that run, lowest first; `measured` gives both rivals' times in nanoseconds."""
    if not set(RIVALS) <= set(running):
        return Choice(running[-1], "the highest that this processor runs")
    if name not in SAMPLES:
        return Choice(running[-1], "the highest that this processor runs; not measured")
    lower, higher = measured(name, *RIVALS)
    level = RIVALS[0] if lower < higher * MARGIN else RIVALS[1]
    return Choice(level, f"measured: {RIVALS[0]} {lower} ns, {RIVALS[1]} {higher} ns for {SAMPLES[name].what}")


def measure(name: str, lower: _select.Level, higher: _select.Level) -> tuple[int, int]:
    """Return the best time of the stage's sample at both levels, in nanoseconds; in its share of BUDGET_NS."""
    works = [SAMPLES[name].make(_select.stage(name, level)) for level in (lower, higher)]
    best = [1 << 62, 1 << 62]
    ends = time.perf_counter_ns() + BUDGET_NS // len(SAMPLES)
    for turn in range(ROUNDS):
        for i, work in enumerate(works):
            started = time.perf_counter_ns()
            work()
            now = time.perf_counter_ns()
            # The first turn finds code and data cold.
            if turn:
                best[i] = min(best[i], now - started)
        if turn and now > ends:
            break
    return best[0], best[1]


class Sample(NamedTuple):
    """A piece of a stage's work."""

    what: str
    make: Callable[[ModuleType], Callable[[], Any]]


def _packets() -> Batch:
    # The compiled one, whatever serves otherwise.
    batches = importlib.import_module("fastpath._batch_c")
    # IPv4 and UDP; ports and addresses do not matter.
    head = bytes(6) + b"\2" + bytes(5) + b"\x08\x00\x45\x00\x00\x32" + bytes(3) + b"\x00\x40\x11" + bytes(10)
    batch: Batch = batches.Batch(256, slot=256, headroom=64)
    batch.fill([head + i.to_bytes(4, "big") + bytes(26) for i in range(256)])
    return batch


def _flow(module: ModuleType) -> Callable[[], Any]:
    return functools.partial(module.extract, _packets())


def _vxlan(module: ModuleType) -> Callable[[], Any]:
    from fastpath._tunnels_c import Tunnels
    from fastpath._vtep_c import Vtep

    batch, tunnels, vtep = _packets(), Tunnels(), Vtep()
    macs = {"source_mac": bytes(6), "destination_mac": bytes(6)}
    # The number of the tunnel is also the network's: what comes out goes in again.
    vtep.allow(1, tunnels.add(vni=1, source=b"1234", destination=b"5678", **macs), [b"1234"])

    def both_ways() -> None:
        module.encap(batch, tunnels)
        module.decap(batch, vtep)

    return both_ways


def _checksum(module: ModuleType) -> Callable[[], Any]:
    return functools.partial(module.internet_checksum, bytes(16384))


@functools.cache
def _rules() -> Any:
    # Enough of them for a table; the rest are broad.
    from fastpath._ruleset_c import RuleSet

    broad = b"".join(
        PACKED.pack(bytes([10, i]), b"", 9, 0, 65535, i, i, 65535, 16, 0, 1, 2, 6, 1, 0, 0, 0, 0) for i in range(128)
    )
    record = PACKED.pack(b"", b"", 0, 0, 65535, 0, 65535, 65535, 32, 0, 1, 2, 0, 0, 0, 0, 0, 0)[4:]
    return RuleSet(b"".join(i.to_bytes(4, "big") + record for i in range(0, 1200 << 8, 1 << 8)) + broad)


def _classify(module: ModuleType) -> Callable[[], Any]:
    keys = b"".join((i << 8).to_bytes(4, "little") + bytes(12) for i in range(256))
    return functools.partial(module.lookup_keys, _rules(), keys, bytearray(1024))


def _flowcache(module: ModuleType) -> Callable[[], Any]:
    from fastpath._flowtable_c import FlowCache

    keys = b"".join(bytes((0, i, 10, 0)) + bytes(12) for i in range(256))
    return functools.partial(module.lookup_keys, FlowCache(256, always=True), _rules(), keys, bytearray(1024))


SAMPLES: Final = {
    "classify": Sample("256 keys in 1,328 rules", _classify),
    "flowcache": Sample("256 keys of known flows", _flowcache),
    "flow": Sample("256 packets", _flow),
    "checksum": Sample("16 KiB", _checksum),
    "vxlan": Sample("256 packets there and back", _vxlan),
}

"""Which core the load runs on and which one the servers get."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """CPU numbers: `load` for clients and measuring, `server` for everything that is measured."""

    load: frozenset[int]
    server: frozenset[int]

    @property
    def apart(self) -> bool:
        """False on a machine with one core, where nothing is pinned."""
        return not self.load & self.server

    def __str__(self) -> str:
        if not self.apart:
            return "one core for everything, nothing pinned"
        return f"load on core {min(self.load)}, every process of a server on core {min(self.server)}"


def choose() -> Cores:
    """The first allowed core for the load, the second for the servers."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return Cores(frozenset(allowed), frozenset(allowed))
    return Cores(frozenset(allowed[:1]), frozenset(allowed[1:2]))


@contextmanager
def pinned(cores: Set[int]) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on `cores` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

"""How far the two cores of a measurement are from each other just now (bench/load/distance.c)."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

from bench import compile
from bench.cores import Cores, pinned

TURNS: Final = 40_000
"""2 to 20 milliseconds where both cores are free."""


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(compile.library("distance")), use_errno=True)
    library.round_trip.restype = ctypes.c_double
    return library


def round_trip(cores: Cores, turns: int = TURNS) -> float | None:
    """Nanoseconds that a word takes from one core's cache to the other's and back, the mean of `turns` (at least 8).

    A virtual machine's cores may be two threads of one core now, and far apart in a moment: that is its host's choice.
    None where there is one core only. Raises MissingToolError without a C compiler, OSError if no thread can be made.
    """
    if not cores.apart:
        return None
    with pinned(cores.server):
        took: float = _library().round_trip(min(cores.load), turns)
    if took < 0:
        raise OSError(ctypes.get_errno(), "no thread for the other core")
    return took

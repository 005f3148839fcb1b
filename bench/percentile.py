"""Percentiles of measured times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent are not above (nearest rank). ValueError without any."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def percentile_of_counts(counts: Mapping[float, int], percent: float) -> float:
    """The same of values that came so many times each."""
    total = sum(counts.values())
    if not total:
        raise ValueError("no values")
    left = max(1, math.ceil(total * percent / 100))
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise AssertionError("more than all of them")

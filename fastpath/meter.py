"""Token buckets with colours (RFC 2697, RFC 2698) and DSCP marking over batches; compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.meters import Counts, Meter, MeterError, Tokens

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._meter_py import Meters, mark, meter
else:
    from fastpath._meter_c import Meters, mark, meter

__all__ = ["Counts", "Meter", "MeterError", "Meters", "Tokens", "mark", "meter"]

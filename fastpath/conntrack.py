"""Connection tracking over batches: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.connections import TIMEOUTS, Connection, ConntrackError, Ct, State, TableInUseError

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._conntrack_py import Conntrack
else:
    from fastpath._conntrack_c import Conntrack

__all__ = ["TIMEOUTS", "Connection", "Conntrack", "ConntrackError", "Ct", "State", "TableInUseError"]

"""What can go wrong with VXLAN at its Python edge; both twins raise these."""

from __future__ import annotations

from fastpath.reasons import MEANING, Reason


class VxlanError(Exception):
    """VXLAN cannot do what is asked."""


class TableFullError(VxlanError, ValueError):
    """A table has no room for another entry; `capacity` is how many it takes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(f"the table takes {capacity} entries")


class DroppedError(VxlanError, ValueError):
    """A frame given by itself would be dropped; `reason` says why."""

    def __init__(self, reason: int) -> None:
        self.reason = Reason(reason)
        super().__init__(f"{self.reason.name}: {MEANING[self.reason]}")

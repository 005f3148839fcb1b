"""Packets in one contiguous memory with columns beside it: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.batch_errors import BatchError, BatchInUseError, FrameTooLongError

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._batch_py import HEADROOM, SLOT, Batch
else:
    from fastpath._batch_c import HEADROOM, SLOT, Batch

__all__ = ["HEADROOM", "SLOT", "Batch", "BatchError", "BatchInUseError", "FrameTooLongError"]

"""Verdicts from what rules and connection tracking said of a batch's packets: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.connections import UNTRACKED
from fastpath.reasons import Reason

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._verdicts_py import permit
else:
    from fastpath._verdicts_c import permit

__all__ = ["UNTRACKED", "Reason", "permit"]

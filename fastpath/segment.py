"""Super-frames cut into segments and joined again, as GSO and GRO do it: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL, stage

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._segment_py import coalesce, segment
else:
    _stage = stage("segment", LEVEL)
    coalesce, segment = _stage.coalesce, _stage.segment

__all__ = ["coalesce", "segment"]

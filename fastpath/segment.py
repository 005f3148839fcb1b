"""Super-frames cut into segments and joined again, as GSO and GRO do it: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._segment_py import coalesce, segment
else:
    from fastpath._calibrate import serving

    _stage = serving("segment")
    coalesce, segment = _stage.coalesce, _stage.segment

__all__ = ["coalesce", "segment"]

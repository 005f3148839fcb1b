"""An exact-match cache of flows in front of a rule set; compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.flows import CachedFlow

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._flowcache_py import lookup, lookup_keys
    from fastpath._flowtable_py import FlowCache, Governor
else:
    from fastpath._calibrate import serving
    from fastpath._flowtable_c import FlowCache, Governor

    _stage = serving("flowcache")
    lookup, lookup_keys = _stage.lookup, _stage.lookup_keys

__all__ = ["CachedFlow", "FlowCache", "Governor", "lookup", "lookup_keys"]

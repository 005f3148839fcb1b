"""Classification: which rule of a set a packet matches first; compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath import _select
from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._classify_py import lookup, lookup_keys
    from fastpath._ruleset_py import RuleSet
else:
    from fastpath._ruleset_c import RuleSet

    _stage = _select.stage("classify", LEVEL)
    lookup, lookup_keys = _stage.lookup, _stage.lookup_keys

__all__ = ["RuleSet", "lookup", "lookup_keys"]

"""Classification: which rule of a set a packet matches first; compiled, or the plain twin."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.rules import Header, key

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._classify_py import lookup, lookup_keys
    from fastpath._ruleset_py import RuleSet
else:
    from fastpath._calibrate import serving
    from fastpath._ruleset_c import RuleSet

    _stage = serving("classify")
    lookup, lookup_keys = _stage.lookup, _stage.lookup_keys


def match(rules: RuleSet, header: Header) -> int:
    """Return the id of the rule that a packet with this header matches first, -1 for none."""
    out = array("i", [0])
    more = array("H", [header.dscp << 8 | header.tcp_flags])
    lookup_keys(rules, key(header), out, header.version, more)
    return out[0]


__all__ = ["RuleSet", "lookup", "lookup_keys", "match"]

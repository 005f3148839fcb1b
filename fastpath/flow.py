"""Five-tuples of frames, packed as keys, and their hash: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.endpoints import FiveTuple
from fastpath.hasher import DEFAULT_SEED, Hasher

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._flow_py import MAX_EXTENSIONS, MAX_TAGS, extract, five_tuple, five_tuples, keys
else:
    from fastpath._calibrate import serving

    _stage = serving("flow")
    MAX_EXTENSIONS, MAX_TAGS, extract = _stage.MAX_EXTENSIONS, _stage.MAX_TAGS, _stage.extract
    five_tuple, five_tuples, keys = _stage.five_tuple, _stage.five_tuples, _stage.keys

__all__ = [
    "DEFAULT_SEED",
    "MAX_EXTENSIONS",
    "MAX_TAGS",
    "FiveTuple",
    "Hasher",
    "extract",
    "five_tuple",
    "five_tuples",
    "keys",
]

"""The keys of the flow hash: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._hasher_py import DEFAULT_SEED, Hasher
else:
    from fastpath._hasher_c import DEFAULT_SEED, Hasher

__all__ = ["DEFAULT_SEED", "Hasher"]

"""Packets as bytes and integers, and in batches: compiled with Cython, each with a plain-Python twin.

Imports nothing of the other packages. `NODEPLANE_FASTPATH=pure` takes the plain twins; `baseline`, `avx2` and `avx512`
insist on one level of the compiled modules; without the variable the best one is used. `LEVEL` tells which it is.

For single frames, `fastpath.encap(frame, tunnel)`, `fastpath.decap(frame)` and `fastpath.five_tuple(frame)` are at
hand: see `fastpath.vxlan.encapsulate`, `fastpath.vxlan.decapsulate` and `fastpath.flow.five_tuple`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastpath._select import LEVEL

if TYPE_CHECKING:
    from fastpath.flow import five_tuple, five_tuples
    from fastpath.vxlan import decapsulate as decap
    from fastpath.vxlan import encapsulate as encap

_LATER = {
    "decap": ("fastpath.vxlan", "decapsulate"),
    "encap": ("fastpath.vxlan", "encapsulate"),
    "five_tuple": ("fastpath.flow", "five_tuple"),
    "five_tuples": ("fastpath.flow", "five_tuples"),
}
"""Names that are imported when they are first asked for: who needs checksums only does not load the rest."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LATER[name]
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = ["LEVEL", "decap", "encap", "five_tuple", "five_tuples"]

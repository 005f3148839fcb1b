"""Chooses between the compiled modules and their plain twins, once for the whole package.

`NODEPLANE_FASTPATH` unset: compiled if built, else plain. `pure`: plain. `baseline`: compiled, or an ImportError
that says how to build.
"""

from __future__ import annotations

import importlib
import os
from typing import Final, Literal

VARIABLE: Final = "NODEPLANE_FASTPATH"
MODULES: Final = ("fastpath._checksum_c", "fastpath._framing_c")
_BUILD: Final = "build it with `python setup.py build_ext --inplace` in a checkout, or reinstall the wheel"

Level = Literal["pure", "baseline"]


def choose(wanted: str) -> Level:
    """Return the level for the value of `NODEPLANE_FASTPATH` (empty: unset).

    Raises ImportError for an unknown value, for `baseline` when the compiled modules are not built, and for a
    compiled module that exists but cannot be loaded (a stale or foreign build must not be passed over in silence).
    """
    if wanted not in ("", "pure", "baseline"):
        raise ImportError(f"{VARIABLE}={wanted!r} is unknown: use pure or baseline, or unset it")
    if wanted == "pure":
        return "pure"
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            if wanted:
                raise ImportError(f"{name} is not built: {_BUILD}") from error
            return "pure"
        except ImportError as error:
            raise ImportError(f"{name} cannot be loaded ({error}): {_BUILD}, or set {VARIABLE}=pure") from error
    return "baseline"


LEVEL: Final[Level] = choose(os.environ.get(VARIABLE, ""))
"""What this process runs on."""

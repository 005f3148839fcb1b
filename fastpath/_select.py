"""Chooses between the compiled modules and their plain twins, once for the whole package.

`NODEPLANE_FASTPATH` unset: the highest level that is built and that this processor runs, else plain; stages whose
fastest level depends on the machine are tried when they are first imported (`fastpath._calibrate`). `pure`: plain.
`baseline`, `avx2`, `avx512`: that one, or an ImportError that says why not.

Modules come in two kinds. Most are built once (`_x_c`). The stages that gain from wider registers are built once a
level (`_x_c` is the baseline, `_x_avx2`, `_x_avx512`); code of a level may only be loaded after `choose` has asked the
processor.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from types import ModuleType
from typing import Final, Literal, get_args

VARIABLE: Final = "NODEPLANE_FASTPATH"
MODULES: Final = ("fastpath._cpu_c", "fastpath._framing_c")
"""Loaded at once: the choice needs the first, the daemon both."""
LATER: Final = (
    "fastpath._batch_c",
    "fastpath._capture_c",
    "fastpath._conntrack_c",
    "fastpath._flowtable_c",
    "fastpath._hasher_c",
    "fastpath._meter_c",
    "fastpath._ruleset_c",
    "fastpath._sockets_c",
    "fastpath._tunnels_c",
    "fastpath._verdicts_c",
    "fastpath._vtep_c",
)
"""Must be built, but are loaded by who uses them: nothing else is to cost a start-up anything."""
LEVELLED: Final[tuple[str, ...]] = ("checksum", "classify", "flow", "flowcache", "segment", "vxlan")
"""Stages built once for each level, without prefix and suffix."""
_BUILD: Final = "build it with `python setup.py build_ext --inplace` in a checkout, or reinstall the wheel"

Level = Literal["pure", "baseline", "avx2", "avx512"]
_SUFFIX: Final[dict[str, str]] = {"pure": "py", "baseline": "c"}


def choose(wanted: str) -> Level:
    """Return the level for the value of `NODEPLANE_FASTPATH` (empty: unset).

    Raises ImportError for an unknown value, for a level whose compiled modules are not built or which this processor
    cannot run, and for a compiled module that exists but cannot be loaded (a stale or foreign build must not be passed
    over in silence; of those that are loaded later, whoever uses them gets the error).
    """
    if wanted not in ("", *get_args(Level)):
        *most, last = get_args(Level)
        raise ImportError(f"{VARIABLE}={wanted!r} is unknown: use {', '.join(most)} or {last}, or unset it")
    if wanted == "pure":
        return "pure"
    if missing := _missing():
        if wanted:
            raise ImportError(f"{missing} is not built: {_BUILD}")
        return "pure"
    running = runnable()
    if not wanted:
        return running[-1]
    if wanted not in running:
        raise ImportError(f"{VARIABLE}={wanted}: this processor runs {', '.join(running)}")
    return running[running.index(wanted)]


def built() -> bool:
    """Whether all compiled modules are there."""
    return not _missing()


def runnable() -> tuple[Level, ...]:
    """Return the compiled levels that this processor runs, lowest first; only if the compiled modules are built."""
    can = importlib.import_module("fastpath._cpu_c").levels()
    return tuple(level for level in get_args(Level) if level in can)


def stage(name: str, level: Level) -> ModuleType:
    """Return the module that serves stage `name` of LEVELLED at `level`, which must be `pure` or one of `runnable`.

    Raises ImportError if it is not built or cannot be loaded.
    """
    module = f"fastpath._{name}_{_SUFFIX.get(level, level)}"
    if not _loads(module):
        raise ImportError(f"{module} is not built: {_BUILD}")
    return importlib.import_module(module)


def _missing() -> str:
    """The first compiled module that is not there, or nothing."""
    later = (*LATER, *(f"fastpath._{stage}_c" for stage in LEVELLED))
    for name in (*MODULES, *later):
        if not (_loads(name) if name in MODULES else find_spec(name)):
            return name
    return ""


def _loads(name: str) -> bool:
    """Whether the module is there. Raises ImportError if it is and cannot be loaded."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return False
    except ImportError as error:
        raise ImportError(f"{name} cannot be loaded ({error}): {_BUILD}, or set {VARIABLE}=pure") from error
    return True


LEVEL: Final[Level] = choose(os.environ.get(VARIABLE, ""))
"""What this process runs on; a stage may serve at a lower one, see `fastpath._calibrate`."""
FORCED: Final = bool(os.environ.get(VARIABLE))
"""Whether the environment said so."""

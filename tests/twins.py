"""The compiled modules of fastpath and their plain twins, as test parameters with readable ids."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from fastpath import _batch_py, _framing_py, _meter_py, _select, _sockets_py, _tunnels_py, _vtep_py


def built(name: str) -> ModuleType | None:
    """The compiled module, or None when this tree is not built (`NODEPLANE_BUILD=pure`)."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


CHECKSUM_C = built("fastpath._checksum_c")
FRAMING_C = built("fastpath._framing_c")
BATCH_C = built("fastpath._batch_c")
HASHER_C = built("fastpath._hasher_c")
TUNNELS_C = built("fastpath._tunnels_c")
VTEP_C = built("fastpath._vtep_c")
METER_C = built("fastpath._meter_c")
SOCKETS_C = built("fastpath._sockets_c")
BUILT = None not in (CHECKSUM_C, FRAMING_C, BATCH_C, HASHER_C, TUNNELS_C, VTEP_C, METER_C, SOCKETS_C)

needs_build = pytest.mark.skipif(not BUILT, reason="the extensions are not built")

FRAMINGS = [pytest.param(_framing_py, id="plain"), pytest.param(FRAMING_C, id="compiled", marks=needs_build)]
BATCHES = [pytest.param(_batch_py, id="plain"), pytest.param(BATCH_C, id="compiled", marks=needs_build)]
TUNNELS = [pytest.param(_tunnels_py, id="plain"), pytest.param(TUNNELS_C, id="compiled", marks=needs_build)]
VTEPS = [pytest.param(_vtep_py, id="plain"), pytest.param(VTEP_C, id="compiled", marks=needs_build)]
SOCKETS = [pytest.param(_sockets_py, id="plain"), pytest.param(SOCKETS_C, id="compiled", marks=needs_build)]
METERS = [pytest.param(_meter_py, id="plain"), pytest.param(METER_C, id="compiled", marks=needs_build)]
COMPILED_LEVELS: tuple[_select.Level, ...] = _select.runnable() if BUILT else ()
"""The compiled levels that this processor runs."""


def stages(name: str) -> list[object]:
    """Parameters: the module of stage `name` at every level that runs here, plain first."""
    levels: tuple[_select.Level, ...] = ("pure", *COMPILED_LEVELS)
    return [pytest.param(_select.stage(name, level), id=level) for level in levels]


CHECKSUMS = stages("checksum")

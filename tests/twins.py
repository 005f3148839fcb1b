"""The compiled modules of fastpath and their plain twins, as test parameters with readable ids."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from fastpath import _checksum_py, _framing_py


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

needs_build = pytest.mark.skipif(CHECKSUM_C is None or FRAMING_C is None, reason="the extensions are not built")

CHECKSUMS = [pytest.param(_checksum_py, id="plain"), pytest.param(CHECKSUM_C, id="compiled", marks=needs_build)]
FRAMINGS = [pytest.param(_framing_py, id="plain"), pytest.param(FRAMING_C, id="compiled", marks=needs_build)]

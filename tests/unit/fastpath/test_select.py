"""The choice between compiled and plain."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import ModuleType

import pytest

from fastpath import _framing_py, _select, checksum, framing
from tests.twins import FRAMING_C, needs_build


def test_pure() -> None:
    assert _select.choose("pure") == "pure"


@needs_build
def test_compiled_when_built() -> None:
    running = _select.runnable()
    assert running[0] == "baseline"
    assert _select.choose("") == running[-1]
    for level in running:
        assert _select.choose(level) == level


@needs_build
def test_level_that_this_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("fastpath._cpu_c"), "levels", lambda: ("baseline",))
    assert _select.choose("") == "baseline"
    with pytest.raises(ImportError, match="this processor runs baseline"):
        _select.choose("avx512")


def test_plain_when_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastpath._framing_c", None)
    assert _select.choose("") == "pure"


def test_insisting_when_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastpath._checksum_c", None)
    with pytest.raises(ImportError, match="not built: build it with"):
        _select.choose("baseline")


@pytest.mark.parametrize("wanted", ["", "baseline"])
def test_broken_build_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    def broken(name: str) -> ModuleType:
        raise ImportError("undefined symbol: __asan_init")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"cannot be loaded \(undefined symbol"):
        _select.choose(wanted)


def test_unknown_value() -> None:
    with pytest.raises(ImportError, match="use pure, baseline, avx2 or avx512"):
        _select.choose("fast")


def test_public_names_come_from_the_chosen_twin() -> None:
    wanted = (
        _select.stage("checksum", _select.LEVEL), _framing_py if _select.LEVEL == "pure" else FRAMING_C
    )  # fmt: skip
    for module, twin in zip((checksum, framing), wanted, strict=True):
        for name in ("internet_checksum", "udp4_checksum") if module is checksum else ("udp4_frame", "parse_udp4"):
            assert getattr(module, name) is getattr(twin, name)


def test_variable_forces_the_plain_twin() -> None:
    code = "from fastpath import framing; print(framing.parse_udp4.__module__)"
    environment = {**os.environ, _select.VARIABLE: "pure"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fastpath._framing_py"

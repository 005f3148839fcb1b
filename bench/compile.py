"""Builds what bench/load holds, once, into .cache/bench: load clients in C, and what the per-packet cases need."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

from bench.machine import ANCHOR_FLAGS, ROOT

SOURCES = Path(__file__).resolve().parent / "load"
BUILT = ROOT / ".cache" / "bench"
FLAGS = ("-O2", "-g", "-Wall", "-Wextra")
SHARED = ("-shared", "-fPIC")


class MissingToolError(Exception):
    """Something that a measurement needs is not on this machine; the text says how to get it."""


def program(name: str, *more: str, native: bool = False) -> Path:
    """The compiled client `name`, built if its source is newer. Raises MissingToolError without a C compiler.

    `more` are flags behind the source; `native`: for this machine, as `library`.
    """
    source = SOURCES / f"{name}.c"
    flags = ANCHOR_FLAGS if native else FLAGS
    return _built(BUILT / name, [source], lambda target: _compile(source, target, *flags, more=more))


def library(name: str) -> Path:
    """The C source `name` as a shared library for this machine; otherwise as `program`."""
    source = SOURCES / f"{name}.c"
    return _built(BUILT / f"{name}.so", [source], lambda target: _compile(source, target, *ANCHOR_FLAGS, *SHARED))


def extension(name: str) -> ModuleType:
    """The Cython source `name` as an imported module, which may use fastpath's.

    Raises MissingToolError without a C compiler, Python's headers or Cython.
    """
    source = SOURCES / f"{name}.pyx"
    contracts = sorted((ROOT / "fastpath").glob("*.pxd"))
    target = BUILT / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    _built(target, [source, *contracts], lambda path: _cythonize(source, path))
    spec = importlib.util.spec_from_file_location(name, target, loader=ExtensionFileLoader(name, str(target)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> str:
    """The C compiler's name. Raises MissingToolError."""
    name = os.environ.get("CC", "cc")
    if shutil.which(name) is None:
        raise MissingToolError(f"no C compiler {name!r}: apt-get install gcc libc6-dev")
    return name


def _built(target: Path, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """`target`, made by `build` under another name first if a source is newer."""
    newest = max(source.stat().st_mtime for source in sources)
    if target.exists() and target.stat().st_mtime > newest:
        return target
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as directory:
        part = Path(directory, target.name)
        build(part)
        part.replace(target)
    return target


def _compile(source: Path, target: Path, *flags: str, more: tuple[str, ...] = ()) -> None:
    subprocess.run([compiler(), *flags, "-o", str(target), str(source), *more], check=True)


def _cythonize(source: Path, target: Path) -> None:
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        raise MissingToolError(f"no Python.h for {source.name}: apt-get install python3-dev")
    generated = target.with_suffix(".c")
    argv = [sys.executable, "-m", "cython", "-3", "-I", str(ROOT), "-X", "cdivision=True", "-X", "boundscheck=False",
            "-X", "wraparound=False", "-o", str(generated), str(source)]  # fmt: skip
    if importlib.util.find_spec("Cython") is None:
        raise MissingToolError(f"no Cython for {source.name}: pip install '.[bench]'")
    subprocess.run(argv, check=True, cwd=ROOT)
    _compile(generated, target, "-O2", "-w", *SHARED, f"-I{headers}")

"""Builds the C load clients of bench/load once, into .cache/bench."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench.machine import ROOT

SOURCES = Path(__file__).resolve().parent / "load"
BUILT = ROOT / ".cache" / "bench"
FLAGS = ("-O2", "-g", "-Wall", "-Wextra")


class MissingToolError(Exception):
    """Something that a measurement needs is not on this machine; the text says how to get it."""


def program(name: str) -> Path:
    """The compiled client `name`, built if its source is newer. Raises MissingToolError without a C compiler."""
    source, target = SOURCES / f"{name}.c", BUILT / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise MissingToolError(f"no C compiler {compiler!r} for {source.name}: apt-get install gcc libc6-dev")
    BUILT.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, *FLAGS, "-o", str(target), str(source)], check=True)
    return target

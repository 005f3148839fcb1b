"""The private namespace of a run (scripts/private): the host stays as it is, and everything ends with the run."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from bench.machine import ROOT

MARK = "NODEPLANE_LAB"
"""Set to 1 inside by scripts/private."""


def inside() -> bool:
    """Whether this process is already in a private namespace."""
    return os.environ.get(MARK) == "1"


def enter(arguments: list[str]) -> NoReturn:
    """Start `python -m bench` with these arguments again inside; does not return."""
    sys.stdout.flush()
    private = str(ROOT / "scripts" / "private")
    os.execv(private, [private, sys.executable, "-m", "bench", *arguments])

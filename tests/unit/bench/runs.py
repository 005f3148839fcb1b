"""A made-up run and machine for the tests of the bench."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.machine import Machine
from bench.results import CaseResult, Figure, Run

MACHINE = Machine(
    cpu="A CPU", cores=2, memory_gib=8, kernel="6.1.0", governor="none", virtual=True, python="CPython 3.11.2",
    packages={}, compiler="cc 12", flags="-O2", fastpath="baseline", commit="0123456789abcdef", dirty=False,
    load_average=0.1,
)  # fmt: skip
FIGURE = Figure(measure="requests", unit="/s", variant="64 clients", better="higher", values=(90.0, 120.0, 100.0),
                target=95.0)  # fmt: skip


def run(*figures: Figure, **machine: Any) -> Run:
    """A run of one case with these figures, on a machine that differs in these facts."""
    case = CaseResult(name="case", question="How many [n]?", figures=figures or (FIGURE,))
    return Run(machine=msgspec.structs.replace(MACHINE, **machine), command="python -m bench run case",
               started="2026-01-01T00:00:00+00:00", seed=1, cases=(case,))  # fmt: skip

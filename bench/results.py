"""What a run found, as data: figures with every repetition kept, cases, and the file they are stored in."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Literal

import msgspec

from bench.machine import Machine

SCHEMA = 1
OURS = "nodeplane"

Better = Literal["higher", "lower", ""]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity of one subject."""

    measure: str
    """What was measured: `requests`, `p99`, `PSS` ..."""
    unit: str
    subject: str = OURS
    """Whose figure it is: nodeplane or a peer."""
    variant: str = ""
    """Under which circumstances: `64 clients`."""
    better: Better = ""
    values: tuple[float, ...]
    """One per repetition, in the order in which they were measured."""
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and greatest repetition."""
        return min(self.values), max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "higher" else self.median <= self.target


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One case of a run."""

    name: str
    question: str
    figures: tuple[Figure, ...] = ()
    method: tuple[str, ...] = ()
    """How it was measured, as far as a reader must know to believe a figure."""
    verified: tuple[str, ...] = ()
    """What was checked before anything was timed."""
    missing: tuple[str, ...] = ()
    """What could not be measured here, and why."""
    error: str = ""
    """Why the case ended early; its figures up to there are kept."""
    seconds: float = 0.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: the content of a result file."""

    schema: int = SCHEMA
    machine: Machine
    command: str
    started: str
    """UTC, ISO 8601."""
    seed: int
    versions: dict[str, str] = {}
    """Of peers and tools that took part."""
    cases: tuple[CaseResult, ...] = ()


def encoded(run: Run) -> bytes:
    """The content of a result file."""
    return msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n"


def save(run: Run, path: Path) -> None:
    """Write a result file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(run))


def load(path: Path) -> Run:
    """Read a result file; ValueError when it is none."""
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"{path} is not a result file: {error}") from error
    if run.schema != SCHEMA:
        raise ValueError(f"{path} has schema {run.schema}, this program reads {SCHEMA}")
    return run

"""What a case is given: options, a directory, the cores, and where its figures go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.status import Status

from bench.cores import Cores
from bench.perpacket.profiles import Profile
from bench.results import OURS, Better, CaseResult, Figure


@dataclass(frozen=True)
class Options:
    """The command line of a run; None leaves the choice to the case."""

    peers: frozenset[str] = frozenset()
    networks: int | None = None
    repeat: int | None = None
    seconds: float | None = None
    """Length of one timed load."""
    seed: int = 1
    profiles: tuple[Profile, ...] = ()
    """Of packets; empty leaves the choice to the case."""
    ours: bool = True
    """Whether nodeplane itself takes part."""
    rules: tuple[str, ...] = ()
    """Rule files or names of sets; empty leaves the choice to the case."""
    trace: Path | None = None
    """Headers for the one set of `rules`."""
    zipf: float | None = None
    """The exponent with which the trace is drawn anew."""
    updates: int | None = None
    """Updates a second of the limited writer."""


@dataclass(frozen=True)
class Case:
    """One written question and the function that answers it."""

    name: str
    question: str
    peers: tuple[str, ...]
    """Names of --with that add something to this case."""
    run: Callable[[Context], None]
    network: bool = True
    """Whether it needs the private namespace."""


class Progress:
    """What is being done now, on stderr: a moving line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.status: Status | None = None
        self.began = time.monotonic()

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.status = self.console.status("")
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None

    def show(self, text: str) -> None:
        """Say what begins now."""
        line = f"{time.monotonic() - self.began:6.1f} s  {text}"
        if self.status is not None:
            self.status.update(line)
        else:
            self.console.print(line, highlight=False, soft_wrap=True)


@dataclass
class Context:
    """One case's run."""

    case: Case
    options: Options
    cores: Cores
    directory: Path
    """Empty, this case's own, removed afterwards."""
    progress: Progress
    prefix: str = ""
    """Which case of how many, for the progress line."""
    versions: dict[str, str] = field(default_factory=dict)
    _figures: dict[tuple[str, str, str], Figure] = field(default_factory=dict)
    _method: list[str] = field(default_factory=list)
    _verified: list[str] = field(default_factory=list)
    _missing: list[str] = field(default_factory=list)

    def asked(self, peer: str) -> bool:
        """Whether --with names the peer."""
        return peer in self.options.peers

    def networks(self, default: int) -> int:
        """--networks, or the case's number."""
        return self.options.networks or default

    def repeats(self, default: int) -> int:
        """--repeat, or the case's number."""
        return self.options.repeat or default

    def seconds(self, default: float) -> float:
        """--seconds, or the case's length of a timed load."""
        return self.options.seconds or default

    def profiles(self, default: tuple[Profile, ...]) -> tuple[Profile, ...]:
        """--profile, or the case's."""
        return self.options.profiles or default

    def step(self, text: str) -> None:
        """Say what begins now."""
        self.progress.show(f"{self.prefix}{self.case.name}: {text}")

    def record(self, measure: str, value: float, unit: str, *, subject: str = OURS, variant: str = "",
               better: Better = "", target: float | None = None) -> None:  # fmt: skip
        """Add one repetition of a figure."""
        key = (measure, subject, variant)
        values = (*(self._figures[key].values if key in self._figures else ()), float(value))
        self._figures[key] = Figure(measure=measure, unit=unit, subject=subject, variant=variant, better=better,
                                    values=values, target=target)  # fmt: skip

    def method(self, text: str) -> None:
        """Say how it is measured; the same text once."""
        _once(self._method, text)

    def verified(self, text: str) -> None:
        """Say what was checked before timing."""
        _once(self._verified, text)

    def missing(self, text: str) -> None:
        """Say what could not be measured, and why."""
        _once(self._missing, text)

    def result(self, seconds: float, error: str = "") -> CaseResult:
        """Everything that was found."""
        return CaseResult(
            name=self.case.name, question=self.case.question, figures=tuple(self._figures.values()),
            method=tuple(self._method), verified=tuple(self._verified), missing=tuple(self._missing),
            error=error, seconds=seconds,
        )  # fmt: skip


def _once(lines: list[str], text: str) -> None:
    if text not in lines:
        lines.append(text)

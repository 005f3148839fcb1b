"""Two result files, figure by figure: ratios, and whether a difference is more than the spread of the repetitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from rich.table import Table

from bench.results import Figure, Run
from bench.tables import label, number, per_cent

FEWEST: Final = 3
"""Repetitions of both, below which nothing is said."""

Verdict = Literal["better", "worse", "differs", "within spread", "too few"]
STYLE: Final = {"better": "green", "worse": "red", "differs": "yellow", "within spread": "dim", "too few": "dim"}


@dataclass(frozen=True)
class Change:
    """One figure that both runs have."""

    case: str
    first: Figure
    last: Figure

    @property
    def ratio(self) -> float | None:
        """Last over first; None if the first is 0."""
        return self.last.median / self.first.median if self.first.median else None

    @property
    def verdict(self) -> Verdict:
        """A difference counts if all repetitions of one run are beyond all of the other.

        With five and five of the same thing that happens by chance once in 126 times (Mann and Whitney's test at its
        extreme); a machine that changes its speed between the runs is not chance: see the load average.
        """
        if min(len(self.first.values), len(self.last.values)) < FEWEST:
            return "too few"
        (low, high), (other_low, other_high) = self.first.spread, self.last.spread
        if other_low <= high and low <= other_high:
            return "within spread"
        if not self.first.better:
            return "differs"
        return "better" if (other_low > high) == (self.first.better == "higher") else "worse"


def changes(first: Run, last: Run) -> Iterator[Change]:
    """The figures of both, in the order of the first."""
    found = {
        (case.name, label(figure), figure.subject, figure.unit): figure
        for case in last.cases
        for figure in case.figures
    }
    for case in first.cases:
        for figure in case.figures:
            if other := found.get((case.name, label(figure), figure.subject, figure.unit)):
                yield Change(case.name, figure, other)


def table(first: Run, last: Run, found: list[Change]) -> Table:
    """One row a figure: both medians with their spread, the ratio, the verdict."""
    made = Table(title="last against first", title_justify="left")
    for heading in ("case", "figure", "subject", "unit"):
        made.add_column(heading)
    for run in (first, last):
        made.add_column(f"{run.machine.commit[:12] or '?'}\n{run.started[:16]}", justify="right")
    made.add_column("ratio", justify="right")
    made.add_column("")
    for change in found:
        ratio = "" if change.ratio is None else f"{change.ratio:.3f}"
        cells = (number(figure.median) + per_cent(figure) for figure in (change.first, change.last))
        made.add_row(change.case, label(change.first), change.first.subject, change.first.unit, *cells, ratio,
                     f"[{STYLE[change.verdict]}]{change.verdict}[/]")  # fmt: skip
    return made


def summary(found: list[Change]) -> str:
    """How many of each verdict."""
    counts = {verdict: sum(change.verdict == verdict for change in found) for verdict in STYLE}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no figure in both"

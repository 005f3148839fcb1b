"""A run as the page docs/benchmarks.md shows it: one section per case, in plain Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.results import CaseResult, Figure, Run
from bench.tables import MANY, label, number, per_cent, subjects


def page(run: Run) -> str:
    """The machine, then every case with its table, method and checks."""
    machine = run.machine
    facts = (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}"
        f"{', a virtual machine' if machine.virtual else ''}; {machine.python}, "
        f"{', '.join(f'{name} {version}' for name, version in machine.packages.items() if version)}; fastpath "
        f"{machine.fastpath}, {machine.compiler}; load average {machine.load_average:.2f} before the run."
    )
    peers = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
    lines = [
        f"Measured {run.started[:10]} at commit {machine.commit[:12]}{' with changes' if machine.dirty else ''}: "
        f"{facts}",
        *([f"Beside it: {peers}."] if peers else []),
    ]
    for case in run.cases:
        lines += _case(case)
    return "\n\n".join(lines) + "\n"


def targets(runs: Iterable[Run]) -> str:
    """One table of every figure that has a target, of all runs, in their order."""
    lines = [_row("case", "figure", "of", "unit", "median", "target"), _row("---", "---", "---", "---", "---:", "---")]
    for run in runs:
        for case in run.cases:
            lines += (
                _row(case.name, label(figure), figure.subject, figure.unit, _cell(figure, False), _target(figure))
                for figure in case.figures
                if figure.target is not None
            )
    return "\n".join(lines) + "\n"


def _case(case: CaseResult) -> Iterator[str]:
    yield f"## {case.name}"
    yield case.question
    if case.figures:
        yield "\n".join(_table(case))
    if notes := [*case.method, *(f"Checked: {text}" for text in case.verified),
                 *(f"Missing: {text}" for text in case.missing)]:  # fmt: skip
        yield "\n".join(f"- {note}" for note in notes)
    if case.error:
        yield f"Ended early: {case.error}"


def _table(case: CaseResult) -> Iterator[str]:
    columns = subjects(case.figures)
    targets = any(figure.target is not None for figure in case.figures)
    yield _row("", "unit", *columns, *(["target"] * targets))
    yield _row("---", "---", *(["---:"] * len(columns)), *(["---"] * targets))
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in case.figures:
        rows.setdefault((label(figure), figure.unit), {})[figure.subject] = figure
    for (text, unit), by_subject in rows.items():
        cells = [
            _cell(by_subject[subject], len(columns) >= MANY) if subject in by_subject else "" for subject in columns
        ]
        yield _row(text, unit, *cells, *([" ".join(map(_target, by_subject.values())).strip()] * targets))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(figure: Figure, short: bool) -> str:
    if short:
        return number(figure.median) + per_cent(figure)
    low, high = figure.spread
    return number(figure.median) + (f" ({number(low)} to {number(high)})" if len(figure.values) > 1 else "")


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "at least" if figure.better == "higher" else "at most"
    return f"{sign} {number(figure.target)}: {'hit' if figure.met else '**missed**'}"

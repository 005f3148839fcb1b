"""Results for people: one table per case, and the same figures of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import OURS, CaseResult, Figure, Run


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"


MANY = 6
"""Subjects from which on a cell is short."""


def cell(figure: Figure, short: bool = False) -> str:
    """Median, and the spread when there was more than one repetition; short: half of it, in per cent."""
    text = number(figure.median)
    if short:
        return text + per_cent(figure)
    if len(figure.values) > 1:
        low, high = figure.spread
        text += f" [dim]({number(low)} to {number(high)})[/]"
    return text


def per_cent(figure: Figure) -> str:
    """Half the distance between the smallest and the greatest repetition, as ` ±3%` of the median."""
    low, high = figure.spread
    return f" ±{50 * (high - low) / figure.median:.0f}%" if len(figure.values) > 1 and figure.median else ""


def verdict(figure: Figure) -> str:
    """The target and whether it is kept; empty without one."""
    if figure.target is None:
        return ""
    sign = "at least" if figure.better == "higher" else "at most"
    return f"{sign} {number(figure.target)}: " + ("[green]hit[/]" if figure.met else "[red]missed[/]")


def label(figure: Figure) -> str:
    """Measure and circumstances."""
    return f"{figure.measure}, {figure.variant}" if figure.variant else figure.measure


def subjects(figures: Iterable[Figure]) -> list[str]:
    """Who was measured: nodeplane first, then the peers in the order of their first figure."""
    return sorted(dict.fromkeys(figure.subject for figure in figures), key=lambda name: name != OURS)


def case_table(case: CaseResult) -> Table:
    """Rows are measures, columns are subjects."""
    table = Table()
    columns = subjects(case.figures)
    targets = any(figure.target is not None for figure in case.figures)
    short = len(columns) >= MANY
    table.add_column("", no_wrap=short)
    table.add_column("unit")
    for subject in columns:
        table.add_column(subject, justify="right")
    if targets:
        table.add_column("target")
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in case.figures:
        rows.setdefault((label(figure), figure.unit), {})[figure.subject] = figure
    for (text, unit), by_subject in rows.items():
        cells = [cell(by_subject[subject], short) if subject in by_subject else "" for subject in columns]
        table.add_row(text, unit, *cells, *([" ".join(map(verdict, by_subject.values())).strip()] * targets))
    return table


def show_case(console: Console, case: CaseResult) -> None:
    """A case with everything that belongs to it."""
    console.print(f"\n[bold]{case.name}[/]: {escape(case.question)}", highlight=False, soft_wrap=True)
    if case.figures:
        console.print(case_table(case))
    for heading, lines in (("how", case.method), ("verified", case.verified), ("missing", case.missing)):
        for line in lines:
            console.print(f"[dim]{heading}:[/] {escape(line)}", soft_wrap=True, highlight=False)
    if case.error:
        console.print(f"[red]ended early:[/] {escape(case.error)}", soft_wrap=True, highlight=False)


def show_run(console: Console, run: Run) -> None:
    """A whole run with its machine."""
    machine = run.machine
    console.print(
        f"{run.started}  commit {machine.commit[:12] or 'unknown'}{' with changes' if machine.dirty else ''}\n"
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}"
        f"{', virtual' if machine.virtual else ''}; {machine.python}, fastpath {machine.fastpath or 'not importable'}, "
        f"{machine.compiler}; load {machine.load_average:.2f} before\n{run.command}",
        highlight=False,
        soft_wrap=True,
    )
    if run.versions:
        console.print(", ".join(f"{name} {version}" for name, version in sorted(run.versions.items())), highlight=False)
    for case in run.cases:
        show_case(console, case)


def comparison(runs: Sequence[Run]) -> Table:
    """The medians of several runs, the last one also as a multiple of the first."""
    table = Table(title="medians by run", title_justify="left")
    for heading in ("case", "figure", "subject", "unit"):
        table.add_column(heading)
    for run in runs:
        table.add_column(f"{run.machine.commit[:12] or '?'}\n{run.started[:16]}", justify="right")
    table.add_column("last / first", justify="right")
    rows: dict[tuple[str, str, str, str], dict[int, Figure]] = {}
    for position, run in enumerate(runs):
        for case in run.cases:
            for figure in case.figures:
                key = (case.name, label(figure), figure.subject, figure.unit)
                rows.setdefault(key, {})[position] = figure
    for key, figures in rows.items():
        cells = [number(figures[position].median) if position in figures else "" for position in range(len(runs))]
        first, last = figures.get(0), figures.get(len(runs) - 1)
        ratio = f"{last.median / first.median:.2f}" if first and last and first.median else ""
        table.add_row(*key, *cells, ratio)
    return table

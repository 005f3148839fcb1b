"""A run as one HTML page with its plots: targets first, then the pictures, then every figure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from bench import plots
from bench.plots import Plot
from bench.results import CaseResult, Figure, Run
from bench.tables import MANY, label, number, per_cent, subjects

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem }
img { max-width: 100%; height: auto } figure { margin: 0 0 1.5rem }
figcaption, .facts, li { color: #555; font-size: .9rem }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } th, td { padding: .15rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap }
td + td, th + th { text-align: right } .hit { color: #070 } .missed { color: #b00 } summary { cursor: pointer }
"""


def write(run: Run, folder: Path) -> Path:
    """The page and its pictures; the page's path. Raises ImportError without matplotlib, if there are pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(text(run, plots.write(run, folder)), encoding="utf-8")
    return page


def text(run: Run, drawn: list[Plot]) -> str:
    """The page."""
    return "\n".join(_lines(run, drawn)) + "\n"


def _lines(run: Run, drawn: list[Plot]) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>nodeplane benchmarks, {escape(run.started[:10])}</title><style>{STYLE}</style></head><body>"
    yield "<h1>nodeplane benchmarks</h1>"
    yield f'<p class="facts">{"<br>".join(map(escape, _facts(run)))}</p>'
    yield from _targets(run)
    for plot in drawn:
        yield f"<h2>{escape(plot.title)}</h2>"
        source = escape(f"{plot.name}.png", quote=True)
        yield f'<figure><img src="{source}" alt="{escape(plot.title, quote=True)}">'
        yield f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
    yield "<h2>Every figure</h2>"
    for case in run.cases:
        yield from _case(case)
    yield "</body></html>"


def _facts(run: Run) -> Iterator[str]:
    machine = run.machine
    yield (
        f"{machine.cpu}, {machine.cores} cores{', virtual' if machine.virtual else ''}, {machine.memory_gib} GiB, "
        + ", ".join(f"{name} {size >> 10} KiB" for name, size in machine.caches.items())
    )
    yield (
        f"Linux {machine.kernel}, governor {machine.governor}, {machine.python}, {machine.compiler}, "
        f"load average {machine.load_average:.2f} before the run"
    )
    flags = [*machine.level_flags.items(), *([("C anchor", machine.anchor_flags)] if machine.anchor_flags else [])]
    if flags:
        yield "; ".join(f"{name}: {text}" for name, text in flags)
    if run.versions:
        yield ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
    yield f"{run.started}, commit {machine.commit[:12]}{' with changes' if machine.dirty else ''}, seed {run.seed}"
    yield run.command


def _targets(run: Run) -> Iterator[str]:
    rows = [(case.name, figure) for case in run.cases for figure in case.figures if figure.target is not None]
    if not rows:
        return
    yield f"<h2>Targets: {sum(bool(figure.met) for _, figure in rows)} of {len(rows)} hit</h2><table>"
    yield "<tr><th>case</th><th>figure</th><th>measured</th><th>target</th><th></th></tr>"
    for name, figure in rows:
        sign = "≥" if figure.better == "higher" else "≤"
        word = "hit" if figure.met else "missed"
        cells = (name, f"{label(figure)}, {figure.subject}", f"{number(figure.median)}{per_cent(figure)} {figure.unit}",
                 f"{sign} {number(figure.target or 0)}")  # fmt: skip
        yield f'<tr>{_cells("td", cells)}<td class="{word}">{word}</td></tr>'
    yield "</table>"


def _case(case: CaseResult) -> Iterator[str]:
    opened = " open" if case.error else ""
    yield f"<details{opened}><summary>{escape(case.name)}: {escape(case.question)}</summary>"
    if case.error:
        yield f'<p class="missed">ended early: {escape(case.error)}</p>'
    columns = subjects(case.figures)
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in case.figures:
        rows.setdefault((label(figure), figure.unit), {})[figure.subject] = figure
    yield f'<div class="wide"><table><tr>{_cells("th", ("", "unit", *columns))}</tr>'
    for (name, unit), by_subject in rows.items():
        figures = (by_subject.get(subject) for subject in columns)
        yield f"<tr>{_cells('td', (name, unit, *(_cell(figure, len(columns)) for figure in figures)))}</tr>"
    yield "</table></div><ul>"
    notes = (*case.method, *(f"Checked: {line}" for line in case.verified), *(f"Missing: {m}" for m in case.missing))
    yield from (f"<li>{escape(note)}</li>" for note in notes)
    yield "</ul></details>"


def _cell(figure: Figure | None, columns: int) -> str:
    if figure is None:
        return ""
    if columns >= MANY or len(figure.values) < 2:
        return number(figure.median) + per_cent(figure)
    low, high = figure.spread
    return f"{number(figure.median)} ({number(low)} to {number(high)})"


def _cells(tag: str, texts: tuple[str, ...]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)

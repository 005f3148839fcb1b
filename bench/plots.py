"""The per-packet figures as PNG files, by matplotlib, which is only imported when there is something to draw."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.perpacket.clock import TIME
from bench.results import OURS, CaseResult, Figure, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS: Final = {
    "scapy": "#999999", "dpkt": "#E69F00", "pypacker": "#F0E442", "struct": "#CC79A7", "plain": "#D55E00",
    "baseline": "#56B4E9", "avx2": "#0072B2", "avx512": "#009E73", "C anchor": "#000000",
}  # fmt: skip
MARKS: Final = {"baseline": "o", "avx2": "s", "avx512": "D", "C anchor": "x"}
RUNG_CASES: Final = {"encap": "v4-udp-64", "decap": "v4-udp-64", "five-tuple": "v4-udp-64", "checksum": "1450 B",
                     "segmentation": ""}  # fmt: skip
"""Cases with rungs side by side, and the variant that is drawn; the first that begins so, or any."""
BATCHES: Final = r"(?P<panel>[\w-]+), .*batch of (?P<x>\d+)"
FLOWS: Final = r"(?P<panel>[\w-]+), (?P<x>\d+k?|1m) flows, (?P<style>\w+)"
NOT_IN_CURVES: Final = {"plain"}
"""A thousand times the others: the axis would be his."""
WIRE: Final = 24
"""Bytes of a frame on the wire besides itself: FCS, preamble, gap."""
TUNNEL: Final = 50
LINE_RATES: Final = (10, 25, 100)
LINES_PER_PACKET: Final = 2
CACHE_LINE: Final = 64
DPI: Final = 110


@dataclass(frozen=True)
class Plot:
    """One picture."""

    name: str
    """Of the file, without `.png`."""
    title: str
    caption: str
    draw: Callable[[Drawing], None]


def plots(run: Run) -> Iterator[Plot]:
    """What can be drawn of a run; nothing without per-packet cases."""
    by_name = {case.name: case for case in run.cases}
    for name, variant in RUNG_CASES.items():
        if (case := by_name.get(name)) and (bars := _bars(case, variant)):
            yield _rungs(name, bars, run.machine.tsc_ghz)
    if (case := by_name.get("batch-sizes")) and (curves := _series(case, BATCHES)):
        yield Plot("batch-sizes", "Time per packet against batch size",
                   "One call for each batch; packets hot, in slots of 2 KiB.",
                   partial(_panels, curves=curves, xlabel="packets in a batch", caches={}))  # fmt: skip
    if (case := by_name.get("flows")) and (curves := _series(case, FLOWS)):
        yield Plot("flows", "Time per packet against number of flows",
                   "Batches of 256 drawn from one packet of each flow: solid uniformly, dotted by Zipf's law (0.99). "
                   "Grey: where the headers' cache lines (two a packet) fill a cache.",
                   partial(_panels, curves=curves, xlabel="flows", caches=run.machine.caches))  # fmt: skip
    if (case := by_name.get("engine")) and (parts := _parts(case)):
        yield _stacked(*parts)
    for name in ("encap", "decap"):
        if (case := by_name.get(name)) and (rates := _rates(case)):
            yield _throughput(name, rates)


def write(run: Run, folder: Path) -> list[Plot]:
    """Draw everything into PNG files. Raises ImportError without matplotlib, if there is something to draw."""
    found = list(plots(run))
    if not found:
        return found
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    for plot in found:
        drawing = Canvas(layout="constrained")
        FigureCanvasAgg(drawing)
        plot.draw(drawing)
        drawing.savefig(folder / f"{plot.name}.png", dpi=DPI)
    return found


# --- rungs ------------------------------------------------------------------------------------------------------


def _bars(case: CaseResult, variant: str) -> list[tuple[str, Figure]]:
    """Label and figure of each rung under one variant, slowest first."""
    times = [figure for figure in case.figures if figure.unit == "ns" and figure.subject != OURS]
    chosen = [figure for figure in times if figure.variant.startswith(variant)]
    if not chosen and times:
        first = times[0].variant.partition(",")[0]
        chosen = [figure for figure in times if figure.variant.startswith(first)]
    bars = []
    for figure in chosen:
        way = figure.variant.partition(", ")[2]
        bars.append((f"{figure.subject}, {way}" if way else figure.subject, figure))
    return sorted(bars, key=lambda bar: -bar[1].median)


def _rungs(name: str, bars: list[tuple[str, Figure]], ghz: float) -> Plot:
    variant = bars[0][1].variant.partition(",")[0]

    def draw(drawing: Drawing) -> None:
        drawing.set_size_inches(9, 1.4 + 0.27 * len(bars))
        axes = drawing.subplots()
        medians = [figure.median for _, figure in bars]
        errors = [[figure.median - figure.spread[0] for _, figure in bars],
                  [figure.spread[1] - figure.median for _, figure in bars]]  # fmt: skip
        axes.barh(range(len(bars)), medians, xerr=errors, color=[COLOURS.get(f.subject, "#444444") for _, f in bars],
                  error_kw={"elinewidth": 0.8, "capsize": 2})  # fmt: skip
        axes.set_yticks(range(len(bars)), [text for text, _ in bars])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(min(medians) / 2, max(medians) * 4)
        axes.set_xlabel("ns per packet (median; whiskers: smallest and greatest repetition)")
        for position, (_, figure) in enumerate(bars):
            axes.text(figure.spread[1] * 1.08, position, _number(figure.median), va="center", fontsize=8)
        if ghz:

            def cycles(ns: Any) -> Any:
                return ns * ghz

            def nanoseconds(ticks: Any) -> Any:
                return ticks / ghz

            top = axes.secondary_xaxis("top", functions=(cycles, nanoseconds))
            top.set_xlabel(f"TSC cycles per packet ({ghz:.2f} GHz)")
        axes.grid(axis="x", which="major", alpha=0.3)
        axes.set_axisbelow(True)

    return Plot(f"rungs-{name}", f"{name}: every rung", f"{variant}; shorter is faster, logarithmic.", draw)


# --- curves -----------------------------------------------------------------------------------------------------

Curves = dict[str, dict[tuple[str, str], list[tuple[float, Figure]]]]
"""By panel, then by subject and style: x and figure."""


def _series(case: CaseResult, pattern: str) -> Curves:
    found: Curves = {}
    for figure in case.figures:
        match = re.fullmatch(pattern, figure.variant)
        if match is None or figure.measure != TIME or figure.subject in NOT_IN_CURVES:
            continue
        groups = match.groupdict()
        panel = found.setdefault(groups["panel"], {})
        panel.setdefault((figure.subject, groups.get("style", "")), []).append((_count(groups["x"]), figure))
    return found


def _count(text: str) -> float:
    return 1 << 20 if text == "1m" else float(text.replace("k", "000"))


def _panels(drawing: Drawing, curves: Curves, xlabel: str, caches: dict[str, int]) -> None:
    drawing.set_size_inches(4.2 * len(curves), 4.4)
    panels = drawing.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (name, lines) in zip(panels, curves.items(), strict=True):
        for (subject, style), points in lines.items():
            points.sort(key=lambda point: point[0])
            x = [at for at, _ in points]
            colour = COLOURS.get(subject, "#444444")
            dashes = ":" if style == "zipf" else "-"
            axes.plot(x, [f.median for _, f in points], dashes, color=colour, marker=MARKS.get(subject, "."),
                      markersize=4, linewidth=1.3, label=None if style == "zipf" else subject)  # fmt: skip
            axes.fill_between(x, [f.spread[0] for _, f in points], [f.spread[1] for _, f in points], color=colour,
                              alpha=0.12, linewidth=0)  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.set_yscale("log")
        axes.set_title(name)
        axes.set_xlabel(xlabel)
        axes.yaxis.set_major_formatter(lambda value, _: _number(value))
        axes.yaxis.set_minor_formatter(lambda value, _: _number(value) if f"{value:e}"[0] in "235" else "")
        axes.grid(alpha=0.3, which="both")
        _cache_marks(axes, caches)
    panels[0].set_ylabel("ns per packet")
    # In the order of all panels: not every level may be in the first.
    found = {text: line for axes in panels for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawing.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found), fontsize=8)


def _cache_marks(axes: Axes, caches: dict[str, int]) -> None:
    low, high = axes.get_xlim()
    for name, size in caches.items():
        flows = size / (LINES_PER_PACKET * CACHE_LINE)
        if low < flows < high:
            axes.axvline(flows, color="#888888", linewidth=0.9, linestyle="--")
            axes.text(flows, 0.98, f" {name} {_bytes(size)}", transform=axes.get_xaxis_transform(), fontsize=7,
                      rotation=90, va="top", ha="right", color="#555555")  # fmt: skip


# --- a way of several stages ----------------------------------------------------------------------------------------

Parts = dict[str, dict[str, float]]
"""By variant: ns per packet of each stage."""


def _parts(case: CaseResult) -> tuple[str, Parts] | None:
    """The subject that has a target, and what its stages take; by Zipf's law the same in less."""
    subjects = [figure.subject for figure in case.figures if figure.target is not None]
    found: Parts = {}
    for figure in case.figures:
        if subjects and figure.subject == subjects[0] and figure.measure != TIME and "zipf" not in figure.variant:
            found.setdefault(figure.variant, {})[figure.measure] = figure.median
    return (subjects[0], found) if found else None


def _stacked(subject: str, parts: Parts) -> Plot:
    def draw(drawing: Drawing) -> None:
        drawing.set_size_inches(9, 1.6 + 0.32 * len(parts))
        axes = drawing.subplots()
        rows = list(parts)
        left = [0.0] * len(rows)
        for stage, colour in zip(dict.fromkeys(s for each in parts.values() for s in each), COLOURS.values(),
                                 strict=False):  # fmt: skip
            widths = [parts[row].get(stage, 0.0) for row in rows]
            axes.barh(range(len(rows)), widths, left=left, label=stage, color=colour)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for position, end in enumerate(left):
            axes.text(end, position, f" {_number(end)}", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set_xlabel("ns per packet (sum of the stages' medians)")
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    return Plot("engine", "The whole way of a packet, stage by stage",
                f"Level {subject}. Batches of 256 packets of established connections whose flows are in the cache; "
                "flows drawn uniformly.", draw)  # fmt: skip


# --- throughput -------------------------------------------------------------------------------------------------

Rates = dict[str, list[tuple[int, float]]]
"""By rung: inner frame bytes, Gb/s on the wire."""


def _rates(case: CaseResult) -> Rates:
    found: Rates = {}
    for figure in case.figures:
        match = re.fullmatch(r"v4-udp-(\d+), (.+)", figure.variant)
        if match is None or figure.unit != "ns":
            continue
        size = int(match[1])
        bits = (size + TUNNEL + WIRE) * 8
        found.setdefault(f"{figure.subject}, {match[2]}", []).append((size, bits / figure.median))
    fastest = {name: max(rate for _, rate in points) for name, points in found.items() if len(points) > 1}
    return {name: sorted(found[name]) for name in sorted(fastest, key=lambda name: -fastest[name])}


def _throughput(name: str, rates: Rates) -> Plot:
    def draw(drawing: Drawing) -> None:
        drawing.set_size_inches(9, 5.5)
        axes = drawing.subplots()
        for text, points in rates.items():
            subject, _, way = text.partition(", ")
            style = {"bytes": ":", "list": "-.", "batch cold": "--"}.get(way, "-")
            axes.plot([x for x, _ in points], [y for _, y in points], style, color=COLOURS.get(subject, "#444444"),
                      marker=MARKS.get(subject, "."), markersize=4, linewidth=1.2, label=text)  # fmt: skip
        for rate in LINE_RATES:
            axes.axhline(rate, color="#AA0000", linewidth=0.9)
            axes.text(1.0, rate, f"{rate} Gb/s line rate", transform=axes.get_yaxis_transform(), fontsize=7,
                      va="bottom", ha="right", color="#AA0000")  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: _number(value))
        axes.set_xlabel("inner frame, bytes")
        axes.set_ylabel("Gb/s on the wire, one core, memory to memory")
        axes.set_xticks(sorted({x for points in rates.values() for x, _ in points}))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))

    return Plot(f"throughput-{name}", f"{name}: throughput by frame size",
                f"What one core would carry if it did nothing else; on the wire a frame has {TUNNEL} bytes of VXLAN "
                f"headers and {WIRE} of preamble, FCS and gap more. IPv4, UDP.", draw)  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _tick(value: float) -> str:
    """1, 256, 4 Ki, 1 Mi."""
    for unit, letter in ((1 << 20, " Mi"), (1 << 10, " Ki")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"

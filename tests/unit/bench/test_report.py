"""The page and its plots."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import html, plots
from bench.results import CaseResult, Figure, Run
from tests.unit.bench.runs import run

PNG = b"\x89PNG\r\n"


def ns(variant: str, *values: float, subject: str = "avx2") -> Figure:
    return Figure(measure="time", unit="ns", subject=subject, variant=variant, better="lower", values=values)


def packets() -> Run:
    """A run with something for every plot."""
    encap = (
        *(ns(f"v4-udp-{size}, batch hot", 4.0, 5.0, 4.5) for size in (64, 512, 1400)),
        ns("v4-udp-64, bytes", 700_000.0, 800_000.0, subject="scapy"),
        ns("v4-udp-64, batch hot", 4.0, subject="C anchor"),
    )
    sizes = tuple(ns(f"encap, v4-udp-64, batch of {size}", 40 / size + 4, 50 / size + 4) for size in (1, 8, 256))
    flows = tuple(
        ns(f"encap, {count} flows, {law}", 4.0, 5.0) for count in ("1", "4096", "1m") for law in ("uniform", "zipf")
    )
    whole = Figure(
        measure="time",
        unit="ns",
        subject="avx2",
        variant="v4-udp-64, batch hot",
        values=(9.0,),
        target=60,
        better="lower",
    )
    ways = ("v4-udp-64, batch hot", "v4-udp-64, 1m flows, uniform", "v4-udp-64, 1m flows, zipf")
    parts = tuple(
        Figure(measure=stage, unit="ns", subject=subject, variant=way, values=(2.0, 3.0))
        for stage in ("parse", "encap") for way in ways for subject in ("plain", "avx2")
    )  # fmt: skip
    cases = tuple(
        CaseResult(name=name, question="How fast?", figures=figures)
        for name, figures in (
            ("encap", encap), ("batch-sizes", sizes), ("flows", flows), ("engine", (whole, *parts)),
        )
    )  # fmt: skip
    machine = msgspec.structs.replace(run().machine, tsc_ghz=2.6, caches={"L1d": 49152, "L2": 1 << 20})
    return msgspec.structs.replace(run(), machine=machine, cases=cases)


def test_what_is_drawn() -> None:
    drawn = [plot.name for plot in plots.plots(packets())]
    assert drawn == ["rungs-encap", "batch-sizes", "flows", "engine", "throughput-encap"]
    assert not list(plots.plots(run()))


def test_every_plot_is_a_picture_on_the_page(tmp_path: Path) -> None:
    page = html.write(packets(), tmp_path / "page")
    text = page.read_text()
    pictures = sorted((tmp_path / "page").glob("*.png"))
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.read_bytes().startswith(PNG)
        assert f'src="{picture.name}"' in text


def test_the_page_tells_targets_and_machine(tmp_path: Path) -> None:
    text = html.text(run(commit="fedcba9876543210", caches={"L2": 1 << 20}), [])
    assert "1 of 1 hit" in text
    assert "≥ 95" in text
    for fact in ("A CPU", "L2 1024 KiB", "fedcba987654", "python -m bench run case"):
        assert fact in text


def test_nothing_of_a_result_becomes_markup() -> None:
    evil = Figure(measure="<script>", unit='"', subject="<b>", values=(1.0,), target=2.0, better="lower")
    case = CaseResult(name="<i>", question="<u>", figures=(evil,), method=("<s>",), missing=("<p>",), error="<q>")
    text = html.text(msgspec.structs.replace(run(), cases=(case,), command="<em>"), [])
    for tag in ("<script>", "<b>", "<i>", "<u>", "<s>", "<p>", "<q>", "<em>"):
        assert tag not in text


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (256.0, "256"), (4096.0, "4 Ki"), (float(1 << 20), "1 Mi")])
def test_ticks(value: float, text: str) -> None:
    assert plots._tick(value) == text

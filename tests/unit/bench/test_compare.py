"""Whether a difference counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import compare
from bench.cli import bench
from bench.results import Better, Figure, save
from tests.unit.bench.runs import run


def figure(*values: float, better: Better = "lower") -> Figure:
    return Figure(measure="time", unit="ns", better=better, values=values)


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (figure(1.0, 1.1, 1.2), figure(1.3, 1.4, 1.5), "worse"),
        (figure(1.0, 1.1, 1.2), figure(0.7, 0.8, 0.9), "better"),
        (figure(1, 2, 3, better="higher"), figure(4, 5, 6), "better"),
        (figure(1, 2, 3, better=""), figure(4, 5, 6), "differs"),
        (figure(1.0, 1.1, 1.2), figure(1.2, 1.4, 1.5), "within spread"),
        (figure(1.0, 1.1, 1.2), figure(1.0, 5.0, 9.0), "within spread"),
        (figure(1.0, 1.0), figure(5.0, 5.0, 5.0), "too few"),
    ],
)
def test_a_difference_counts_beyond_the_spread(first: Figure, last: Figure, verdict: str) -> None:
    (change,) = compare.changes(run(first), run(last))
    assert change.verdict == verdict


def test_only_figures_of_both_are_compared() -> None:
    other = Figure(measure="other", unit="ns", values=(1.0,))
    assert [change.first for change in compare.changes(run(figure(1.0), other), run(figure(2.0)))] == [figure(1.0)]
    assert compare.summary([]) == "no figure in both"


def test_ratio_of_nothing() -> None:
    (change,) = compare.changes(run(figure(0.0)), run(figure(2.0)))
    assert change.ratio is None


def test_the_command(tmp_path: Path) -> None:
    save(run(figure(1.0, 1.0, 1.0)), tmp_path / "a.json")
    save(run(figure(3.0, 3.0, 3.0)), tmp_path / "b.json")
    output = CliRunner().invoke(bench, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]).output
    assert "3.000" in output
    assert "1 worse" in output
    same = (
        CliRunner().invoke(bench, ["compare", "--changed", str(tmp_path / "a.json"), str(tmp_path / "a.json")]).output
    )
    assert "1.000" not in same
    assert "1 within spread" in same


def test_the_command_refuses_different_machines(tmp_path: Path) -> None:
    save(run(), tmp_path / "a.json")
    save(run(cores=64), tmp_path / "b.json")
    result = CliRunner().invoke(bench, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert result.exit_code == 1
    assert "cores: 2 against 64" in result.output

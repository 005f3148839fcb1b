"""list and report, and what run refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cases import CASES
from bench.cli import bench
from bench.results import Figure, save
from tests.unit.bench.runs import FIGURE, run


def call(*argv: str | Path) -> Result:
    return CliRunner().invoke(bench, [str(word) for word in argv])


def test_list_names_every_case() -> None:
    lines = call("list").output.splitlines()
    assert [line.split()[0] for line in lines] == list(CASES)


@pytest.mark.parametrize(
    ("argv", "word"),
    [(("run", "nothing"), "'nothing'"), (("run", "dhcp", "--with", "bind"), "bind"), (("run",), "CASE")],
)
def test_run_refuses_unknown_names(argv: tuple[str, ...], word: str) -> None:
    result = call(*argv)
    assert result.exit_code == 2
    assert word in result.output


def test_report_shows_median_spread_and_target(tmp_path: Path) -> None:
    save(run(), tmp_path / "a.json")
    output = call("report", tmp_path / "a.json").output
    for text in ("How many [n]?", "100 (90 to 120)", "at least 95: hit", "A CPU, 2 cores"):
        assert text in output


def test_report_compares_one_machine(tmp_path: Path) -> None:
    save(run(), tmp_path / "a.json")
    save(run(type(FIGURE)(measure="requests", unit="/s", variant="64 clients", values=(200.0,)), commit="fedcba"),
         tmp_path / "b.json")  # fmt: skip
    output = call("report", tmp_path / "a.json", tmp_path / "b.json").output
    assert "2.00" in output
    assert "fedcba" in output


def test_report_refuses_different_machines(tmp_path: Path) -> None:
    save(run(), tmp_path / "a.json")
    save(run(kernel="6.2.0"), tmp_path / "b.json")
    refused = call("report", tmp_path / "a.json", tmp_path / "b.json")
    assert refused.exit_code == 1
    assert "kernel: 6.1.0 against 6.2.0" in refused.output
    shown = call("report", tmp_path / "a.json", tmp_path / "b.json", "--different-machines")
    assert shown.exit_code == 0
    assert "from different machines" in shown.output


def test_report_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    result = call("report", tmp_path / "a.json")
    assert result.exit_code == 1
    assert "is not a result file" in result.output


def test_report_writes_markdown(tmp_path: Path) -> None:
    save(run(), tmp_path / "a.json")
    output = call("report", "--markdown", tmp_path / "a.json").output
    assert "| requests, 64 clients | /s | 100 (90 to 120) | at least 95: hit |" in output
    assert call("report", "--markdown", tmp_path / "a.json", tmp_path / "a.json").exit_code == 2


def test_report_lists_what_has_a_target(tmp_path: Path) -> None:
    aimless = Figure(measure="p50", unit="ms", values=(1.0,))
    missed = Figure(measure="time", unit="ns", subject="avx2", better="lower", values=(3.0, 5.0, 4.0), target=2.0)
    save(run(aimless), tmp_path / "a.json")
    save(run(FIGURE, aimless, missed), tmp_path / "b.json")
    assert call("report", "--targets", tmp_path / "a.json", tmp_path / "b.json").output.splitlines()[2:] == [
        "| case | requests, 64 clients | nodeplane | /s | 100 (90 to 120) | at least 95: hit |",
        "| case | time | avx2 | ns | 4 (3 to 5) | at most 2: **missed** |",
    ]

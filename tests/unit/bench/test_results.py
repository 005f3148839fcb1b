"""Figures, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.results import load, save
from tests.unit.bench.runs import FIGURE, run


def test_median_spread_and_target() -> None:
    assert (FIGURE.median, FIGURE.spread, FIGURE.met) == (100.0, (90.0, 120.0), True)
    lower = msgspec.structs.replace(FIGURE, better="lower")
    assert lower.met is False
    assert msgspec.structs.replace(FIGURE, target=None).met is None


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.json"
    save(run(), path)
    assert load(path) == run()


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1}', "no JSON"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a result file"):
        load(path)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.json"
    save(msgspec.structs.replace(run(), schema=99), path)
    with pytest.raises(ValueError, match="schema 99"):
        load(path)

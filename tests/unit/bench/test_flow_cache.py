"""The flow-cache case: a small run with every answer checked, and what ends it."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cases import flow_cache
from bench.classify import scan, sets, stepping_aside, traces
from bench.classify.files import Rules, Trace
from bench.cli import bench
from bench.compile import MissingToolError, compiler
from bench.results import load
from fastpath import LEVEL


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        compiler()
    except MissingToolError as error:
        pytest.skip(str(error))
    if LEVEL == "pure":
        pytest.skip("nothing is compiled here")
    monkeypatch.setattr(flow_cache, "FLOWS", (1024, 2048))
    monkeypatch.setattr(stepping_aside, "ROOM", 1024)
    monkeypatch.setattr(stepping_aside, "TIMES", 3)
    monkeypatch.setattr(stepping_aside, "SETTLED", 300)


def run(tmp_path: Path, *rules: str) -> Any:
    chosen = [word for name in rules for word in ("--rules", name)]
    return CliRunner().invoke(
        bench, ["run", "flow-cache", *chosen, "--repeat", "1", "--seconds", "0.001", "--json", str(tmp_path / "f.json")]
    )


def test_a_small_run(tmp_path: Path) -> None:
    result = run(tmp_path, "acl-100")
    assert result.exit_code == 0, result.output
    case = load(tmp_path / "f.json").cases[0]
    figures = {(figure.measure, figure.variant) for figure in case.figures}
    for way in ("keys", "batch", "rules"):
        assert ("time", f"acl-100, uniform, 1,024, {way}") in figures
    for trace in (
        "all flows in it", "one flow", "3 times as many flows, in turns", "3 times as many flows, drawn",
        "3 times as many flows, zipf 0.99", "no rule matches, each flow once",
    ):  # fmt: skip
        assert (stepping_aside.OF_RULES, f"acl-100, {trace}") in figures
        assert {f"acl-100, {trace}, cache that {state}" for state in ("serves", "rests")} & {
            figure.variant for figure in case.figures
        }
    assert len(case.verified) == 2


def test_a_wrong_answer_ends_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = scan.answers

    def wrong(rules: Rules, trace: Trace) -> array[int]:
        found = right(rules, trace)
        found[7] += 1
        return found

    monkeypatch.setattr(scan, "answers", wrong)
    result = run(tmp_path, "acl-100")
    assert result.exit_code == 1
    assert "answers are wrong" in result.output


def test_ipv6_is_refused(tmp_path: Path) -> None:
    assert "takes IPv4 rules" in run(tmp_path, "acl-100-v6").output


def test_the_traces_are_what_they_are_called() -> None:
    rules = sets.load("acl-100", 1)
    found = {trace.name: trace for trace in stepping_aside.cases(rules, 1, 512, 4)}

    def flows(name: str) -> int:
        keys = found[name].keys
        return len({keys[at : at + 16] for at in range(0, len(keys), 16)})

    assert flows("one flow") == 1
    in_turns = found["4 times as many flows, in turns"]
    assert len(in_turns) == 4 * 512
    assert flows(in_turns.name) == 4 * flows("all flows in it")
    # The first ones are the flows that the cache would hold.
    assert in_turns.keys.startswith(found["all flows in it"].keys)
    assert flows("4 times as many flows, drawn") > 2 * 512 > flows("4 times as many flows, zipf 0.99")
    assert traces.zipf(in_turns, 0.99, 1, 8).keys != traces.uniform_of(in_turns, 1, 8).keys

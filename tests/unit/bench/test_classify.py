"""The classify case: sets by name, files, what it refuses, and small runs with every answer checked."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from array import array
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.classify import acl, lookups, renewal, scan, sets, traces, updates
from bench.classify.files import Rules, Trace
from bench.cli import bench
from bench.compile import MissingToolError, compiler
from bench.perpacket.levels import PLAIN
from bench.results import load
from bench.rulegen import generate
from fastpath._ruleset_py import RuleSet
from fastpath.rules import unpack


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        compiler()
    except MissingToolError as error:
        pytest.skip(str(error))


def call(*argv: str | Path) -> Result:
    return CliRunner().invoke(bench, [str(word) for word in argv])


def test_sets_have_names(tmp_path: Path) -> None:
    made = sets.load("fw-200-v6", 5)
    assert (made.name, len(made), made.version) == ("fw-200-v6", 200, 6)
    assert made.records == generate("fw", 200, version=6, seed=5).records
    assert sets.load("flood-1k", 1).name == "flood-1k"
    assert call("generate", "ipc-100", tmp_path / "rules", tmp_path / "trace", "--headers", "50").exit_code == 0
    sets.check(str(tmp_path / "rules"))
    assert sets.load(str(tmp_path / "rules"), 9).records == generate("ipc", 100).records
    assert len((tmp_path / "trace").read_text().splitlines()) == 50


@pytest.mark.parametrize("name", ["acl", "nat-1k", "acl-99", "acl-501k", "flood-1k-v6", "acl-1k-v4"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=name):
        sets.check(name)
    result = call("run", "classify", "--rules", name)
    assert (result.exit_code, name in result.output) == (2, True)
    assert call("generate", name, tmp_path / "rules").exit_code == 1


def test_a_trace_needs_its_rules(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("1 1 1 1 6\n")
    assert call("run", "classify", "--trace", tmp_path / "t").exit_code == 2


def test_a_small_run(tmp_path: Path) -> None:
    rules, trace, found = tmp_path / "r", tmp_path / "t", tmp_path / "found.json"
    assert call("generate", "fw-100", rules, trace, "--headers", "300").exit_code == 0
    result = call("run", "classify", "--rules", rules, "--trace", trace, "--updates", "5000", "--repeat", "1",
                  "--seconds", "0.001", "--json", found)  # fmt: skip
    assert result.exit_code == 0, result.output
    case = load(found).cases[0]
    figures = {(figure.measure, figure.variant): figure for figure in case.figures}
    for measure, variant in (
        ("build", "r"), *(("lookups", f"r, t, batch {batch}") for batch in lookups.BATCHES),
        ("updates alone", "r, by 1"), ("updates beside lookups", "r, 5,000/s"),
        ("lookups kept", "r, by 1"), ("p99.9 call", "r, 5,000/s"),
        ("longest call, no writer", "r, 5,000/s"), ("longest call, other set", "r, by 1"),
        ("lookups kept", "r, by 1, fresh"), ("updates beside lookups", "r, 5,000/s, fresh"),
    ):  # fmt: skip
        assert figures[measure, variant].median >= 0
    assert len(case.verified) == 2


def test_what_a_trace_expects_wrongly_ends_the_case(tmp_path: Path) -> None:
    rules, trace = tmp_path / "r", tmp_path / "t"
    assert call("generate", "fw-100", rules, trace, "--headers", "3").exit_code == 0
    lines = [line.split("\t") for line in trace.read_text().splitlines()]
    lines[1][5] = "0"
    trace.write_text("\n".join("\t".join(line) for line in lines))
    result = call("run", "classify", "--rules", rules, "--trace", trace)
    assert result.exit_code == 1
    assert "t: header 2 expects no rule, r says rule" in result.output


def test_bad_input_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    rules, trace = tmp_path / "r", tmp_path / "t"
    assert call("generate", "fw-100", rules, trace, "--headers", "3").exit_code == 0
    trace.write_text("1\t2\t3\n")
    rules.with_suffix(".bad").write_text("nothing\n")
    for arguments, said in (
        (("--rules", rules.with_suffix(".bad")), f"--rules: {tmp_path}/r.bad:1: source: "),
        (("--rules", tmp_path), f"--rules: {tmp_path}: file: Is a directory"),
        (("--rules", rules, "--trace", trace), f"--trace: {trace}:1: columns: 3 of them, not 5 or 6"),
        (("--rules", rules, "--trace", tmp_path / "none"), f"--trace: {tmp_path}/none: file: No such file"),
        (("--rules", rules, "--json", tmp_path), f"'--json': File '{tmp_path}' is a directory"),
        (("--rules", rules, "--json", rules / "x"), f"'--json': {rules}/x: "),
    ):
        result = call("run", "classify", *arguments)
        assert (result.exit_code, said in " ".join(result.output.split())) == (2, True), result.output
        assert "how:" not in result.output


def test_json_without_a_file_is_shown(tmp_path: Path) -> None:
    rules, trace = tmp_path / "r", tmp_path / "t"
    assert call("generate", "acl-100", rules, trace, "--headers", "30").exit_code == 0
    result = call("run", "classify", "--rules", rules, "--trace", trace, "--repeat", "1", "--seconds", "0.001",
                  "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    (tmp_path / "found.json").write_text(result.stdout)
    assert load(tmp_path / "found.json").cases[0].name == "classify"


def small() -> tuple[Rules, Trace, array[int]]:
    rules = generate("acl", 100)
    trace = traces.uniform(rules, 1, 60)
    return rules, trace, scan.answers(rules, trace)


def test_a_writer_leaves_all_rules_under_other_ids() -> None:
    rules, trace, wanted = small()
    some = updates.chosen(rules, 1)
    assert len(set(some)) == 10
    made = RuleSet(rules.records)
    writer = updates.Writer(made, rules, some, 4)
    with writer.running(frozenset(os.sched_getaffinity(0))):
        while not writer.changes and writer.error is None:
            time.sleep(0.001)
    assert len(made) == 100
    assert set(writer.positions_by_id()) == set(some)
    reader = updates.Reader(lookups.Engine(PLAIN, made), rules, trace, wanted, some)
    reader.check(writer)
    made.remove(next(id for id in range(100) if id in set(wanted)))
    with pytest.raises(scan.WrongAnswerError, match="plain after updates"):
        reader.check(writer)


def test_a_writer_of_fresh_rules_leaves_them_with_other_addresses() -> None:
    rules, trace, _ = small()
    some = updates.chosen(rules, 1)
    made = RuleSet(rules.records)
    writer = updates.Writer(made, rules, some, 4, fresh=True)
    with writer.running(frozenset(os.sched_getaffinity(0))):
        while not writer.changes and writer.error is None:
            time.sleep(0.001)
    left = writer.left()
    changed = [i for i, (one, other) in enumerate(zip(rules.rules(), left.rules(), strict=True)) if one != other]
    assert changed
    assert set(changed) <= set(some)
    assert sorted(map(repr, made.rules().values())) == sorted(map(repr, left.rules()))
    updates.Reader(lookups.Engine(PLAIN, made), rules, trace, array("i"), some).check(writer)


@pytest.mark.parametrize("version", [4, 6])
def test_every_form_of_a_fresh_rule_lies_in_its_envelope(version: int) -> None:
    records = generate("fw", 100, version=6 if version == 6 else 4).records
    held, mask, chance = unpack(renewal.envelope(records)), renewal.changing(records), random.Random(1)
    for _ in range(5):
        records = renewal.renewed(records, mask, chance)
        for rule, around in zip(unpack(records), held, strict=True):
            assert dataclasses.replace(rule, source=None, destination=None) == dataclasses.replace(
                around, source=None, destination=None
            )
            for net, wide in ((rule.source, around.source), (rule.destination, around.destination)):
                assert wide is None or (net is not None and net.subnet_of(wide))  # type: ignore[arg-type]


def test_a_reader_notices_an_answer_that_changes_beside_it() -> None:
    rules, trace, wanted = small()
    some = updates.chosen(rules, 1)
    made = RuleSet(rules.records)
    reader = updates.Reader(lookups.Engine(PLAIN, made), rules, trace, wanted, some)
    made.update(remove=some)
    assert reader.rate(0.001) > 0
    made.remove(next(id for id in wanted if id not in some))
    with pytest.raises(scan.WrongAnswerError, match="plain: "):
        reader.rate(0.001)


@pytest.mark.parametrize("version", [4, 6])
def test_the_peer_gives_the_same_answers(version: int, tmp_path: Path) -> None:
    try:
        acl.version()
    except MissingToolError as error:
        pytest.skip(str(error))
    rules = generate("fw", 100, version=6 if version == 6 else 4)
    trace = traces.crossed(traces.uniform(rules, 1, 100), 1, 200)
    with acl.Acl(rules, tmp_path, 0) as peer:
        peer.load(trace)
        for method in peer.methods:
            scan.compare(method, rules, trace, peer.answers(method), scan.answers(rules, trace))
            assert peer.time(method, 32, 0.001) > 0
        with pytest.raises(acl.AclError, match="what"):
            peer.time("none", 32, 0.001)
    assert "scalar" in peer.methods


def test_ipv6_sets_are_measured_beside_ipv4_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "DEFAULT", ("fw-100",))
    monkeypatch.setattr(sets, "BRIEF", ("fw-100-v6",))
    monkeypatch.setattr(traces, "HEADERS", 256)
    found = tmp_path / "found.json"
    result = call("run", "classify", "--repeat", "1", "--seconds", "0.001", "--json", found)
    assert result.exit_code == 0, result.output
    figures = {(figure.measure, figure.variant): figure for figure in load(found).cases[0].figures}
    assert figures["of the IPv4 rate", "fw-100-v6"].median > 0
    assert ("build", "fw-100-v6") not in figures

"""Traces for generated rule sets, and the linear check of their answers."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Literal

import pytest

from bench.classify import scan, traces
from bench.classify.files import NONE, Rules, Trace, headers, key, record
from bench.compile import MissingToolError, compiler
from bench.rulegen import generate
from fastpath.rules import Header, first_match


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        compiler()
    except MissingToolError as error:
        pytest.skip(str(error))


def pieces(trace: Trace) -> list[bytes]:
    return [trace.keys[i : i + trace.size] for i in range(0, len(trace.keys), trace.size)]


@pytest.mark.parametrize("version", [4, 6])
def test_the_scan_is_the_specification(version: Literal[4, 6]) -> None:
    rules = generate("fw", 300, version=version)
    trace = traces.crossed(traces.uniform(rules, 1, 400), 2, 300)
    trace = Trace("both", version, trace.keys + traces.uniform(rules, 5, 100).keys)
    listed = list(enumerate(rules.rules()))
    wanted = [
        first_match(listed, Header(version, source, destination, protocol, sport, dport))
        for source, destination, sport, dport, protocol in headers(trace)
    ]
    assert list(scan.answers(rules, trace)) == wanted
    assert NONE in wanted
    assert max(wanted) > 128


def test_wrong_answers_are_named() -> None:
    rules = generate("acl", 100)
    trace = traces.uniform(rules, 1, 10)
    wanted = scan.answers(rules, trace)
    found = array("i", wanted)
    scan.compare("we", rules, trace, found, wanted)
    found[3], found[5] = NONE, 7777
    with pytest.raises(scan.WrongAnswerError, match=r"we: 2 of 10 .* header 4 .* no rule instead of rule"):
        scan.compare("we", rules, trace, found, wanted)
    open_ones = array("i", wanted)
    open_ones[3] = open_ones[5] = scan.ANY
    scan.compare("we", rules, trace, found, open_ones)
    claimed = Trace("t", 4, trace.keys, tuple(found))
    with pytest.raises(scan.WrongAnswerError, match=r"t: header 4 expects no rule, acl-100 says rule"):
        scan.expected(rules, claimed, wanted)


def test_uniform_headers_match() -> None:
    rules = generate("ipc", 200)
    assert NONE not in scan.answers(rules, traces.uniform(rules, 1, 500))


def test_zipf_draws_some_headers_far_more_often() -> None:
    trace = Trace("t", 4, b"".join(key(4, (i, 0, 0, 0, 6)) for i in range(1000)), tuple(range(1000)))
    drawn = traces.zipf(trace, 0.99, 7, 20_000)
    assert drawn.keys == traces.zipf(trace, 0.99, 7, 20_000).keys != traces.zipf(trace, 0.99, 8, 20_000).keys
    times = [count for _, count in Counter(pieces(drawn)).most_common()]
    # The share of the first of 1,000 by Zipf's law with 0.99 is 0.13; the tenth has a tenth of that.
    assert 2400 < times[0] < 2900
    assert 6 < times[0] / times[9] < 13
    assert drawn.expected is not None
    assert pieces(drawn)[5] == key(4, (drawn.expected[5], 0, 0, 0, 6))
    even = Counter(pieces(traces.zipf(trace, 0.0, 7, 20_000))).most_common(1)[0][1]
    assert even < 60


def test_one_flow_is_one_that_matches() -> None:
    trace = Trace("t", 4, key(4, (1, 0, 0, 0, 6)) + key(4, (2, 0, 0, 0, 6)))
    assert set(pieces(traces.one_flow(trace, [NONE, 4], 50))) == {key(4, (2, 0, 0, 0, 6))}


def test_misses_match_nothing() -> None:
    rules = generate("acl", 150)
    missed = traces.misses(rules, traces.uniform(rules, 1, 300), 1, 400)
    assert missed is not None
    assert len(missed) == 400
    assert set(scan.answers(rules, missed)) == {NONE}
    everything = Rules("all", 4, generate("acl", 100).records[:0] + _all())
    assert traces.misses(everything, traces.uniform(everything, 1, 10), 1, 40) is None


def _all() -> bytes:
    return record(4, 0, ((0, 0), (0, 0), (0, 65535), (0, 65535), None))


def test_the_worst_headers_are_those_that_cost_most() -> None:
    trace = Trace("t", 4, b"".join(key(4, (i, 0, 0, 0, 6)) for i in range(200)))
    found = traces.worst(trace, lambda keys: float(keys[0]), 300)
    assert len(found) == 300
    assert set(pieces(found)) == set(pieces(trace)[200 - traces.WORST :])


def test_sets_against_tables() -> None:
    tuples = traces.tuple_explosion(2000, 1).rules()
    lengths = {
        (rule.source.prefixlen, rule.destination.prefixlen) for rule in tuples if rule.source and rule.destination
    }
    assert len(tuples) == 2000
    assert len(lengths) > 800
    flood = traces.hash_flooding(2000, 1).rules()
    assert len({(int(rule.source.network_address) >> 16, int(rule.destination.network_address) >> 16)
                for rule in flood if rule.source and rule.destination}) == 64  # fmt: skip

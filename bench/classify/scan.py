"""The linear specification at C speed: which rule wins, found by looking at every one (bench/load/scan.c)."""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import Any, Final

from bench import compile
from bench.classify.files import NONE, Rules, Trace, headers
from fastpath.rules import Header, first_match

SAMPLE: Final = 500_000
"""Comparisons in Python that the sample may cost."""
ANY: Final = -2
"""Wanted where any answer will do."""


class WrongAnswerError(Exception):
    """An engine's answer is not that of the specification; the text says which rule and header."""


@cache
def _library() -> Any:
    return ctypes.CDLL(str(compile.library("scan")))


def answers(rules: Rules, trace: Trace) -> array[int]:
    """Positions of the rules that win, NONE for none, of every header.

    Raises WrongAnswerError if `fastpath.rules.first_match` says otherwise of some of them, MissingToolError without a
    C compiler.
    """
    pieces = [trace.keys[at : at + trace.size] for at in range(0, len(trace.keys), trace.size)]
    # Drawn traces have the same headers again and again: each is looked for once.
    once = Trace(trace.name, trace.version, b"".join(dict.fromkeys(pieces)))
    found = array("i", bytes(4 * len(once)))
    if found and _library().scan(
        rules.records, len(rules), once.keys, len(once), rules.version, _pointer(found, len(found))
    ):
        raise MemoryError
    _sample(rules, once, found)
    by_key = dict(zip(dict.fromkeys(pieces), found, strict=True))
    return array("i", map(by_key.__getitem__, pieces))


def _sample(rules: Rules, trace: Trace, found: array[int]) -> None:
    """Compare some answers with the definition."""
    count = max(1, min(64, SAMPLE // max(1, len(rules)), len(trace)))
    step = max(1, len(trace) // count)
    listed = rules.listed
    for number, (source, destination, sport, dport, protocol) in enumerate(headers(trace)):
        if number % step == 0:
            header = Header(rules.version, source, destination, protocol, sport, dport)
            if (wanted := first_match(listed, header)) != found[number]:
                raise WrongAnswerError(f"scan.c: {describe(rules, found[number])} for {header}, first_match says "
                                       f"{describe(rules, wanted)}")  # fmt: skip


def compare(who: str, rules: Rules, trace: Trace, found: array[int], wanted: array[int]) -> None:
    """Raise WrongAnswerError if any of the answers (int32, as many as headers) is not the one that is wanted."""
    first = ctypes.c_uint32()
    n = len(trace)
    wrong = _library().differences(_pointer(found, n), _pointer(wanted, n), n, ctypes.byref(first))
    if wrong:
        at = first.value
        header = list(headers(trace))[at]
        raise WrongAnswerError(
            f"{who}: {wrong} of {n} answers are wrong in {rules.name}, {trace.name}; header {at + 1} {header}: "
            f"{describe(rules, found[at])} instead of {describe(rules, wanted[at])}"
        )


def expected(rules: Rules, trace: Trace, wanted: array[int]) -> None:
    """Raise WrongAnswerError if what a trace file claims is not what the rules say."""
    if trace.expected is not None:
        for number, (claim, right) in enumerate(zip(trace.expected, wanted, strict=True), 1):
            if claim != right:
                raise WrongAnswerError(f"{trace.name}: header {number} expects {describe(rules, claim)}, "
                                       f"{rules.name} says {describe(rules, right)}")  # fmt: skip


def describe(rules: Rules, position: int) -> str:
    """A rule in words, counted from 1."""
    return "no rule" if position == NONE else f"rule {position + 1}"


def _pointer(data: array[int], n: int) -> Any:
    return (ctypes.c_int32 * n).from_buffer(data)

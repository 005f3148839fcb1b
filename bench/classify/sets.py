"""The rule sets of the classify case, by name or from a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bench import rulegen
from bench.classify import traces
from bench.classify.files import Rules, Version, read_rules

SIZES: Final = (1000, 10_000, 100_000)
SIX: Final = 10_000
"""Rules of the IPv6 sets of which everything is measured without being asked for."""
AGAINST: Final = {"tuples": traces.tuple_explosion, "flood": traces.hash_flooding}
"""Sets that are made to be slow."""
HARM: Final = 10_000
DEFAULT: Final = (
    *(f"{kind}-{size // 1000}k" for size in SIZES for kind in rulegen.KINDS),
    *(f"{kind}-{SIX // 1000}k-v6" for kind in rulegen.KINDS),
    *(f"{name}-{HARM // 1000}k" for name in AGAINST),
)
BRIEF: Final = (
    *(f"{kind}-{size // 1000}k-v6" for size in SIZES if size != SIX for kind in rulegen.KINDS),
    *(f"{kind}-40k" for kind in ("acl", "tuples")),
)
"""Of these only lookups in uniform headers are measured: IPv6 beside IPv4, and more rules than rows and tables take."""
_NAME = re.compile(r"([a-z]+)-(\d+)(k?)(-v6)?")


def check(text: str) -> Version:
    """The IP version of a file's rules or of a set. Raises FileError, ValueError if `text` is neither."""
    if Path(text).exists():
        return read_rules(Path(text)).version
    return 6 if _parse(text)[2] else 4


def load(text: str, seed: int) -> Rules:
    """The rules of a file, or the set of that name. Raises FileError, ValueError for a name that is none."""
    if Path(text).exists():
        return read_rules(Path(text))
    kind, count, six = _parse(text)
    if kind in AGAINST:
        return AGAINST[kind](count, seed)
    return rulegen.generate(kind, count, version=6 if six else 4, seed=seed)


def _parse(text: str) -> tuple[str, int, bool]:
    match = _NAME.fullmatch(text)
    kinds = (*rulegen.KINDS, *AGAINST)
    if match is None or match[1] not in kinds or (match[4] and match[1] in AGAINST):
        raise ValueError(f"{text!r} is no file, nor a set such as acl-10k or fw-100k-v6 ({', '.join(kinds)})")
    count = int(match[2]) * (1000 if match[3] else 1)
    if not rulegen.FEWEST <= count <= rulegen.MOST:
        raise ValueError(f"{text!r}: {rulegen.FEWEST} to {rulegen.MOST} rules")
    return match[1], count, bool(match[4])

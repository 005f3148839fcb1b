"""The targets that only `guided` runs for long hold for their seeds, and for what was stored."""

from __future__ import annotations

import pytest

from tests.fuzz.bytes_mutator import mutations
from tests.fuzz.frame_targets import SEEDS, TARGETS
from tests.fuzz.stored import stored


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    assert SEEDS[name]
    for data in (*SEEDS[name], *stored(name)):
        TARGETS[name](data)


def test_any_bytes_are_an_export_or_none() -> None:
    for mutant in mutations([*SEEDS["restore"], *stored("restore")], share=0.3):
        TARGETS["restore"](mutant)

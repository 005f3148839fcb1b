"""Which facts make two machines different."""

from __future__ import annotations

import msgspec
import pytest

from bench import machine
from tests.unit.bench.runs import MACHINE


def test_this_machine_is_itself() -> None:
    facts = machine.facts()
    assert facts.cores >= 1
    assert facts.kernel
    assert facts.differences(machine.facts()) == []


@pytest.mark.parametrize(
    ("fact", "value"), [("cpu", "Another"), ("cores", 4), ("memory_gib", 16), ("kernel", "6.2"), ("governor", "x")]
)
def test_hardware_and_kernel_count(fact: str, value: object) -> None:
    (difference,) = MACHINE.differences(msgspec.structs.replace(MACHINE, **{fact: value}))
    assert difference.startswith(f"{fact}: ")


@pytest.mark.parametrize(("fact", "value"), [("commit", "f"), ("python", "CPython 3.14"), ("load_average", 9.0)])
def test_what_is_compared_does_not_count(fact: str, value: object) -> None:
    assert MACHINE.differences(msgspec.structs.replace(MACHINE, **{fact: value})) == []

"""Test rings: a test's ring is the folder it is in; kernel rings run only inside the private namespace."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RINGS = ("unit", "property", "fuzz", "netns", "system")
PRIVATE = ("netns", "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    inside = os.environ.get("NODEPLANE_LAB") == "1"
    skip = pytest.mark.skip(reason="needs the private namespace that scripts/test makes")
    for item in items:
        ring = item.path.relative_to(TESTS).parts[0]
        if ring in RINGS:
            item.add_marker(getattr(pytest.mark, ring))
        if ring in PRIVATE and not inside:
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    # Thousands of collected tests stay to the end; looking through them for garbage takes a third of a run.
    gc.collect()
    gc.freeze()

"""What the quick looks have in common."""

from __future__ import annotations

import pytest

from bench.perpacket import levels as ours
from bench.perpacket.levels import Level


@pytest.fixture(params=["pure", "baseline", "avx2", "avx512"])
def level(request: pytest.FixtureRequest) -> Level:
    """Every level that runs here."""
    found = Level(request.param)
    if found.level != "pure" and found not in ours.compiled():
        pytest.skip("not built, or this processor does not run it")
    return found

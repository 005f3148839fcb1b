"""Which level serves a stage, and that nothing is measured before a stage is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import ModuleType

import pytest

from fastpath import _calibrate, _select, levels
from tests.twins import needs_build

BOTH: tuple[_select.Level, ...] = ("baseline", "avx2", "avx512")


def never(name: str, lower: _select.Level, higher: _select.Level) -> tuple[int, int]:
    raise AssertionError("nothing to measure")


def fresh(code: str, wanted: str = "") -> str:
    """What `code` prints in a new interpreter."""
    environment = {**os.environ, _select.VARIABLE: wanted}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("running", [("baseline",), ("baseline", "avx2")])
def test_without_both_rivals_the_highest(running: tuple[_select.Level, ...]) -> None:
    chosen = _calibrate.decide("flow", running, never)
    assert chosen == (running[-1], "the highest that this processor runs")


def test_a_stage_without_sample_is_not_measured() -> None:
    chosen = _calibrate.decide("nothing", BOTH, never)
    assert chosen.level == "avx512"
    assert "not measured" in chosen.reason


@pytest.mark.parametrize(
    ("times", "level"),
    [((500, 1000), "avx2"), ((1000, 500), "avx512"), ((1000, 1000), "avx512"), ((990, 1000), "avx512")],
)
def test_the_faster_one_and_the_higher_on_a_tie(times: tuple[int, int], level: str) -> None:
    chosen = _calibrate.decide("flow", BOTH, lambda *names: times)
    assert chosen.level == level
    assert f"avx2 {times[0]} ns, avx512 {times[1]} ns" in chosen.reason


@needs_build
@pytest.mark.parametrize("name", sorted(_calibrate.SAMPLES))
def test_samples_run_at_every_level(name: str) -> None:
    for level in _select.runnable():
        _calibrate.SAMPLES[name].make(_select.stage(name, level))()
    lower, higher = _calibrate.measure(name, "baseline", "baseline")
    assert 0 < lower < 1 << 62
    assert 0 < higher < 1 << 62


@needs_build
def test_measuring_ends_with_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    now = [0]

    def work() -> None:
        runs.append(now[0])
        now[0] += _calibrate.BUDGET_NS

    sample = _calibrate.Sample("nothing", lambda module: work)
    monkeypatch.setitem(_calibrate.SAMPLES, "flow", sample)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now[0])
    assert _calibrate.measure("flow", "baseline", "baseline") == (_calibrate.BUDGET_NS, _calibrate.BUDGET_NS)
    # Two turns at least, the first of which does not count.
    assert len(runs) == 4


def test_every_stage_has_a_choice() -> None:
    found = levels.choices()
    assert tuple(found) == _select.LEVELLED
    for name, choice in found.items():
        assert choice is _calibrate.choice(name)
        assert choice.reason
        assert choice.level == "pure" or choice.level in levels.runnable()
        served = _calibrate.serving(name)
        assert isinstance(served, ModuleType)
        assert served is _select.stage(name, choice.level)


@pytest.mark.parametrize("wanted", ["pure", *(_select.runnable() if _select.built() else ())])
def test_the_environment_decides_without_measuring(wanted: str) -> None:
    code = (
        "from fastpath import _calibrate; _calibrate.measure = None\n"
        "from fastpath import flow, levels; print(*{one for one in levels.choices().values()}, flow.keys.__module__)"
    )
    printed = fresh(code, wanted)
    assert printed.startswith(f"Choice(level='{wanted}', reason='NODEPLANE_FASTPATH says so') ")


def test_starting_up_loads_and_measures_nothing() -> None:
    code = (
        "import sys, fastpath, fastpath.framing\n"
        "print(*(name for name in sys.modules if 'flow' in name or 'calibrate' in name or 'checksum' in name))"
    )
    assert fresh(code) == ""


def test_names_of_the_package_come_when_asked_for() -> None:
    code = (
        "import fastpath, sys; assert 'five_tuple' in dir(fastpath); assert 'fastpath.flow' not in sys.modules\n"
        "from fastpath import five_tuple; print(five_tuple(b''), five_tuple is fastpath.flow.five_tuple)"
    )
    assert fresh(code) == "None True"


def test_unknown_name_of_the_package() -> None:
    import fastpath

    with pytest.raises(AttributeError, match="no attribute 'six_tuple'"):
        fastpath.six_tuple  # noqa: B018

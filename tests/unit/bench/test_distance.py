"""How far the cores are from each other, in bench."""

from __future__ import annotations

import errno
import os

import pytest

from bench.cores import Cores, choose
from bench.distance import round_trip


def test_a_word_comes_back() -> None:
    cores = choose()
    before = os.sched_getaffinity(0)
    took = round_trip(cores, 1000)
    assert os.sched_getaffinity(0) == before
    if cores.apart:
        assert took is not None
        assert took > 0
    else:
        assert took is None


def test_one_core_is_at_no_distance() -> None:
    assert round_trip(Cores(frozenset((0,)), frozenset((0,)))) is None


def test_a_core_that_is_not_there_is_an_error() -> None:
    here = frozenset((min(os.sched_getaffinity(0)),))
    with pytest.raises(OSError, match="no thread") as caught:
        round_trip(Cores(frozenset((1000,)), here), 8)
    assert caught.value.errno == errno.EINVAL

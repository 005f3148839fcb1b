"""The bucket, Neutron's windows, and that state stays bounded."""

from __future__ import annotations

import pytest

from metadata.limits import KEPT_PORTS, Limiter, TokenBucket, Window, Windows, limiter


def passed(it: Limiter, count: int, now: float, port: str = "a") -> int:
    """How many of so many requests at one time may pass."""
    return sum(not it.take(port, now) for _ in range(count))


def test_a_burst_passes_and_then_the_rate() -> None:
    it = TokenBucket(4.0, 120)
    assert passed(it, 200, 0.0) == 120
    assert passed(it, 200, 1.0) == 4
    assert passed(it, 200, 1000.0) == 120


def test_refused_requests_of_a_bucket_do_not_count_and_are_told_how_long() -> None:
    it = TokenBucket(0.5, 2)
    assert passed(it, 2, 0.0) == 2
    for _ in range(100):
        assert it.take("a", 0.5) == pytest.approx(1.5)
    assert it.take("a", 2.0) == 0.0


def test_ports_have_buckets_of_their_own() -> None:
    it = TokenBucket(1.0, 1)
    assert [passed(it, 5, 0.0, port) for port in "abc"] == [1, 1, 1]


@pytest.mark.parametrize("it", [TokenBucket(4.0, 120), Windows(Window(10, 10), Window(1, 5))])
def test_state_is_bounded_by_those_who_asked_lately(it: Limiter) -> None:
    most = 0
    for number in range(20 * KEPT_PORTS):
        it.take(f"port-{number}", float(number))
        most = max(most, len(it))
    assert most <= KEPT_PORTS + 1


def test_what_is_in_use_is_never_forgotten() -> None:
    it = TokenBucket(1.0, 10)
    for number in range(3 * KEPT_PORTS):
        assert passed(it, 12, 0.0, f"port-{number}") == 10
    assert passed(it, 12, 0.0, "port-0") == 0
    assert len(it) == 3 * KEPT_PORTS


def test_neutrons_defaults() -> None:
    it = Windows(Window(10, 10), Window(10, 10))
    assert passed(it, 30, 0.0) == 10
    # Refused ones counted: of the 30, three quarters are left in the middle of the next period.
    assert passed(it, 1, 12.5) == 0
    assert passed(it, 30, 40.0) == 10


def test_both_windows_must_allow() -> None:
    it = Windows(Window(60, 20), Window(2, 5))
    assert passed(it, 6, 0.0) == 5
    assert passed(it, 5, 4.0) == 5
    assert passed(it, 5, 8.0) == 5
    # 16 counted so far, five more are over the base window's 20.
    assert passed(it, 5, 12.0) == 4
    assert passed(it, 1, 16.0) == 0


@pytest.mark.parametrize("asked", [11, 15, 30, 200])
@pytest.mark.parametrize("at", [0.0, 3.3, 9.9])
def test_who_waits_as_long_as_told_may_pass(asked: int, at: float) -> None:
    it = Windows(Window(10, 10), Window(4, 8))
    it.take("a", 0.0)
    wait = [it.take("a", at) for _ in range(asked)][-1]
    assert wait > 0
    assert it.take("a", at + wait + 1e-3) == 0.0


def test_choice() -> None:
    assert limiter(0, 120) is None
    assert isinstance(limiter(1.0, 1), TokenBucket)
    assert isinstance(limiter(0, 1, (Window(1, 1), Window(1, 1))), Windows)

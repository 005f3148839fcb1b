"""The bucket against its definition, and promises that are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metadata.limits import TokenBucket, Window, Windows

STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3000)), max_size=120)


@given(STEPS, st.integers(1, 8), st.integers(1, 20))
def test_bucket_is_a_bucket(steps: list[tuple[str, int]], rate: int, burst: int) -> None:
    """Against tokens counted in exact thousandths."""
    bucket = TokenBucket(rate, burst)
    tokens = dict.fromkeys("ab", burst * 1000)
    last = dict.fromkeys("ab", 0)
    now = 0
    for port, milliseconds in steps:
        now += milliseconds
        tokens[port] = min(burst * 1000, tokens[port] + (now - last[port]) * rate)
        last[port] = now
        allowed = tokens[port] >= 1000
        assert (bucket.take(port, now / 1000) == 0) == allowed
        tokens[port] -= 1000 * allowed


@given(STEPS, st.integers(1, 10), st.integers(1, 10), st.integers(1, 5), st.integers(1, 10))
def test_windows_never_let_more_pass_than_twice_the_limit(
    steps: list[tuple[str, int]], base: int, base_limit: int, burst: int, burst_limit: int
) -> None:
    windows = (Window(base, base_limit), Window(burst, burst_limit))
    it = Windows(*windows)
    now = 0.0
    passed: dict[str, list[float]] = {"a": [], "b": []}
    for port, milliseconds in steps:
        now += milliseconds / 1000
        wait = it.take(port, now)
        assert wait >= 0
        if not wait:
            passed[port].append(now)
            for window in windows:
                assert sum(at > now - window.seconds for at in passed[port]) <= 2 * window.limit

"""What this process runs on: for people who ask."""

from __future__ import annotations

from fastpath import _select
from fastpath._calibrate import Choice, choice

__all__ = ["Choice", "choices", "runnable"]


def runnable() -> tuple[str, ...]:
    """The compiled levels that this processor runs, lowest first; none where the extensions are not built."""
    if _select.LEVEL == "pure" and not _select.built():
        return ()
    return _select.runnable()


def choices() -> dict[str, Choice]:
    """The level of every stage that is built for several, with the reason; measures what has not been measured yet."""
    return {name: choice(name) for name in _select.LEVELLED}

"""Capabilities of threads: what is taken from one is its own loss, and that of those it starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane import privileges
from dataplane.privileges import LOOP, NAMESPACES, Capability

FIELDS = ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")


def status() -> dict[str, int]:
    """The calling thread's sets, as numbers."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    rows = (line.split(":\t") for line in lines if line.startswith(FIELDS))
    return {name: int(value, 16) for name, value in rows}


def of_a_thread(work: Callable[[], None]) -> dict[str, int]:
    """What a new thread has after some work."""
    found: list[dict[str, int]] = []

    def run() -> None:
        work()
        found.append(status())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def bits(capabilities: frozenset[Capability]) -> int:
    return sum(1 << each for each in capabilities)


@pytest.mark.parametrize("kept", [NAMESPACES, LOOP, frozenset({Capability.NET_ADMIN}), frozenset()])
def test_a_thread_keeps_what_it_is_left(kept: frozenset[Capability]) -> None:
    before = status()
    found = of_a_thread(lambda: privileges.keep(kept))
    assert found["CapPrm"] == before["CapPrm"] & bits(kept)
    assert found["CapEff"] == before["CapEff"] & bits(kept)
    assert (found["CapInh"], found["CapAmb"]) == (0, 0)
    assert status() == before


def test_what_was_given_up_does_not_come_back() -> None:
    def work() -> None:
        privileges.keep(LOOP)
        privileges.keep(NAMESPACES)

    assert of_a_thread(work)["CapPrm"] & ~bits(LOOP) == 0


def test_threads_have_what_the_one_that_started_them_had() -> None:
    found: list[dict[str, int]] = []

    def work() -> None:
        given_up = threading.Event()

        def early() -> None:
            given_up.wait()
            found.append(status())

        first = threading.Thread(target=early)
        first.start()
        privileges.keep(frozenset())
        given_up.set()
        first.join()
        found.append(of_a_thread(lambda: None))

    of_a_thread(work)
    assert [each["CapPrm"] for each in found] == [status()["CapPrm"], 0]


def test_no_new_privileges() -> None:
    before = status()["NoNewPrivs"]
    assert of_a_thread(privileges.refuse_new)["NoNewPrivs"] == 1
    assert status()["NoNewPrivs"] == before


def test_a_filter_that_forbids_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Filtered:
        def capget(self, *arguments: object) -> int:
            return 0

        def capset(self, *arguments: object) -> int:
            return -1

    monkeypatch.setattr(privileges, "_libc", Filtered())
    monkeypatch.setattr("ctypes.get_errno", lambda: 1)
    with pytest.raises(PermissionError):
        privileges.keep(LOOP)

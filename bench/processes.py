"""CPU time and memory of processes, with everything they started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Sums over processes, in bytes."""

    processes: int
    pss: int
    """Proportional set size: shared pages divided by those who share them."""
    rss: int


def family(roots: Iterable[int]) -> list[int]:
    """Processes and all their descendants, as far as they are alive."""
    children: dict[int, list[int]] = {}
    alive: set[int] = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    alive.add(int(entry))
                    children.setdefault(int(parent), []).append(int(entry))
    found: dict[int, None] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in alive and pid not in found:
            found[pid] = None
            todo += children.get(pid, ())
    return list(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Seconds on a CPU of all threads that are alive, to the nanosecond (schedstat), not their children's."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def memory(pids: Iterable[int]) -> Memory:
    """Proportional and resident set size of processes."""
    processes = pss = rss = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
            processes += 1
    return Memory(processes, pss, rss)


def available() -> int:
    """MemAvailable of the machine in bytes: what a process costs with its kernel memory shows in the difference."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no MemAvailable in /proc/meminfo")


def end(roots: Iterable[int], seconds: float = 10.0) -> None:
    """Terminate processes with their descendants, kill what is left after `seconds`, and reap our own."""
    pids = family(roots)
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while pids and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            pids = [pid for pid in pids if _alive(pid)]
            if pids:
                time.sleep(0.02)
        if not pids:
            return


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Network namespaces for the load's side: made with `ip`, entered by a thread that ends afterwards."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")
_libc = ctypes.CDLL(None, use_errno=True)


def batch(lines: Iterable[str], netns: str | None = None) -> None:
    """Carry out `ip` commands in one process; CalledProcessError with what it said if one fails."""
    where = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, capture_output=True)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, "ip -batch", done.stdout, done.stderr)
        error.add_note(done.stderr[-1000:])
        raise error


def settings(netns: str, **values: str) -> None:
    """Set sysctls in a namespace; `__` stands for the dot."""
    pairs = [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
    subprocess.run(["ip", "netns", "exec", netns, "sysctl", "-qw", *pairs], check=True)


def within(netns: str, function: Callable[[], Result]) -> Result:
    """Call `function` in a thread that is in the namespace, and return its result or raise its exception."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(NETNS / netns, os.O_RDONLY)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {netns}")
            finally:
                os.close(descriptor)
            results.append(function())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=enter, name=f"in {netns}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def settle(seconds: float = 60.0) -> None:
    """Wait until the kernel has taken deleted namespaces' devices away, so that it does not do so in timed runs.

    Only the loopback is left in a sandbox with nothing set up; TimeoutError otherwise.
    """
    deadline = time.monotonic() + seconds
    while devices := [name for _, name in socket.if_nameindex() if name != "lo"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"devices are left: {' '.join(devices[:5])}")
        time.sleep(0.05)

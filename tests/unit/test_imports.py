"""Every shipped module can be imported alone, with warnings as errors, and drags in no more than it should."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.sources import ROOT, shipped
from tests.twins import FRAMING_C

MODULES = [name for name, path in shipped().items() if path.suffix == ".py" or FRAMING_C is not None]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)


def python(code: str) -> str:
    done = run(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def imports() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """An interpreter for each module, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(run, f"import {name}") for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_alone(name: str, imports: dict[str, Future[subprocess.CompletedProcess[str]]]) -> None:
    done = imports[name].result()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def loaded(name: str) -> set[str]:
    return set(python(f"import sys, {name}; print(*sys.modules)").split())


def test_command_line_does_not_load_the_daemon() -> None:
    # The command is typed many times a day: what only the daemon needs is loaded by `run`.
    heavy = {"aiohttp", "asyncio", "dataplane.daemon", "dataplane.node", "pyroute2", "rich", "uvloop"}
    assert not loaded("dataplane.cli") & heavy


def test_pure_core_loads_no_input_or_output() -> None:
    assert not loaded("dataplane.dhcp.core") & {"asyncio", "socket", "logging", "aiohttp", "pyroute2"}

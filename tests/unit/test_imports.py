"""Every shipped module can be imported alone, with warnings as errors, and drags in no more than it should."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sources import ROOT, shipped
from tests.twins import FRAMING_C

MODULES = [name for name, path in shipped().items() if path.suffix == ".py" or FRAMING_C is not None]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_alone(name: str) -> None:
    assert python(f"import {name}") == ""


def loaded(name: str) -> set[str]:
    return set(python(f"import sys, {name}; print(*sys.modules)").split())


def test_command_line_does_not_load_the_daemon() -> None:
    # The command is typed many times a day: what only the daemon needs is loaded by `run`.
    heavy = {"aiohttp", "asyncio", "dataplane.daemon", "dataplane.node", "pyroute2", "rich", "uvloop"}
    assert not loaded("dataplane.cli") & heavy


def test_pure_core_loads_no_input_or_output() -> None:
    assert not loaded("dataplane.dhcp.core") & {"asyncio", "socket", "logging", "aiohttp", "pyroute2"}


def test_framing_loads_nothing_of_the_batches() -> None:
    # A daemon that only answers DHCP and metadata pays for no more than it uses.
    found = {name for name in loaded("fastpath.framing") if name.startswith("fastpath._")}
    assert not {
        name for name in found if name.endswith(("avx2", "avx512")) or "_batch" in name or "_checksum_c" in name
    }

"""The C headers of the stages compile for processors other than this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HEADERS = sorted((Path(__file__).parents[3] / "fastpath").glob("*.h"))
COMPILERS = [
    pytest.param(["aarch64-linux-gnu-gcc"], id="neon"),
    # What is neither x86-64 nor ARM takes plain loops; 32-bit x86 without vectors stands for it.
    pytest.param(["gcc", "-mno-sse2", "-mno-sse", "-mno-avx", "-mgeneral-regs-only"], id="no vectors"),
    pytest.param(["gcc", "-march=x86-64-v3"], id="avx2"),
    pytest.param(["gcc", "-march=x86-64-v4", "-mavx512vbmi"], id="avx512"),
]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_header_compiles(compiler: list[str], header: Path) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    flags = ["-O2", "-Wall", "-Werror", "-Wno-unused-function", "-x", "c", "-c", "-o", "/dev/null"]
    done = subprocess.run([*compiler, *flags, str(header)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""The operators' door of README.md, executed as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from scripts import lab

ROOT = Path(__file__).resolve().parents[2]


def blocks() -> list[str]:
    """The shell blocks of that section, up to the real VM (which needs qemu and an image)."""
    text = (ROOT / "README.md").read_text()
    door = text[text.index("## Door one") : text.index("A real VM needs")]
    return re.findall(r"^```sh\n(.*?)^```$", door, re.MULTILINE | re.DOTALL)


def test_first_network(tmp_path: Path) -> None:
    """Every command succeeds; the VM gets the example's address and its own metadata; nothing stays behind."""
    command = tmp_path / "nodeplane"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m dataplane.cli "$@"\n')
    command.chmod(0o755)
    before = lab.run("ip", "link").stdout
    # The commands' own PATH line points to .venv in the clone, which need not be where the tests run from.
    script = "set -eux\n" + "\n".join(blocks()).replace('PATH="$PWD/.venv/bin:$PATH"', f'PATH="{tmp_path}:$PATH"')
    assert str(tmp_path) in script
    done = subprocess.run(
        ["sh", "-c", script.replace("kill %1", "kill $!; wait $!")], cwd=ROOT, text=True, capture_output=True,
        timeout=90, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"uuid": "00000000-0000-4000-8000-000000000105"' in done.stdout
    [lease] = [line.split() for line in done.stdout.splitlines() if "bound" in line and "192.0.2.5" in line]
    assert lease[0] == "first"
    assert lab.run("ip", "link").stdout == before
    assert not Path("/run/netns/np-first").exists()

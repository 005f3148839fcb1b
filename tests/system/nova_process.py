"""A stand-in for Nova in a process of its own, and a daemon that gives out its documents."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nova import SECRET

PORT = 8775
ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "00000000-0000-4000-8000-{:012x}"
LARGE = "0123456789" * 50_000
CONFIG = f"""
[metadata]
backend = "nova"
hold_seconds = 2.0
[log]
level = "debug"
[nova]
url = "http://127.0.0.1:{PORT}"
shared_secret = "{SECRET}"
hold_seconds = 5.0
stale_after = 0.5
cache_seconds = 3.0
connections_per_project = 4
"""
INSTANCES: list[dict[str, Any]] = [
    {"uuid": INSTANCE.format(number), "project_id": f"{tenant}-project", "hostname": f"{tenant}-at-nova",
     "user_data": "AP8K" if tenant == "blue" else None,
     "vendor_data": {"of": tenant, "large": LARGE} if tenant == "green" else {"of": tenant}}
    for number, tenant in enumerate(("blue", "green", "own"), 1)
]  # fmt: skip


@dataclass
class Upstream:
    """The stand-in's process; it stalls for the instance whose id is in `stall`."""

    directory: Path
    instances: list[dict[str, Any]]
    """As `tests.nova.from_json` reads them."""
    process: subprocess.Popen[str] | None = None

    @property
    def stall(self) -> Path:
        return self.directory / "nova.stall"

    def start(self) -> None:
        self.load()
        self.serve()

    def load(self) -> None:
        """All that takes time; nothing listens yet."""
        file = self.directory / "nova.json"
        file.write_text(json.dumps(self.instances))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.nova", "127.0.0.1", str(PORT), str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self._says("loaded")

    def serve(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._says("ready")

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def _says(self, word: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"

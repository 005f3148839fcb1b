"""What a rule set takes of memory, measured in a process of its own.

python -m bench.classify.footprint RECORDS      prints {"growth": bytes, "peak": bytes}
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.classify.files import Rules
from bench.machine import ROOT


def measure(rules: Rules, directory: Path) -> tuple[int, int]:
    """Bytes by which a process grows when it builds these rules, when done and at most."""
    file = directory / "footprint"
    file.write_bytes(rules.records)
    argv = [sys.executable, "-m", __name__, str(file)]
    said = json.loads(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return int(said["growth"]), int(said["peak"])


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field}")


def _main(file: str) -> None:
    from fastpath.classify import RuleSet, lookup_keys  # the import is not to be in the figures

    records = Path(file).read_bytes()
    lookup_keys(RuleSet(), b"", bytearray())
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    rules = RuleSet(records)
    print(json.dumps({"growth": _status("VmRSS") - before, "peak": _status("VmHWM") - before, "rules": len(rules)}))


if __name__ == "__main__":
    _main(sys.argv[1])

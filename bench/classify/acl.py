"""rte_acl, DPDK's classifier, as a process that is told what to do (bench/load/acl.c)."""

from __future__ import annotations

import json
import shutil
import subprocess
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from bench import compile
from bench.classify.files import Rules, Trace
from bench.compile import MissingToolError

NAME: Final = "rte_acl"
PACKAGE: Final = "libdpdk"
BUILD_LIMIT: Final = 300.0
"""Seconds that a build may take."""


class AclError(Exception):
    """The library would not: the text is what it said."""


def version() -> str:
    """DPDK's version. Raises MissingToolError."""
    return _package("--modversion")


def _program() -> Path:
    flags = _package("--cflags", "--libs").split()
    return compile.program("acl", *flags, native=True)


def _package(*words: str) -> str:
    hint = "rte_acl: apt-get install libdpdk-dev pkg-config"
    if shutil.which("pkg-config") is None:
        raise MissingToolError(hint)
    done = subprocess.run(["pkg-config", *words, PACKAGE], capture_output=True, text=True)
    if done.returncode:
        raise MissingToolError(f"{hint} ({done.stderr.strip()[:200]})")
    return done.stdout.strip()


class Acl:
    """A built context. Raises MissingToolError without the library, AclError if the rules cannot be built."""

    def __init__(self, rules: Rules, directory: Path, core: int) -> None:
        self.directory = directory
        file = directory / "rules"
        file.write_bytes(rules.records)
        argv = [str(_program()), str(file), str(rules.version), str(core)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        try:
            said = self._said()
        except BaseException:
            self._end()
            raise
        self.build = float(said["build"])
        """Seconds, with adding the rules."""
        self.memory = int(said["memory"])
        """Bytes by which the process grew."""
        self.methods: list[str] = said["methods"]

    def __enter__(self) -> Acl:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def load(self, trace: Trace) -> None:
        """Take the headers that are timed from now on."""
        file = self.directory / "keys"
        file.write_bytes(trace.keys)
        if self._tell(f"load {file}")["headers"] != len(trace):
            raise AclError("not all headers were taken")

    def answers(self, method: str) -> array[int]:
        """Positions of the rules that win, by a method."""
        file = self.directory / "answers"
        self._tell(f"answers {method} {file}")
        return array("i", file.read_bytes())

    def time(self, method: str, batch: int, seconds: float) -> float:
        """Nanoseconds a lookup: of the median pass over all headers in so many seconds."""
        return float(self._tell(f"time {method} {batch} {seconds}")["ns"])

    def _tell(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AclError(f"ended with {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise AclError(str(said["error"]))
        return said

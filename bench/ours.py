"""nodeplane as a benchmark sees it: the daemon's process, and its control socket without the CLI's start-up."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench import processes
from bench.cores import pinned
from bench.documents import Document
from bench.machine import ROOT
from dataplane.control_client import ControlClient, RefusedError, UnreachableError
from dataplane.status import Outcome, Status
from scripts.lab import Daemon, stop

# A load of thousands of exchanges per second and port is what the token bucket is there to stop.
LOAD_CONFIG = """
[dhcp]
rate = 1000000.0
burst = 1000000
[metadata]
rate = 1000000.0
burst = 1000000
connections_per_port = 1024
"""
# An installed package has its bytecode beside it; a checkout may not be allowed to write it.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bench" / "bytecode")}
CONFIG = """[node]
name = "bench"
state_dir = "{directory}/state"
on_stop = "{on_stop}"
[log]
level = "{log}"
"""


class NotReadyError(Exception):
    """The daemon did not come so far in time, or a network is in error."""


class Node:
    """A daemon below `directory`, started and stopped as often as a case wants; the store stays."""

    def __init__(self, directory: Path, config: str = "", on_stop: str = "leave", log: str = "warning") -> None:
        text = CONFIG.format(directory=directory, on_stop=on_stop, log=log) + config
        self.daemon = Daemon(directory, text, BYTECODE)
        self.control = ControlClient(str(self.daemon.socket))

    @property
    def pids(self) -> list[int]:
        """The daemon and everything it started."""
        return processes.family([self.daemon.pid])

    def launch(self, cores: frozenset[int] | None = None) -> float:
        """Start the process, on `cores` if given, and return the moment (time.monotonic); does not wait."""
        if cores:
            with pinned(cores):
                began = time.monotonic()
                self.daemon.start(wait=False)
        else:
            began = time.monotonic()
            self.daemon.start(wait=False)
        return began

    def start(self, cores: frozenset[int] | None = None) -> Node:
        """Start and wait until it is ready."""
        self.launch(cores)
        self.wait_ready(None)
        return self

    def status(self) -> Status:
        """The status record; UnreachableError before the control socket is there."""
        return msgspec.json.decode(self.control.get("v1", "status"), type=Status)

    def apply(self, document: Document, *, wait: float | None = None) -> Outcome:
        """Apply a document over the control socket, as the command line does."""
        body = json.dumps(document).encode()
        return self.post(body, wait=wait)

    def post(self, body: bytes, *, wait: float | None = None) -> Outcome:
        """The same with a document that is already JSON."""
        answer = self.control.post("v1", "apply", body=body, seconds=wait or 0.0, wait=wait)
        return msgspec.json.decode(answer, type=Outcome)

    def clear(self) -> None:
        """Delete everything, and wait until it is gone from the kernel."""
        self.control.post("v1", "apply", body=b"{}", seconds=60.0, prune=1, wait=60.0)
        self.wait_ready(0)

    def wait_ready(self, networks: int | None, seconds: float = 60.0) -> float:
        """Wait until that many networks (None: all there are) are ready, nothing outstanding; the moment it was seen.

        The daemon holds the request until it is in step; before its socket exists it is tried every 5 ms. Raises
        NotReadyError, at once for a network in error.
        """
        deadline = time.monotonic() + seconds
        said: object = "nothing"
        while time.monotonic() < deadline:
            if self.daemon.process is None or self.daemon.process.poll() is not None:
                raise NotReadyError(f"the daemon ended: {self.log()}")
            try:
                self.control.get("v1", "wait", seconds=seconds, timeout=seconds)
                status = self.status()
            except (UnreachableError, RefusedError) as error:
                said = error
                time.sleep(0.005)
                continue
            states = [network.state for network in status.networks]
            ready = states.count("ready")
            if status.ready and status.in_step and ready == len(states) and networks in (ready, None):
                return time.monotonic()
            if wrong := [network for network in status.networks if network.state == "error"]:
                raise NotReadyError(f"{len(wrong)} networks in error: {wrong[0].id}: {wrong[0].error}")
            said = f"revision {status.revision}, applied {status.applied}, {ready} of {len(states)} networks ready"
            time.sleep(0.005)
        raise NotReadyError(f"not within {seconds:g} s: {said}; {self.log()}")

    def log(self) -> str:
        """The end of the daemon's log."""
        return self.daemon.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """SIGTERM and wait; a teardown of a thousand networks takes its time."""
        if self.daemon.process is not None:
            stop(self.daemon.process, 120)

    def memory(self) -> processes.Memory:
        """Of the daemon and everything it started."""
        return processes.memory(self.pids)

    def cpu_seconds(self) -> float:
        """Used until now."""
        return processes.cpu_seconds(self.pids)


def subset(document: Document, count: int) -> Mapping[str, Any]:
    """The first `count` networks of `documents.networks` with their ports and instances."""
    return {kind: objects[:count] for kind, objects in document.items()}

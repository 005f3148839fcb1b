"""kill -9 at any moment: what was acknowledged is there, whole; what was not is there whole or not at all."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from dataplane.desired import Desired
from dataplane.store import Store
from tests.system.store_writer_process import model

ROUNDS = 15
SEED = 20260101


def write_and_kill(path: Path, first: int, lines: int, delay: float) -> int:
    """Let a process write; kill it `delay` seconds after `lines` acknowledgements. Gives the last acknowledged one."""
    command = [sys.executable, "-m", "tests.system.store_writer_process", str(path), str(first)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = first - 1
    killer: threading.Timer | None = None
    try:
        for count, line in enumerate(process.stdout, start=1):
            last = max(last, int(line))
            if count == lines:  # the reading goes on: what is printed until the kill is acknowledged too
                killer = threading.Timer(delay, process.kill)
                killer.start()
    finally:
        if killer is not None:
            killer.join()
        process.kill()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    return last


async def read(path: Path) -> tuple[int, Desired]:
    store = await Store.open(path)
    found = store.position, store.desired
    await store.close()
    return found


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    rng = random.Random(SEED)
    position = 0
    for _ in range(ROUNDS):
        acknowledged = write_and_kill(path, position + 1, lines=rng.randint(1, 60), delay=rng.uniform(0, 0.01))
        position, desired = asyncio.run(read(path))
        assert position >= acknowledged
        # The state is exactly that of its position: no transaction is there in part, none in the middle is missing.
        assert vars(desired) == vars(model(position))
    assert position > ROUNDS

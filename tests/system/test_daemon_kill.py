"""An acknowledged apply survives kill -9 at any moment, seen from outside: through the command line."""

from __future__ import annotations

import random
import threading
import time

from scripts import lab

ROUNDS = 6


def test_acknowledged_applies_survive_kill_nine(daemon: lab.Daemon) -> None:
    chance = random.Random(9)
    daemon.apply(lab.documents("blue"))
    acknowledged: dict[str, str] = {}
    for number in range(ROUNDS):
        stopped, so_far = threading.Event(), len(acknowledged)

        def work(number: int = number, stopped: threading.Event = stopped) -> None:
            step = 0
            while not stopped.is_set():
                step += 1
                instance = f"00000000-0000-4000-8000-{number:06x}{step:06x}"
                done = daemon.cli("apply", "-f", "-", check=False, input=(
                    f"instances: [{{id: {instance}, project_id: p, name: round-{number}-{step}}}]"))  # fmt: skip
                if done.returncode == 0:
                    acknowledged[instance] = f"round-{number}-{step}"

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        lab.wait_until(lambda: len(acknowledged) > so_far, "an acknowledgement")  # noqa: B023
        time.sleep(chance.uniform(0.0, 0.9))
        daemon.kill()
        stopped.set()
        worker.join(60)
        daemon.start()
        kept = {row["id"]: row["name"] for row in daemon.get("instances")}
        assert acknowledged.items() <= kept.items()
    assert len(acknowledged) >= ROUNDS

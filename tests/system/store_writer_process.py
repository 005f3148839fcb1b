"""A process that commits numbered transactions to a store, and says on its output which are acknowledged.

python -m tests.system.store_writer_process DATABASE FIRST

Transaction n is the same in every run (see `transaction`), has position n, and is printed as a line `n` as soon as the
store has acknowledged it. Several are under way at a time, so that commits are shared. Goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from pathlib import Path
from typing import Any

from dataplane import documents
from dataplane.desired import Desired
from dataplane.model import DesiredState
from dataplane.store import Store

PORTS = 40
UNDER_WAY = 8

NETWORKS = {"networks": [{"id": key, "subnets": [{"id": key, "cidr": "10.0.0.0/16"}]} for key in ("blue", "green")]}


def transaction(number: int) -> dict[str, Any]:
    """The document of transaction `number`; each one differs from everything before it."""
    if number == 1:
        return NETWORKS
    rng = random.Random(number)
    # A name that only this transaction has, so that none is without effect, and sizes from one row to many pages.
    keys = rng.sample(range(PORTS), rng.choice((1, 1, 1, 5, PORTS)))
    return {"ports": [_port(key, f"{number}-" + "x" * rng.choice((1, 200))) for key in keys]}


def _port(key: int, name: str) -> dict[str, Any]:
    network = ("blue", "green")[key % 2]
    return {
        "id": f"p{key}",
        "network_id": network,
        "mac_address": f"fa:16:3e:00:00:{key // 2:02x}",
        "fixed_ips": [{"subnet_id": network, "ip_address": f"10.0.1.{key // 2}"}],
        "name": name,
    }


def model(number: int) -> Desired:
    """What a store must hold at position `number`."""
    desired = Desired()
    for one in range(1, number + 1):
        desired.apply(desired.stage(decode(one)))
    return desired


def decode(number: int) -> DesiredState:
    """Transaction `number` as records."""
    return documents.decode(transaction(number), against=_HELD)


_HELD = Desired.of(documents.decode(NETWORKS))


async def write(path: Path, first: int) -> None:
    """Commit transactions from `first` on, for ever."""
    store = await Store.open(path)
    numbers = itertools.count(first)

    async def one_after_another() -> None:
        while True:
            # Taking the number and staging happen without a pause in between: positions are the numbers.
            number = next(numbers)
            applied = await store.apply(decode(number))
            assert applied.position == number, (applied.position, number)
            print(number, flush=True)

    await asyncio.gather(*(one_after_another() for _ in range(UNDER_WAY)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))

"""Targets of `guided` for five-tuples, tunnels and exports; `test_flow` and `test_vxlan` have mutated frames."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable

from fastpath import _conntrack_py, connection_records, flow
from fastpath.batch import Batch
from fastpath.connections import ConntrackError
from tests.exchanges import addresses, tcp, udp
from tests.exchanges import frame as ethernet
from tests.flow_frames import frames
from tests.fuzz import test_flow, test_vxlan
from tests.fuzz.batch_targets import CONNTRACKS

MOST = 16


def split(data: bytes) -> list[bytes]:
    """Frames, each behind two bytes of length."""
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(data) and len(found) < MOST:
        size = int.from_bytes(data[at : at + 2], "big") % 440
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def joined(many: Iterable[bytes]) -> bytes:
    """The other way round."""
    return b"".join(struct.pack("!H", len(each)) + each for each in many)


def five_tuples(data: bytes) -> None:
    """Of frames, every level leaves the same keys, flags, layers and hashes."""
    many = split(data[1:])
    if many:
        test_flow.compare(many, {data[0] % len(many)} if data[0] & 1 else set(), data[0])


def vxlan(data: bytes) -> None:
    """Of frames, every level puts the same into tunnels and takes the same out, with any policy and flags."""
    many = split(data[1:])
    if many:
        test_vxlan.agree(many, data[0])


def restore(data: bytes) -> None:
    """Any bytes are an export to all tables or to none, and what they hold comes out again."""
    outcomes: list[object] = []
    for twin in CONNTRACKS:
        table = twin.Conntrack(8, seed=1, window_check=True, count=True)
        try:
            made: object = table.restore(data)
        except ConntrackError as error:
            made = str(error)
        outcomes.append((made, sorted(table.connections())))
        assert twin.Conntrack(8).restore(table.export()) == len(table)
    assert all(each == outcomes[0] for each in outcomes), outcomes


def _export() -> bytes:
    table, batch = _conntrack_py.Conntrack(8, window_check=True, count=True), Batch(3, huge=False)
    ends = addresses(4)
    batch.fill([ethernet(each) for each in (udp(*ends, 1, 2), tcp(*ends, 3, 4, 2), udp(*addresses(6), 5, 6))])
    flow.extract(batch)
    table.track(batch, 0, zone=7)
    table.commit(batch, 0, zone=7)
    return table.export()


_CHANCE = random.Random(3)
_SOURCE = (each[:430] for each in frames(_CHANCE))
TARGETS: dict[str, Callable[[bytes], None]] = {"flow": five_tuples, "vxlan": vxlan, "restore": restore}
SEEDS: dict[str, list[bytes]] = {
    "flow": [bytes([number]) + joined(next(_SOURCE) for _ in range(8)) for number in range(8)],
    "vxlan": [bytes([number]) + joined(each[:430] for each in many)
              for number, many in enumerate((test_vxlan.SEEDS[:6], test_vxlan.SEEDS[6:12], test_vxlan.INNERS[:6]))],
    "restore": [_export(), _export()[: connection_records.HEADER.size], b""],
}  # fmt: skip

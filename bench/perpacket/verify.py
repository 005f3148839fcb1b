"""Before anything is timed: what scapy says of a sample, and whether every rung says the same."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from scapy.layers.l2 import Ether
from scapy.packet import Raw

from bench.perpacket import outer
from bench.perpacket.python_rungs import Scapy, Tuple5, packed
from fastpath.batch import Batch

SAMPLE = 48
"""Packets that scapy takes apart, of each profile."""
COLUMNS = ("offset", "length", "vni", "tunnel", "hash", "flags", "layers", "verdict", "ct")
KEY = struct.Struct("!16s16sHHBBH")
"""fastpath/_batch_c.pxd's flow_key."""


class WrongAnswerError(Exception):
    """A rung does not say what scapy says, or two levels differ."""


def sound(frames: Sequence[bytes]) -> None:
    """The generated packets themselves: scapy makes the same lengths and checksums."""
    for number, frame in enumerate(frames[:SAMPLE]):
        packet = Ether(frame)
        layer = packet.payload
        while layer and not isinstance(layer, Raw):
            for field in ("chksum", "len", "plen"):
                if hasattr(layer, field):
                    delattr(layer, field)
            layer = layer.payload
        if bytes(Ether(bytes(packet))) != frame:
            raise WrongAnswerError(f"packet {number} of the profile is not sound: {frame.hex()}")


def encapsulated(frames: Iterable[bytes], version: int = 4) -> list[bytes]:
    """What scapy makes of them, without source ports."""
    made = (bytes(outer.layers(version, outer.ENTROPY.start) / Raw(frame)) for frame in frames)
    return [outer.without_port(frame, version) for frame in made]


def tuples(frames: Iterable[bytes]) -> list[Tuple5]:
    """Scapy's five-tuples, with addresses as bytes."""
    scapy = Scapy()
    return [packed(scapy.five_tuple(frame)) for frame in frames]


def keys(batch: Batch, count: int) -> list[Tuple5]:
    """The five-tuples in the key column of the first packets."""
    column = batch.key.cast("B")
    found: list[Tuple5] = []
    for number in range(count):
        fields = KEY.unpack_from(column, number * KEY.size)
        source, destination, source_port, destination_port, protocol, version, _ = fields
        size = 4 if version == 4 else 16
        found.append((source[:size], destination[:size], protocol, source_port, destination_port))
    return found


def same(who: str, found: Sequence[object], wanted: Sequence[object]) -> None:
    """Raises WrongAnswerError naming the first packet that differs."""
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if mine != theirs:
            raise WrongAnswerError(f"{who}, packet {number}: {_show(mine)} instead of {_show(theirs)}")


def state(batch: Batch, first: int = 0) -> list[object]:
    """Everything that a stage may have written, packet by packet: frame, columns, key."""
    columns = [getattr(batch, name) for name in COLUMNS]
    key = batch.key.cast("B")
    return [
        (batch.frame(i), *(column[i] for column in columns), bytes(key[i * KEY.size : (i + 1) * KEY.size]))
        for i in range(first, batch.count)
    ]


def answers(call: Callable[[bytes], object], frames: Iterable[bytes]) -> list[object]:
    """What a rung says of each frame; an exception is an answer, too."""
    found: list[object] = []
    for frame in frames:
        try:
            found.append(call(frame))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def _show(value: object) -> str:
    return (value.hex() if isinstance(value, bytes) else repr(value))[:400]

"""Rules that come back with other addresses: which bits of a record change, and what all its forms lie in."""

from __future__ import annotations

import random
from typing import Final

from fastpath.rules import PACKED

BITS: Final = 8
"""The last so many bits of each prefix change; rules for any address stay as they are."""
_ADDRESS: Final = 16
_LENGTHS: Final = 46
"""Offset of the two prefix lengths in a record."""


def changing(records: bytes) -> bytes:
    """The bits of records (`fastpath.rules.pack`) that change, as a mask of the same size."""
    mask = bytearray(len(records))
    for at in range(0, len(records), PACKED.size):
        for side in range(2):
            length = records[at + _LENGTHS + side]
            for bit in range(max(0, length - BITS), length):
                mask[at + _ADDRESS * side + bit // 8] |= 0x80 >> bit % 8
    return bytes(mask)


def envelope(records: bytes) -> bytes:
    """The same rules with prefixes that hold every form of them."""
    held = bytearray(_combined(records, changing(records), 0))
    for at in range(0, len(held), PACKED.size):
        for side in range(2):
            held[at + _LENGTHS + side] = max(0, held[at + _LENGTHS + side] - BITS)
    return bytes(held)


def renewed(records: bytes, mask: bytes, chance: random.Random) -> bytes:
    """Other forms of records; `mask` is what `changing` says."""
    return _combined(records, mask, chance.getrandbits(8 * len(records)))


def _combined(records: bytes, mask: bytes, other: int) -> bytes:
    """`other` where the mask is set, `records` elsewhere."""
    where = int.from_bytes(mask, "little")
    size = len(records)
    return (int.from_bytes(records, "little") & ~where | other & where).to_bytes(size, "little")

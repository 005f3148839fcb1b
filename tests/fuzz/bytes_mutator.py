"""Seeded byte mutation for the fuzz ring: short in CI, as long as asked by `NODEPLANE_FUZZ_SECONDS`.

A target is one sentence about any bytes. Each run prints its seed, so that a failure can be repeated with
`NODEPLANE_FUZZ_SEED`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

DEFAULT_SECONDS = 1.0
INTERESTING = (0, 1, 4, 5, 14, 20, 127, 128, 254, 255)
"""Byte values that are borders of lengths and signs."""


def mutations(seeds: Sequence[bytes], share: float = 1.0) -> Iterator[bytes]:
    """Yield mutated copies of `seeds` until the time is over; each seed itself first.

    `share` shortens the time of CI for targets that are many.
    """
    seconds = float(os.environ.get("NODEPLANE_FUZZ_SECONDS") or DEFAULT_SECONDS * share)
    seed = int(os.environ.get("NODEPLANE_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    print(f"NODEPLANE_FUZZ_SEED={seed}")
    chance = random.Random(seed)
    yield from seeds
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for _ in range(256):
            yield mutate(chance.choice(seeds), chance, seeds)


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Return `data` with one to four random changes; what changes is random, too."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed)) if changed else 0
        match chance.randrange(7):
            case 0 if changed:
                changed[at] ^= 1 << chance.randrange(8)
            case 1 if changed:
                changed[at] = chance.choice(INTERESTING)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + chance.randint(1, 8)]
            case 4:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
            case 5:
                piece = chance.choice(others)
                start = chance.randrange(len(piece)) if piece else 0
                changed[at:] = piece[start:]
            case _:
                changed += chance.randbytes(chance.randint(1, 64))
    return bytes(changed)

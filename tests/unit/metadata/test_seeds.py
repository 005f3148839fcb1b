"""Seeds of the answers."""

from __future__ import annotations

import base64
import os
from collections import Counter

from metadata.seeds import SEED_BYTES, SEED_CHARACTERS, fresh_seed


def test_a_seed_is_the_base64_form_of_its_bytes() -> None:
    for _ in range(100):
        seed = fresh_seed()
        assert len(seed) == SEED_CHARACTERS
        raw = base64.b64decode(seed, validate=True)
        assert len(raw) == SEED_BYTES
        assert base64.b64encode(raw) == seed


def test_no_seed_comes_twice() -> None:
    seeds = {fresh_seed() for _ in range(500)}
    assert len(seeds) == 500
    parts = {seed[at : at + 32] for seed in seeds for at in range(0, 640, 32)}
    assert len(parts) == 500 * 20


def test_every_byte_is_as_likely_as_another_at_every_place() -> None:
    seeds = [base64.b64decode(fresh_seed()) for _ in range(512)]
    counts = Counter(b"".join(seeds))
    assert len(counts) == 256
    # 1,024 of each are expected, with a standard deviation of 32: nine of them are far.
    assert all(abs(count - 1024) < 9 * 32 for count in counts.values())
    for place in (0, 255, SEED_BYTES - 1):
        assert len({seed[place] for seed in seeds}) > 180  # 221 of 256 are expected, give or take 5


def test_a_process_that_forks_gives_no_seed_of_its_parent() -> None:
    fresh_seed()  # there are more of its batch
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, fresh_seed())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read()
    assert len(theirs) == SEED_CHARACTERS
    assert theirs not in {fresh_seed() for _ in range(64)}

"""The five-tuple of any frame: what holds whatever the bytes are, at every level."""

from __future__ import annotations

import random
from types import ModuleType

from hypothesis import given
from hypothesis import strategies as st

from fastpath import _batch_py, _flow_py, _hasher_py
from fastpath.flags import Flags
from tests.flow_frames import frame as any_frame
from tests.twins import BATCH_C, HASHER_C, stages

FRAMES = st.one_of(
    st.binary(max_size=120),
    st.integers(0, 1 << 64).map(lambda seed: any_frame(random.Random(seed))[:400]),
    # EtherType and IP's first byte right, so that what follows is read.
    st.tuples(
        st.binary(min_size=12, max_size=12), st.sampled_from([b"\x08\x00\x45", b"\x86\xdd\x60"]), st.binary()
    ).map(lambda parts: b"".join(parts)[:400]),
)


LEVELS: list[ModuleType] = [each.values[0] for each in stages("flow")]  # type: ignore[attr-defined]


@given(many=st.lists(FRAMES, min_size=1, max_size=20), seed=st.integers(0, (1 << 64) - 1), rest=st.integers(0, 255))
def test_every_level_says_what_the_plain_twin_says(many: list[bytes], seed: int, rest: int) -> None:
    hasher = _hasher_py.Hasher(seed)
    expected = []
    for one in many:
        key, layers, flags = _flow_py.parse(one)
        known = key != bytes(40)
        hashed = _flow_py.hash_key(hasher, key, flags) if known else _flow_py.hash_frame(hasher, one, layers)
        expected.append((key, layers, flags, hashed))
    for flow in LEVELS:
        batches, hashers = (_batch_py, _hasher_py) if flow is _flow_py else (BATCH_C, HASHER_C)
        assert batches is not None
        assert hashers is not None
        batch = batches.Batch(len(many), slot=512, headroom=64)
        batch.memory[:] = bytes([rest]) * len(batch.memory)
        batch.fill(many)
        assert flow.extract(batch, hashers.Hasher(seed)) == sum(key != bytes(40) for key, *_ in expected)
        column = batch.key.cast("B")
        found = [
            (bytes(column[i * 40 : i * 40 + 40]), batch.layers[i], batch.flags[i], batch.hash[i])
            for i in range(len(many))
        ]
        assert found == expected


@given(FRAMES)
def test_flags_keys_and_layers_fit_together(one: bytes) -> None:
    key, layers, flags = _flow_py.parse(one)
    ip, transport = layers & 0xFFFF, layers >> 16
    versions = {4: Flags.IPV4, 6: Flags.IPV6}
    assert (key[37] == 0) == (key == bytes(40))
    assert bool(flags & Flags.NOT_IP) == (not flags & (Flags.IPV4 | Flags.IPV6))
    if key[37]:
        assert flags & versions[key[37]]
        assert not flags & Flags.MALFORMED
        assert ip + 20 <= len(one)
    if flags & (Flags.PORTS | Flags.ICMP):
        assert ip < transport <= len(one) - 4
        assert not flags & Flags.LATER_FRAGMENT
    else:
        assert key[32:36] == bytes(4)
    if flags & (Flags.TCP | Flags.UDP):
        assert flags & Flags.PORTS
    if flags & Flags.LATER_FRAGMENT:
        assert flags & Flags.FRAGMENT
        assert transport == 0
    assert transport <= len(one)


@given(FRAMES, st.integers(0, (1 << 64) - 1))
def test_both_directions_hash_alike(one: bytes, seed: int) -> None:
    key, _, flags = _flow_py.parse(one)
    if key != bytes(40):
        hasher = _hasher_py.Hasher(seed)
        back = _flow_py.reverse(key)
        assert _flow_py.hash_key(hasher, back, flags) == _flow_py.hash_key(hasher, key, flags)
        if not flags & Flags.ICMP:
            assert _flow_py.reverse(back) == key


@given(FRAMES, st.binary(max_size=40))
def test_what_lies_behind_the_ip_length_does_not_matter(one: bytes, padding: bytes) -> None:
    key, layers, flags = _flow_py.parse(one)
    if flags & (Flags.TRUNCATED | Flags.NOT_IP) or not key[37]:
        return
    if key[37] == 6 and one[(layers & 0xFFFF) + 4 : (layers & 0xFFFF) + 7] == bytes(3):
        return  # a jumbogram: its end is the frame's
    assert _flow_py.parse(one + padding) == (key, layers, flags)

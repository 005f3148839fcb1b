"""Tokens: for one port, for a time, by keys that come and go."""

from __future__ import annotations

import base64

import pytest

from metadata.tokens import MAX_TTL, ROTATE_SECONDS, TOKEN_CHARACTERS, KeyRing, SealingKey, TokenKeys
from tests.unit.metadata.sample import NOW


def keys(now: float = NOW) -> TokenKeys:
    return TokenKeys(KeyRing.fresh(now))


def test_a_token_is_good_for_its_port_until_it_ends() -> None:
    ring = keys()
    token = ring.make("port-1", 60, NOW)
    assert len(token) == TOKEN_CHARACTERS == 52
    assert ring.valid(token, "port-1", NOW)
    assert ring.valid(token, "port-1", NOW + 59.9)
    assert not ring.valid(token, "port-1", NOW + 60.001)
    assert not ring.valid(token, "port-2", NOW)
    assert not ring.valid(token, "", NOW)


def test_no_two_tokens_are_the_same() -> None:
    ring = keys()
    assert len({ring.make("port-1", 60, NOW) for _ in range(100)}) == 100


def test_any_number_of_tokens_is_good_at_once() -> None:
    ring = keys()
    tokens = [ring.make("port-1", 60, NOW) for _ in range(100)]
    assert all(ring.valid(token, "port-1", NOW + 1) for token in tokens)


def test_tokens_survive_a_restart() -> None:
    before = keys()
    token = before.make("port-1", MAX_TTL, NOW)
    after = TokenKeys(KeyRing.load(before.ring.export()))
    assert after.ring == before.ring
    assert after.valid(token, "port-1", NOW + MAX_TTL - 1)


def test_another_ring_takes_no_token() -> None:
    assert not keys().valid(keys().make("port-1", 60, NOW), "port-1", NOW)


def test_the_last_token_of_a_key_outlives_its_rotation() -> None:
    ring = keys()
    last = NOW + ROTATE_SECONDS - 1
    assert not ring.ring.due(last)
    token = ring.make("port-1", MAX_TTL, last)
    assert ring.ring.due(NOW + ROTATE_SECONDS)
    for step in range(1, 2 + MAX_TTL // ROTATE_SECONDS):
        ring.install(ring.ring.rotated(NOW + step * ROTATE_SECONDS))
    assert ring.valid(token, "port-1", last + MAX_TTL - 1)
    assert not ring.valid(token, "port-1", last + MAX_TTL + 1)


def test_a_ring_does_not_grow() -> None:
    ring = KeyRing.fresh(NOW)
    first = ring.keys[0]
    for step in range(1, 600):
        ring = ring.rotated(NOW + step * ROTATE_SECONDS)
        assert len(ring.keys) <= 4
        numbers = [key.number for key in ring.keys]
        assert len(set(numbers)) == len(numbers)
        assert 0 <= min(numbers) <= max(numbers) <= 255
    assert first not in ring.keys
    for _ in range(10):  # a clock that does not move
        ring = ring.rotated(NOW)
    assert len(ring.keys) <= 5


def test_a_new_key_makes_the_tokens() -> None:
    ring = keys()
    ring.install(ring.ring.rotated(NOW + ROTATE_SECONDS))
    newest = TokenKeys(KeyRing((ring.ring.keys[0],)))
    assert newest.valid(ring.make("port-1", 60, NOW), "port-1", NOW)


def test_a_clock_that_was_set_back_ends_tokens() -> None:
    ring = keys()
    token = ring.make("port-1", MAX_TTL, NOW)
    assert not ring.valid(token, "port-1", NOW - 3600)
    assert ring.ring.due(NOW - 3600)
    assert ring.ring.rotated(NOW - 3600).keys[1:] == ring.ring.keys


def test_a_changed_token_is_none() -> None:
    ring = keys()
    raw = base64.urlsafe_b64decode(ring.make("port-1", 60, NOW))
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        assert not ring.valid(base64.urlsafe_b64encode(changed).decode(), "port-1", NOW)


@pytest.mark.parametrize(
    "token", ["", "A", "A" * 51, "A" * 52, "A" * 53, "=" * 52, "é" * 52, "\0" * 52, " " * 52, "!" * 52]
)
def test_what_is_no_token(token: str) -> None:
    assert not keys().valid(token, "port-1", NOW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":[{"number":0,"secret":"QQ==","made":1}]}',
        b"\xff",
        pytest.param(KeyRing.fresh(0).export()[1:], id="without its first byte"),
    ],
)
def test_what_is_no_ring(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a key ring"):
        KeyRing.load(data)


def test_a_secret_is_not_shown() -> None:
    key = SealingKey(1, b"s" * 32, NOW)
    assert "ssss" not in repr(key)
    assert "ssss" not in repr(KeyRing((key,)))

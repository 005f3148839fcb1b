"""Session tokens without a session: what is needed to judge a token is sealed inside it.

A token is AES-256-GCM over its expiry, with the port's id and the key's number as associated data, so it is worth
nothing for another port, cannot be read or changed, and costs no memory. Keys are rotated; those that a living token
may have been made with are kept. `KeyRing.export` is what has to survive a restart: keep it as secret as the tokens.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

MAX_TTL = 21600
"""Seconds, six hours: AWS's limit."""
ROTATE_SECONDS = 21600
"""How long tokens are made with one key. Random nonces of 96 bits allow 2^32 tokens a key (NIST SP 800-38D 8.3)."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_EXPIRY = struct.Struct(">Q")
_SEALED_BYTES = 1 + _NONCE_BYTES + _EXPIRY.size + 16
TOKEN_CHARACTERS = 4 * -(-_SEALED_BYTES // 3)
"""Every token is as long as that: URL-safe base64 with padding, as AWS's."""

Seconds = Annotated[float, Meta(ge=0)]


class SealingKey(msgspec.Struct, frozen=True):
    """One key."""

    number: Annotated[int, Meta(ge=0, le=255)]
    """Stands at the beginning of its tokens."""
    secret: Annotated[bytes, Meta(min_length=_KEY_BYTES, max_length=_KEY_BYTES)]
    made: Seconds
    """Since the epoch."""

    def __repr__(self) -> str:
        """Without the secret: it must not get into a log."""
        return f"SealingKey(number={self.number}, made={self.made})"


class KeyRing(msgspec.Struct, frozen=True):
    """Keys, newest first, never none: the first makes tokens, all judge them."""

    keys: Annotated[tuple[SealingKey, ...], Meta(min_length=1)]

    @classmethod
    def fresh(cls, now: float) -> KeyRing:
        """A ring of one new key."""
        return cls((_key(0, now),))

    @classmethod
    def load(cls, data: bytes) -> KeyRing:
        """A ring from what `export` gave; raises ValueError for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as failure:
            raise ValueError(f"not a key ring: {failure}") from None

    def export(self) -> bytes:
        """The ring as bytes."""
        return msgspec.json.encode(self)

    def due(self, now: float) -> bool:
        """Whether it is time for `rotated`; also when the newest key is from a time to come: the clock was set."""
        return not 0 <= now - self.keys[0].made < ROTATE_SECONDS

    def rotated(self, now: float) -> KeyRing:
        """A ring with one more key, without those that no living token can have been made with."""
        newest = self.keys[0]
        kept = [key for key in self.keys if key is newest or 0 <= now - key.made < 2 * ROTATE_SECONDS + MAX_TTL]
        return KeyRing((_key((newest.number + 1) % 256, now), *kept[:4]))


class TokenKeys:
    """Makes and judges tokens by the ring that was installed last."""

    __slots__ = ("_ciphers", "_newest", "_seal", "ring")

    def __init__(self, ring: KeyRing) -> None:
        self.install(ring)

    def install(self, ring: KeyRing) -> None:
        """Use another ring from now on; it should be kept already, or its tokens end with the process."""
        self.ring = ring
        self._ciphers = {key.number: AESGCM(key.secret) for key in reversed(ring.keys)}
        self._newest = ring.keys[0].number
        self._seal = self._ciphers[self._newest]

    def make(self, port_id: str, ttl: int, now: float) -> str:
        """A token for the port, good for `ttl` seconds (1 to MAX_TTL) after `now`, the wall clock."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, _EXPIRY.pack(int((now + ttl) * 1000)), _bound(self._newest, port_id))
        return base64.urlsafe_b64encode(bytes((self._newest,)) + nonce + sealed).decode("ascii")

    def valid(self, token: str, port_id: str, now: float) -> bool:
        """Whether it is a token of this port that has not ended. Never raises; all that is wrong looks the same."""
        if len(token) != TOKEN_CHARACTERS:
            return False
        try:
            raw = binascii.a2b_base64(token.translate(_TO_STANDARD), strict_mode=True)
        except ValueError:  # also of text that is not ASCII
            return False
        cipher = self._ciphers.get(raw[0])
        if cipher is None or len(raw) != _SEALED_BYTES:
            return False
        try:
            opened = cipher.decrypt(raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :], _bound(raw[0], port_id))
        except InvalidTag:
            return False
        (ends,) = _EXPIRY.unpack(opened)
        # A clock that was set back would make tokens live longer than any may.
        return bool(now * 1000 < ends <= (now + MAX_TTL + 1) * 1000)


_TO_STANDARD = str.maketrans("-_", "+/")
"""URL-safe to standard base64, which is the one that can be decoded strictly."""


def _bound(number: int, port_id: str) -> bytes:
    return bytes((number,)) + port_id.encode()


def _key(number: int, now: float) -> SealingKey:
    return SealingKey(number, os.urandom(_KEY_BYTES), now)

"""Fresh random seeds: text as good as the base64 form of bytes of the kernel's generator, made many at a time.

The kernel's generator takes a microsecond for one seed, a tenth of an answer. Here it gives a key for a batch, of which
AES-256 in counter mode makes the bytes (as NIST SP 800-90A's CTR_DRBG does); a key makes one batch and is forgotten.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SEED_BYTES = 512
"""Nova: random_seed of meta_data.json is the base64 form of that many fresh bytes."""
SEED_CHARACTERS = 4 * -(-SEED_BYTES // 3)

_BATCH = 128
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OF_BYTE = bytes(_LETTERS[byte & 63] for byte in range(256))
_LAST = 8 * SEED_BYTES // 6
"""Letters of six random bits. The one after them has four, and then there is padding (RFC 4648 4)."""
_OF_LAST_BYTE = bytes(_LETTERS[byte & 60] for byte in range(256))
_PADDING = _BATCH * b"="
_ZEROS = bytes(_BATCH * SEED_CHARACTERS)

_ready: list[bytes] = []
os.register_at_fork(after_in_child=_ready.clear)


def fresh_seed() -> bytes:
    """Random bytes for one answer, base64, SEED_CHARACTERS long; nobody gets the same again."""
    if not _ready:
        _ready.extend(_batch())
    return _ready.pop()


def _batch() -> list[bytes]:
    secret = os.urandom(48)
    cipher = Cipher(algorithms.AES(secret[:32]), modes.CTR(secret[32:]))
    # A bytearray's translate takes two thirds of the time that the one of bytes takes, which looks for a difference.
    noise = bytearray(cipher.encryptor().update(_ZEROS))
    letters = noise.translate(_OF_BYTE)
    letters[_LAST::SEED_CHARACTERS] = noise[_LAST::SEED_CHARACTERS].translate(_OF_LAST_BYTE)
    letters[_LAST + 1 :: SEED_CHARACTERS] = _PADDING
    text = bytes(letters)
    return [text[at : at + SEED_CHARACTERS] for at in range(0, len(text), SEED_CHARACTERS)]

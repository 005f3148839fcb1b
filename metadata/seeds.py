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
_WHOLE = 8 * SEED_BYTES // 6
"""Letters of six random bits. The last one has four, and then there is padding (RFC 4648 4)."""
_LAST = {letter: bytes((_LETTERS[number & 60],)) + b"=" for number, letter in enumerate(_LETTERS)}
_ZEROS = bytes(_BATCH * (_WHOLE + 1))

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
    text = cipher.encryptor().update(_ZEROS).translate(_OF_BYTE)
    return [text[at : at + _WHOLE] + _LAST[text[at + _WHOLE]] for at in range(0, len(text), _WHOLE + 1)]

"""The Internet checksum (RFC 1071) of bytes, changed bytes (RFC 1624) and batches: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._checksum_py import fill, internet_checksum, udp4_checksum, update, verify
else:
    from fastpath._calibrate import serving

    _stage = serving("checksum")
    fill, verify = _stage.fill, _stage.verify
    internet_checksum, udp4_checksum, update = _stage.internet_checksum, _stage.udp4_checksum, _stage.update

__all__ = ["fill", "internet_checksum", "udp4_checksum", "update", "verify"]

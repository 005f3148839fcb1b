"""The Internet checksum (RFC 1071), alone and for UDP over IPv4 (RFC 768): compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._checksum_py import internet_checksum, udp4_checksum
else:
    from fastpath._checksum_c import internet_checksum, udp4_checksum

__all__ = ["internet_checksum", "udp4_checksum"]

"""Ethernet, IPv4 and UDP framing of DHCP messages: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL
from fastpath.frame import DROP_REASONS, FrameError, Udp4

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._framing_py import parse_udp4, udp4_frame
else:
    from fastpath._framing_c import parse_udp4, udp4_frame

__all__ = ["DROP_REASONS", "FrameError", "Udp4", "parse_udp4", "udp4_frame"]

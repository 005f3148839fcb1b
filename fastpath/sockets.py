"""Accepting, reading and writing many sockets at once: compiled, or the plain twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath._select import LEVEL

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._sockets_py import MOST, accept_each, receive_each, send_each
else:
    from fastpath._sockets_c import MOST, accept_each, receive_each, send_each

__all__ = ["MOST", "accept_each", "receive_each", "send_each"]

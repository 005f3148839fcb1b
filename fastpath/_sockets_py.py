"""Reading from and writing to many sockets at once, in plain Python: specification and oracle of `_sockets_c`."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Final

MOST: Final = 64
"""Sockets that one call of `receive_each` reads from."""


def receive_each(epoll: select.epoll, scratch: bytearray, size: int) -> list[tuple[int, bytes]]:
    """Read once from each socket that is ready, MOST of them at the most: (descriptor, bytes), in epoll's order.

    `epoll` holds non-blocking stream sockets, level-triggered. Of each up to `size` bytes are read; b"" says that the
    other side has ended or the connection is broken. Sockets that have nothing after all are left out. `scratch` is
    overwritten and must have room for `size` bytes; when less than that is left, those that remain come next time.
    No other thread may use it meanwhile. Raises ValueError for a `size` that is not positive or more than `scratch`
    takes, and OSError if epoll itself fails.
    """
    if not 0 < size <= len(scratch):
        raise ValueError("size is from 1 to the length of scratch")
    found = []
    left = len(scratch)
    for descriptor, _ in epoll.poll(0, MOST):
        if left < size:
            break
        try:
            data = os.read(descriptor, size)
        except (BlockingIOError, InterruptedError):
            continue
        except OSError:
            data = b""
        found.append((descriptor, data))
        left -= len(data)
    return found


def send_each(descriptors: Sequence[int], messages: Sequence[bytes]) -> list[int]:
    """Write each message to its non-blocking stream socket; how many bytes each took, -1 for a broken connection.

    A socket that takes nothing now has 0. Raises ValueError if the lengths differ; nothing is sent then.
    """
    if len(descriptors) != len(messages):
        raise ValueError("as many messages as descriptors")
    taken = []
    for descriptor, message in zip(descriptors, messages, strict=True):
        try:
            taken.append(os.write(descriptor, message))
        except (BlockingIOError, InterruptedError):
            taken.append(0)
        except OSError:
            taken.append(-1)
    return taken

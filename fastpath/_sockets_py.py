"""Accepting, reading and writing many sockets at once, in plain Python: specification and oracle of `_sockets_c`."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from contextlib import suppress
from socket import IPPROTO_TCP, MSG_MORE, SHUT_WR, SocketType
from typing import Any, Final

MOST: Final = 64
"""Sockets that one call of `accept_each` makes, or of `receive_each` reads from."""

ETHERNET_BYTES: Final = 14
ONE_PACKET: Final = 1208
"""What TCP with timestamps carries over IPv6's smallest MTU, 1280 bytes."""
TCP_SAVED_SYN: Final = 28
"""linux/tcp.h; not in the socket module."""
_SAVED_SYN_BYTES = 256
"""Ethernet, IPv6 and TCP headers with all options are 114 bytes; the rest is room for IPv6 extension headers."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def accept_each(listening: int, scratch: bytearray, size: int) -> list[tuple[int, bytes, str, bytes | None]]:
    """Accept from a non-blocking listening socket, MOST times at the most, and read once from each new connection.

    Of each connection: the descriptor (non-blocking, not inherited by programs that are started), which is the caller's
    to close; the first ETHERNET_BYTES of its saved SYN (`TCP_SAVE_SYN`; b"" if none was saved); the peer's IP address
    as text, without a zone ("" where it has none); up to `size` bytes that it sent, b"" if it has ended or is broken,
    None if nothing is there yet. Connections that were gone before they were accepted are left out.

    `scratch` is as for `receive_each`; so is ValueError. Raises OSError if the process or the kernel has run out of
    descriptors or memory, unless connections were accepted before: then it does the next time.
    """
    if not 0 < size <= len(scratch):
        raise ValueError("size is from 1 to the length of scratch")
    accepted: list[tuple[int, bytes, str, bytes | None]] = []
    left = len(scratch)
    server = SocketType(fileno=listening)
    try:
        for _ in range(MOST):
            if left < size:
                break
            try:
                descriptor, peer = server._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError):
                break
            except OSError as failure:
                if failure.errno not in _EXHAUSTED:
                    continue
                if accepted:
                    break
                raise
            accepted.append((descriptor, b"", "", None))
            accepted[-1] = row = _read_first(descriptor, peer, size)
            left -= len(row[3] or b"")
    except BaseException:
        for descriptor, *_ in accepted:
            os.close(descriptor)
        raise
    finally:
        server.detach()
    return accepted


def _read_first(descriptor: int, peer: Any, size: int) -> tuple[int, bytes, str, bytes | None]:
    os.set_blocking(descriptor, False)
    sock = SocketType(fileno=descriptor)
    try:
        syn = sock.getsockopt(IPPROTO_TCP, TCP_SAVED_SYN, _SAVED_SYN_BYTES)[:ETHERNET_BYTES]
    except OSError:
        syn = b""
    finally:
        sock.detach()
    data: bytes | None
    try:
        data = os.read(descriptor, size)
    except (BlockingIOError, InterruptedError):
        data = None
    except OSError:
        data = b""
    return descriptor, syn, peer[0] if isinstance(peer, tuple) else "", data


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


def send_each(descriptors: Sequence[int], messages: Sequence[bytes], ends: Sequence[bool]) -> list[int]:
    """Write each message to its non-blocking stream socket; how many bytes each took, -1 for a broken connection.

    A socket that takes nothing now has 0. Where `ends` says so, a socket that took all of its message is closed; any
    other stays open. If that message fits ONE_PACKET, the end of the connection goes in the same packet. Raises
    ValueError if the lengths differ; nothing is sent then.
    """
    if not len(descriptors) == len(messages) == len(ends):
        raise ValueError("as many messages and ends as descriptors")
    taken = []
    for descriptor, message, last in zip(descriptors, messages, ends, strict=True):
        small = last and len(message) <= ONE_PACKET
        sock = SocketType(fileno=descriptor)
        try:
            count = sock.send(message, MSG_MORE if small else 0)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            count = -1
        if last and count == len(message):
            if small:
                with suppress(OSError):
                    sock.shutdown(SHUT_WR)
            sock.close()
        else:
            sock.detach()
        taken.append(count)
    return taken

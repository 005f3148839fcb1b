"""One nodeplane per network namespace: two with different stores would take each other's networks down."""

from __future__ import annotations

import socket

from dataplane.errors import ListenError

# An abstract name (unix(7)) belongs to the network namespace and goes with the process, also after a crash.
NAME = b"\0nodeplane"


def claim() -> socket.socket:
    """Claim the network namespace of this process for as long as the socket stays open.

    Raises ListenError when another nodeplane has it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(NAME)
    except OSError as error:
        sock.close()
        raise ListenError("another nodeplane serves this network namespace: stop it first") from error
    return sock

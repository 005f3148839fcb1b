"""One nodeplane per network namespace: two with different stores would take each other's networks down."""

from __future__ import annotations

import contextlib
import logging
import os
import socket

from dataplane.control_peer import credentials
from dataplane.errors import ListenError

log = logging.getLogger("nodeplane.daemon")

# An abstract name (unix(7)) belongs to the network namespace and goes with the process, also after a crash.
NAME = b"\0nodeplane"


def claim() -> socket.socket:
    """Claim the network namespace of this process for as long as the socket stays open.

    Any local user can take the name first: such a claim is reported and does not count. Raises ListenError when
    another nodeplane, of root or of our own user, has it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(NAME)
        sock.listen(1)
    except OSError as error:
        owner = _owner()
        if owner in (0, os.geteuid()):
            sock.close()
            raise ListenError("another nodeplane serves this network namespace: stop it first") from error
        log.warning("daemon.claim_ignored", extra={"fields": {"uid": owner}})
    return sock


def _owner() -> int | None:
    """User of the process that listens on the name; None when nobody listens (a nodeplane always does)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        with contextlib.suppress(OSError):
            probe.connect(NAME)
            return credentials(probe).uid
    return None

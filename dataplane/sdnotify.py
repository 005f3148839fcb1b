"""The service manager's notification protocol, sd_notify(3): readiness, status line, reload and watchdog.

Nothing here ever fails the daemon: without a notify socket every call does nothing, and a datagram that cannot be
sent is lost. The manager's variables are taken out of the environment, so that no child can speak for us.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from array import array
from collections.abc import MutableMapping, Sequence

_PATIENCE_SECONDS = 5.0
"""How long a manager may be too busy to take a descriptor."""
_LINE_LIMIT = 1000
"""Characters of a status line; the manager cuts at its own limit, a page."""


class Notifier:
    """Talks to the service manager that started this process, if there is one."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environment`."""
        address = environment.pop("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog(environment)
        """Seconds within which the manager wants a sign of life; None: no watchdog. Send at half of it."""
        self._deaf = False
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                notify.connect("\0" + address[1:] if address.startswith("@") else address)
            except OSError:
                notify.close()
            else:
                self._socket = notify

    @property
    def active(self) -> bool:
        """Whether a manager listens."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service is up, or a reload is finished."""
        self._send("READY=1", *_status(status))

    def status(self, status: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(*_status(status))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service begins to end."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life; only to be called while the service works."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time before the current phase (start, reload, stop) counts as failed."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def keep(self, name: str, descriptors: Sequence[int]) -> None:
        """Have descriptors kept under a name until `forget`, also when this process is gone; blocks while it must.

        They come back to the next process by sd_listen_fds(3). The manager keeps them even if nobody listens at the
        other end (FDPOLL=0).
        """
        if self._socket is not None:
            lines = f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0"
            self._wait_to_send([lines.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))])

    def forget(self, name: str) -> None:
        """Have the descriptors of a name kept no longer; blocks while it must."""
        if self._socket is not None:
            self._wait_to_send([f"FDSTOREREMOVE=1\nFDNAME={name}".encode()], [])

    def _wait_to_send(self, data: list[bytes], ancillary: list[tuple[int, int, array[int]]]) -> None:
        """Unlike a status, what concerns descriptors must arrive; the manager's queue holds a few datagrams only.

        A manager that does not listen for as long as our patience lasts is asked nothing more of this kind.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with contextlib.suppress(OSError):
            while self._socket is not None and not self._deaf:
                try:
                    self._socket.sendmsg(data, ancillary)
                    return
                except BlockingIOError:
                    left = max(0.0, deadline - time.monotonic())
                    self._deaf = not select.select([], [self._socket], [], left)[1]

    def close(self) -> None:
        """Let go of the socket; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send("\n".join(lines).encode())


def _status(status: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(status.split())[:_LINE_LIMIT]}",) if status else ()


def _watchdog(environment: MutableMapping[str, str]) -> float | None:
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6

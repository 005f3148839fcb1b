"""Listening Unix sockets in the file system: a dead one is replaced, a living one and other files are left alone."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from dataplane.errors import ListenError


@dataclass(frozen=True)
class UnixListener:
    """A socket that listens at a path."""

    sock: socket.socket
    path: str
    inode: tuple[int, int] | None

    @classmethod
    def open(cls, path: str, mode: int, what: str, key: str, backlog: int) -> UnixListener:
        """Listen at `path`, with permissions `mode` from the first moment.

        `what` it is and the configuration's `key` for it are for the text of a ListenError, which is also raised when
        another daemon answers there.
        """
        if _answers(path, key):
            raise ListenError(f"another daemon answers on {path}: stop it first, or give this one a socket of its own")
        temporary = str(Path(path).with_name(f".{os.getpid()}"))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            listener.bind(temporary)
            _permit(temporary, mode)
            listener.listen(backlog)
            os.rename(temporary, path)
        except OSError as error:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise ListenError(f"cannot open {what} {path}: {error.strerror or error}") from error
        return cls(listener, path, _inode(path))

    def remove(self) -> None:
        """Take the path away if it is still this socket's; closing the socket is its user's part."""
        if self.inode is not None and _inode(self.path) == self.inode:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def _permit(path: str, mode: int) -> None:
    """Set the permissions of a socket at `path`, and of nothing that somebody put in its place. Raises OSError.

    The folder may be another user's, as that of Neutron's agents is: a plain chmod would follow a link of theirs.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def _answers(path: str, key: str) -> bool:
    """Whether a process listens at `path`; raises ListenError if something else than a socket is there."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path} exists and is not a socket: move it away, or change {key}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""Named network namespaces, and the one thread that ever enters them.

A name is a bind mount of a namespace at /run/netns/NAME, as `ip netns` makes and reads it. Only the thread of
`NamespaceThread` calls setns or unshare (design.md, decision 2): it opens what is needed inside and hands the
descriptors out, and is back in the root namespace (the one the process was started in) after every call.

Python 3.11 has neither setns nor unshare nor mount in `os`, so libc is called. These calls let other threads run.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from dataplane.errors import ForeignObjectError, KernelError

P = ParamSpec("P")
T = TypeVar("T")

DIRECTORY = Path("/run/netns")

# linux/sched.h, linux/mount.h
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_SHARED = 1 << 20
_MNT_DETACH = 2

_SELF = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p)


def _mount(source: str, target: str, flags: int) -> int:
    """Errno of a mount, 0 when it worked."""
    if _libc.mount(source.encode(), target.encode(), b"none", flags, None) == 0:
        return 0
    return ctypes.get_errno()


class Namespaces:
    """The namespaces below a directory. Every method blocks, and is for the namespace thread only."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        self._root = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
        self._device = os.fstat(self._root).st_dev
        self.root_inode = os.fstat(self._root).st_ino

    def close(self) -> None:
        """Close the descriptor of the root namespace."""
        os.close(self._root)

    def prepare(self) -> None:
        """Make the directory a shared mount, as `ip netns` does, so that every mount namespace sees its names."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = str(self.directory)
        number = _mount("", path, _MS_SHARED | _MS_REC)
        if number == errno.EINVAL:
            # Not a mount point yet.
            number = _mount(path, path, _MS_BIND | _MS_REC) or _mount("", path, _MS_SHARED | _MS_REC)
        if number:
            raise KernelError("mount", path, number)

    def names(self) -> list[str]:
        """All names, also those of others."""
        try:
            return os.listdir(self.directory)
        except FileNotFoundError:
            return []

    def open(self, name: str) -> int | None:
        """A descriptor of a namespace (the caller closes it); None when there is none of that name.

        An empty plain file is a name whose namespace is gone or was not yet mounted, and counts as none.
        """
        try:
            descriptor = os.open(f"{self.directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KernelError("open namespace", name, error.errno or errno.EIO) from error
        status = os.fstat(descriptor)
        if status.st_dev == self._device:
            return descriptor
        os.close(descriptor)
        if status.st_size == 0:
            return None
        raise ForeignObjectError("file", f"{self.directory}/{name}")

    @staticmethod
    def inode(descriptor: int) -> int:
        """The number of a namespace."""
        return os.fstat(descriptor).st_ino

    @staticmethod
    def release(descriptor: int) -> None:
        """Close a descriptor of `open` or `attach`."""
        os.close(descriptor)

    @contextmanager
    def inside(self, descriptor: int) -> Iterator[None]:
        """Be in a namespace for the length of the block."""
        if _libc.setns(descriptor, _CLONE_NEWNET):
            raise KernelError("setns", f"descriptor {descriptor}", ctypes.get_errno())
        try:
            yield
        finally:
            self.leave()

    def enter_new(self) -> None:
        """Be in a new namespace without a name, until the next `enter_new` or `leave`."""
        if _libc.unshare(_CLONE_NEWNET):
            raise KernelError("unshare", "network namespace", ctypes.get_errno())

    def leave(self) -> None:
        """Be in the root namespace again."""
        if _libc.setns(self._root, _CLONE_NEWNET):
            raise KernelError("setns", "root namespace", ctypes.get_errno())

    def attach(self, name: str) -> int:
        """Give the namespace that the thread is in a name; returns a descriptor of it.

        The file is left from a crash when it exists already and is empty: it is used.
        """
        path = f"{self.directory}/{name}"
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        number = _mount(_SELF, path, _MS_BIND)
        if number:
            os.unlink(path)
            raise KernelError("mount", path, number)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def delete(self, name: str) -> None:
        """Remove a name. The namespace ends when nothing uses it any more. A name that is not there is fine."""
        path = f"{self.directory}/{name}"
        if _libc.umount2(path.encode(), _MNT_DETACH):
            number = ctypes.get_errno()
            # EINVAL: the file is there but nothing is mounted on it.
            if number not in (errno.EINVAL, errno.ENOENT):
                raise KernelError("umount", path, number)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError("unlink", path, error.errno or errno.EIO) from error


class NamespaceThread:
    """The thread. `call` runs a blocking function on it; calls run one after another, in order."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on the thread and wait for its result without blocking the loop.

        A cancelled caller does not stop a function that runs: the kernel's state is what the next look finds.
        """
        future = self._executor.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let what was begun end, and stop the thread."""
        self._executor.shutdown(wait=True)

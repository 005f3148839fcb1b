"""Sockets that outlive the process: kept by the service manager over a restart or a crash (FDSTORE of sd_notify(3)).

A guest that asks while the daemon restarts waits in a queue instead of being refused, and the next process opens
nothing anew. A socket is taken back only when it still is where its network is served now: same namespace, same
device. Without a manager that keeps descriptors (FileDescriptorStoreMax=) all of this does nothing.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from dataplane.model import NetworkId
from dataplane.netns import DIRECTORY
from dataplane.packets import NetworkSockets, metadata_addresses
from dataplane.sdnotify import Notifier

FIRST_DESCRIPTOR = 3
"""Where a manager begins to put descriptors, sd_listen_fds(3)."""
PREFIX = "np-"

# linux/sockios.h, asm-generic/socket.h: not in Python's modules.
_SIOCGSKNS = 0x894C
_SO_BINDTOIFINDEX = 62


class FdStore:
    """Puts sockets of networks with the manager, and finds those that it gave to this process."""

    def __init__(self, notifier: Notifier, environment: MutableMapping[str, str] = os.environ) -> None:
        """Take LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of `environment`, and the descriptors they name."""
        self._notifier = notifier
        self._kept = _inherited(environment)
        # Now, because the kernel tells it only to those who may change the network.
        self._namespaces = {sock: _namespace(sock) for kept in self._kept.values() for sock in kept}
        self._forgotten: set[str] = set()
        """Names of `_kept` that the manager was told to forget; what it keeps under one now is newer."""
        # One thread, so that what is said of a network arrives in order; the manager may be slow to listen.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fdstore")

    def take(self, network_id: NetworkId, serving_on: tuple[int, int], device: str) -> NetworkSockets | None:
        """The kept sockets of a network if they are on this namespace (inode) and device (index, name)."""
        kept = self._kept.get(PREFIX + network_id)
        sockets = _complete(kept) if kept else None
        if sockets is None or not self._are_on(sockets, serving_on, device):
            return None
        del self._kept[PREFIX + network_id]
        for sock in sockets.all():
            del self._namespaces[sock]
        return sockets

    def where(self, network_id: NetworkId, netns: str) -> tuple[int, int] | None:
        """Namespace (inode) and device (index) of the kept sockets of a network, if `netns` still is that namespace."""
        kept = self._kept.get(PREFIX + network_id)
        sockets = _complete(kept) if kept else None
        if sockets is None:
            return None
        try:
            inode = self._namespaces[sockets.dhcp]
            if os.stat(DIRECTORY / netns).st_ino != inode:
                return None
            return inode, sockets.metadata[0].getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX)
        except OSError:
            return None

    def put(self, network_id: NetworkId, sockets: NetworkSockets) -> None:
        """Have the sockets kept; the caller goes on using and closes its own descriptors."""
        if self._notifier.active:
            if PREFIX + network_id in self._kept:
                self.drop(network_id)  # before: what has one name is forgotten together
            descriptors = [os.dup(sock.fileno()) for sock in sockets.all()]
            self._thread.submit(self._put, PREFIX + network_id, descriptors)

    def drop(self, network_id: NetworkId) -> None:
        """Have the sockets of a network kept no longer."""
        if self._notifier.active:
            self._thread.submit(self._notifier.forget, PREFIX + network_id)
            if PREFIX + network_id in self._kept:
                self._forgotten.add(PREFIX + network_id)

    def leftovers(self) -> list[socket.socket]:
        """What was kept and nobody took: no longer kept, and the caller's to close."""
        left = [sock for kept in self._kept.values() for sock in kept]
        if self._notifier.active:
            for name in self._kept.keys() - self._forgotten:
                self._thread.submit(self._notifier.forget, name)
        self._kept.clear()
        self._namespaces.clear()
        self._forgotten.clear()
        return left

    def finish(self) -> None:
        """Wait until the manager has been told everything."""
        self._thread.shutdown()

    def _are_on(self, sockets: NetworkSockets, serving_on: tuple[int, int], device: str) -> bool:
        inode, index = serving_on
        try:
            if any(sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX) != index for sock in sockets.metadata):
                return False
            # A packet socket whose device has gone has no name any more, also when another device took the name.
            if sockets.dhcp.getsockname()[0] != device:
                return False
            return all(self._namespaces[sock] == inode for sock in sockets.all())
        except OSError:
            return False

    def _put(self, name: str, descriptors: list[int]) -> None:
        try:
            self._notifier.keep(name, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _inherited(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    kept: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()) or not count.isdecimal():
        return kept
    for descriptor, name in zip(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)), names, strict=False):
        os.set_inheritable(descriptor, False)
        # What is no socket is nothing of ours.
        with suppress(OSError):
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            kept.setdefault(name, []).append(sock)
    return kept


def _complete(kept: Iterable[socket.socket]) -> NetworkSockets | None:
    """The sockets of a network, with a listener on each address, or None.

    An earlier release had fewer, a manager whose store is full keeps what fits, and one that was told twice has more.
    """
    metadata: list[socket.socket] = []
    dhcp = guard = None
    for sock in kept:
        if sock.family == socket.AF_PACKET:
            dhcp = sock
        elif sock.type == socket.SOCK_STREAM:
            metadata.append(sock)
        else:
            guard = sock
    listening = sorted(sock.getsockname()[0].partition("%")[0] for sock in metadata)
    if dhcp is None or listening != sorted(metadata_addresses()):
        return None
    return NetworkSockets(tuple(metadata), dhcp, guard)


def _namespace(sock: socket.socket) -> int:
    """Inode of the network namespace that a socket is in; 0, which is none, if the kernel does not say."""
    try:
        descriptor = fcntl.ioctl(sock.fileno(), _SIOCGSKNS)
    except OSError:
        return 0
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)

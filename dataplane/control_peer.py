"""Who is at the other end of a Unix socket, and whether they may use it.

The kernel says who connected (SO_PEERCRED, unix(7)); nothing in a request can change it.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from dataplane.config import ControlConfig

_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS = 59  # Linux >= 4.13, asm-generic/socket.h; not in Python's socket module
_GROUPS_BYTES = 1024  # the most that Python's getsockopt takes: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """Credentials that a local process had when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    """Supplementary groups; empty if there are more than 256."""


def credentials(connection: socket.SocketType) -> Peer:
    """The peer of a connected Unix socket; raises OSError for any other socket."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        groups = b""
    return Peer(pid, uid, gid, frozenset(struct.unpack(f"={len(groups) // 4}I", groups)))


@dataclass(frozen=True)
class Gate:
    """Lets root, the daemon's own user and the configured users and groups pass."""

    uids: frozenset[int]
    gids: frozenset[int] = frozenset()
    unknown: tuple[str, ...] = field(default=(), compare=False)
    """Configured names that this machine does not know; they let nobody pass."""

    @classmethod
    def of(cls, config: ControlConfig) -> Gate:
        """The gate of the control socket."""
        return cls.named(config.allow_users, config.allow_groups)

    @classmethod
    def named(cls, users: Iterable[str | int], groups: Iterable[str | int]) -> Gate:
        """A gate for these users and groups, by name or number; names are looked up once, now."""
        unknown: list[str] = []

        def number(name: str | int, *, group: bool) -> Iterable[int]:
            try:
                if isinstance(name, int):
                    yield name
                elif group:
                    yield grp.getgrnam(name).gr_gid
                else:
                    yield pwd.getpwnam(name).pw_uid
            except KeyError:
                unknown.append(name if isinstance(name, str) else str(name))

        uids = {uid for name in users for uid in number(name, group=False)}
        gids = {gid for name in groups for gid in number(name, group=True)}
        return cls(frozenset({0, os.geteuid(), *uids}), frozenset(gids), tuple(unknown))

    def allows(self, peer: Peer) -> bool:
        """Whether this peer may use the socket."""
        return peer.uid in self.uids or peer.gid in self.gids or bool(self.gids & peer.groups)

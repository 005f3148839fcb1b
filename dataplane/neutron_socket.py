"""The Unix socket of Neutron's metadata agents, served in their place: haproxy's side stays as it is."""

from __future__ import annotations

import logging
import socket

from dataplane.config import MetadataConfig
from dataplane.control_peer import Gate, credentials
from dataplane.unix_socket import UnixListener
from metadata import dropin_server
from metadata.server import MetadataServer

log = logging.getLogger("nodeplane.metadata")

BACKLOG = 4096
"""What Neutron's metadata_backlog would be if it took effect."""


class NeutronSocket:
    """Opens `metadata.dropin_socket` for the users and groups that run haproxy, and removes it at the end."""

    def __init__(self, server: MetadataServer, config: MetadataConfig) -> None:
        """Raises ListenError when the socket cannot be opened, also when an agent still answers there."""
        self._gate = Gate.named(config.dropin_users, config.dropin_groups)
        for name in self._gate.unknown:
            log.warning("control.unknown_name", extra={"fields": {"name": name}})
        mode = 0o666 if config.dropin_users or config.dropin_groups else 0o600
        self._unix = UnixListener.open(
            config.dropin_socket, mode, "the metadata agent's socket", "metadata.dropin_socket", BACKLOG
        )
        dropin_server.attach(server, self._unix.sock, self._admits)
        log.info("dropin.listening", extra={"fields": {"socket": config.dropin_socket}})

    def close(self) -> None:
        """Remove the socket; the connections are the server's to close."""
        self._unix.remove()

    def _admits(self, connection: socket.SocketType) -> bool:
        try:
            peer = credentials(connection)
        except OSError:
            return False
        if self._gate.allows(peer):
            return True
        log.warning("dropin.denied", extra={"fields": {"uid": peer.uid, "gid": peer.gid, "pid": peer.pid}})
        return False

"""A served network whose sockets cannot be used."""

from __future__ import annotations

import socket

import pytest

from dataplane.closer import Closer
from dataplane.dhcp.policy import Policy
from dataplane.fdstore import FdStore
from dataplane.metrics import Metrics
from dataplane.model import Network, NetworkId
from dataplane.network import ServedNetwork, Services
from dataplane.packets import NetworkSockets
from dataplane.sdnotify import Notifier
from fastpath import sockets as calls
from metadata.server import MetadataServer
from tests.unit.metadata.lab import Ports, listening


@pytest.mark.asyncio
async def test_sockets_that_cannot_be_used_are_all_closed() -> None:
    server = MetadataServer(Ports(), calls)
    durations = Metrics(False, "pure").histogram("nodeplane_dhcp_response_duration_seconds")
    services = Services(server, lambda event: None, durations, Closer(), FdStore(Notifier()))
    served = ServedNetwork(Network(NetworkId("blue")), Policy(), services)
    dhcp, guard = socket.socketpair()
    # The second of them has no options of TCP.
    sockets = NetworkSockets((listening(), socket.socket(socket.AF_UNIX), listening()), dhcp, guard)
    with pytest.raises(OSError, match="not supported"):
        served.open(sockets, (1, 2))
    await services.closer.finish()
    assert [sock.fileno() for sock in sockets.all()] == [-1] * 5
    assert served.serving_on is None
    assert not server.listeners

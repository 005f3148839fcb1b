"""closer: sockets are closed elsewhere, all of them, by the time finish returns."""

from __future__ import annotations

import socket
import threading

import pytest

from dataplane.closer import Closer


class Slow(socket.socket):
    """A socket whose close waits for others to be closed as well, and notes the thread it was closed by."""

    def __init__(self, together: threading.Barrier) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.together = together
        self.closed_by = ""

    def close(self) -> None:
        if not self.closed_by:
            self.closed_by = threading.current_thread().name
            self.together.wait(10)
        super().close()


@pytest.mark.asyncio
async def test_sockets_are_closed_at_the_same_time_and_not_here() -> None:
    together = threading.Barrier(20)
    sockets = [Slow(together) for _ in range(20)]
    closer = Closer()
    for sock in sockets:
        closer.close(sock)
    await closer.finish()
    assert not together.broken
    assert all(sock.fileno() == -1 for sock in sockets)
    assert threading.current_thread().name not in {sock.closed_by for sock in sockets}

"""The byte side of a connection, without HTTP."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastpath import sockets
from metadata.server import Listener, MetadataServer
from metadata.settings import Settings
from metadata.stream import LINGER_BYTES, State, Stream
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Ports, until


class Recorder(Stream):
    """Keeps what happens to it."""

    def __init__(self, listener: Listener, descriptor: int) -> None:
        super().__init__(listener, descriptor)
        self.events: list[object] = []

    def received(self, data: bytes) -> None:
        self.events.append(data)
        self.await_bytes()

    def resumed(self) -> None:
        self.events.append("resumed")
        self.await_bytes()

    def lost(self) -> None:
        self.events.append("lost")
        self.close()

    def expire(self) -> None:
        self.events.append("expired")
        self.close()


def made() -> tuple[Recorder, socket.socket, MetadataServer]:
    server = MetadataServer(Ports(), sockets, Settings(sweep_seconds=0.01, linger_seconds=0.02))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return Recorder(Listener(server, "n", asyncio.get_running_loop()), ours.detach()), theirs, server


def test_bytes_come_in_and_the_end_is_noticed(run: Run) -> None:
    async def test() -> None:
        stream, peer, _ = made()
        stream.await_bytes()
        assert stream.registered
        peer.send(b"one")
        await until(lambda: stream.events == [b"one"])
        peer.close()
        await until(lambda: stream.events == [b"one", "lost"])
        assert stream.state is State.CLOSED
        stream.close()

    run(test())


def test_what_is_not_taken_is_written_later(run: Run) -> None:
    data = bytes(range(256)) * 8192

    async def test() -> None:
        stream, peer, _ = made()
        stream.write(data, stay=True)
        assert stream.writing
        loop = asyncio.get_running_loop()
        taken = b""
        while len(taken) < len(data):
            taken += await loop.sock_recv(peer, 1 << 16)
        assert taken == data
        await until(lambda: stream.events == ["resumed"])
        assert not stream.writing
        stream.close()
        peer.close()

    run(test())


def test_a_written_answer_closes_if_it_is_the_last(run: Run) -> None:
    async def test() -> None:
        stream, peer, server = made()
        stream.write(b"bye", stay=False)
        assert (peer.recv(10), peer.recv(10)) == (b"bye", b"")
        assert stream.state is State.CLOSED
        assert not stream.registered
        assert not server._waiting
        peer.close()

    run(test())


@pytest.mark.parametrize("sent", [0, LINGER_BYTES + (1 << 16)])
def test_after_the_end_input_is_dropped_for_a_while(run: Run, sent: int) -> None:
    async def test() -> None:
        stream, peer, _ = made()
        stream.end(b"error")
        assert stream.state is State.LINGERING
        assert (peer.recv(10), peer.recv(10)) == (b"error", b"")
        if sent:
            with pytest.raises(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(peer, bytes(2 * sent))
        await until(lambda: stream.state is State.CLOSED)
        assert stream.events == ([] if sent else ["expired"])
        peer.close()

    run(test())


def test_a_gone_peer_is_no_error(run: Run) -> None:
    async def test() -> None:
        for last in (True, False):
            stream, peer, _ = made()
            peer.close()
            if last:
                stream.end(b"error")
            else:
                stream.write(b"answer", stay=True)
            assert stream.state is State.CLOSED

    run(test())


@pytest.mark.parametrize("hops", [1, 2, 63, 64])
@pytest.mark.parametrize(
    ("family", "option"),
    [
        (socket.AF_INET, (socket.IPPROTO_IP, socket.IP_TTL)),
        (socket.AF_INET6, (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)),
    ],
)
def test_how_far_packets_go_is_the_socket_s(
    run: Run, family: socket.AddressFamily, option: tuple[int, int], hops: int
) -> None:
    async def test() -> None:
        server = MetadataServer(Ports(), sockets, Settings())
        with socket.socket(family) as sock, socket.socket(family) as other:
            usual = other.getsockopt(*option)
            Recorder(Listener(server, "blue", asyncio.get_running_loop()), sock.fileno()).limit_hops(hops)
            assert sock.getsockopt(*option) == hops
            assert other.getsockopt(*option) == usual

    run(test())

"""Accepting, reading and writing many sockets at once: the twins alike, on real sockets."""

from __future__ import annotations

import errno
import inspect
import os
import random
import resource
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from fastpath._sockets_py import ETHERNET_BYTES, MOST
from tests.twins import SOCKETS, SOCKETS_C, needs_build

pytestmark = pytest.mark.parametrize("calls", SOCKETS)

SIZE = 512
TCP_SAVE_SYN = 27
LOOPBACK = bytes(12) + b"\x08\x00"


class Pairs:
    """Connected sockets; of each pair the first is ours, non-blocking, and may be watched."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.epoll = stack.enter_context(select.epoll())

    def pair(self, watched: bool = True) -> tuple[socket.socket, socket.socket]:
        ours, theirs = (self._stack.enter_context(each) for each in socket.socketpair())
        ours.setblocking(False)
        if watched:
            self.epoll.register(ours, select.EPOLLIN)
        return ours, theirs


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(stack)


def tcp_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = stack.enter_context(socket.create_connection(listening.getsockname()))
        ours = stack.enter_context(listening.accept()[0])
    ours.setblocking(False)
    return ours, theirs


class Listening:
    """A listening socket and who connects to it; what is accepted is closed at the end."""

    def __init__(self, stack: ExitStack, family: socket.AddressFamily, address: str, save_syn: bool) -> None:
        self._stack = stack
        self.sock = stack.enter_context(socket.socket(family))
        if save_syn:
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 2)
        self.sock.bind((address, 0))
        self.sock.listen(4 * MOST)
        self.sock.setblocking(False)

    def connect(self, say: bytes = b"") -> socket.socket:
        guest = self._stack.enter_context(socket.socket(self.sock.family))
        guest.connect(self.sock.getsockname())
        if say:
            guest.send(say)
        return guest

    def take(
        self, calls: ModuleType, scratch: bytearray | None = None
    ) -> list[tuple[socket.socket, bytes, str, bytes | None]]:
        rows = calls.accept_each(self.sock.fileno(), scratch or bytearray(MOST * SIZE), SIZE)
        return [
            (self._stack.enter_context(socket.socket(fileno=descriptor)), syn, peer, data)
            for descriptor, syn, peer, data in rows
        ]


@pytest.fixture
def listening() -> Iterator[Listening]:
    with ExitStack() as stack:
        yield Listening(stack, socket.AF_INET, "127.0.0.1", save_syn=True)


def test_new_connections_with_what_they_say(calls: ModuleType, listening: Listening) -> None:
    guests = [listening.connect(say) for say in (b"one", b"", b"three" * SIZE)]
    rows = listening.take(calls)
    assert [row[1:] for row in rows] == [
        (LOOPBACK, "127.0.0.1", b"one"),
        (LOOPBACK, "127.0.0.1", None),
        (LOOPBACK, "127.0.0.1", (b"three" * SIZE)[:SIZE]),
    ]
    for (sock, *_), guest in zip(rows, guests, strict=True):
        assert sock.getpeername() == guest.getsockname()
        assert not sock.get_inheritable()
        assert not os.get_blocking(sock.fileno())
    assert listening.take(calls) == []


def test_new_connections_that_have_ended_or_are_broken(calls: ModuleType, listening: Listening) -> None:
    for linger in (0, 1):
        guest = listening.connect()
        guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
        guest.close()
    # Linux gives a connection that was reset before it was accepted; other kernels leave it out.
    assert {data for _, _, _, data in listening.take(calls)} == {b""}


@pytest.mark.parametrize(
    ("family", "address", "peer"),
    [
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_peer_s_address(calls: ModuleType, family: socket.AddressFamily, address: str, peer: str) -> None:
    with ExitStack() as stack:
        listening = Listening(stack, family, address, save_syn=False)
        listening.connect(b"x")
        ((_, syn, found, data),) = listening.take(calls)
        assert (syn, found, data) == (b"", peer, b"x")


def test_the_ethernet_header_is_that_of_the_family(calls: ModuleType) -> None:
    with ExitStack() as stack:
        listening = Listening(stack, socket.AF_INET6, "::1", save_syn=True)
        listening.connect()
        ((_, syn, _, data),) = listening.take(calls)
        assert (syn, data) == (bytes(12) + b"\x86\xdd", None)
        assert len(syn) == ETHERNET_BYTES


def test_unix_sockets_have_no_address(calls: ModuleType, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as guest:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.setblocking(False)
        guest.connect(server.getsockname())
        guest.send(b"hello")
        ((descriptor, syn, peer, data),) = calls.accept_each(server.fileno(), bytearray(SIZE), SIZE)
        os.close(descriptor)
        assert (syn, peer, data) == (b"", "", b"hello")


def test_many_new_ones_take_turns(calls: ModuleType, listening: Listening) -> None:
    guests = [listening.connect(b"%d" % number) for number in range(MOST + 3)]
    rounds = [listening.take(calls) for _ in range(3)]
    assert [len(each) for each in rounds] == [MOST, 3, 0]
    assert [row[3] for each in rounds for row in each] == [b"%d" % number for number in range(len(guests))]


def test_as_many_new_ones_as_there_is_room_for(calls: ModuleType, listening: Listening) -> None:
    for _ in range(4):
        listening.connect(bytes(SIZE))
    scratch = bytearray(2 * SIZE + SIZE // 2)
    assert [len(listening.take(calls, scratch)) for _ in range(3)] == [2, 2, 0]


def test_running_out_of_descriptors_keeps_what_was_made(calls: ModuleType, listening: Listening) -> None:
    for _ in range(3):
        listening.connect()
    with socket.socket() as highest:
        free = highest.fileno()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    scratch = bytearray(MOST * SIZE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        ((descriptor, *_),) = calls.accept_each(listening.sock.fileno(), scratch, SIZE)
        with pytest.raises(OSError, match="open files") as raised:
            calls.accept_each(listening.sock.fileno(), scratch, SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(descriptor)
    assert raised.value.errno == errno.EMFILE
    assert len(listening.take(calls)) == 2


def test_a_listening_socket_that_is_none(calls: ModuleType, pairs: Pairs) -> None:
    ours, _ = pairs.pair()
    assert calls.accept_each(ours.fileno(), bytearray(SIZE), SIZE) == []


def test_everybody_s_bytes_are_told_apart(calls: ModuleType, pairs: Pairs) -> None:
    chance = random.Random(1)
    made = [pairs.pair() for _ in range(20)]
    sent = {}
    for ours, theirs in made[::2]:
        sent[ours.fileno()] = chance.randbytes(chance.choice([1, 7, SIZE - 1, SIZE]))
        theirs.send(sent[ours.fileno()])
    assert dict(calls.receive_each(pairs.epoll, bytearray(64 * SIZE), SIZE)) == sent
    assert calls.receive_each(pairs.epoll, bytearray(64 * SIZE), SIZE) == []


def test_a_long_message_comes_in_parts(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair()
    theirs.send(b"a" * SIZE + b"b")
    scratch = bytearray(SIZE)
    taken = [calls.receive_each(pairs.epoll, scratch, SIZE) for _ in range(3)]
    assert taken == [[(ours.fileno(), b"a" * SIZE)], [(ours.fileno(), b"b")], []]


def test_who_has_ended_gives_nothing(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair()
    theirs.send(b"last")
    theirs.close()
    for expected in (b"last", b"", b""):
        assert calls.receive_each(pairs.epoll, bytearray(SIZE), SIZE) == [(ours.fileno(), expected)]


def test_a_reset_connection_gives_nothing_and_takes_nothing(calls: ModuleType, pairs: Pairs) -> None:
    with ExitStack() as stack:
        ours, theirs = tcp_pair(stack)
        pairs.epoll.register(ours, select.EPOLLIN)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert calls.receive_each(pairs.epoll, bytearray(SIZE), SIZE) == [(ours.fileno(), b"")]
        assert calls.send_each([ours.fileno()], [b"late"], [False]) == [-1]


def test_who_has_nothing_after_all_is_left_out(calls: ModuleType, pairs: Pairs) -> None:
    """Ready for an urgent byte, which is not read in a row with others."""
    with ExitStack() as stack:
        ours, theirs = tcp_pair(stack)
        pairs.epoll.register(ours, select.EPOLLPRI)
        theirs.send(b"!", socket.MSG_OOB)
        assert pairs.epoll.poll(5)
        assert calls.receive_each(pairs.epoll, bytearray(SIZE), SIZE) == []


def test_many_take_turns(calls: ModuleType, pairs: Pairs) -> None:
    made = [pairs.pair() for _ in range(3 * MOST)]
    for number, (_, theirs) in enumerate(made):
        theirs.send(b"%d" % number)
    scratch = bytearray(MOST * SIZE)
    rounds = [calls.receive_each(pairs.epoll, scratch, SIZE) for _ in range(4)]
    assert [len(each) for each in rounds] == [MOST, MOST, MOST, 0]
    found = {descriptor: int(data) for each in rounds for descriptor, data in each}
    assert found == {ours.fileno(): number for number, (ours, _) in enumerate(made)}


def test_what_does_not_fit_comes_next_time(calls: ModuleType, pairs: Pairs) -> None:
    made = [pairs.pair() for _ in range(4)]
    for _, theirs in made:
        theirs.send(bytes(SIZE))
    scratch = bytearray(2 * SIZE + SIZE // 2)
    assert [len(calls.receive_each(pairs.epoll, scratch, SIZE)) for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize("size", [0, -1, SIZE + 1])
def test_sizes_that_make_no_sense(calls: ModuleType, pairs: Pairs, size: int) -> None:
    with pytest.raises(ValueError, match="scratch"):
        calls.receive_each(pairs.epoll, bytearray(SIZE), size)
    with pytest.raises(ValueError, match="scratch"):
        calls.accept_each(0, bytearray(SIZE), size)


def test_an_epoll_that_is_closed(calls: ModuleType, pairs: Pairs) -> None:
    pairs.epoll.close()
    with pytest.raises((OSError, ValueError)):
        calls.receive_each(pairs.epoll, bytearray(SIZE), SIZE)


def test_scratch_stays_the_caller_s(calls: ModuleType, pairs: Pairs) -> None:
    """What was given is a copy, and the buffer may change its size afterwards."""
    _, theirs = pairs.pair()
    theirs.send(b"mine")
    scratch = bytearray(SIZE)
    ((_, data),) = calls.receive_each(pairs.epoll, scratch, SIZE)
    scratch.clear()
    assert data == b"mine"


def test_each_message_goes_to_its_own(calls: ModuleType, pairs: Pairs) -> None:
    chance = random.Random(2)
    made = [pairs.pair(watched=False) for _ in range(2 * MOST + 3)]
    messages = [chance.randbytes(chance.randrange(1, 2000)) for _ in made]
    taken = calls.send_each([ours.fileno() for ours, _ in made], messages, [False] * len(made))
    assert taken == [len(message) for message in messages]
    assert [theirs.recv(4096) for _, theirs in made] == messages


def test_a_full_socket_takes_a_part_then_nothing(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair(watched=False)
    other, reader = pairs.pair(watched=False)
    big = bytes(1 << 22)
    part, whole = calls.send_each([ours.fileno(), other.fileno()], [big, b"other"], [False, False])
    assert 0 < part < len(big)
    assert whole == 5
    assert calls.send_each([ours.fileno()], [big], [True]) == [0]
    taken = 0
    while taken < part:
        taken += len(theirs.recv(part))
    assert taken == part
    assert reader.recv(10) == b"other"


def test_a_broken_one_does_not_keep_the_others_back(calls: ModuleType, pairs: Pairs) -> None:
    made = [pairs.pair(watched=False) for _ in range(3)]
    made[1][1].close()
    assert calls.send_each([ours.fileno() for ours, _ in made], [b"1", b"2", b"3"], [True] * 3) == [1, -1, 1]
    assert [made[0][1].recv(9), made[2][1].recv(9)] == [b"1", b"3"]
    for ours, _ in made[::2]:
        ours.detach()  # closed by the call
    os.fstat(made[1][0].fileno())


def test_a_last_message_closes_once_it_is_taken_whole(calls: ModuleType, pairs: Pairs) -> None:
    kept, closed, full = (pairs.pair(watched=False) for _ in range(3))
    big = bytes(1 << 22)
    numbers = [ours.fileno() for ours, _ in (kept, closed, full)]
    taken = calls.send_each(numbers, [b"more", b"", big], [False, True, True])
    closed[0].detach()
    assert taken[:2] == [4, 0]
    assert 0 < taken[2] < len(big)
    assert (kept[1].recv(9), closed[1].recv(9)) == (b"more", b"")
    for ours, _ in (kept, full):
        os.fstat(ours.fileno())
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(numbers[1])


@pytest.mark.parametrize("size", [1, 1208, 1209, 5000])
def test_a_last_message_comes_also_where_bytes_were_not_read(calls: ModuleType, size: int) -> None:
    with ExitStack() as stack:
        ours, theirs = tcp_pair(stack)
        theirs.send(b"more")
        assert calls.send_each([ours.detach()], [bytes(size)], [True]) == [size]
        taken = b""
        while len(taken) < size:
            taken += theirs.recv(size)
        assert taken == bytes(size)


@pytest.mark.parametrize("size", [1, 1208, 1209, 5000])
def test_the_end_follows_a_last_message(calls: ModuleType, size: int) -> None:
    with ExitStack() as stack:
        ours, theirs = tcp_pair(stack)
        calls.send_each([ours.detach()], [bytes(size)], [True])
        taken = b""
        while part := theirs.recv(8192):
            taken += part
        assert taken == bytes(size)


@needs_build
@pytest.mark.parametrize("name", ["accept_each", "receive_each", "send_each"])
def test_same_signature(calls: ModuleType, name: str) -> None:
    plain, compiled = (inspect.signature(getattr(each, name)).parameters for each in (calls, SOCKETS_C))
    assert list(plain) == list(compiled)


def test_as_many_messages_as_descriptors(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair(watched=False)
    theirs.setblocking(False)
    with pytest.raises(ValueError, match="as many"):
        calls.send_each([ours.fileno()], [b"1", b"2"], [False])
    assert calls.send_each([], [], []) == []
    with pytest.raises(BlockingIOError):
        theirs.recv(1)

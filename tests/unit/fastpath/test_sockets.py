"""Reading from and writing to many sockets at once: the twins alike, on real sockets."""

from __future__ import annotations

import inspect
import random
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType

import pytest

from fastpath._sockets_py import MOST
from tests.twins import SOCKETS, SOCKETS_C, needs_build

pytestmark = pytest.mark.parametrize("calls", SOCKETS)

SIZE = 512


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
        assert calls.send_each([ours.fileno()], [b"late"]) == [-1]


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
    taken = calls.send_each([ours.fileno() for ours, _ in made], messages)
    assert taken == [len(message) for message in messages]
    assert [theirs.recv(4096) for _, theirs in made] == messages


def test_a_full_socket_takes_a_part_then_nothing(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair(watched=False)
    other, reader = pairs.pair(watched=False)
    big = bytes(1 << 22)
    part, whole = calls.send_each([ours.fileno(), other.fileno()], [big, b"other"])
    assert 0 < part < len(big)
    assert whole == 5
    assert calls.send_each([ours.fileno()], [big]) == [0]
    taken = 0
    while taken < part:
        taken += len(theirs.recv(part))
    assert taken == part
    assert reader.recv(10) == b"other"


def test_a_broken_one_does_not_keep_the_others_back(calls: ModuleType, pairs: Pairs) -> None:
    made = [pairs.pair(watched=False) for _ in range(3)]
    made[1][1].close()
    assert calls.send_each([ours.fileno() for ours, _ in made], [b"1", b"2", b"3"]) == [1, -1, 1]
    assert [made[0][1].recv(9), made[2][1].recv(9)] == [b"1", b"3"]


@needs_build
@pytest.mark.parametrize("name", ["receive_each", "send_each"])
def test_same_signature(calls: ModuleType, name: str) -> None:
    plain, compiled = (inspect.signature(getattr(each, name)).parameters for each in (calls, SOCKETS_C))
    assert list(plain) == list(compiled)


def test_as_many_messages_as_descriptors(calls: ModuleType, pairs: Pairs) -> None:
    ours, theirs = pairs.pair(watched=False)
    theirs.setblocking(False)
    with pytest.raises(ValueError, match="as many"):
        calls.send_each([ours.fileno()], [b"1", b"2"])
    assert calls.send_each([], []) == []
    with pytest.raises(BlockingIOError):
        theirs.recv(1)

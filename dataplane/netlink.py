"""A netlink socket that asks and waits for the answer.

The kernel handles a request before `send` returns, so these calls block only as long as the kernel works. A socket
belongs to the namespace that its thread was in when it was opened, and keeps it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dataplane import rtnetlink as nl
from dataplane import rtnetlink_replies as replies
from dataplane.errors import KernelError
from dataplane.rtnetlink_replies import Link

Decoded = TypeVar("Decoded")

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_GET_STRICT_CHK = 12

# Chosen: requests per send. A failed request and a wanted link are answered with a buffer each, and all answers must
# fit into the receive buffer before the first is read: without CAP_NET_ADMIN on the host that is about 400 KiB.
REQUESTS_PER_SEND = 64
RECEIVE_BUFFER = 4 << 20
# A dump comes in pieces of up to 32 KiB when the reader offers that much.
_READ = 64 << 10
_DUMP_ATTEMPTS = 5


@dataclass(slots=True)
class Answers:
    """Answers to a list of requests, by position: error numbers, and links that were asked for."""

    errors: dict[int, int] = field(default_factory=dict)
    links: dict[int, Link] = field(default_factory=dict)


class Netlink:
    """One rtnetlink socket in the namespace that the calling thread is in now."""

    def __init__(self) -> None:
        self._sequence = 1
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        # Errors carry only the header of their request; dumps honour their filters.
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, requests: Sequence[nl.Request]) -> Answers:
        """Send all requests and collect what the kernel says to each. A failed one does not stop the next."""
        answers = Answers()
        for start in range(0, len(requests), REQUESTS_PER_SEND):
            self._ask_some(requests[start : start + REQUESTS_PER_SEND], start, answers)
        return answers

    def _ask_some(self, requests: Sequence[nl.Request], position: int, answers: Answers) -> None:
        first = self._sequence
        last = first + len(requests) - 1
        self._sequence = last + 1
        self.socket.send(nl.encode(requests, first))
        while True:
            data = self.socket.recv(_READ)
            for kind, _flags, sequence, start, end in replies.messages(data):
                if not first <= sequence <= last:
                    # An answer to an earlier batch that was given up.
                    continue
                if kind == nl.NLMSG_ERROR:
                    number = replies.error_number(data, start)
                    if number:
                        answers.errors[position + sequence - first] = number
                    if sequence == last:
                        return
                elif kind == nl.RTM_NEWLINK:
                    answers.links[position + sequence - first] = replies.decode_link(data, start, end)

    def do(self, operation: str, target: str, *requests: nl.Request, ignore: tuple[int, ...] = ()) -> None:
        """Send requests and raise KernelError for the first that failed, except with the errnos to `ignore`."""
        for _, number in sorted(self.ask(requests).errors.items()):
            if number not in ignore:
                raise KernelError(operation, target, number)

    def dump(self, request: nl.Request, decode: Callable[[bytes, int, int], Decoded]) -> list[Decoded]:
        """All objects of a dump. It is repeated when the kernel says that it changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            result: list[Decoded] = []
            if self._dump(request, decode, result):
                return result
        # Still changing: the newest picture is as good as any, and what it lacks is announced by a notification.
        return result

    def _dump(self, request: nl.Request, decode: Callable[[bytes, int, int], Decoded], result: list[Decoded]) -> bool:
        sequence, whole = self._sequence, True
        self._sequence += 1
        self.socket.send(nl.encode((request,), sequence, acknowledge=False))
        for kind, flags, start, end, data in self._answers(sequence):
            whole = whole and not flags & nl.NLM_F_DUMP_INTR
            if kind == nl.NLMSG_DONE:
                return whole
            if kind == nl.NLMSG_ERROR:
                number = replies.error_number(data, start)
                raise KernelError("dump", f"request {request.type}", number)
            result.append(decode(data, start, end))
        raise AssertionError("unreachable")

    def _answers(self, wanted: int) -> Iterator[tuple[int, int, int, int, bytes]]:
        while True:
            data = self.socket.recv(_READ)
            for kind, flags, sequence, start, end in replies.messages(data):
                if sequence == wanted:
                    yield kind, flags, start, end, data


def raise_receive_buffer(sock: socket.socket) -> None:
    """Give a socket `RECEIVE_BUFFER` bytes for answers, or what an unprivileged owner may have."""
    try:
        # SO_RCVBUFFORCE of asm-generic/socket.h, which the socket module does not name.
        sock.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def kernel_error(operation: str, target: str, error: OSError) -> KernelError:
    """The KernelError of an OSError."""
    return KernelError(operation, target, error.errno or errno.EIO)

"""Asks every network again and again until each has answered, and says when each did.

One DISCOVER, or one HTTP request over a new connection, per network; whatever is refused or stays unanswered is asked
again. While nobody answers, attempts are paced so that the questions do not use up the machine; each answer lets the
next networks be asked at once. The time is the client's: from the start of the sweep to the complete answer.
"""

from __future__ import annotations

import ctypes
import errno
import json
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import dhcp_frames
from bench.guests import SERVICE, Guest, Guests

ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
PATH = "/openstack/latest/meta_data.json"
PACE = 4000.0
"""Attempts per second while nobody answers."""
UNDER_WAY = 32
"""Attempts at the same time."""
PATIENCE = 0.05
"""Seconds until an unanswered DISCOVER is repeated; a guest's own client waits for seconds."""
# IPv4 without options, UDP, destination port 68.
FILTER = ((0x30, 0, 0, 14), (0x15, 0, 5, 0x45), (0x30, 0, 0, 23), (0x15, 0, 3, 17), (0x28, 0, 0, 36), (0x15, 0, 1, 68),
          (6, 0, 0, 0xFFFF), (6, 0, 0, 0))  # fmt: skip


REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: close\r\n\r\n".encode()


class WrongAnswerError(Exception):
    """A network answered with something that is not its own."""


@dataclass
class Answers:
    """When each network answered: seconds after the start of the sweep, by guest number."""

    dhcp: dict[int, float] = field(default_factory=dict)
    metadata: dict[int, float] = field(default_factory=dict)
    servers: dict[int, str] = field(default_factory=dict)
    """The server's MAC, from the OFFER."""


class SilenceError(Exception):
    """Not every network answered in time."""


class _Pacer:
    """Lets attempts through at PACE, and one more for every answer."""

    def __init__(self, now: float) -> None:
        self.next = now
        self.extra = 0

    def take(self, now: float) -> bool:
        if self.extra:
            self.extra -= 1
            return True
        if now < self.next:
            return False
        self.next = max(self.next + 1 / PACE, now - 2 / PACE)
        return True


def sweep(guests: Guests, *, dhcp: bool = True, metadata: bool = True, seconds: float = 60.0,
          check: Callable[[Guest, bytes], bool] | None = None, start: float | None = None) -> Answers:  # fmt: skip
    """Ask until every guest has an OFFER of its address and/or its own metadata document.

    `check(guest, response)` judges a complete HTTP response (default: 200 with the guest's instance); `start` is the
    moment (time.monotonic) that times are counted from, now if absent. Raises WrongAnswerError, and SilenceError after
    `seconds`.
    """
    return guests.within(lambda: _Sweep(guests, check or own_document, start).run(dhcp, metadata, seconds))


def own_document(guest: Guest, response: bytes) -> bool:
    """A 200 with the meta_data.json of the guest's own instance."""
    head, _, body = response.partition(b"\r\n\r\n")
    return b" 200 " in head[:16] and json.loads(body)["uuid"] == guest.instance


@dataclass
class _Connection:
    number: int
    sock: socket.socket
    asked: bool = False
    received: bytearray = field(default_factory=bytearray)


class _Sweep:
    def __init__(self, guests: Guests, check: Callable[[Guest, bytes], bool], start: float | None) -> None:
        self.guests = guests
        self.check = check
        self.start = time.monotonic() if start is None else start
        self.answers = Answers()
        self.number = {guests.device(i): i for i in range(len(guests.guests))}
        self.poll = select.epoll()
        self.connections: dict[int, _Connection] = {}
        self.packets = packet_socket()
        self.poll.register(self.packets, select.EPOLLIN)

    def run(self, dhcp: bool, metadata: bool, seconds: float) -> Answers:
        count = len(self.guests.guests)
        # (guest, not before)
        self.to_discover: deque[tuple[int, float]] = deque((i, 0.0) for i in range(count * dhcp))
        self.to_get: deque[int] = deque(range(count * metadata))
        now = time.monotonic()
        deadline = now + seconds
        self.discovers, self.gets = _Pacer(now), _Pacer(now)
        try:
            while len(self.answers.dhcp) < count * dhcp or len(self.answers.metadata) < count * metadata:
                now = time.monotonic()
                if now > deadline:
                    raise SilenceError(
                        f"{len(self.answers.dhcp)} OFFERs, {len(self.answers.metadata)} documents of {count}"
                    )
                self._ask(now)
                for descriptor, _ in self.poll.poll(0.001):
                    if descriptor == self.packets.fileno():
                        self._offers()
                    else:
                        self._http(self.connections[descriptor])
            return self.answers
        finally:
            for connection in self.connections.values():
                connection.sock.close()
            self.packets.close()
            self.poll.close()

    def _ask(self, now: float) -> None:
        while self.to_discover and self.to_discover[0][1] <= now and self.discovers.take(now):
            number, _ = self.to_discover.popleft()
            if number not in self.answers.dhcp:
                mac = self.guests.guests[number].mac
                frame = dhcp_frames.broadcast(dhcp_frames.message(dhcp_frames.DISCOVER, mac, number + 1), mac)
                self.packets.sendto(frame, (self.guests.device(number), 0))
                self.to_discover.append((number, now + PATIENCE))
        while self.to_get and len(self.connections) < UNDER_WAY and self.gets.take(now):
            self._connect(self.to_get.popleft())

    def _offers(self) -> None:
        while True:
            try:
                frame, address = self.packets.recvfrom(2048)
            except BlockingIOError:
                return
            number = self.number.get(address[0])
            reply = dhcp_frames.reply_frame(frame)
            if number is None or reply is None or number in self.answers.dhcp:
                continue
            guest = self.guests.guests[number]
            if (reply.kind, reply.xid, reply.address) != (dhcp_frames.OFFER, number + 1, guest.address):
                raise WrongAnswerError(f"{guest.tap}: {reply}")
            self.answers.dhcp[number] = time.monotonic() - self.start
            self.answers.servers[number] = reply.source
            self.discovers.extra += 2

    def _connect(self, number: int) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.guests.device(number).encode())
        if sock.connect_ex((SERVICE, 80)) not in (0, errno.EINPROGRESS):
            sock.close()
            self.to_get.append(number)
            return
        self.connections[sock.fileno()] = _Connection(number, sock)
        self.poll.register(sock, select.EPOLLOUT)

    def _http(self, connection: _Connection) -> None:
        """Go on with a connection; refused, reset or empty: the network is asked again."""
        try:
            if not connection.asked:
                connection.sock.send(REQUEST)
                connection.asked = True
                self.poll.modify(connection.sock, select.EPOLLIN)
                return
            data = connection.sock.recv(65536)
        except ConnectionError:
            data = b""
            connection.received.clear()
        connection.received += data
        if data and not _complete(connection.received):
            return
        self._close(connection)
        number = connection.number
        if not connection.received:
            self.to_get.append(number)
            return
        guest = self.guests.guests[number]
        if not self.check(guest, bytes(connection.received)):
            raise WrongAnswerError(f"{guest.tap}: {bytes(connection.received[:300])!r}")
        self.answers.metadata[number] = time.monotonic() - self.start
        self.gets.extra += 2

    def _close(self, connection: _Connection) -> None:
        del self.connections[connection.sock.fileno()]
        self.poll.unregister(connection.sock)
        connection.sock.close()


def _complete(received: bytearray) -> bool:
    """Whether the header and as much body as it announces are there."""
    head, separator, body = bytes(received).partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


def packet_socket() -> socket.socket:
    """One socket for the frames of every device of this namespace: only DHCP replies come through."""
    # Not bound to a device, so open for all of them from its first moment: what precedes the filter is passed over.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_IP))
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in FILTER)
    memory = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(FILTER), ctypes.addressof(memory)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return sock

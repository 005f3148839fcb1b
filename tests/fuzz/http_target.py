"""The guest-facing front as one sentence about any bytes; without sockets of the network, so that it is quick.

The first byte of an input says who sends the rest, and in how many pieces: a guest with documents of the node, one who
needs a token, one with documents of Nova, or a proxy of Neutron's agents. What comes back are whole answers or the end
of the connection; nothing of a neighbour; no mistake of ours; no connection that stays behind; and Nova is asked
by us alone, for this guest alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from fastpath import sockets
from metadata import imds
from metadata.access import Access
from metadata.backend import Backend, OwnBackend
from metadata.dropin_server import DropinListener
from metadata.http1 import READ_BYTES, Request
from metadata.identity import NO_PORT, Caller, Known, Verdict
from metadata.nova import NovaBackend
from metadata.nova_proxy import NovaProxy
from metadata.responses import Response
from metadata.server import Listener, MetadataServer
from metadata.settings import Settings
from metadata.tokens import KeyRing, TokenKeys
from metadata.tree import InstanceTree
from metadata.upstream import FORWARDED, METHODS, Answer
from tests.unit.metadata.asking import settings, subject
from tests.unit.metadata.sample import BARE, FULL

SECRET = b"the neighbour's secret"
GUESTS = ("10.0.0.5", "10.0.0.6", "10.0.0.7")
PROXY = len(GUESTS)
NEIGHBOUR = "10.0.0.9"
SETTINGS = Settings(defer_accept_seconds=0, sweep_seconds=60.0, hold_seconds=0.0, rate=0.0)
PIECES = 8

_TOKEN = b"X-aws-ec2-metadata-token"
_PUT = b"PUT /latest/api/token HTTP/1.1\r\n" + _TOKEN + b"-ttl-seconds: 60\r\n\r\n"
_GET = b"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: 169.254.169.254\r\nAccept: */*\r\n\r\n"
_REQUESTS = [
    _GET,
    b"GET /latest/user-data HTTP/1.0\r\nX-Forwarded-For: 10.0.0.9\r\nX-Instance-ID: neighbour\r\n\r\n",
    b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd" + _GET,
    b"POST /openstack/latest/password HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX: y\r\n\r\n",
    b"HEAD /latest/meta-data/ HTTP/1.1\r\nConnection: close\r\n\r\n",
    _PUT + b"GET / HTTP/1.1\r\n" + _TOKEN + b": AAAA\r\nX-Forwarded-For: a\r\n\r\n",
    b"GET /%2e%2e/x?y=z%0d%0a HTTP/1.1\r\nRange: bytes=0-3\r\nIf-None-Match: \"a\"\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-Neutron-Network-ID: blue\r\nX-Forwarded-For: 10.0.0.9, 10.0.0.5\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-OVN-Network-ID: blue\r\nX-Neutron-Router-ID: r\r\nX-Forwarded-For: 10.0.0.5\r\n\r\n",
]  # fmt: skip
SEEDS = [bytes((who + 4 * pieces,)) + each for each in _REQUESTS for who in range(PROXY + 1) for pieces in (0, 6)]


class _Nova:
    """A `metadata.upstream.Client` that looks at what it is asked."""

    def __init__(self) -> None:
        self.subject = subject(FULL)

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        lowered = {name.lower(): value for name, value in headers.items()}
        ours = {"x-instance-id", "x-tenant-id", "x-instance-id-signature", "x-forwarded-for", "x-openstack-request-id"}
        assert len(lowered) == len(headers)
        assert ours <= lowered.keys() <= ours | FORWARDED, headers
        assert method in METHODS
        assert re.fullmatch(r"/[!-~]*", target), target
        assert all(re.fullmatch(r"[\t -~]*", value) for value in headers.values()), headers
        assert lowered["x-instance-id"] == self.subject.instance_id
        assert lowered["x-tenant-id"] == self.subject.project_id
        assert lowered["x-forwarded-for"] == self.subject.address
        assert body is None or len(body) <= SETTINGS.body_bytes
        return Answer(200, "text/plain", (), b"of Nova")

    async def close(self) -> None:
        pass


class _Mistakes(logging.Handler):
    """Errors that went to the log instead of a caller."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


class Front:
    """A server on a loop of its own, which waits for inputs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._mistakes = _Mistakes()
        logging.getLogger("metadata").addHandler(self._mistakes)
        keys = TokenKeys(KeyRing.fresh(1.8e9))
        self._server = MetadataServer(
            self, sockets, SETTINGS, gate=lambda request, known, now: self._gate(keys, request, known)
        )
        nova = NovaProxy(settings("http://nova", cache_seconds=0.0, stale_seconds=0.0), _Nova())
        own: Backend = OwnBackend(InstanceTree(FULL))
        neighbour = OwnBackend(InstanceTree(msgspec.structs.replace(BARE, user_data=SECRET)))
        self._known = {
            GUESTS[0]: Known("port-5", own),
            GUESTS[1]: Known("port-6", own, Access(http_tokens_required=True)),
            GUESTS[2]: Known("port-7", NovaBackend(nova, subject(FULL))),
            NEIGHBOUR: Known("port-9", neighbour),
        }
        self._guests = Listener(self._server, "blue", self._loop)
        self._proxies = DropinListener(self._server, self._loop, lambda _: True)

    def lookup(self, caller: Caller) -> Verdict:
        """See `CallerLookup`."""
        return self._known.get(caller.address, NO_PORT) if caller.network_id == "blue" else NO_PORT

    def take(self, data: bytes) -> bytes:
        """What comes back; raises AssertionError, or what was raised inside."""
        who, pieces = data[0] % (PROXY + 1), 1 + data[0] // 4 % PIECES
        listener = self._proxies if who == PROXY else self._guests
        peer = "" if who == PROXY else GUESTS[who]
        received = self._loop.run_until_complete(self._talk(listener, peer, data[1:], pieces))
        if self._mistakes.found:
            mistake = self._mistakes.found[0]
            self._mistakes.found.clear()
            raise mistake
        assert not listener.connections
        if who != PROXY:  # a proxy may speak for anybody
            assert SECRET not in received
        return received

    async def _talk(self, listener: Listener, peer: str, data: bytes, pieces: int) -> bytes:
        ours, theirs = socket.socketpair()
        received = b""
        with ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            step = max(1, -(-len(data) // pieces))
            for at in range(0, max(1, len(data)), step):
                with suppress(ConnectionError):
                    await self._loop.sock_sendall(ours, data[at : at + step])
                if not at:
                    # The first bytes are there when the connection is accepted.
                    first = _first(theirs)
                    listener.serve(theirs.detach(), b"", peer, first)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            with suppress(OSError):
                ours.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(10):
                try:
                    while part := await self._loop.sock_recv(ours, 65536):
                        received += part
                except ConnectionError:
                    return b""
        return received

    def _gate(self, keys: TokenKeys, request: Request, known: Known) -> Response | None:
        return imds.gate(request, known, keys, 1.8e9)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._mistakes.found.append(context.get("exception") or AssertionError(context["message"]))


def _first(sock: socket.socket) -> bytes | None:
    """What is there when a connection is accepted."""
    try:
        return sock.recv(READ_BYTES)
    except BlockingIOError:
        return None


def check(answers: bytes) -> None:
    """`answers` are complete answers, the last of which may lack its body (HEAD)."""
    while answers:
        head, separator, rest = answers.partition(b"\r\n\r\n")
        assert separator
        assert re.match(rb"HTTP/1\.1 [2-5]\d\d [ -~]+\r\n", head + b"\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        assert length
        answers = rest if rest.startswith(b"HTTP/1.1 ") else rest[int(length[1]) :]


@cache
def front() -> Front:
    """The one of this process."""
    return Front()


def http(data: bytes) -> None:
    """The target."""
    if data:
        check(front().take(data))

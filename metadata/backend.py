"""Where the answer to a known caller comes from."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from metadata import openstack, passwords
from metadata.tree import split_path

if TYPE_CHECKING:
    from metadata.http1 import Request
    from metadata.identity import Caller
    from metadata.responses import Response
    from metadata.streamed import Streamed
    from metadata.tree import InstanceTree


class Backend(Protocol):
    """Answers the requests of one port; made by the owner of the model, once per port or instance."""

    def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Response | Streamed]:
        """The answer, or something to await for it; `now` is the wall clock in seconds since the epoch.

        A coroutine or a future belongs to the connection, which cancels it when its guest has gone; work that others
        wait for as well must be shielded from that. Only they may give a Streamed answer, and whoever awaits it reads
        it to its end or closes it. A task belongs to the backend and is only listened to. A RetiredError has the
        caller looked up and the request asked again; anything else that is raised, here or there, becomes 500 and an
        event. The request is immutable, and so are its headers.
        """


class DurablePasswords(Protocol):
    """Where passwords are kept so that they survive."""

    def load(self, instance: str) -> bytes:
        """The password of the instance with this uuid, empty if there is none."""

    def moment(self) -> int:
        """Which state of the model holds now; a guest is who that state says it is."""

    async def keep(self, instance: str, password: bytes, moment: int) -> bool:
        """Keep a password; returns when it is durable.

        False: the instance has one, which stays; or it is not the machine any more that it was at that `moment`.
        Raises NotKeptError.
        """


class NotKeptError(Exception):
    """There is no room for a password just now; the guest may come again."""


class OwnBackend:
    """The documents that this node renders itself; only for a password to be kept has anybody to wait."""

    __slots__ = ("_passwords", "tree")

    def __init__(self, tree: InstanceTree, keeper: DurablePasswords | None = None) -> None:
        """Without a `keeper` passwords are as the tree says."""
        self.tree = tree
        self._passwords = keeper

    def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Response]:
        """See `Backend`."""
        ready = self.tree.ready(request.method, request.target, now)
        if ready is not None:
            return ready
        # Most requests are seen not to be for the password without being taken apart.
        if self._passwords is not None and (b"password" in request.target or b"%" in request.target):
            elements = split_path(request.target)
            if elements and elements[0] == openstack.API and openstack.is_password(elements[1:]):
                return self._password(self._passwords, request)
        return self.tree.answer(request.method, request.target, now, request.body)

    def _password(self, keeper: DurablePasswords, request: Request) -> Response | Awaitable[Response]:
        instance = self.tree.document.uuid
        there = keeper.load(instance)
        answer = passwords.judge(there, request.method, request.body)
        if answer is not None:
            return answer
        assert request.body is not None
        return self._keep(keeper, instance, request.body, keeper.moment())

    async def _keep(self, keeper: DurablePasswords, instance: str, password: bytes, moment: int) -> Response:
        try:
            return passwords.KEPT if await keeper.keep(instance, password, moment) else passwords.THERE
        except NotKeptError:
            return passwords.NOT_KEPT


class RetiredError(Exception):
    """The port or its instance changed while the answer was made: look the caller up and ask again."""

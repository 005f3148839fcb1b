"""Where the answer to a known caller comes from."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metadata.http1 import Request
    from metadata.identity import Caller
    from metadata.responses import Response
    from metadata.tree import InstanceTree


class Backend(Protocol):
    """Answers the requests of one port; made by the owner of the model, once per port or instance."""

    def answer(self, request: Request, caller: Caller, now: float) -> Response | Awaitable[Response]:
        """The answer, or something to await for it; `now` is the wall clock in seconds since the epoch.

        A coroutine belongs to the connection, which cancels it when its guest has gone; work that others wait for as
        well must be shielded from that. A future or task belongs to the backend and is only listened to. What is
        raised, here or there, becomes 500 and an event. The request is immutable, and so are its headers.
        """


class OwnBackend:
    """The documents that this node renders itself."""

    __slots__ = ("tree",)

    def __init__(self, tree: InstanceTree) -> None:
        self.tree = tree

    def answer(self, request: Request, caller: Caller, now: float) -> Response:
        """See `Backend`; never waits."""
        return self.tree.answer(request.method, request.target, now, request.body)


class RetiredError(Exception):
    """The port or its instance changed while the answer was made: look the caller up and ask again."""

"""The log events of the metadata server: every stable name, its level and what it means to an operator.

Same form as the daemon's own catalogue. The logger is named `metadata`; fields are in the record's `fields`.
"""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

log = logging.getLogger("metadata")
access = logging.getLogger("metadata.access")
"""Of answered requests, so that they can be had without, or beside, the rest."""


class Event(NamedTuple):
    """One kind of log record."""

    level: Literal["debug", "info", "warning", "error"]
    meaning: str


EVENTS: dict[str, Event] = {
    "metadata.request": Event("debug", "A request was answered: its id, caller, port, method, path, status, seconds."),
    "metadata.unknown_caller": Event(
        "info", "No port fits the caller: reason says why. It waits for its port, unless that is no_mac, then gets 503."
    ),
    "metadata.refused_caller": Event(
        "warning", "A caller was answered 403; reason says whether by another port's address or another's instance."
    ),
    "metadata.forwarded_refused": Event(
        "warning", "A proxy's request did not say plainly whose it is, or a guest tried to say so; it got 400."
    ),
    "metadata.accept_failed": Event(
        "error", "Connections could not be accepted (no file descriptors or memory); tried again in a second."
    ),
    "metadata.request_failed": Event(
        "error",
        "A request ended by an unexpected error and got 500, or its connection was closed; it is a bug, report it.",
    ),
    "metadata.nova_unreachable": Event(
        "warning",
        "Nova cannot be connected to; requests wait, then get 503, and documents that are there are given out.",
    ),
    "metadata.nova_back": Event("info", "Nova can be connected to again."),
    "metadata.nova_failed": Event("warning", "Nova gave no whole answer: too slow, too large, or not HTTP."),
    "metadata.nova_busy": Event(
        "warning", "Too many requests of one project wait for Nova; one more was answered 503."
    ),
    "metadata.nova_forbidden": Event("error", "Nova takes none of our signatures: the secrets are not the same."),
    "metadata.nova_wrong_instance": Event(
        "error", "Nova found another instance by the caller's address than the port's; nothing of it was given out."
    ),
}


def emit(name: str, **fields: object) -> None:
    """Write the event at its level, if that level is on."""
    level = logging.getLevelNamesMapping()[EVENTS[name].level.upper()]
    logger = access if name == "metadata.request" else log
    if logger.isEnabledFor(level):
        logger.log(level, name, extra={"fields": fields})

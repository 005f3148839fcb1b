"""Every exception that nodeplane raises on purpose.

NodeplaneError
├── DocumentError        an operator's document is wrong; carries every mistake with its field path
│   └── ConfigError      the same for the configuration file
├── WireError            bytes from a guest are not a well-formed message; carries the drop reason
├── StoreError           the embedded store cannot be read or written
│   └── SchemaTooNewError     the database was written by a newer nodeplane
├── GapError             a source cannot replay the changes after a position: take a snapshot
├── KernelError          a kernel request failed; carries operation, target and errno
├── ListenError          the control socket or the metrics port cannot be opened
└── ForeignObjectError   a kernel object of that name exists and is not ours: it is left alone
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass


class NodeplaneError(Exception):
    """Base of all errors raised on purpose."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong field: `path` as the operator wrote it (`ports[3].fixed_ips[0].ip_address`), and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class DocumentError(NodeplaneError):
    """A document is refused whole; `mistakes` holds every wrong field that was found, never none."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class ConfigError(DocumentError):
    """The configuration file is refused."""


class WireError(NodeplaneError):
    """Bytes that are no message; `reason` is a stable drop reason that has a counter."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreError(NodeplaneError):
    """The embedded store failed; nothing of the refused transaction is kept."""


class SchemaTooNewError(StoreError):
    """The database has a schema version that this release does not know."""


class GapError(NodeplaneError):
    """The changes after the asked position are no longer held: start again from a snapshot."""


class KernelError(NodeplaneError):
    """The kernel refused a request: `operation` on `target` gave `errno`."""

    def __init__(self, operation: str, target: str, errno: int) -> None:
        self.operation = operation
        self.target = target
        self.errno = errno
        super().__init__(f"{operation} {target}: {os.strerror(errno)}")


class ListenError(NodeplaneError):
    """The control socket or the metrics port cannot be opened; the text says what to do."""


class ForeignObjectError(NodeplaneError):
    """A namespace or device with the name we need is not ours; it is never touched."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind} {name} exists and does not belong to nodeplane")


class PolicyFullError(NodeplaneError):
    """There are more policies, classes of addresses or source MACs on this node than rules can number."""

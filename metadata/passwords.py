"""The password of an instance: written once by the guest, read back by its owner.

A Windows guest encrypts its generated administrator password with the instance's key and posts it; the operator's
tools read it. The bytes are opaque here and are never logged.
"""

from __future__ import annotations

from typing import Protocol

from metadata.responses import HTML, Response, error, method_not_allowed

API = "openstack"
MAX_BYTES = 1020
"""Nova: four columns of 255 bytes."""

KEPT = Response(200, HTML, b"", api=API, lasting=False)
THERE = error(409, API)
NOT_KEPT = error(503, API, (("Retry-After", "1"),))


class PasswordStore(Protocol):
    """Where passwords are kept."""

    def load(self, instance: str) -> bytes:
        """The password of the instance with this uuid, empty if there is none."""

    def save(self, instance: str, password: bytes) -> None:
        """Keep a password; called only while `load` gives an empty one."""


class MemoryPasswords:
    """A `PasswordStore` that forgets with the process."""

    def __init__(self) -> None:
        self._passwords: dict[str, bytes] = {}

    def load(self, instance: str) -> bytes:
        """See `PasswordStore`."""
        return self._passwords.get(instance, b"")

    def save(self, instance: str, password: bytes) -> None:
        """See `PasswordStore`."""
        self._passwords[instance] = password

    def forget(self, instance: str) -> None:
        """Drop the password: the instance was deleted or rebuilt."""
        self._passwords.pop(instance, None)


def answer(store: PasswordStore | None, instance: str, method: str, body: bytes | None) -> Response:
    """The answer to a request for `/openstack/<version>/password`.

    `body` is None when the request had none (neither Content-Length nor chunks). Without a store the password can be
    read (it is empty), not set.
    """
    if store is None and method not in ("GET", "HEAD"):
        return method_not_allowed(API)
    judged = judge(store.load(instance) if store else b"", method, body)
    if judged is not None:
        return judged
    assert store is not None
    assert body is not None
    store.save(instance, body)
    return KEPT


def judge(there: bytes, method: str, body: bytes | None) -> Response | None:
    """The answer when `there` is the instance's password; None: `body` is to be kept, then the answer is KEPT."""
    if method in ("GET", "HEAD"):
        return Response(200, HTML, there, api=API, lasting=False)
    if method != "POST":
        return error(400, API)
    if there:
        return THERE
    if body is None:
        # Nova fails with 500 for a POST that names no length; the reference asks for 404.
        return error(404, API)
    return error(400, API) if len(body) > MAX_BYTES else None

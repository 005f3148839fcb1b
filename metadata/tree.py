"""Which document a path names, and the ready answers of one instance.

Path rules of Nova: percent-decoded, normalised (`.`, `..` and repeated slashes disappear, a trailing slash never
matters), and a first element other than `ec2`, `openstack` or (not Nova's) `nocloud` means EC2.
"""

from __future__ import annotations

import time
from urllib.parse import unquote_to_bytes

from metadata import ec2, nocloud, openstack, passwords
from metadata.passwords import PasswordStore
from metadata.records import InstanceDocument
from metadata.responses import Response, method_not_allowed, not_found

READ_METHODS = frozenset(("GET", "HEAD"))

# Chosen: cloud-init's whole crawl of both trees takes 28 paths.
READY_ANSWERS = 64

_DAY = 86400
_APIS = (ec2.API, openstack.API, nocloud.API)


def split_path(target: bytes) -> tuple[str, ...] | None:
    """The elements of a request target's path, normalised; None when its bytes are not UTF-8.

    The query is ignored. The first element is always `ec2`, `openstack` or `nocloud`.
    """
    try:
        path = unquote_to_bytes(target.partition(b"?")[0]).decode()
    except UnicodeDecodeError:
        return None
    elements: list[str] = []
    for element in path.split("/"):
        if element == "..":
            del elements[-1:]
        elif element not in ("", "."):
            elements.append(element)
    if not elements or elements[0] not in _APIS:
        elements.insert(0, "ec2")
    return tuple(elements)


def answer(
    document: InstanceDocument,
    method: str,
    target: bytes,
    now: float,
    *,
    body: bytes | None = None,
    store: PasswordStore | None = None,
) -> Response:
    """The answer to one request of the instance; never raises for any method, target or body.

    `target` is the request target in origin form as it was sent, `now` the wall clock in seconds since the epoch.
    """
    elements = split_path(target)
    if elements is None:
        return not_found(ec2.API)
    api, rest = elements[0], elements[1:]
    if api == openstack.API:
        if openstack.is_password(rest):
            return passwords.answer(store, document.uuid, method, body)
        found = openstack.find(document, rest, _day(now))
    elif api == nocloud.API:
        found = nocloud.find(document, rest)
    else:
        found = ec2.find(document, rest)
    if found is None:
        return not_found(api)
    return found if method in READ_METHODS else method_not_allowed(api)


class InstanceTree:
    """The documents of one instance at one revision, each rendered when it is first asked for.

    Make a new one when the instance's document changes; that is what drops the ready answers.
    """

    __slots__ = ("_day", "_ready", "_store", "document")

    def __init__(self, document: InstanceDocument, store: PasswordStore | None = None) -> None:
        self.document = document
        self._store = store
        self._ready: dict[bytes, Response] = {}
        self._day = 0.0
        """When the day of the ready answers began."""

    def answer(self, method: str, target: bytes, now: float, body: bytes | None = None) -> Response:
        """As `answer`, from ready answers where there are."""
        ready = self.ready(method, target, now)
        if ready is not None:
            return ready
        made = answer(self.document, method, target, now, body=body, store=self._store)
        # Passwords change; errors are cheap, and a guest must not be able to push documents out with them.
        if method in READ_METHODS and made.status == 200 and made.lasting:
            if len(self._ready) >= READY_ANSWERS or not self._day <= now < self._day + _DAY:
                self._ready.clear()
            self._day = now // _DAY * _DAY
            self._ready[target] = made
        return made

    def ready(self, method: str, target: bytes, now: float) -> Response | None:
        """The answer if there is one ready: it lasts, so it is no password."""
        # The list of versions depends on the date.
        if method in READ_METHODS and self._day <= now < self._day + _DAY:
            return self._ready.get(target)
        return None


def _day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))

"""The requests of a proxy that stands in front of us, as Neutron's metadata agents get them from haproxy.

One haproxy per network or router listens to the guests and passes their requests on through a Unix socket. It says in
one header which network or router it is for, and appends to `X-Forwarded-For` whom it talks to. What a guest writes
into such headers itself comes through as well, so:

- exactly one of the three headers may be there, once; with anything else the request is refused;
- of `X-Forwarded-For` the last element of the last header counts, which is the proxy's; what stands before it is the
  guest's, and is left in the request for those who refuse forwarded requests;
- trailers say nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque

from metadata.http1 import NO_HEADERS, RequestReader
from metadata.identity import Caller, peer_address
from metadata.settings import Settings

NETWORK_HEADERS = frozenset((b"x-neutron-network-id", b"x-ovn-network-id"))
ROUTER_HEADERS = frozenset((b"x-neutron-router-id",))
_IDENTITY = NETWORK_HEADERS | ROUTER_HEADERS
_FORWARDED = b"x-forwarded-for"
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Forwarded(Caller, frozen=True, gc=False):
    """A caller as a trusted proxy names it: the MAC of its SYN is not known, and of a routed one not the network.

    `mac` is the one that a link-local address was made from, `network_id` is empty if `router_id` is not.
    """

    router_id: str = ""


def caller(names: list[tuple[bytes, bytes]], forwarded: list[bytes]) -> Forwarded | str:
    """Whom a request is from, by its identifying headers (lower-case name, value) and its X-Forwarded-For headers.

    If they do not say so plainly, the reason of `DROP_REASONS`.
    """
    if len(names) != 1 or not _ID.fullmatch(names[0][1].strip()):
        return "forwarded_network"
    name, value = names[0]
    text = forwarded[-1].rpartition(b",")[2].strip() if forwarded else b""
    try:
        address = peer_address(str(ipaddress.ip_address(text.decode("ascii").partition("%")[0])))
    except ValueError:
        return "forwarded_address"
    id_ = value.strip().decode("ascii")
    routed = name in ROUTER_HEADERS
    return Forwarded("" if routed else id_, link_local_mac(address), address, id_ if routed else "")


def link_local_mac(address: str) -> str | None:
    """The MAC in a link-local address that was made from one (RFC 4291 appendix A); None for any other address."""
    if ":" not in address:
        return None
    packed = ipaddress.IPv6Address(address).packed
    if packed[:8] != b"\xfe\x80" + bytes(6) or packed[11:13] != b"\xff\xfe":
        return None
    return (bytes((packed[8] ^ 2,)) + packed[9:11] + packed[13:]).hex(":")


class ForwardedReader(RequestReader):
    """The requests of a connection from a proxy, each with the caller that its own headers name."""

    __slots__ = ("_forwarded", "_names", "callers")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.callers: deque[Forwarded] = deque()
        """Of `requests`, in the same order."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `RequestReader`."""
        if self._in_head:
            lowered = name.lower()
            if lowered in _IDENTITY:
                self._names.append((lowered, value))
            elif lowered == _FORWARDED:
                self._forwarded.append(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See `RequestReader`."""
        super().on_headers_complete()
        found = caller(self._names, self._forwarded)
        if isinstance(found, str):
            self._refuse(found)
            return
        self._kept = _without_proxy(self._kept)
        self.callers.append(found)

    def _begin(self) -> None:
        super()._begin()
        self._names: list[tuple[bytes, bytes]] = []
        self._forwarded: list[bytes] = []


def _without_proxy(headers: dict[str, str]) -> dict[str, str]:
    """The headers as the guest sent them: X-Forwarded-For without the proxy's own element."""
    name = _FORWARDED.decode()
    theirs = headers[name].rpartition(",")[0].strip()
    rest = {key: value for key, value in headers.items() if key != name}
    if theirs:
        rest[name] = theirs
    return rest or NO_HEADERS

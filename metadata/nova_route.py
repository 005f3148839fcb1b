"""Which document of Nova a request target names, and how that document is treated.

What goes upstream is made from the normalised path, never from the bytes of the guest: two spellings of a path are
one document, and nothing in a target reaches another host or another path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from metadata import ec2, openstack
from metadata.tree import split_path

Kind = Literal["document", "vendordata", "password"]

# RFC 3986 3.4, without the characters that end a query or that the guest could use to end the request line.
_QUERY_SAFE = "%&=;:@/?!$'()*+,-._~[]"
_PATH_SAFE = ":@!$&'()*+,;=-._~"
_QUERY_AS_IT_IS = re.compile(rb"[A-Za-z0-9%s]*" % re.escape(_QUERY_SAFE.encode()))
_PATHS = 256
"""Paths, as guests spell them, whose route is remembered."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where one request goes."""

    target: str
    """Path and query as they are sent, percent-encoded."""
    kind: Kind
    """Which timeout holds; a password is never kept, coalesced or repeated."""
    api: str
    """`ec2` or `openstack`, for counters."""
    elements: tuple[str, ...]
    """The normalised path; the first is `ec2` or `openstack`, and after `ec2` a date is one of Nova's versions."""


def route(target: bytes) -> Route | None:
    """The route of a request target in origin form; None when its path is not UTF-8, or of a tree that Nova lacks."""
    path, _, query = target.partition(b"?")
    found = _route_of(path)
    return found if found is None or not query else replace(found, target=f"{found.target}?{_quoted(query)}")


@lru_cache(_PATHS)
def _route_of(path: bytes) -> Route | None:
    elements = split_path(path)
    if elements is None or elements[0] not in (ec2.API, openstack.API):
        return None
    if elements[0] == ec2.API and len(elements) > 1:
        elements = (ec2.API, ec2.of_nova(elements[1]), *elements[2:])
    return Route(path_of(elements), _kind(elements), elements[0], elements)


def _quoted(query: bytes) -> str:
    return query.decode("ascii") if _QUERY_AS_IT_IS.fullmatch(query) else quote(query, safe=_QUERY_SAFE)


@lru_cache(_PATHS)
def path_of(elements: tuple[str, ...]) -> str:
    """The path of normalised elements, percent-encoded, without a trailing slash (Nova never needs one)."""
    # `ec2` is left out as guests do, unless what follows would then be taken for the name of a tree.
    bare = elements[0] == ec2.API and elements[1:2] not in ((ec2.API,), (openstack.API,))
    return "/" + "/".join(quote(element, safe=_PATH_SAFE) for element in elements[1 if bare else 0 :])


def _kind(elements: tuple[str, ...]) -> Kind:
    if openstack.PASSWORD in elements:
        return "password"
    return "vendordata" if elements[-1] == openstack.VENDOR_DATA2 else "document"

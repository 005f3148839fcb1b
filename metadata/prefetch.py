"""Which documents a booting guest will ask for next, seen from the first it asks for.

cloud-init, Ignition, Afterburn and cloudbase-init read a tree of one version; cloud-init reads the EC2 tree as well.
Pure: listings in, paths out.
"""

from __future__ import annotations

from collections.abc import Iterator

from metadata import ec2, openstack

Elements = tuple[str, ...]
Wanted = tuple[Elements, bool]
"""A normalised path, and whether it is a listing that leads on."""

CLOUD_INIT = openstack.ROCKY
"""The newest version that cloud-init asks for."""
META_DATA = "meta-data"
DOCUMENTS = (
    openstack.META_DATA, openstack.USER_DATA, openstack.VENDOR_DATA, openstack.NETWORK_DATA, openstack.VENDOR_DATA2,
)  # fmt: skip
MOST = 64
"""Documents that are fetched ahead for one guest, and lines that are read of a listing."""
_SKIPPED = "security-credentials"
"""Nobody needs credentials before asking for them."""


def begins_boot(elements: Elements) -> bool:
    """Whether a request for this path is what a booting guest begins with."""
    match elements:
        case (openstack.API,) | (openstack.API, _, openstack.META_DATA | openstack.USER_DATA):
            return True
        case (ec2.API, _, "meta-data") | (ec2.API, _, "meta-data", "instance-id"):
            return True
    return False


def first(elements: Elements) -> Iterator[Wanted]:
    """What will be asked for next, by the path that began it."""
    if elements[0] == openstack.API:
        version = elements[1] if len(elements) > 1 else CLOUD_INIT
        yield (openstack.API,), False
        for item in DOCUMENTS:
            yield (openstack.API, version, item), False
        yield (ec2.API, ec2.LATEST, META_DATA), True
    else:
        yield (ec2.API, elements[1], META_DATA), True
        yield (ec2.API, elements[1], "user-data"), False


def children(elements: Elements, listing: bytes) -> Iterator[Wanted]:
    """The items of a listing of the EC2 tree's meta-data."""
    for line in listing.decode("utf-8", "replace").split("\n")[:MOST]:
        name = line.strip()
        leads_on = name.endswith("/")
        name = name.removesuffix("/")
        if elements[3:] == ("public-keys",):
            number = name.partition("=")[0]
            if number.isascii() and number.isdecimal():
                yield (*elements, number, "openssh-key"), False
        elif name not in ("", ".", "..") and "/" not in name and _SKIPPED not in name:
            yield (*elements, name), leads_on

"""The EC2 tree of Nova's metadata API: `/<version>/meta-data/...` and `/<version>/user-data`.

Rendered from an `InstanceDocument` without any I/O. Listings have one name per line, directories with a final slash,
no final newline; a trailing slash in the request never matters.
"""

from __future__ import annotations

import hashlib
import re

from metadata.records import InstanceDocument, KeyRecord
from metadata.responses import TEXT, Response

API = "ec2"
VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
)
LATEST = "latest"

# Chosen: a guest without any mapping has one disk; Nova derives the same two entries from the root device's name.
_ONE_DISK = {"ami": "vda", "root": "/dev/vda"}

# Names and keys come from tenants: a line break in one would forge an entry of a listing.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

Leaf = str | bytes
Directory = dict[str, "Leaf | Directory"]

_KEYS = "public-keys"


def versions() -> Response:
    """The answer to `/` and `/ec2`."""
    return _text("\n".join((*VERSIONS, LATEST)))


def find(document: InstanceDocument, elements: tuple[str, ...]) -> Response | None:
    """The answer to a normalised path without its `ec2` prefix; None: there is no such item."""
    if not elements:
        return versions()
    version = VERSIONS[-1] if elements[0] == LATEST else elements[0]
    if version not in VERSIONS:
        return None
    node: Leaf | Directory = _render(document, VERSIONS.index(version))
    for element in elements[1:]:
        if not isinstance(node, dict) or element not in node:
            return None
        node = node[element]
    if elements[1:] == ("meta-data", _KEYS):
        return _text(_key_names(document))
    if isinstance(node, dict):
        return _text(_listing(node))
    return _text(node)


def short_id(prefix: str, identifier: str) -> str:
    """An EC2 style id, `<prefix>-` and 8 hexadecimal digits, always the same for the same `identifier`.

    An identifier that has the form already is kept. Nova numbers instances and images in its database; without one,
    the digits are those of a hash.
    """
    if re.fullmatch(rf"{prefix}-[0-9a-f]+", identifier):
        return identifier
    return f"{prefix}-{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"


def instance_id(document: InstanceDocument) -> str:
    """`instance-id` of the EC2 tree, derived from the uuid unless it is given."""
    return document.ec2_id or short_id("i", document.uuid)


def _render(document: InstanceDocument, version: int) -> Directory:
    """The tree of one version, an index of VERSIONS."""

    def since(name: str) -> bool:
        return version >= VERSIONS.index(name)

    meta: Directory = {
        "ami-id": short_id("ami", document.image_id) if document.image_id else "ami-00000000",
        "ami-launch-index": str(document.launch_index),
        "ami-manifest-path": "FIXME",
        "instance-id": instance_id(document),
        "hostname": document.fqdn,
        "local-ipv4": document.local_ipv4,
        "reservation-id": document.reservation_id or short_id("r", document.uuid),
        "security-groups": "\n".join(map(_line, document.security_groups)),
    }
    if keys := _ssh_keys(document):
        meta[_KEYS] = {str(index): {"openssh-key": key.data} for index, key in enumerate(keys)}
    if since("2007-01-19"):
        meta["local-hostname"] = meta["public-hostname"] = document.fqdn
        meta["public-ipv4"] = document.public_ipv4 or ""
    if since("2007-08-29"):
        meta["instance-type"] = document.flavor
    if since("2007-12-15"):
        mapping = document.block_device_mapping or _ONE_DISK
        meta["block-device-mapping"] = {_line(name): device for name, device in mapping.items()}
        if document.kernel_id:
            meta["kernel-id"] = short_id("aki", document.kernel_id)
        if document.ramdisk_id:
            meta["ramdisk-id"] = short_id("ari", document.ramdisk_id)
    if since("2008-02-01"):
        meta["placement"] = {"availability-zone": document.availability_zone}
    if since("2008-09-01"):
        meta["instance-action"] = "none"
    tree: Directory = {"meta-data": meta}
    if document.user_data is not None:
        tree["user-data"] = document.user_data
    return tree


def _ssh_keys(document: InstanceDocument) -> tuple[KeyRecord, ...]:
    return tuple(key for key in document.keys if key.type == "ssh")


def _key_names(document: InstanceDocument) -> str:
    """The listing of public-keys: `0=name`, no final slash, unlike every other directory."""
    return "\n".join(f"{index}={_line(key.name)}" for index, key in enumerate(_ssh_keys(document)))


def _listing(directory: Directory) -> str:
    return "\n".join(f"{name}/" if isinstance(directory[name], dict) else name for name in sorted(directory))


def _line(text: str) -> str:
    return _CONTROLS.sub("", text)


def _text(body: Leaf) -> Response:
    return Response(200, TEXT, body if isinstance(body, bytes) else body.encode(), api=API)

"""The EC2 tree of Nova's metadata API: `/<version>/meta-data/...` and `/<version>/user-data`.

Rendered from an `InstanceDocument` without any I/O. Listings have one name per line, directories with a final slash,
no final newline; a trailing slash in the request never matters.

Nova's versions are served exactly as Nova serves them. Any other date is an alias of what AWS had by then
(`ec2_newer`), whether AWS made a version that day or not. `latest` lists what Nova lists, so that a boot which crawls
it stays as short as it is, and serves everything.
"""

from __future__ import annotations

import re
from datetime import date

from metadata import ec2_newer
from metadata.ec2_ids import instance_id, plain, short_id
from metadata.ec2_newer import Directory, Leaf
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

OCTETS = "application/octet-stream"
"""AWS's type of user data; Nova's is TEXT."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NEWEST = "9999-12-31"

_KEYS = "public-keys"


def versions() -> Response:
    """The answer to `/` and `/ec2`."""
    return _text("\n".join((*VERSIONS, LATEST)))


def find(document: InstanceDocument, elements: tuple[str, ...]) -> Response | None:
    """The answer to a normalised path without its `ec2` prefix; None: there is no such item."""
    if not elements:
        return versions()
    version, path = elements[0], elements[1:]
    if version in VERSIONS:
        return _answer(document, _render(document, VERSIONS.index(version)), path)
    if version == LATEST:
        tree = _render(document, len(VERSIONS) - 1)
        return _answer(document, tree, path) or _answer(document, _extended(document, tree, _NEWEST), path)
    if not _is_date(version):
        return None
    tree = _render(document, VERSIONS.index(_before(version)))
    return _answer(document, _extended(document, tree, version), path, OCTETS)


def of_nova(version: str) -> str:
    """What Nova is asked for in the place of a version, as it answers 404 for AWS's dates.

    Clients take that for "there is no configuration" (Ignition) or begin anew with an old version (cloud-init). After
    Nova's last version it is `latest`, which is kept once for all its names.
    """
    if version in VERSIONS or not _is_date(version):
        return version
    return LATEST if version > VERSIONS[-1] else _before(version)


def _before(version: str) -> str:
    """Nova's last version before a date, or its first."""
    return max((name for name in VERSIONS[1:] if name <= version), default=VERSIONS[0])


def _answer(
    document: InstanceDocument, tree: Directory, path: tuple[str, ...], user_data_type: str = TEXT
) -> Response | None:
    node: Leaf | Directory = tree
    for element in path:
        if not isinstance(node, dict) or element not in node:
            return None
        node = node[element]
    if path == ("meta-data", _KEYS):
        return _text(_key_names(document))
    if isinstance(node, dict):
        return _text(_listing(node))
    return _text(node, user_data_type if path == ("user-data",) else TEXT)


def _is_date(version: str) -> bool:
    if not _DATE.fullmatch(version):
        return False
    try:
        date.fromisoformat(version)
    except ValueError:
        return False
    return True


def _extended(document: InstanceDocument, tree: Directory, version: str) -> Directory:
    """The tree, which is changed, with what AWS had by `version`, a date."""
    if version > VERSIONS[-1]:
        meta = tree["meta-data"]
        assert isinstance(meta, dict)
        for name, added in ec2_newer.meta_data(document, version).items():
            here = meta.get(name)
            meta[name] = here | added if isinstance(here, dict) and isinstance(added, dict) else added
        tree["dynamic"] = ec2_newer.dynamic(document)
    return tree


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
        "security-groups": "\n".join(map(plain, document.security_groups)),
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
        meta["block-device-mapping"] = {plain(name): device for name, device in mapping.items()}
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
    return "\n".join(f"{index}={plain(key.name)}" for index, key in enumerate(_ssh_keys(document)))


def _listing(directory: Directory) -> str:
    return "\n".join(f"{name}/" if isinstance(directory[name], dict) else name for name in sorted(directory))


def _text(body: Leaf, content_type: str = TEXT) -> Response:
    return Response(200, content_type, body if isinstance(body, bytes) else body.encode(), api=API)

"""The OpenStack tree of Nova's metadata API: `/openstack/<version>/...` and `/openstack/content/<NNNN>`.

Rendered from an `InstanceDocument` without any I/O; `password` is answered elsewhere (`passwords`), because it changes.
"""

from __future__ import annotations

import json
from typing import Any

from metadata.network_data import network_data
from metadata.records import DeviceRecord, InstanceDocument
from metadata.responses import JSON, TEXT, Response

API = "openstack"
FOLSOM = "2012-08-10"
GRIZZLY = "2013-04-04"
HAVANA = "2013-10-17"
LIBERTY = "2015-10-15"
NEWTON_ONE = "2016-06-30"
NEWTON_TWO = "2016-10-06"
OCATA = "2017-02-22"
ROCKY = "2018-08-27"
VICTORIA = "2020-10-14"
EPOXY = "2025-04-04"
VERSIONS = (FOLSOM, GRIZZLY, HAVANA, LIBERTY, NEWTON_ONE, NEWTON_TWO, OCATA, ROCKY, VICTORIA, EPOXY)
LATEST = "latest"

CONTENT = "content"
META_DATA = "meta_data.json"
NETWORK_DATA = "network_data.json"
PASSWORD = "password"
USER_DATA = "user_data"
VENDOR_DATA = "vendor_data.json"
VENDOR_DATA2 = "vendor_data2.json"

# In the order of Nova's listing, with the version that brought each.
_ITEMS = (
    (META_DATA, FOLSOM),
    (USER_DATA, FOLSOM),
    (PASSWORD, GRIZZLY),
    (VENDOR_DATA, HAVANA),
    (NETWORK_DATA, LIBERTY),
    (VENDOR_DATA2, NEWTON_TWO),
)
_SINCE = dict(_ITEMS)

_SEED_KEY = '"random_seed": "'


def versions(today: str) -> Response:
    """The answer to `/openstack`; versions later than `today` (YYYY-MM-DD) are served but not listed."""
    return _text("\n".join((*(version for version in VERSIONS if version <= today), LATEST)).encode())


def is_password(elements: tuple[str, ...]) -> bool:
    """Whether a normalised path without its `openstack` prefix is the password of a version that has one."""
    return len(elements) == 2 and elements[1] == PASSWORD and _resolve(elements[0]) >= GRIZZLY


def find(document: InstanceDocument, elements: tuple[str, ...], today: str) -> Response | None:
    """The answer to a normalised path without its `openstack` prefix; None: there is no such item."""
    if not elements:
        return versions(today)
    if elements[0] == CONTENT:
        return _content(document, elements[1:])
    version = _resolve(elements[0])
    if not version or len(elements) > 2:
        return None
    if len(elements) == 1 or elements[1] == "version":
        return _listing(document, version)
    item = elements[1]
    if item not in _SINCE or version < _SINCE[item]:
        return None
    if item == META_DATA:
        return meta_data(document, version)
    if item == USER_DATA:
        return None if document.user_data is None else _text(document.user_data)
    if item == NETWORK_DATA:
        # Nova never switches the content type here.
        return Response(200, TEXT, _dump(network_data(document)), api=API)
    if item == VENDOR_DATA:
        return _json(document.vendor_data or {})
    if item == VENDOR_DATA2:
        return _json({"static": document.vendor_data or {}} | document.vendor_data2)
    return None


def meta_data(document: InstanceDocument, version: str) -> Response:
    """meta_data.json of one of VERSIONS; from 2013-04-04 on every answer gets a `random_seed` of its own."""
    content: dict[str, Any] = {"uuid": document.uuid}
    if document.meta:
        content["meta"] = document.meta
    if document.files:
        content["files"] = [
            {"path": file.path, "content_path": f"/{CONTENT}/{index:04}"} for index, file in enumerate(document.files)
        ]
    if document.keys:
        content["public_keys"] = {key.name: key.data for key in document.keys}
        content["keys"] = [{"name": key.name, "type": key.type, "data": key.data} for key in document.keys]
    content["hostname"] = document.fqdn
    content["name"] = document.name
    content["launch_index"] = document.launch_index
    content["availability_zone"] = document.availability_zone
    if version >= LIBERTY:
        content["project_id"] = document.project_id
    if version >= NEWTON_ONE:
        content["devices"] = _devices(document, version)
    if version >= VICTORIA:
        content["dedicated_cpus"] = list(document.dedicated_cpus)
    if version < GRIZZLY:
        return _json(content)
    # The seed is the first key, so that its place in the bytes does not depend on anything a tenant wrote.
    body = b"{" + _SEED_KEY.encode() + b'", ' + _dump(content)[1:]
    return Response(200, JSON, body, api=API, seed_at=1 + len(_SEED_KEY))


def _resolve(version: str) -> str:
    """A version as the client names it to one of VERSIONS, or empty."""
    if version == LATEST:
        return VERSIONS[-1]
    return version if version in VERSIONS else ""


def _listing(document: InstanceDocument, version: str) -> Response:
    names = (
        name for name, since in _ITEMS if version >= since and not (name == USER_DATA and document.user_data is None)
    )
    return _text("\n".join(names).encode())


def _content(document: InstanceDocument, elements: tuple[str, ...]) -> Response | None:
    if len(elements) != 1:
        return None
    found = (file for index, file in enumerate(document.files) if elements[0] == f"{index:04}")
    file = next(found, None)
    return None if file is None else _text(file.content)


def _devices(document: InstanceDocument, version: str) -> list[dict[str, Any]]:
    return [_device(device, version) for device in document.devices if device.type != "share" or version >= EPOXY]


def _device(device: DeviceRecord, version: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": device.type, "bus": device.bus, "address": device.address or "none"}
    if device.mac is not None:
        shown["mac"] = device.mac
    if device.serial:
        shown["serial"] = device.serial
    if device.path:
        shown["path"] = device.path
    if device.vlan is not None and version >= OCATA:
        shown["vlan"] = device.vlan
    if device.type == "nic" and version >= ROCKY:
        shown["vf_trusted"] = bool(device.vf_trusted)
    shown["tags"] = list(device.tags)
    return shown


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii")


def _json(content: dict[str, Any]) -> Response:
    return Response(200, JSON, _dump(content), api=API)


def _text(body: bytes) -> Response:
    return Response(200, TEXT, body, api=API)

"""What cloud-init asks Nova's metadata for on a first boot, and what each instance must be answered. Pure.

Every body names its instance, so that whoever compares it knows whose it is. Listings cannot: there, a last line of
blanks and tabs spells the instance's number, which no client takes for an item.
"""

from __future__ import annotations

import base64
import json
import random
from functools import lru_cache
from typing import Any

from bench.documents import instance_id

TREE = "/openstack/2018-08-27"
"""The newest version that cloud-init asks for."""
META = "/latest/meta-data/"
VERSIONS = ("2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22",
            "2018-08-27", "2020-10-14", "2025-04-04", "latest")  # fmt: skip
LISTINGS = {
    "": ("ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname", "instance-action",
         "instance-id", "instance-type", "local-hostname", "local-ipv4", "placement/", "public-hostname",
         "public-ipv4", "public-keys/", "reservation-id", "security-groups"),
    "block-device-mapping": ("ami", "root"),
    "placement": ("availability-zone",),
}  # fmt: skip
"""Of the EC2 tree's meta-data, as Nova has it for an instance with one key and one disk."""
KEYS = "public-keys"
KEY = "public-keys/0/openssh-key"
DOCUMENTS = ("meta_data.json", "user_data", "vendor_data.json", "vendor_data2.json", "network_data.json")


def _ec2() -> tuple[str, ...]:
    """Directories first, each followed by what is in it."""
    paths = [""]
    for folder in ("block-device-mapping", "placement"):
        paths += [f"{folder}/", *(f"{folder}/{name}" for name in LISTINGS[folder])]
    paths += [f"{KEYS}/", KEY]
    return (*paths, *(name for name in LISTINGS[""] if not name.endswith("/")))


PATHS = ("/openstack", "/openstack", *(f"{TREE}/{name}" for name in DOCUMENTS), *(META + path for path in _ec2()))
"""In its order: is the service there, which versions has it, the documents of one, and the EC2 tree of `latest`."""


def body(path: str, number: int) -> bytes | None:
    """The document of instance `number` under a path without query; None: there is none. A last slash says nothing."""
    if path == "/openstack":
        return _listing(VERSIONS, number)
    if path.startswith(TREE + "/"):
        return _openstack(number).get(path.removeprefix(TREE + "/"))
    if not f"{path}/".startswith(META):
        return None
    name = path.removeprefix(META.rstrip("/")).strip("/")
    if name in LISTINGS:
        return _listing(LISTINGS[name], number)
    if name == KEYS:
        return _listing((f"0=key-{number}",), number)
    if name == KEY:
        return f"ssh-rsa {_text(number, 372)} {instance_id(number)}".encode()
    folder, _, leaf = name.rpartition("/")
    if leaf in LISTINGS.get(folder, ()):
        return f"{leaf} of {instance_id(number)}".encode()
    return None


def _listing(names: tuple[str, ...], number: int) -> bytes:
    blank = f"{number:b}".translate({ord("0"): " ", ord("1"): "\t"})
    return "\n".join((*names, blank)).encode()


@lru_cache(4096)
def _openstack(number: int) -> dict[str, bytes]:
    """About as large as Nova's for an instance with a key, user data and one interface."""
    uuid, key = instance_id(number), f"ssh-rsa {_text(number, 372)} {instance_id(number)}"
    seed = base64.b64encode(random.Random(number).randbytes(512)).decode()
    meta: dict[str, Any] = {
        "uuid": uuid, "hostname": f"vm-{number}.novalocal", "name": f"vm-{number}", "launch_index": 0,
        "availability_zone": "nova", "project_id": f"{number:032x}", "devices": [], "dedicated_cpus": [],
        "public_keys": {f"key-{number}": key}, "keys": [{"name": f"key-{number}", "type": "ssh", "data": key}],
        "random_seed": seed,
    }  # fmt: skip
    network = {
        "links": [{"id": f"tap-{number}", "type": "ovs", "vif_id": uuid, "mtu": 1450}],
        "networks": [{"id": "network0", "type": "ipv4_dhcp", "link": f"tap-{number}", "network_id": uuid}],
        "services": [],
    }
    texts = (
        json.dumps(meta),
        f"#cloud-config\n# {uuid}\nwrite_files: [{_text(number, 480)}]\n",
        json.dumps({"cloud-init": f"# {uuid}"}),
        json.dumps({"static": {"of": uuid}}),
        json.dumps(network),
    )
    return {name: text.encode() for name, text in zip(DOCUMENTS, texts, strict=True)}


def _text(number: int, length: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(random.Random(number).choices(letters, k=length))

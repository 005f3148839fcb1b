"""The OpenStack tree against listings written from the reference."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metadata import openstack
from metadata.openstack import VERSIONS
from metadata.records import InstanceDocument
from metadata.responses import JSON, TEXT, Response
from tests.unit.metadata.sample import BARE, FULL, UUID

TODAY = "2026-11-22"


def find(path: str, document: InstanceDocument = FULL, today: str = TODAY) -> Response | None:
    return openstack.find(document, tuple(path.split("/")) if path else (), today)


def get(path: str, document: InstanceDocument = FULL) -> Response:
    response = find(path, document)
    assert response is not None
    assert response.status == 200
    return response


def load(path: str, document: InstanceDocument = FULL) -> Any:
    return json.loads(get(path, document).content())


def test_the_root_lists_versions() -> None:
    assert get("").content() == (
        b"2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\n2018-08-27\n"
        b"2020-10-14\n2025-04-04\nlatest"
    )
    assert get("").content_type == TEXT


def test_future_versions_are_hidden_but_served() -> None:
    hidden = find("", today="2025-04-03")
    assert hidden is not None
    assert hidden.content().endswith(b"2020-10-14\nlatest")
    assert find("2025-04-04/meta_data.json", today="2025-04-03") is not None


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2012-08-10", "meta_data.json user_data"),
        ("2013-04-04", "meta_data.json user_data password"),
        ("2013-10-17", "meta_data.json user_data password vendor_data.json"),
        ("2015-10-15", "meta_data.json user_data password vendor_data.json network_data.json"),
        ("2016-06-30", "meta_data.json user_data password vendor_data.json network_data.json"),
        ("2016-10-06", "meta_data.json user_data password vendor_data.json network_data.json vendor_data2.json"),
        ("2025-04-04", "meta_data.json user_data password vendor_data.json network_data.json vendor_data2.json"),
        ("latest", "meta_data.json user_data password vendor_data.json network_data.json vendor_data2.json"),
    ],
)
def test_a_version_lists_its_items_in_order(version: str, names: str) -> None:
    assert get(version).content() == names.replace(" ", "\n").encode()
    assert get(f"{version}/version").content() == names.replace(" ", "\n").encode()
    for item in ("vendor_data.json", "network_data.json", "vendor_data2.json"):
        assert (find(f"{version}/{item}") is None) == (item not in names.split())
    assert openstack.is_password((version, "password")) == ("password" in names.split())


@pytest.mark.parametrize(
    "path",
    [
        "2011-01-01",
        "nothing",
        "latest/nothing",
        "latest/content",
        "content",
        "content/0002",
        "content/0000/x",
        "content/0",
        "latest/meta_data.json/x",
        "latest/content/0000",
        "latest/password/x",
    ],
)
def test_what_does_not_exist(path: str) -> None:
    assert find(path) is None
    assert not openstack.is_password(tuple(path.split("/")))


def test_meta_data() -> None:
    document = load("latest/meta_data.json")
    assert len(document.pop("random_seed")) == 684
    assert document == {
        "uuid": UUID,
        "hostname": "blue-one.novalocal",
        "name": "Blue one",
        "launch_index": 0,
        "availability_zone": "nova",
        "project_id": "blue-project",
        "meta": {"role": "db"},
        "files": [
            {"path": "/etc/one", "content_path": "/content/0000"},
            {"path": "/etc/two", "content_path": "/content/0001"},
        ],
        "public_keys": {"laptop": "ssh-ed25519 AAAA me"},
        "keys": [{"name": "laptop", "type": "ssh", "data": "ssh-ed25519 AAAA me"}],
        "devices": [
            {
                "type": "nic",
                "bus": "pci",
                "address": "0000:00:02.0",
                "mac": "fa:16:3e:00:00:01",
                "vlan": 7,
                "vf_trusted": True,
                "tags": ["public"],
            },
            {
                "type": "disk",
                "bus": "scsi",
                "address": "0:0:0:1",
                "serial": "disk-7",
                "path": "/dev/sdb",
                "tags": ["data"],
            },
            {"type": "share", "bus": "none", "address": "none", "tags": ["home"]},
        ],
        "dedicated_cpus": [2, 3],
    }
    assert get("latest/meta_data.json").content_type == JSON


@pytest.mark.parametrize("version", VERSIONS)
def test_what_meta_data_has_since_when(version: str) -> None:
    document = load(f"{version}/meta_data.json")
    assert ("random_seed" in document) == (version >= "2013-04-04")
    assert ("project_id" in document) == (version >= "2015-10-15")
    assert ("devices" in document) == (version >= "2016-06-30")
    assert ("dedicated_cpus" in document) == (version >= "2020-10-14")
    if devices := document.get("devices"):
        assert ("vlan" in devices[0]) == (version >= "2017-02-22")
        assert ("vf_trusted" in devices[0]) == (version >= "2018-08-27")
        assert any(device["type"] == "share" for device in devices) == (version >= "2025-04-04")


def test_optional_parts_are_left_out() -> None:
    assert set(load("latest/meta_data.json", BARE)) == (
        {"uuid", "hostname", "name", "launch_index", "availability_zone"}
        | {"random_seed", "project_id", "devices", "dedicated_cpus"}
    )


def test_every_answer_has_its_own_seed() -> None:
    response = get("latest/meta_data.json")
    seeds = {json.loads(response.content())["random_seed"] for _ in range(5)}
    assert len(seeds) == 5


def test_user_data_is_served_as_it_is() -> None:
    assert get("2012-08-10/user_data").content() == FULL.user_data
    assert get("latest/user_data").content_type == TEXT
    assert find("latest/user_data", BARE) is None
    assert b"user_data" not in get("latest", BARE).content()


def test_vendor_data() -> None:
    assert load("latest/vendor_data.json") == {"cloud": "plane"}
    assert load("latest/vendor_data2.json") == {"static": {"cloud": "plane"}, "site": {"rack": 4}}
    assert load("latest/vendor_data.json", BARE) == {}
    assert load("latest/vendor_data2.json", BARE) == {"static": {}}
    assert get("latest/vendor_data.json").content_type == JSON
    assert get("latest/vendor_data2.json").content_type == JSON


def test_network_data_is_text_and_empty_without_links() -> None:
    assert get("latest/network_data.json").content_type == TEXT
    assert load("latest/network_data.json")["links"][0]["id"] == "tapport-1"
    assert load("latest/network_data.json", BARE) == {}


def test_contents_of_files() -> None:
    assert get("content/0000").content() == b"one\n"
    assert get("content/0001").content() == b"\x00two"
    assert get("content/0001").content_type == TEXT

"""What a booting guest asks for next."""

from __future__ import annotations

import pytest

from metadata.nova_route import path_of
from metadata.prefetch import MOST, begins_boot, children, first


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        ("openstack", True),
        ("openstack/latest/user_data", True),
        ("openstack/2012-08-10/meta_data.json", True),
        ("openstack/latest/network_data.json", False),
        ("ec2/latest/meta-data", True),
        ("ec2/2009-04-04/meta-data/instance-id", True),
        ("ec2/latest/meta-data/hostname", False),
        ("ec2", False),
    ],
)
def test_begins_boot(path: str, begins: bool) -> None:
    assert begins_boot(tuple(path.split("/"))) is begins


def test_cloud_init_is_expected_after_the_list_of_versions() -> None:
    paths = [path_of(elements) for elements, _ in first(("openstack",))]
    assert "/openstack/2018-08-27/network_data.json" in paths
    assert "/latest/meta-data" in paths
    assert not any("password" in path for path in paths)


def test_the_version_asked_for_is_fetched() -> None:
    assert [path_of(elements) for elements, _ in first(("ec2", "2009-04-04", "meta-data"))] == [
        "/2009-04-04/meta-data",
        "/2009-04-04/user-data",
    ]


def test_children() -> None:
    top = ("ec2", "latest", "meta-data")
    found = list(children(top, b"hostname\nplacement/\n..\n\na/b\niam/security-credentials/\npublic-keys/"))
    assert found == [((*top, "hostname"), False), ((*top, "placement"), True), ((*top, "public-keys"), True)]
    keys = list(children((*top, "public-keys"), b"0=mine\n1=\xff\nx=y"))
    assert keys == [
        ((*top, "public-keys", "0", "openssh-key"), False),
        ((*top, "public-keys", "1", "openssh-key"), False),
    ]


def test_listings_are_bounded() -> None:
    assert len(list(children(("ec2", "latest", "meta-data"), b"x\n" * 10000))) == MOST

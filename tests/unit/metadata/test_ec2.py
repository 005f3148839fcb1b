"""The EC2 tree against listings written from the reference."""

from __future__ import annotations

import msgspec
import pytest

from metadata import ec2
from metadata.ec2_ids import instance_id, short_id
from metadata.records import InstanceDocument, KeyRecord
from metadata.responses import TEXT
from tests.unit.metadata.sample import BARE, FULL

VERSIONS = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
]

FIRST = [
    "ami-id",
    "ami-launch-index",
    "ami-manifest-path",
    "hostname",
    "instance-id",
    "local-ipv4",
    "public-keys/",
    "reservation-id",
    "security-groups",
]
ADDED = {
    "2007-01-19": ["local-hostname", "public-hostname", "public-ipv4"],
    "2007-08-29": ["instance-type"],
    "2007-12-15": ["block-device-mapping/"],
    "2008-02-01": ["placement/"],
    "2008-09-01": ["instance-action"],
}


def get(path: str, document: InstanceDocument = FULL) -> bytes | None:
    response = ec2.find(document, tuple(path.split("/")) if path else ())
    if response is None:
        return None
    assert response.status == 200
    assert response.content_type == TEXT
    return response.content()


def test_the_root_lists_every_version() -> None:
    assert get("") == "\n".join([*VERSIONS, "latest"]).encode()


@pytest.mark.parametrize("version", [*VERSIONS, "latest"])
def test_a_version_lists_what_it_brought(version: str) -> None:
    expected = list(FIRST)
    for since, names in ADDED.items():
        if version == "latest" or VERSIONS.index(version) >= VERSIONS.index(since):
            expected += names
    assert get(f"{version}/meta-data") == "\n".join(sorted(expected)).encode()
    for names in ADDED.values():
        for name in names:
            assert (get(f"{version}/meta-data/{name.rstrip('/')}") is None) == (name not in expected)


def test_the_exact_listing_of_the_newest_version() -> None:
    assert get("2009-04-04/meta-data") == (
        b"ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\nhostname\ninstance-action\ninstance-id\n"
        b"instance-type\nlocal-hostname\nlocal-ipv4\nplacement/\npublic-hostname\npublic-ipv4\npublic-keys/\n"
        b"reservation-id\nsecurity-groups"
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("ami-id", b"ami-00000003"),
        ("ami-launch-index", b"0"),
        ("ami-manifest-path", b"FIXME"),
        ("block-device-mapping", b"ami\nroot"),
        ("block-device-mapping/root", b"/dev/vda"),
        ("hostname", b"blue-one.novalocal"),
        ("instance-action", b"none"),
        ("instance-id", b"i-0000002a"),
        ("instance-type", b"m1.small"),
        ("local-hostname", b"blue-one.novalocal"),
        ("local-ipv4", b"10.0.0.5"),
        ("placement", b"availability-zone"),
        ("placement/availability-zone", b"nova"),
        ("public-hostname", b"blue-one.novalocal"),
        ("public-ipv4", b""),
        ("public-keys", b"0=laptop"),
        ("public-keys/0", b"openssh-key"),
        ("public-keys/0/openssh-key", b"ssh-ed25519 AAAA me"),
        ("reservation-id", b"r-abcdefgh"),
        ("security-groups", b"default\nweb"),
    ],
)
def test_leaves(path: str, body: bytes) -> None:
    assert get(f"latest/meta-data/{path}") == body


@pytest.mark.parametrize(
    "path",
    [
        "2010-02-30",
        "2010-1-1",
        "20100101",
        "2010-01-01x",
        "latest/nothing",
        "latest/meta-data/nothing",
        "latest/meta-data/kernel-id",
        "latest/meta-data/ramdisk-id",
        "latest/meta-data/public-keys/1",
        "latest/meta-data/public-keys/0=laptop",
        "latest/meta-data/tags",
        "latest/meta-data/public-keys/0/openssh-key/x",
        "2009-04-04/dynamic",
        "2009-04-04/meta-data/network",
        "latest/dynamic/instance-identity/signature",
        "latest/meta-data/iam",
        # Nova fails with 500 here; the reference asks for 404
        "latest/meta-data/hostname/x",
        "latest/meta-data/security-groups/default",
        "latest/user-data/x",
    ],
)
def test_what_does_not_exist(path: str) -> None:
    assert get(path) is None


def test_user_data_is_listed_and_served_as_it_is() -> None:
    assert get("latest") == b"meta-data/\nuser-data"
    assert get("1.0/user-data") == FULL.user_data


def test_without_user_data_and_keys() -> None:
    assert get("latest", BARE) == b"meta-data/"
    assert get("latest/user-data", BARE) is None
    assert get("latest/meta-data/public-keys", BARE) is None
    assert b"public-keys" not in (get("latest/meta-data", BARE) or b"")


def test_empty_user_data_is_user_data() -> None:
    document = msgspec.structs.replace(BARE, user_data=b"")
    assert get("latest", document) == b"meta-data/\nuser-data"
    assert get("latest/user-data", document) == b""


def test_an_empty_domain_is_not_appended() -> None:
    assert get("latest/meta-data/hostname", BARE) == b"bare"


def test_optional_ids() -> None:
    document = msgspec.structs.replace(BARE, kernel_id="aki-00000001", ramdisk_id="image-uuid")
    assert get("latest/meta-data/kernel-id", document) == b"aki-00000001"
    assert (get("latest/meta-data/ramdisk-id", document) or b"").startswith(b"ari-")
    assert b"kernel-id\n" in (get("2007-12-15/meta-data", document) or b"")
    assert get("2007-10-10/meta-data/kernel-id", document) is None


def test_ids_made_from_the_uuid_are_stable() -> None:
    assert instance_id(BARE) == short_id("i", BARE.uuid) == "i-f60bba18"
    assert get("latest/meta-data/instance-id", BARE) == b"i-f60bba18"


def test_only_ssh_keys_and_every_one_of_them() -> None:
    keys = (
        KeyRecord(name="a", data="A"),
        KeyRecord(name="cert", data="C", type="x509"),
        KeyRecord(name="b", data="B"),
    )
    document = msgspec.structs.replace(BARE, keys=keys)
    assert get("latest/meta-data/public-keys", document) == b"0=a\n1=b"
    assert get("latest/meta-data/public-keys/1/openssh-key", document) == b"B"
    assert get("latest/meta-data/public-keys/2", document) is None


def test_line_breaks_in_names_cannot_forge_entries() -> None:
    document = msgspec.structs.replace(
        BARE,
        keys=(KeyRecord(name="a\n1=evil", data="A"), KeyRecord(name="b\u20282=e\x85\u2029\x1cvil", data="B")),
        security_groups=("one\r\ntwo",),
        block_device_mapping={"ebs0\nroot": "/dev/vdb"},
    )
    assert get("latest/meta-data/public-keys", document) == b"0=a1=evil\n1=b2=evil"
    assert get("latest/meta-data/security-groups", document) == b"onetwo"
    assert get("latest/meta-data/block-device-mapping", document) == b"ebs0root"

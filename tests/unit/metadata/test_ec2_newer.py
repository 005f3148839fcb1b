"""What AWS added to the EC2 tree: forms of every leaf, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from metadata import ec2
from metadata.records import InstanceDocument, LinkRecord, SubnetRecord
from tests.unit.metadata.sample import BARE, FULL, LINK

V6 = SubnetRecord(address="2001:db8::5", cidr="2001:db8::/64", id="subnet-6")
SECOND = LinkRecord(
    port_id="port-2", network_id="net-2", mac="fa:16:3e:00:00:02", security_groups=("sg-0a", "group-2"),
    subnets=(SubnetRecord(address="10.0.0.7", cidr="10.0.0.0/24", id="subnet-2"), V6),
)  # fmt: skip
DOCUMENT = msgspec.structs.replace(
    FULL, links=(LINK, SECOND), public_ipv4="192.0.2.7", tags={"role": "db", "a=b c": "x"}, region="north",
    architecture="x86_64",
)  # fmt: skip
MACS = "meta-data/network/interfaces/macs"


def get(path: str, document: InstanceDocument = DOCUMENT) -> str | None:
    response = ec2.find(document, tuple(path.split("/")))
    return None if response is None else response.content().decode()


@pytest.mark.parametrize("version", ["latest", "2021-03-23", "2099-12-31"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("dynamic", "instance-identity/"),
        ("dynamic/instance-identity", "document"),
        ("meta-data/instance-life-cycle", "on-demand"),
        ("meta-data/ipv6", "2001:db8::5"),
        ("meta-data/mac", "fa:16:3e:00:00:01"),
        ("meta-data/network", "interfaces/"),
        ("meta-data/network/interfaces", "macs/"),
        (MACS, "fa:16:3e:00:00:01/\nfa:16:3e:00:00:02/"),
        (f"{MACS}/fa:16:3e:00:00:01/device-number", "0"),
        (f"{MACS}/fa:16:3e:00:00:01/ipv4-associations", "192.0.2.7"),
        (f"{MACS}/fa:16:3e:00:00:01/ipv4-associations/192.0.2.7", "10.0.0.5"),
        (f"{MACS}/fa:16:3e:00:00:01/ipv6s", None),
        (f"{MACS}/fa:16:3e:00:00:01/public-ipv4s", "192.0.2.7"),
        (f"{MACS}/fa:16:3e:00:00:01/security-group-ids", None),
        (f"{MACS}/fa:16:3e:00:00:02/device-number", "1"),
        (f"{MACS}/fa:16:3e:00:00:02/interface-id", "eni-51490ed8"),
        (f"{MACS}/fa:16:3e:00:00:02/ipv6s", "2001:db8::5"),
        (f"{MACS}/fa:16:3e:00:00:02/local-hostname", "blue-one.novalocal"),
        (f"{MACS}/fa:16:3e:00:00:02/local-ipv4s", "10.0.0.7"),
        (f"{MACS}/fa:16:3e:00:00:02/mac", "fa:16:3e:00:00:02"),
        (f"{MACS}/fa:16:3e:00:00:02/network-card-index", "0"),
        (f"{MACS}/fa:16:3e:00:00:02/owner-id", "blue-project"),
        (f"{MACS}/fa:16:3e:00:00:02/public-ipv4s", None),
        (f"{MACS}/fa:16:3e:00:00:02/security-groups", "default\nweb"),
        (f"{MACS}/fa:16:3e:00:00:02/security-group-ids", "sg-0a\nsg-eb6aa234"),
        (f"{MACS}/fa:16:3e:00:00:02/subnet-id", "subnet-2"),
        (f"{MACS}/fa:16:3e:00:00:02/subnet-ipv4-cidr-block", "10.0.0.0/24"),
        (f"{MACS}/fa:16:3e:00:00:02/subnet-ipv6-cidr-blocks", "2001:db8::/64"),
        (f"{MACS}/fa:16:3e:00:00:02/vpc-id", "vpc-4af9323b"),
        (f"{MACS}/fa:16:3e:00:00:02/vpc-ipv4-cidr-block", "10.0.0.0/24"),
        (f"{MACS}/fa:16:3e:00:00:02/vpc-ipv4-cidr-blocks", "10.0.0.0/24"),
        (f"{MACS}/fa:16:3e:00:00:02/vpc-ipv6-cidr-blocks", "2001:db8::/64"),
        (f"{MACS}/fa:16:3e:00:00:03", None),
        ("meta-data/placement/availability-zone", "nova"),
        ("meta-data/placement/availability-zone-id", "nova"),
        ("meta-data/placement/region", "north"),
        ("meta-data/services", "domain\npartition"),
        ("meta-data/services/domain", "novalocal"),
        ("meta-data/services/partition", "openstack"),
        ("meta-data/tags", "instance/"),
        ("meta-data/tags/instance", "a=b c\nrole"),
        ("meta-data/tags/instance/role", "db"),
        ("meta-data/tags/instance/a=b c", "x"),
        ("meta-data/tags/instance/none", None),
    ],
)
def test_leaves(version: str, path: str, body: str | None) -> None:
    assert get(f"{version}/{path}") == body


def test_identity_document() -> None:
    response = ec2.find(DOCUMENT, ("latest", "dynamic", "instance-identity", "document"))
    assert response is not None
    assert response.content_type.startswith("text/plain")
    assert json.loads(response.content()) == {
        "accountId": "blue-project",
        "architecture": "x86_64",
        "availabilityZone": "nova",
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": "ami-00000003",
        "instanceId": "i-0000002a",
        "instanceType": "m1.small",
        "kernelId": None,
        "pendingTime": None,
        "privateIp": "10.0.0.5",
        "ramdiskId": None,
        "region": "north",
        "version": "2017-09-30",
    }


def test_an_instance_without_anything() -> None:
    assert get("latest/meta-data/network", BARE) is None
    assert get("latest/meta-data/mac", BARE) is None
    assert get("latest/meta-data/ipv6", BARE) is None
    assert get("latest/meta-data/services", BARE) == "partition"
    assert get("2021-03-23/meta-data/placement", BARE) == "availability-zone"
    assert json.loads(get("latest/dynamic/instance-identity/document", BARE) or "")["imageId"] is None


def test_latest_lists_what_nova_lists() -> None:
    for path in ("", "/meta-data", "/meta-data/placement"):
        assert get(f"latest{path}") == get(f"2009-04-04{path}")


def test_a_later_date_lists_everything() -> None:
    assert get("2021-03-23") == "dynamic/\nmeta-data/\nuser-data"
    old = (get("2009-04-04/meta-data") or "").splitlines()
    new = (get("2021-03-23/meta-data") or "").splitlines()
    assert set(new) - set(old) == {"instance-life-cycle", "ipv6", "mac", "network/", "services/", "tags/"}
    assert get("2021-03-23/meta-data/placement") == "availability-zone\navailability-zone-id\nregion"


@pytest.mark.parametrize(
    ("path", "since"),
    [
        ("dynamic/instance-identity/document", "2009-04-05"),
        ("meta-data/mac", "2011-01-01"),
        (f"{MACS}/{LINK.mac}/device-number", "2011-01-01"),
        ("meta-data/services/domain", "2014-02-25"),
        ("meta-data/services/partition", "2015-10-20"),
        (f"{MACS}/{SECOND.mac}/ipv6s", "2016-06-30"),
        ("meta-data/instance-life-cycle", "2019-10-01"),
        ("meta-data/placement/availability-zone-id", "2019-10-01"),
        ("meta-data/placement/region", "2020-08-24"),
        (f"{MACS}/{LINK.mac}/network-card-index", "2020-11-01"),
        ("meta-data/ipv6", "2021-01-03"),
        ("meta-data/tags/instance/role", "2021-03-23"),
    ],
)
def test_releases(path: str, since: str) -> None:
    from datetime import date, timedelta

    before = (date.fromisoformat(since) - timedelta(days=1)).isoformat()
    assert get(f"{since}/{path}") is not None
    assert get(f"{before}/{path}") is None


@pytest.mark.parametrize(
    ("alias", "nova"),
    [("2008-05-05", "2008-02-01"), ("2007-01-18", "1.0"), ("1999-12-31", "1.0"), ("2009-04-03", "2008-09-01")],
)
def test_a_date_between_novas_versions_is_the_one_before(alias: str, nova: str) -> None:
    assert get(f"{alias}/meta-data") == get(f"{nova}/meta-data")


@pytest.mark.parametrize("version", ["2021-02-29", "2021-13-01", "0000-01-01", "2021-01-01 ", "20210101"])
def test_what_is_no_date(version: str) -> None:
    assert get(f"{version}/meta-data") is None


def test_user_data_has_awss_type_in_awss_versions() -> None:
    def content_type(version: str) -> str:
        response = ec2.find(DOCUMENT, (version, "user-data"))
        assert response is not None
        assert response.content() == FULL.user_data
        return response.content_type

    assert content_type("2021-03-23") == "application/octet-stream"
    assert content_type("latest") == content_type("2009-04-04") == "text/plain; charset=UTF-8"


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "a\nb", "x/"])
def test_tags_that_are_no_element_of_a_path_are_left_out(name: str) -> None:
    document = msgspec.structs.replace(DOCUMENT, tags={name: "evil", "good": "1"})
    assert get("latest/meta-data/tags/instance", document) == "good"


@pytest.mark.parametrize(("tags", "listing"), [(None, None), ({}, "")])
def test_tags_that_are_off_and_tags_that_are_none(tags: dict[str, str] | None, listing: str | None) -> None:
    assert get("latest/meta-data/tags/instance", msgspec.structs.replace(DOCUMENT, tags=tags)) == listing


def test_two_links_with_one_mac_are_shown_once() -> None:
    """Overlapping networks may give one instance the same MAC twice."""
    twin: Any = msgspec.structs.replace(SECOND, mac=LINK.mac)
    document = msgspec.structs.replace(DOCUMENT, links=(LINK, twin))
    assert get(f"latest/{MACS}", document) == f"{LINK.mac}/"
    assert get(f"latest/{MACS}/{LINK.mac}/device-number", document) == "0"

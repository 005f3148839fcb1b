"""Every path of every tree, in every version, spelled in every way: one table, written from the reference.

A row is a path below the version, the version that brought it, its content type and its body. What a row says is asked
for in all versions: those from its own on give the body, earlier ones 404.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from metadata.passwords import MemoryPasswords
from metadata.responses import Response
from metadata.tree import InstanceTree
from tests.unit.metadata.sample import FULL, LINK, NOW
from tests.unit.metadata.test_ec2_newer import DOCUMENT

TEXT, JSON, HTML, OCTETS = (
    "text/plain; charset=UTF-8",
    "application/json",
    "text/html; charset=UTF-8",
    "application/octet-stream",
)
NOVA = [
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
AWS = ["2009-04-05", "2011-01-01", "2014-02-25", "2016-06-30", "2016-09-02", "2018-09-24", "2019-10-01", "2020-10-27",
       "2021-01-03", "2021-03-23", "2023-05-09", "2031-01-01"]  # fmt: skip
OPENSTACK = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
]
MAC = f"meta-data/network/interfaces/macs/{LINK.mac}"


class Row(NamedTuple):
    path: str
    since: str
    body: str | bytes | None = None
    """None: anything."""
    type: str = TEXT


META = "meta-data"
OF_NOVA = [
    Row("", "1.0"),
    Row(META, "1.0"),
    Row("user-data", "1.0", FULL.user_data),
    Row(f"{META}/ami-id", "1.0", "ami-00000003"),
    Row(f"{META}/ami-launch-index", "1.0", "0"),
    Row(f"{META}/ami-manifest-path", "1.0", "FIXME"),
    Row(f"{META}/hostname", "1.0", "blue-one.novalocal"),
    Row(f"{META}/instance-id", "1.0", "i-0000002a"),
    Row(f"{META}/local-ipv4", "1.0", "10.0.0.5"),
    Row(f"{META}/public-keys", "1.0", "0=laptop"),
    Row(f"{META}/public-keys/0", "1.0", "openssh-key"),
    Row(f"{META}/public-keys/0/openssh-key", "1.0", "ssh-ed25519 AAAA me"),
    Row(f"{META}/reservation-id", "1.0", "r-abcdefgh"),
    Row(f"{META}/security-groups", "1.0", "default\nweb"),
    Row(f"{META}/local-hostname", "2007-01-19", "blue-one.novalocal"),
    Row(f"{META}/public-hostname", "2007-01-19", "blue-one.novalocal"),
    Row(f"{META}/public-ipv4", "2007-01-19", "192.0.2.7"),
    Row(f"{META}/instance-type", "2007-08-29", "m1.small"),
    Row(f"{META}/block-device-mapping", "2007-12-15", "ami\nroot"),
    Row(f"{META}/block-device-mapping/ami", "2007-12-15", "vda"),
    Row(f"{META}/block-device-mapping/root", "2007-12-15", "/dev/vda"),
    Row(f"{META}/placement", "2008-02-01"),
    Row(f"{META}/placement/availability-zone", "2008-02-01", "nova"),
    Row(f"{META}/instance-action", "2008-09-01", "none"),
]
OF_AWS = [
    Row("dynamic", "2009-04-05", "instance-identity/"),
    Row("dynamic/instance-identity", "2009-04-05", "document"),
    Row("dynamic/instance-identity/document", "2009-04-05"),
    Row(f"{META}/mac", "2011-01-01", LINK.mac),
    Row(f"{META}/network", "2011-01-01", "interfaces/"),
    Row(f"{META}/network/interfaces", "2011-01-01", "macs/"),
    Row(f"{META}/network/interfaces/macs", "2011-01-01"),
    Row(MAC, "2011-01-01"),
    Row(f"{MAC}/device-number", "2011-01-01", "0"),
    Row(f"{MAC}/local-ipv4s", "2011-01-01", "10.0.0.5"),
    Row(f"{MAC}/vpc-ipv4-cidr-blocks", "2016-06-30", "10.0.0.0/24"),
    Row(f"{META}/services", "2014-02-25"),
    Row(f"{META}/services/domain", "2014-02-25", "novalocal"),
    Row(f"{META}/services/partition", "2015-10-20", "openstack"),
    Row(f"{META}/instance-life-cycle", "2019-10-01", "on-demand"),
    Row(f"{META}/placement/availability-zone-id", "2019-10-01", "nova"),
    Row(f"{META}/placement/region", "2020-08-24", "north"),
    Row(f"{MAC}/network-card-index", "2020-11-01", "0"),
    Row(f"{META}/ipv6", "2021-01-03", "2001:db8::5"),
    Row(f"{META}/tags", "2021-03-23", "instance/"),
    Row(f"{META}/tags/instance", "2021-03-23", "a=b c\nrole"),
    Row(f"{META}/tags/instance/role", "2021-03-23", "db"),
]
OF_OPENSTACK = [
    Row("", "2012-08-10"),
    Row("version", "2012-08-10"),
    Row("meta_data.json", "2012-08-10", type=JSON),
    Row("user_data", "2012-08-10", FULL.user_data),
    Row("password", "2013-04-04", "", HTML),
    Row("vendor_data.json", "2013-10-17", json.dumps({"cloud": "plane"}), JSON),
    Row("network_data.json", "2015-10-15"),
    Row("vendor_data2.json", "2016-10-06", json.dumps({"static": {"cloud": "plane"}, "site": {"rack": 4}}), JSON),
]
FIXED = [
    Row("/", "", "\n".join([*NOVA, "latest"])),
    Row("/ec2", "", "\n".join([*NOVA, "latest"])),
    Row("/openstack", "", "\n".join([*OPENSTACK, "latest"])),
    Row("/openstack/content/0000", "", "one\n"),
    Row("/openstack/content/0001", "", "\x00two"),
    Row("/nocloud", "", "meta-data\nnetwork-config\nuser-data\nvendor-data"),
    Row("/nocloud/meta-data", ""),
    Row("/nocloud/network-config", ""),
    Row("/nocloud/user-data", "", FULL.user_data),
    Row("/nocloud/vendor-data", "", ""),
]
NOT_THERE = [
    "/openstack/content",
    "/openstack/content/0002",
    "/openstack/latest/content",
    "/openstack/latest/x",
    "/openstack/2012-08-11",
    "/nocloud/latest",
    "/latest/x",
    "/latest/meta-data/iam",
    "/latest/meta-data/hostname/x",
    "/latest/dynamic/instance-identity/signature",
    "/latest/api",
    "/latest/api/token/x",
    "/2010-02-30/meta-data",
    "/robots.txt",
]


def spellings(path: str) -> Iterator[str]:
    """The path in all the ways that mean the same."""
    plain = path.rstrip("/")
    yield plain or "/"
    yield f"{plain}/"
    yield f"{plain}//"
    yield f"/{plain}"
    yield f"/.{plain}/."
    yield f"{plain}/x/.."
    yield f"{plain}?q=/openstack"
    yield plain.replace("a", "%61").replace("-", "%2D") or "/"
    if not path.startswith(("/openstack", "/nocloud", "/ec2")):
        yield f"/ec2{plain}"
        yield f"/ec2//{plain}/"


def ec2_cases() -> Iterator[tuple[str, Row, bool]]:
    for row in OF_NOVA + OF_AWS:
        for version in NOVA + AWS:
            there = version >= row.since and not (version in NOVA and row in OF_AWS)
            kind = OCTETS if row.path == "user-data" and version in AWS else row.type
            yield f"/{version}/{row.path}", row._replace(type=kind), there
        yield f"/latest/{row.path}", row, True


def openstack_cases() -> Iterator[tuple[str, Row, bool]]:
    for row in OF_OPENSTACK:
        for version in OPENSTACK:
            yield f"/openstack/{version}/{row.path}", row, version >= row.since
        yield f"/openstack/latest/{row.path}", row, True


CASES = [*ec2_cases(), *openstack_cases(), *((row.path, row, True) for row in FIXED)]
CASES += [(path, Row(path, ""), False) for path in NOT_THERE]

TREE = InstanceTree(DOCUMENT, MemoryPasswords())


def ask(path: str, method: str = "GET") -> Response:
    return TREE.answer(method, path.encode("latin-1"), NOW)


def test_the_table_is_whole() -> None:
    """Every name that a listing shows is a row, so that none is forgotten."""
    rows = {row.path for row in OF_NOVA + OF_AWS}
    unlisted = {f"{MAC}/{name}" for name in ask(f"/2031-01-01/{MAC}").content().decode().splitlines()}
    for directory in (
        "",
        META,
        f"{META}/placement",
        f"{META}/services",
        f"{META}/tags",
        "dynamic",
        "dynamic/instance-identity",
    ):
        for name in ask(f"/2031-01-01/{directory}").content().decode().splitlines():
            assert f"{directory}/{name}".strip("/") in rows
    assert len(unlisted) > 10  # of an interface only some are here; the others have a test of their own
    listed = {row.path for row in OF_OPENSTACK} - {"", "version"}
    assert listed == set(ask("/openstack/latest").content().decode().splitlines())


@pytest.mark.parametrize(("path", "row", "there"), CASES, ids=[path for path, _, _ in CASES])
def test_path(path: str, row: Row, there: bool) -> None:
    for spelling in spellings(path):
        for method in ("GET", "HEAD"):
            response = ask(spelling, method)
            assert response.status == (200 if there else 404), spelling
            if there:
                assert response.content_type == row.type, spelling
                expected = row.body.encode() if isinstance(row.body, str) else row.body
                assert expected is None or response.content() == expected, spelling
            else:
                assert response.content_type == HTML
        for method in ("PUT", "POST", "DELETE", "OPTIONS", "PATCH"):
            if path.endswith("/password"):
                continue
            response = ask(spelling, method)
            assert response.status == (405 if there else 404), spelling
            assert (("Allow", "GET, HEAD") in response.headers) == there


@pytest.mark.parametrize("version", OPENSTACK)
def test_password_methods(version: str) -> None:
    for spelling in spellings(f"/openstack/{version}/password"):
        for method in ("PUT", "DELETE", "PATCH"):
            assert ask(spelling, method).status == (400 if version >= "2013-04-04" else 404)

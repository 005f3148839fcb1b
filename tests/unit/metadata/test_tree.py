"""Path rules, methods, and the ready answers of an instance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metadata.passwords import MemoryPasswords
from metadata.tree import READY_ANSWERS, InstanceTree, answer, split_path
from tests.unit.metadata.sample import BARE, FULL, NOW


@pytest.mark.parametrize(
    ("target", "elements"),
    [
        (b"/", ("ec2",)),
        (b"", ("ec2",)),
        (b"//", ("ec2",)),
        (b"/ec2", ("ec2",)),
        (b"/ec2/", ("ec2",)),
        (b"/openstack/", ("openstack",)),
        (b"//x", ("ec2", "x")),
        (b"/latest/meta-data/", ("ec2", "latest", "meta-data")),
        (b"/latest//meta-data/./public-keys/../hostname", ("ec2", "latest", "meta-data", "hostname")),
        (b"/../../openstack/latest", ("openstack", "latest")),
        (b"/openstack/../latest", ("ec2", "latest")),
        (b"/%6fpenstack/%6Catest?x=/y", ("openstack", "latest")),
        (b"/a%2fb", ("ec2", "a", "b")),
        (b"/%00", ("ec2", "\0")),
        (b"/%zz", ("ec2", "%zz")),
        (b"/?openstack", ("ec2",)),
        (b"/openstackx", ("ec2", "openstackx")),
        (b"/\xff", None),
        (b"/%ff", None),
    ],
)
def test_split_path(target: bytes, elements: tuple[str, ...] | None) -> None:
    assert split_path(target) == elements


# cloud-init's 28 requests of an OpenStack guest, as reference 2.8 has them
CRAWL = (
    ["/openstack", "/openstack"]
    + [f"/openstack/2018-08-27/{name}" for name in ("meta_data.json", "user_data", "vendor_data.json")]
    + [f"/openstack/2018-08-27/{name}" for name in ("vendor_data2.json", "network_data.json")]
    + ["/latest/meta-data/", "/latest/meta-data/block-device-mapping/", "/latest/meta-data/placement/"]
    + ["/latest/meta-data/public-keys/", "/latest/meta-data/public-keys/0/openssh-key"]
    + [
        f"/latest/meta-data/{leaf}"
        for leaf in (
            "ami-id",
            "ami-launch-index",
            "ami-manifest-path",
            "hostname",
            "instance-action",
            "instance-id",
            "instance-type",
            "local-hostname",
            "local-ipv4",
            "public-hostname",
            "public-ipv4",
            "reservation-id",
            "security-groups",
            "block-device-mapping/ami",
            "block-device-mapping/root",
            "placement/availability-zone",
        )
    ]
)


def test_the_crawl_of_cloud_init_finds_everything() -> None:
    assert len(CRAWL) == 28
    tree = InstanceTree(FULL)
    for path in CRAWL:
        assert tree.answer("GET", path.encode(), NOW).status == 200, path


@pytest.mark.parametrize("path", CRAWL)
def test_slashes_and_prefixes_never_matter(path: str) -> None:
    def body(target: str) -> Any:
        response = answer(FULL, "GET", target.encode(), NOW)
        assert response.status == 200, target
        if "meta_data.json" not in target:
            return response.content()
        document = json.loads(response.content())
        return document.pop("random_seed") and document

    plain = body(path.rstrip("/"))
    for variant in (path.rstrip("/") + "/", path + "//", "/." + path, "//" + path, path + "?a=b", path + "/x/.."):
        assert body(variant) == plain
    if not path.startswith("/openstack"):
        assert body("/ec2" + path) == plain


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("HEAD", "/latest", 200),
        ("POST", "/latest/meta-data/hostname", 405),
        ("DELETE", "/openstack/latest/meta_data.json", 405),
        ("PUT", "/latest/api/token", 404),
        ("PUT", "/nothing", 404),
        ("POST", "/openstack/2012-08-10/password", 404),
        ("GET", "/openstack/latest/password", 200),
        ("GET", "/\udcff", 404),
    ],
)
def test_methods(method: str, path: str, status: int) -> None:
    response = answer(FULL, method, path.encode("utf-8", "surrogateescape"), NOW)
    assert response.status == status
    assert (("Allow", "GET, HEAD") in response.headers) == (status == 405)


def test_api_label() -> None:
    assert answer(FULL, "GET", b"/openstack/x", NOW).label == ("openstack", "404")
    assert answer(FULL, "GET", b"/latest", NOW).label == ("ec2", "200")


def test_answers_are_rendered_once() -> None:
    tree = InstanceTree(FULL)
    first = tree.answer("GET", b"/latest/meta-data/hostname", NOW)
    assert tree.answer("HEAD", b"/latest/meta-data/hostname", NOW + 1) is first
    assert tree.answer("GET", b"/openstack/latest/meta_data.json", NOW) is tree.answer(
        "GET", b"/openstack/latest/meta_data.json", NOW
    )


def test_the_list_of_versions_changes_with_the_day() -> None:
    tree = InstanceTree(FULL)
    before = tree.answer("GET", b"/openstack", 1743724799.0).content()  # 2025-04-03 23:59:59
    after = tree.answer("GET", b"/openstack", 1743724800.0).content()
    assert b"2025-04-04" not in before
    assert b"2025-04-04" in after


def test_a_ready_answer_is_of_its_day() -> None:
    tree = InstanceTree(FULL)
    midnight = 1743724800.0  # 2025-04-04
    assert tree.ready("GET", b"/openstack", midnight) is None
    for now in (midnight - 1, midnight, midnight + 86399, midnight + 86400, midnight - 1):
        assert tree.ready("GET", b"/openstack", now) in (None, made := tree.answer("GET", b"/openstack", now))
        assert tree.ready("HEAD", b"/openstack", now) is made
        assert (b"2025-04-04" in made.content()) == (now >= midnight)
        assert tree.ready("POST", b"/openstack", now) is None
        assert tree.ready("GET", b"/openstack/", now) is None


def test_ready_answers_are_bounded() -> None:
    tree = InstanceTree(FULL)
    for number in range(3 * READY_ANSWERS):
        assert tree.answer("GET", b"/latest/meta-data?%d" % number, NOW).status == 200
        assert tree.answer("GET", b"/nothing/%d" % number, NOW).status == 404
    assert len(tree._ready) <= READY_ANSWERS
    assert not any(b"nothing" in target for target in tree._ready)


def test_the_password_is_never_ready_made() -> None:
    tree = InstanceTree(BARE, MemoryPasswords())
    path = b"/openstack/2013-04-04/password"
    assert tree.answer("GET", path, NOW).body == b""
    assert tree.answer("POST", path, NOW, b"secret").status == 200
    assert tree.answer("GET", path, NOW).body == b"secret"
    assert tree.answer("POST", path + b"/", NOW, b"again").status == 409

"""docs/guests.md against the metadata trees: every path, the version that brought it, its content type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from metadata import ec2, nocloud, openstack, tree
from metadata.records import DeviceRecord, FileRecord, InstanceDocument, KeyRecord, LinkRecord, SubnetRecord
from metadata.responses import Response

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guests.md"

MAC = "02:00:00:00:00:05"
NEWER = ("2009-04-05", "2011-01-01", "2014-02-25", "2015-10-20", "2016-06-30", "2019-10-01", "2020-08-24", "2020-11-01",
         "2021-01-03", "2021-03-23")  # fmt: skip

FULL = InstanceDocument(
    uuid="00000000-0000-4000-8000-000000000001", project_id="p", user_data=b"#!", image_id="ami-1", kernel_id="aki-1",
    ramdisk_id="ari-1", keys=(KeyRecord(name="k", data="ssh-ed25519 A"),), files=(FileRecord(path="/f", content=b"f"),),
    meta={"a": "b"}, devices=(DeviceRecord(type="nic"),), tags={"a": "b"}, region="r", flavor="f",
    availability_zone="z", public_ipv4="192.0.2.7", security_groups=("g",),
    links=(LinkRecord(port_id="p", network_id="n", mac=MAC, security_groups=("g",), subnets=(
        SubnetRecord(address="10.0.0.5", cidr="10.0.0.0/24", id="4"), SubnetRecord(address="fd00::5", cidr="fd00::/64"),
    )),),
)  # fmt: skip


def get(target: str) -> Response:
    return tree.answer(FULL, "GET", target.encode(), 0.0)


def leaves(target: str) -> Iterator[str]:
    """The paths below a directory of the EC2 tree, as its listings name them; a directory of keys ends there."""
    for line in get(target).body.decode().splitlines():
        if line.endswith("/") and line not in ("public-keys/", "block-device-mapping/"):
            yield from leaves(f"{target}/{line.rstrip('/')}")
        else:
            yield f"{target}/{line}"


def rows_of(kind: str) -> list[list[str]]:
    """The rows of docs/guests.md's table of paths of `kind`; a row without a path adds to the one above."""
    text = PAGE.read_text()
    table = text[text.index(f"**{kind}** ") :].partition("|---|")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def versions_of(kind: str) -> list[str]:
    text = PAGE.read_text()
    return re.findall(r"`([\d.-]+|latest)`", text[text.index(f"**{kind}** ") :].partition("\n\n")[0])


def first_version(versions: tuple[str, ...], target: str) -> str:
    return next(version for version in versions if get(target.format(version=version)).status == 200)


def test_ec2_tree() -> None:
    assert versions_of("EC2") == [*ec2.VERSIONS, ec2.LATEST]
    documented = {path: row[2] for row in rows_of("EC2") for path in re.findall(r"`([^`]+)`", row[0])}
    assert set(documented) == {leaf.removeprefix("/latest/") for leaf in leaves("/latest")}
    for path, since in documented.items():
        assert first_version(ec2.VERSIONS, f"/{{version}}/{path}") == since, path


def below(row: list[str]) -> Iterator[tuple[str, str]]:
    """Name and first version of what a row's content says is below its directory."""
    since = row[2]
    for part in row[1].split(";"):
        found = re.search(r"since (\d{4}-\d{2}-\d{2})", part)
        since = found[1] if found else since
        for name in re.findall(r"`([a-z0-9-]+)/?`", part):
            yield name, since


def test_additions_to_the_ec2_tree() -> None:
    rows = {path: row for row in rows_of("AWS's additions") for path in re.findall(r"`([^`]+)`", row[0])}
    shown = {
        re.sub(r"/macs/.*|/tags/instance/.*", lambda found: found[0].split("/")[1], leaf.removeprefix("/2099-01-01/"))
        for leaf in leaves("/2099-01-01")
    }
    known = {leaf.removeprefix("/latest/") for leaf in leaves("/latest")}
    documented = {re.sub("/macs/.*", "macs", path).replace("/tags/instance/", "tags") for path in rows}
    assert documented == shown - known
    for path, row in rows.items():
        target = path.replace("<mac>", MAC)
        day = date.fromisoformat(row[2])
        assert get(f"/{day}/{target}").status == 200, path
        assert get(f"/{day - timedelta(days=1)}/{target}").status == 404, path
    macs = next(row for path, row in rows.items() if "<mac>" in path)
    listing = get(f"/2099-01-01/meta-data/network/interfaces/macs/{MAC}").body.decode().splitlines()
    assert dict(below(macs)).keys() == {name.rstrip("/") for name in listing}
    for name, since in below(macs):
        assert first_version(NEWER, f"/{{version}}/meta-data/network/interfaces/macs/{MAC}/{name}") == since, name


def test_nocloud() -> None:
    text = PAGE.read_text()
    table = text[text.index("**NoCloud** ") :].partition("|---|---|\n")[2].partition("\n\n")[0]
    names = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert sorted(names) == get("/nocloud").body.decode().splitlines()
    assert f"s=http://169.254.169.254/{nocloud.API}/`" in text
    keys = set(re.findall(r"`([a-z-]+)`", table.splitlines()[0])) - {"meta-data"}
    assert keys == set(json.loads(get("/nocloud/meta-data").body))


def test_openstack_tree() -> None:
    assert versions_of("OpenStack") == [*openstack.VERSIONS, openstack.LATEST]
    rows = [row for row in rows_of("OpenStack") if row[0]]
    assert [row[0].strip("`") for row in rows] == get("/openstack/latest").body.decode().splitlines()
    for path, _, content_type, since in rows:
        path = path.strip("`")
        answer = get(f"/openstack/latest/{path}")
        assert answer.content_type.startswith(content_type.split("`")[1]), path
        assert first_version(openstack.VERSIONS, f"/openstack/{{version}}/{path}") == since, path


def test_meta_data_keys() -> None:
    """The keys of meta_data.json and the version that brought each."""
    seen: set[str] = set()
    found: dict[str, str] = {}
    for version in openstack.VERSIONS:
        response = get(f"/openstack/{version}/meta_data.json")
        keys = set(json.loads(response.content()))
        found.update(dict.fromkeys(keys - seen, version))
        seen |= keys
    documented = {
        key: row[-1]
        for row in rows_of("OpenStack")
        if row[0] in ("", "`meta_data.json`")
        for key in re.findall(r"`(\w+)`", row[1].partition(";")[0] if not row[0] else row[1])
    }
    assert documented == found

"""docs/guests.md against the metadata trees: every path, the version that brought it, its content type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from metadata import ec2, openstack, tree
from metadata.records import DeviceRecord, FileRecord, InstanceDocument, KeyRecord
from metadata.responses import Response

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guests.md"

FULL = InstanceDocument(
    uuid="00000000-0000-4000-8000-000000000001", project_id="p", user_data=b"#!", image_id="ami-1", kernel_id="aki-1",
    ramdisk_id="ari-1", keys=(KeyRecord(name="k", data="ssh-ed25519 A"),), files=(FileRecord(path="/f", content=b"f"),),
    meta={"a": "b"}, devices=(DeviceRecord(type="nic"),),
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

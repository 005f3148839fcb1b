"""Whatever a guest asks for, it gets an answer about itself and nothing else."""

from __future__ import annotations

import datetime
from urllib.parse import quote

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metadata import nocloud
from metadata.passwords import MemoryPasswords
from metadata.records import KeyRecord, SubnetRecord
from metadata.responses import ending
from metadata.tree import InstanceTree, answer, split_path
from tests.unit.metadata.sample import BARE, FULL, LINK, NOW
from tests.unit.metadata.test_ec2_newer import DOCUMENT

WORDS = ["", ".", "..", "ec2", "openstack", "latest", "2009-04-04", "2018-08-27", "meta-data", "user-data", "content"]
WORDS += [
    "nocloud",
    "network-config",
    "vendor-data",
    "2021-03-23",
    "2031-01-01",
    "dynamic",
    "instance-identity",
    "document",
]
WORDS += ["network", "interfaces", "macs", "fa:16:3e:00:00:01", "tags", "instance", "role", "placement", "api", "token"]
WORDS += ["public-keys", "0", "0=laptop", "openssh-key", "meta_data.json", "password", "0000", "%2e%2e", "%00", "\0"]

targets = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=8)
    .map(lambda words: "/".join(words))
    .map(lambda path: ("/" + path).encode("utf-8", "surrogatepass")),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])


@given(methods, targets, st.one_of(st.none(), st.binary(max_size=1100)))
def test_any_request_has_an_answer(method: str, target: bytes, body: bytes | None) -> None:
    for document in (FULL, BARE, DOCUMENT):
        response = answer(document, method, target, NOW, body=body, store=MemoryPasswords())
        assert response.status in {200, 400, 404, 405, 409}
        head, _, content = response.encode(ending("now", True)).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(content)}".encode() in head


@given(st.lists(targets, max_size=30))
def test_ready_answers_are_the_same_answers(asked: list[bytes]) -> None:
    tree = InstanceTree(FULL)
    for target in asked + asked:
        ready, fresh = tree.answer("GET", target, NOW), answer(FULL, "GET", target, NOW)
        assert (ready.status, ready.content_type, ready.body) == (fresh.status, fresh.content_type, fresh.body)


@given(st.dates(), st.sampled_from(["meta-data/", "user-data", "meta-data/instance-id", "meta-data/mac", ""]))
def test_any_date_is_a_version_and_nothing_else_is(day: datetime.date, path: str) -> None:
    """What was there by then: AWS's parts come after the last version that Nova has."""
    text = day.isoformat()
    there = path != "meta-data/mac" or text >= "2011-01-01"
    assert answer(FULL, "GET", f"/{text}/{path}".encode(), NOW).status == (200 if there else 404)
    wrong = [f"{text}x", text.replace("-", ""), text.replace("-", "/"), f"{text}T00:00", f"{day.year}-13-{day.day:02}"]
    for version in (*wrong, f"{day.year:04}-02-30", f"{day.year:04}-{day.month:02}-00"):
        assert answer(FULL, "GET", f"/{version}/meta-data/".encode(), NOW).status == 404


words = st.text(max_size=20).filter(lambda text: text.encode("utf-8", "replace").decode() == text)


@given(st.dictionaries(words, words, max_size=4), words, words)
def test_what_tenants_write_is_read_back_as_it_is(meta: dict[str, str], name: str, data: str) -> None:
    """NoCloud's YAML and the listings of the EC2 tree: no text changes the structure around it."""
    keys = (KeyRecord(name=name, data=data),)
    document = msgspec.structs.replace(FULL, meta=meta, tags=meta, keys=keys, name=name, availability_zone=data)
    assert yaml.safe_load(nocloud.find(document, ("meta-data",)).content()) == nocloud.meta_data(document)  # type: ignore[union-attr]
    tags = answer(document, "GET", b"/2031-01-01/meta-data/tags/instance", NOW).content().decode()
    listed = tags.split("\n") if tags else []
    assert set(listed) <= set(meta)
    for tag in listed:
        path = f"/2031-01-01/meta-data/tags/instance/{quote(tag, safe='')}"
        assert answer(document, "GET", path.encode(), NOW).content().decode() == meta[tag]


@given(
    st.lists(st.tuples(st.sampled_from(["10.0.0.5", "10.0.0.9", "2001:db8::5"]), st.booleans()), max_size=4),
    st.sampled_from([None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless"]),
)
def test_every_address_is_configured_in_one_way(given_subnets: list[tuple[str, bool]], mode: str | None) -> None:
    subnets = tuple(
        SubnetRecord(
            address=address, cidr="2001:db8::/64" if ":" in address else "10.0.0.0/24", dhcp=dhcp,
            ipv6_address_mode=mode if ":" in address else None,
        )
        for address, dhcp in given_subnets
    )  # fmt: skip
    document = msgspec.structs.replace(FULL, links=(msgspec.structs.replace(LINK, subnets=subnets),))
    found = yaml.safe_load(answer(document, "GET", b"/nocloud/network-config", NOW).content())
    links = list(found["ethernets"].values())
    assert len(links) == bool(subnets)
    for link in links:
        ways = set(link.get("addresses", []))
        for address, dhcp in given_subnets:
            version = 6 if ":" in address else 4
            fixed = f"{address}/{64 if version == 6 else 24}" in ways
            assert fixed or link.get(f"dhcp{version}") or (version == 6 and link.get("accept-ra"))
            assert not dhcp or link.get(f"dhcp{version}") or link.get("accept-ra")


@given(targets)
def test_normalising_twice_changes_nothing(target: bytes) -> None:
    elements = split_path(target)
    if elements is not None and not any("%" in element or "?" in element for element in elements):
        assert split_path(("/" + "/".join(elements)).encode("utf-8", "surrogatepass")) in (elements, None)
        assert not any(element in ("", ".", "..") for element in elements)

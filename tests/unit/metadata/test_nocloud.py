"""The NoCloud seed: what cloud-init is given, read back by a YAML reader."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from metadata import nocloud
from metadata.nocloud import meta_data, network_config
from metadata.records import InstanceDocument, KeyRecord, LinkRecord, RouteRecord, SubnetRecord
from metadata.responses import TEXT
from tests.unit.metadata.sample import BARE, FULL, LINK, UUID


def get(path: str, document: InstanceDocument = FULL) -> bytes | None:
    response = nocloud.find(document, tuple(path.split("/")) if path else ())
    if response is None:
        return None
    assert (response.status, response.content_type, response.api) == (200, TEXT, "nocloud")
    return response.content()


def read(path: str, document: InstanceDocument = FULL) -> Any:
    return yaml.safe_load(get(path, document) or b"")


def test_listing() -> None:
    assert get("") == b"meta-data\nnetwork-config\nuser-data\nvendor-data"


@pytest.mark.parametrize("path", ["nothing", "meta-data/instance-id", "user-data/x", "latest", "2021-01-01"])
def test_what_does_not_exist(path: str) -> None:
    assert get(path) is None


def test_meta_data() -> None:
    assert read("meta-data") == {
        "instance-id": UUID,
        "local-hostname": "blue-one.novalocal",
        "launch-index": 0,
        "availability-zone": "nova",
        "instance-type": "m1.small",
        "project-id": "blue-project",
        "public-keys": {"laptop": "ssh-ed25519 AAAA me"},
        "meta": {"role": "db"},
    }
    assert read("meta-data", BARE) == {
        "instance-id": UUID, "local-hostname": "bare", "launch-index": 0, "project-id": "p"
    }  # fmt: skip


def test_user_data_is_bytes_and_always_there() -> None:
    assert get("user-data") == FULL.user_data
    assert get("user-data", BARE) == b""


@pytest.mark.parametrize(
    ("vendor_data", "expected"),
    [
        (None, b""),
        ({}, b""),
        ({"cloud": "plane"}, b""),
        ({"cloud-init": "#cloud-config\n"}, b"#cloud-config\n"),
        ({"cloud-init": {"not": "text"}}, b""),
    ],
)
def test_vendor_data(vendor_data: dict[str, Any] | None, expected: bytes) -> None:
    assert get("vendor-data", msgspec.structs.replace(FULL, vendor_data=vendor_data)) == expected


def of(*subnets: SubnetRecord, **more: Any) -> Any:
    link = LinkRecord(port_id="p", network_id="n", mac="fa:16:3e:00:00:01", subnets=subnets, **more)
    found = read("network-config", msgspec.structs.replace(BARE, links=(link,)))
    assert found["version"] == 2
    [(name, ethernet)] = found["ethernets"].items()
    assert name == "eth0"
    assert ethernet.pop("match") == {"macaddress": "fa:16:3e:00:00:01"}
    return ethernet


V4 = SubnetRecord(address="10.0.0.5", cidr="10.0.0.0/24", gateway="10.0.0.1", dns_nameservers=("10.0.0.2",))
V6 = SubnetRecord(address="2001:db8::5", cidr="2001:db8::/64", gateway="fe80::1", dns_nameservers=("2001:db8::2",))


def without_dhcp(subnet: SubnetRecord, **more: Any) -> SubnetRecord:
    return msgspec.structs.replace(subnet, dhcp=False, **more)


def test_dhcp_networks() -> None:
    assert of(V4) == {"dhcp4": True}
    assert of(V6) == {"dhcp6": True}
    assert of(V4, V6, mtu=1450) == {"dhcp4": True, "dhcp6": True}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("slaac", {"accept-ra": True}), ("dhcpv6-stateless", {"accept-ra": True}), ("dhcpv6-stateful", {"dhcp6": True})],
)
def test_ipv6_modes(mode: str, expected: dict[str, Any]) -> None:
    assert of(msgspec.structs.replace(V6, ipv6_address_mode=mode)) == expected


def test_static_networks() -> None:
    routes = (RouteRecord(destination="192.168.0.0/16", gateway="10.0.0.9"),)
    assert of(without_dhcp(V4, routes=routes), without_dhcp(V6), mtu=1450) == {
        "addresses": ["10.0.0.5/24", "2001:db8::5/64"],
        "mtu": 1450,
        "routes": [
            {"to": "0.0.0.0/0", "via": "10.0.0.1"},
            {"to": "192.168.0.0/16", "via": "10.0.0.9"},
            {"to": "::/0", "via": "fe80::1"},
        ],
        "nameservers": {"addresses": ["10.0.0.2", "2001:db8::2"]},
    }


def test_two_addresses_of_one_subnet_have_its_routes_once() -> None:
    second = msgspec.structs.replace(V4, address="10.0.0.6")
    found = of(without_dhcp(V4), without_dhcp(second))
    assert found["addresses"] == ["10.0.0.5/24", "10.0.0.6/24"]
    assert len(found["routes"]) == 1
    assert found["nameservers"] == {"addresses": ["10.0.0.2"]}


def test_every_link_with_an_address() -> None:
    bare = LinkRecord(port_id="q", network_id="n", mac="fa:16:3e:00:00:02")
    other = msgspec.structs.replace(LINK, mac="fa:16:3e:00:00:03")
    found = network_config(msgspec.structs.replace(FULL, links=(LINK, bare, other)))
    assert {name: link["match"]["macaddress"] for name, link in found["ethernets"].items()} == {
        "eth0": LINK.mac, "eth1": other.mac
    }  # fmt: skip
    assert network_config(BARE) == {"version": 2, "ethernets": {}}


@pytest.mark.parametrize(
    "text", ["\x85\u2028\u2029", "\x7f\x80\ufeff", "😀", '"\\\t: - #', "yes", "0x10", "\x00\x1b\r\n"]
)
def test_what_tenants_write_stays_text(text: str) -> None:
    document = msgspec.structs.replace(
        FULL, meta={text: text}, keys=(KeyRecord(name=text, data=text),), availability_zone=text
    )
    assert read("meta-data", document) == meta_data(document)
    assert read("meta-data", document)["meta"] == {text: text}

"""fields: canonical forms, and findings over records."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dataplane import fields
from dataplane.errors import Mistake
from dataplane.model import AllocationPool, Ip, Subnet, SubnetId


@pytest.mark.parametrize(
    ("rule", "value", "canonical"),
    [
        (fields.mac, "FA:16:3E:00:00:0A", "fa:16:3e:00:00:0a"),
        (fields.mac, "fa-16-3e-00-00-0a", "fa:16:3e:00:00:0a"),
        (fields.ip, "10.0.0.1", "10.0.0.1"),
        (fields.ip, "2001:DB8:0:0::1", "2001:db8::1"),
        (fields.prefix, "2001:DB8:0::/48", "2001:db8::/48"),
        (fields.prefix, "10.0.0.0/255.255.255.0", "10.0.0.0/24"),
        (fields.address_or_prefix, "::1", "::1"),
        (fields.uuid, "0000000A-0000-4000-8000-00000000000B", "0000000a-0000-4000-8000-00000000000b"),
        (fields.owner, "0000000A-0000-4000-8000-00000000000B", "0000000a-0000-4000-8000-00000000000b"),
        (fields.owner, "DHCP-agent", "DHCP-agent"),
        (fields.ec2_id, "i-0000ABCD", "i-0000abcd"),
        (fields.domain, "example.org.", "example.org."),
        (fields.domain, "", ""),
        (fields.domain, "a" * 63 + ".b", "a" * 63 + ".b"),
        (fields.device, "tap-1.20@x", "tap-1.20@x"),
        (fields.namespace, "qdhcp-0a", "qdhcp-0a"),
        (fields.base64_text, " YQ\n==", "YQ=="),
        (fields.optional(fields.device), "", ""),
        (fields.between(1, 3), 3, 3),
    ],
)
def test_canonical(rule: Callable[[object], object], value: object, canonical: object) -> None:
    assert rule(value) == canonical
    assert rule(canonical) == canonical


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (fields.mac, "fa163e00000a"),
        (fields.mac, "ff:ff:ff:ff:ff:ff"),
        (fields.mac, "fa:16:3e:00:00:0a\n"),
        (fields.ip, "10.0.0.256"),
        (fields.ip, "010.0.0.1"),
        (fields.ip, "10.0.0.1\n"),
        (fields.ip, "::ffff:10.0.0.1"),
        (fields.ip, "fe80::1%1"),
        (fields.ip, "\u0661\u0660.0.0.1"),
        (fields.ipv4, "::1"),
        (fields.prefix, "10.0.0.0/33"),
        (fields.prefix, "10.0.0.0/0.0.0.255x"),
        (fields.uuid, "{0000000a-0000-4000-8000-00000000000b}"),
        (fields.ec2_id, "i-12345"),
        (fields.domain, "-a"),
        (fields.domain, "a..b"),
        (fields.domain, "a" * 64),
        (fields.domain, ".".join(["a" * 50] * 6)),
        (fields.device, ""),
        (fields.device, "a b"),
        (fields.device, "eth0:1"),
        (fields.device, "ä"),
        (fields.namespace, ".."),
        (fields.namespace, "a/b"),
        (fields.namespace, ""),
        (fields.identifier, "-a"),
        (fields.identifier, "a" * 65),
        (fields.identifier, "a\n"),
        (fields.text, "\u2028"),
        (fields.text, "\x85"),
        (fields.label, ""),
        (fields.visible, "é"),
        (fields.base64_text, "YQ="),
        (fields.base64_text, "YQ==é"),
        (fields.json_value, {"a": float("nan")}),
        (fields.json_value, {1: 2}),
        (fields.json_value, {"a": object()}),
        (fields.between(1, 3), 0),
    ],
)
def test_refused(rule: Callable[[object], object], value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        rule(value)


def test_findings_keep_the_value_and_tell_the_path() -> None:
    findings = fields.Findings()
    subnet = Subnet(SubnetId("s"), "::/64", dns_nameservers=(Ip("2001:DB8::1"), Ip("no")), gateway_ip=None)
    new = findings.fields(subnet, "x", {"cidr": fields.prefix, "dns_nameservers": fields.ip, "gateway_ip": fields.ip})
    assert new.dns_nameservers == ("2001:db8::1", "no")
    assert findings.mistakes == [Mistake("x.dns_nameservers[1]", "'no' is not an IP address")]


def test_a_record_that_is_canonical_is_not_copied() -> None:
    findings = fields.Findings()
    subnet = Subnet(SubnetId("s"), "10.0.0.0/24", allocation_pools=(AllocationPool(Ip("10.0.0.1"), Ip("10.0.0.2")),))
    assert findings.fields(subnet, "x", {"cidr": fields.prefix}) is subnet
    assert findings.each(subnet, "x", "allocation_pools", lambda f, r, p: f.fields(r, p, {"end": fields.ip})) is subnet

"""port_rules: what one port may say."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import documents
from tests.unit.dataplane.states import mistakes, of_port


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (of_port(mac_address="01:00:5e:00:00:01"), ["ports[0].mac_address: 01:00:5e:00:00:01 is a multicast or"]),
        (of_port(mac_address="00:00:00:00:00:00"), ["ports[0].mac_address: a MAC address of zeros is nobody's"]),
        (of_port(mac_address="fa:16:3e:00:00"), ["ports[0].mac_address: 'fa:16:3e:00:00' is not a MAC address"]),
        (of_port(mac_address="fa-16:3e-00:00-05"), ["ports[0].mac_address: 'fa-16:3e-00:00-05' is not a MAC address"]),
        (
            of_port(mac_address=193293000),
            ["ports[0].mac_address: expected text, got a whole number (put it in quotes)"],
        ),
        (of_port(device="tap/1"), ["ports[0].device: 'tap/1' is not a device name"]),
        (of_port(device=".."), ["ports[0].device: '..' is not a device name"]),
        (of_port(device="lo"), ["ports[0].device: the loopback device cannot be plugged"]),
        (of_port(device="sixteen-letters1"), ["ports[0].device: a device name has at most 15 characters"]),
        (of_port(host="a b"), ["ports[0].host: contains a character that is not visible ASCII"]),
        (of_port(dns_name="web\n"), ["ports[0].dns_name: 'web\\n' is not a host or domain name"]),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "bootfile-name", "opt_value": "x\ny"}]),
            ["ports[0].extra_dhcp_opts[0].opt_value: contains a control character"],
        ),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "a\nb", "opt_value": "x"}]),
            ["ports[0].extra_dhcp_opts[0].opt_name: 'a\\nb' is not a DHCP option name or number"],
        ),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "a" * 65, "opt_value": "x" * 256}]),
            [
                "ports[0].extra_dhcp_opts[0].opt_name: is longer than 64 characters",
                "ports[0].extra_dhcp_opts[0].opt_value: is longer than 255 characters",
            ],
        ),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "mtu"}, {"opt_name": "router", "opt_value": ""}]),
            ["ports[0].extra_dhcp_opts[0].opt_value: may be blank only for router and classless-static-route"],
        ),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "67", "opt_value": "a"}, {"opt_name": "67", "opt_value": "b"}]),
            ["ports[0].extra_dhcp_opts[1].opt_name: 67 is also given by ports[0].extra_dhcp_opts[0]"],
        ),
        (
            of_port(extra_dhcp_opts=[{"opt_name": "67", "opt_value": "a", "ip_version": 5}]),
            ["ports[0].extra_dhcp_opts[0].ip_version: invalid enum value 5"],
        ),
        (
            of_port(allowed_address_pairs=[{"ip_address": "10.0.0.1/8"}]),
            ["ports[0].allowed_address_pairs[0].ip_address: 10.0.0.1/8 has host bits set, did you mean 10.0.0.0/8?"],
        ),
        (of_port(security_groups=["ok", "no/no"]), ["ports[0].security_groups[1]: an id is 1 to 64 letters"]),
    ],
)
def test_refusals(data: dict[str, Any], expected: list[str]) -> None:
    found = mistakes(data)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(
    "data",
    [
        of_port(extra_dhcp_opts=[{"opt_name": "tag:!ipxe,bootfile-name", "opt_value": "undionly.kpxe"}]),
        of_port(extra_dhcp_opts=[{"opt_name": "router", "opt_value": ""}]),
        of_port(extra_dhcp_opts=[{"opt_name": "option6:23", "opt_value": "::1", "ip_version": 6}]),
        of_port(device_id="an instance that comes later", fixed_ips=[]),
    ],
)
def test_permitted(data: dict[str, Any]) -> None:
    documents.decode(data)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"opt_name": "no-such-option", "opt_value": "1"}, "no-such-option"),
        ({"opt_name": "mtu", "opt_value": "many"}, "many"),
        ({"opt_name": "54", "opt_value": "10.0.0.1"}, "54"),
    ],
)
def test_a_dhcp_option_that_could_not_be_sent_is_refused(option: dict[str, str], word: str) -> None:
    [mistake] = mistakes(of_port(extra_dhcp_opts=[option]))
    assert mistake.startswith("ports[0].extra_dhcp_opts[0]")
    assert word in mistake

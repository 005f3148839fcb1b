"""instance_rules: what one instance may say."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from dataplane import documents
from tests.unit.dataplane.states import mistakes, of_instance


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (of_instance(id="vm-1"), ["instances[0].id: 'vm-1' is not a UUID"]),
        (of_instance(project_id=""), ["instances[0].project_id: is empty"]),
        (of_instance(project_id="a\r\nb"), ["instances[0].project_id: contains a control character"]),
        (of_instance(hostname="web\x07"), ["instances[0].hostname: 'web\\x07' is not a host or domain name"]),
        (of_instance(name="x" * 256), ["instances[0].name: is longer than 255 characters"]),
        (of_instance(ec2_id="i-xyz"), ["instances[0].ec2_id: 'i-xyz' is not i- and 8 to 17 hexadecimal digits"]),
        (
            of_instance(user_data="a", user_data_base64="YQ=="),
            ["instances[0].user_data_base64: give either user_data or user_data_base64"],
        ),
        (of_instance(user_data_base64="!!!"), ["instances[0].user_data_base64: is not base64"]),
        (of_instance(user_data="a" * (2**20 + 1)), ["instances[0].user_data: is longer than 1048576 bytes"]),
        (of_instance(keys=[{"name": "a\nb", "data": "ssh"}]), ["instances[0].keys[0].name: contains a control char"]),
        (of_instance(keys=[{"name": "k", "data": "a\nb"}]), ["instances[0].keys[0].data: an ssh key is one line"]),
        (of_instance(keys=[{"name": "k", "data": " "}]), ["instances[0].keys[0].data: is empty"]),
        (
            of_instance(keys=[{"name": "k", "data": "a"}, {"name": "k", "data": "b"}]),
            ["instances[0].keys[1].name: k is also given by instances[0].keys[0]"],
        ),
        (of_instance(meta={"a\nb": "x"}), ["instances[0].meta['a\\nb']: contains a control character"]),
        (of_instance(launch_index=-1), ["instances[0].launch_index: -1 is not between 0 and 2147483647"]),
        (of_instance(public_ipv4="::1"), ["instances[0].public_ipv4: '::1' is not an IPv4 address"]),
        (of_instance(devices=[{"type": "nic", "vlan": 4095}]), ["instances[0].devices[0].vlan: 4095 is not between"]),
        (
            of_instance(files=[{"path": "a", "content": "x", "content_base64": "eA=="}]),
            ["instances[0].files[0].content_base64: give either content or content_base64"],
        ),
        (
            of_instance(vendor_data={"when": datetime.date(2026, 1, 1)}),
            ["instances[0].vendor_data: holds something that JSON cannot carry"],
        ),
        (of_instance(user_data="\ud800"), ["instances[0]: contains half a surrogate pair"]),
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
        of_instance(keys=[{"name": "k", "data": "ssh-ed25519 AAAA\n"}, {"name": "x", "data": "a\nb", "type": "x509"}]),
        of_instance(meta={"notes": "two\nlines"}, vendor_data={"a": [1, 2.5, None, {"b": True}]}),
    ],
)
def test_permitted(data: dict[str, Any]) -> None:
    documents.decode(data)

"""What pyroute2 encodes, we decode; and a damaged buffer never raises or hangs."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # type: ignore[import-untyped]

from dataplane import rtnetlink as nl
from dataplane import rtnetlink_replies as replies


def encoded(kind: type[Any], number: int, attributes: list[tuple[str, Any]], **fields: int) -> bytes:
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message["header"]["type"] = number
    message["header"]["sequence_number"] = 3
    message.encode()
    return bytes(message.data)


def body(data: bytes) -> tuple[bytes, int, int]:
    ((_, _, sequence, start, end),) = replies.messages(data)
    assert sequence == 3
    return data, start, end


BRIDGE: list[tuple[str, Any]] = [
    ("IFLA_IFNAME", "npb0"),
    ("IFLA_MTU", 65535),
    ("IFLA_ADDRESS", "02:00:00:00:00:01"),
    ("IFLA_IFALIAS", "nodeplane:blue"),
]


def bridge(**settings: int) -> replies.Link:
    data = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_STP_STATE", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]
    changed = [(name, settings.get(name, value)) for name, value in data]
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": changed})]}
    return replies.decode_link(
        *body(encoded(ifinfmsg, nl.RTM_NEWLINK, [*BRIDGE, ("IFLA_LINKINFO", info)], index=7, flags=1))
    )


def test_a_bridge() -> None:
    assert bridge() == replies.Link(
        index=7,
        name="npb0",
        kind="bridge",
        up=True,
        mtu=65535,
        address=bytes.fromhex("020000000001"),
        alias="nodeplane:blue",
    )


@pytest.mark.parametrize("setting", ["IFLA_BR_FORWARD_DELAY", "IFLA_BR_STP_STATE", "IFLA_BR_MCAST_SNOOPING"])
def test_a_bridge_that_is_not_plain(setting: str) -> None:
    assert not bridge(**{setting: 1}).plain_bridge


def test_a_plugged_device() -> None:
    info = {
        "attrs": [
            ("IFLA_INFO_KIND", "veth"),
            ("IFLA_INFO_SLAVE_KIND", "bridge"),
            ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_STATE", 3), ("IFLA_BRPORT_COST", 4790)]}),
        ]
    }
    attributes = [("IFLA_IFNAME", "tap0"), ("IFLA_LINK", 2), ("IFLA_MASTER", 7), ("IFLA_LINKINFO", info)]
    link = replies.decode_link(*body(encoded(ifinfmsg, nl.RTM_NEWLINK, attributes, index=9)))
    assert (link.kind, link.master, link.port_cost, link.peer, link.up) == ("veth", 7, 4790, 2, False)


def test_settings_of_both_families() -> None:
    ipv4 = b"".join(nl.U32.pack(1 if number == nl.IPV4_RP_FILTER else 0) for number in range(1, 33))
    ipv6 = bytearray(4 * 60)
    ipv6[4 * 26] = 1
    ipv6[4 * 47] = 1
    families = nl.attribute(nl.AF_INET, nl.attribute(nl.IFLA_INET_CONF, ipv4)) + nl.attribute(
        nl.AF_INET6, nl.attribute(nl.IFLA_INET6_CONF, bytes(ipv6))
    )
    data = nl.IFINFO.pack(0, 0, 1, 0, 0) + nl.attribute(nl.IFLA_AF_SPEC, families)
    link = replies.decode_link(data, 0, len(data))
    assert (link.rp_filter, link.ipv6_disabled, link.addr_gen_none) == (1, True, True)
    open_families = nl.attribute(nl.AF_INET6, nl.attribute(nl.IFLA_INET6_CONF, bytes(4 * 60)))
    data = nl.IFINFO.pack(0, 0, 1, 0, 0) + nl.attribute(nl.IFLA_AF_SPEC, open_families)
    link = replies.decode_link(data, 0, len(data))
    assert (link.ipv6_disabled, link.addr_gen_none) == (False, False)


def test_brief() -> None:
    attributes = [("IFLA_IFNAME", "tap0"), ("IFLA_MTU", 1450), ("IFLA_MASTER", 7), ("IFLA_CARRIER", 1)]
    brief = replies.decode_brief(*body(encoded(ifinfmsg, nl.RTM_NEWLINK, attributes, index=9, flags=1)))
    assert brief == replies.LinkBrief(9, "tap0", up=True, mtu=1450, master=7)


def test_address() -> None:
    attributes = [("IFA_ADDRESS", "10.0.0.9"), ("IFA_LOCAL", "10.0.0.2")]
    data = encoded(ifaddrmsg, nl.RTM_NEWADDR, attributes, family=nl.AF_INET, prefixlen=24, index=4)
    assert replies.decode_address(*body(data)) == replies.Address(4, "10.0.0.2/24")
    data = encoded(ifaddrmsg, nl.RTM_NEWADDR, [("IFA_ADDRESS", "fe80::1")], family=nl.AF_INET6, prefixlen=64, index=4)
    assert replies.decode_address(*body(data)) == replies.Address(4, "fe80::1/64")


def test_route() -> None:
    attributes = [("RTA_OIF", 4), ("RTA_PREFSRC", "169.254.169.254")]
    data = encoded(rtmsg, nl.RTM_NEWROUTE, attributes, family=nl.AF_INET, table=254, type=1)
    assert replies.decode_route(*body(data)) == replies.Route(4, "0.0.0.0/0", "169.254.169.254")
    local = encoded(rtmsg, nl.RTM_NEWROUTE, attributes, family=nl.AF_INET, table=255, type=2)
    assert replies.decode_route(*body(local)) is None


def test_an_error_and_an_acknowledgement() -> None:
    assert replies.error_number(nl.I32.pack(-17), 0) == 17
    assert replies.error_number(nl.I32.pack(0), 0) == 0


def test_every_truncation_of_a_message_ends_quietly() -> None:
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_BR_STP_STATE", 0)]})]}
    data = encoded(ifinfmsg, nl.RTM_NEWLINK, [*BRIDGE, ("IFLA_LINKINFO", info)], index=7)
    for cut in range(len(data)):
        assert list(replies.messages(data[:cut])) == []
    for end in range(nl.HEADER.size + nl.IFINFO.size, len(data)):
        replies.decode_link(data[:end], nl.HEADER.size, end)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_length_that_does_not_advance_ends_the_search(length: int) -> None:
    data = nl.ATTRIBUTE.pack(length, 1) + bytes(8)
    assert list(replies.attributes(data, 0, len(data))) == []
    assert replies.offsets(data, 0, len(data)) == {}
    assert list(replies.messages(nl.HEADER.pack(length, 16, 0, 1, 0))) == []

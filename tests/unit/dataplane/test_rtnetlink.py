"""What we encode, pyroute2 decodes to what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # type: ignore[import-untyped]

from dataplane import rtnetlink as nl

MAC = bytes.fromhex("02a1b2c3d4e5")
MAC_TEXT = "02:a1:b2:c3:d4:e5"


def decoded(request: nl.Request, kind: type[Any] = ifinfmsg) -> Any:
    message = kind(nl.encode((request,), 7))
    message.decode()
    assert message["header"]["length"] == len(message.data)
    assert message["header"]["type"] == request.type
    assert message["header"]["sequence_number"] == 7
    assert message["header"]["flags"] == request.flags | nl.NLM_F_REQUEST | nl.NLM_F_ACK
    return message


def nested(message: Any, *path: str) -> Any:
    for step in path:
        message = message.get_attr(step)
    return message


def test_create_bridge() -> None:
    message = decoded(nl.create_bridge("npb0", MAC))
    assert message.get_attr("IFLA_IFNAME") == "npb0"
    assert message.get_attr("IFLA_ADDRESS") == MAC_TEXT
    assert nested(message, "IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    data = nested(message, "IFLA_LINKINFO", "IFLA_INFO_DATA")
    assert data.get_attr("IFLA_BR_STP_STATE") == 0
    assert data.get_attr("IFLA_BR_FORWARD_DELAY") == 0
    assert data.get_attr("IFLA_BR_MCAST_SNOOPING") == 0
    assert message["header"]["flags"] & nl.NLM_F_EXCL
    assert not message["flags"] & nl.IFF_UP


def test_set_bridge_ends_spanning_tree_before_it_takes_the_delay_away() -> None:
    first, second = (decoded(request) for request in nl.set_bridge(9))
    assert first["index"] == second["index"] == 9
    assert nested(first, "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_STP_STATE") == 0
    assert nested(first, "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_FORWARD_DELAY") is None
    assert nested(second, "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_FORWARD_DELAY") == 0
    assert nested(second, "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_MCAST_SNOOPING") == 0


def test_create_veth_with_its_peer_in_another_namespace() -> None:
    far = bytes.fromhex("0a0000000001")
    message = decoded(nl.create_veth("npv0", MAC, 1450, 12, nl.VethPeer("svc0", far, 33)))
    assert message.get_attr("IFLA_IFNAME") == "npv0"
    assert message.get_attr("IFLA_MTU") == 1450
    assert message.get_attr("IFLA_MASTER") == 12
    assert message.get_attr("IFLA_NUM_TX_QUEUES") == 1
    assert nested(message, "IFLA_LINKINFO", "IFLA_INFO_KIND") == "veth"
    peer = nested(message, "IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "svc0"
    assert peer.get_attr("IFLA_ADDRESS") == far.hex(":")
    assert peer.get_attr("IFLA_MTU") == 1450
    assert peer.get_attr("IFLA_NET_NS_FD") == 33


def test_set_link_sends_only_what_was_asked() -> None:
    message = decoded(nl.set_link(5))
    assert (message["index"], message["flags"], message["change"], message["attrs"]) == (5, 0, 0, [])


@pytest.mark.parametrize("up", [True, False])
def test_set_link_state(up: bool) -> None:
    message = decoded(nl.set_link(5, up=up))
    assert message["change"] == nl.IFF_UP
    assert bool(message["flags"] & nl.IFF_UP) is up


def test_set_link_everything() -> None:
    request = nl.set_link(
        5,
        master=0,
        mtu=9000,
        address=MAC,
        alias="nodeplane:blue",
        group=77,
        addr_gen_none=True,
        ipv4={nl.IPV4_RP_FILTER: 1, nl.IPV4_ARP_IGNORE: 8},
    )
    message = decoded(request)
    assert message.get_attr("IFLA_MASTER") == 0
    assert message.get_attr("IFLA_MTU") == 9000
    assert message.get_attr("IFLA_ADDRESS") == MAC_TEXT
    assert message.get_attr("IFLA_IFALIAS") == "nodeplane:blue"
    assert message.get_attr("IFLA_GROUP") == 77
    assert nested(message, "IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_ADDR_GEN_MODE") == 1
    # pyroute2 reads IPv4 settings as the kernel sends them (an array); a request has one attribute for each.
    conf = nl.attribute(nl.IPV4_RP_FILTER, nl.U32.pack(1)) + nl.attribute(nl.IPV4_ARP_IGNORE, nl.U32.pack(8))
    assert conf in request.body


def test_set_bridge_port() -> None:
    message = decoded(nl.set_bridge_port(5, 4790))
    assert nested(message, "IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND") == "bridge"
    assert nested(message, "IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA", "IFLA_BRPORT_COST") == 4790


def test_deletes() -> None:
    assert decoded(nl.delete_link(44))["index"] == 44
    group = decoded(nl.delete_group(123))
    assert group["index"] == 0
    assert group.get_attr("IFLA_GROUP") == 123


def test_questions() -> None:
    one = decoded(nl.get_link("npb0"))
    assert one.get_attr("IFLA_IFNAME") == "npb0"
    assert one.get_attr("IFLA_EXT_MASK") == nl.RTEXT_FILTER_SKIP_STATS
    assert decoded(nl.dump_links(master=3)).get_attr("IFLA_MASTER") == 3
    assert decoded(nl.dump_links()).get_attr("IFLA_MASTER") is None


@pytest.mark.parametrize(
    ("interface", "family", "address", "length"),
    [
        ("169.254.169.254/32", nl.AF_INET, "169.254.169.254", 32),
        ("10.0.0.2/24", nl.AF_INET, "10.0.0.2", 24),
        ("fe80::a9fe:a9fe/128", nl.AF_INET6, "fe80::a9fe:a9fe", 128),
    ],
)
def test_addresses(interface: str, family: int, address: str, length: int) -> None:
    for request in (nl.add_address(100, interface), nl.delete_address(100, interface)):
        message = decoded(request, ifaddrmsg)
        assert (message["family"], message["prefixlen"], message["index"]) == (family, length, 100)
        assert message.get_attr("IFA_ADDRESS") == message.get_attr("IFA_LOCAL") == address


def test_routes() -> None:
    for request in (
        nl.add_route(100, "0.0.0.0/0", "169.254.169.254"),
        nl.delete_route(100, "0.0.0.0/0", "169.254.169.254"),
    ):
        message = decoded(request, rtmsg)
        assert (message["dst_len"], message["table"], message["scope"], message["type"]) == (0, 254, 253, 1)
        assert message.get_attr("RTA_DST") is None
        assert message.get_attr("RTA_OIF") == 100
        assert message.get_attr("RTA_PREFSRC") == "169.254.169.254"
    prefix = decoded(nl.add_route(4, "10.1.0.0/16", "10.0.0.2"), rtmsg)
    assert (prefix["dst_len"], prefix.get_attr("RTA_DST")) == (16, "10.1.0.0")


def test_a_batch_is_numbered_and_asks_once_for_an_acknowledgement() -> None:
    data = nl.encode([nl.delete_link(1), nl.get_link("abc"), nl.delete_link(2)], 40)
    at, seen = 0, []
    while at < len(data):
        length, kind, flags, sequence, _ = nl.HEADER.unpack_from(data, at)
        assert length % 4 == 0
        seen.append((kind, bool(flags & nl.NLM_F_ACK), sequence))
        at += length
    assert seen == [(nl.RTM_DELLINK, False, 40), (nl.RTM_GETLINK, False, 41), (nl.RTM_DELLINK, True, 42)]
    assert nl.encode([], 1) == b""

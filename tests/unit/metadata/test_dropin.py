"""What a proxy says of its guests, and what guests say in the proxy's words."""

from __future__ import annotations

import pytest

from metadata.dropin import Forwarded, ForwardedReader, caller, link_local_mac
from metadata.settings import Settings

OVN = (b"x-ovn-network-id", b"blue")
NETWORK = (b"x-neutron-network-id", b"blue")
ROUTER = (b"x-neutron-router-id", b"r-1")


@pytest.mark.parametrize(
    ("names", "forwarded", "expected"),
    [
        ([NETWORK], [b"10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([OVN], [b"10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([ROUTER], [b"10.0.0.5"], Forwarded("", None, "10.0.0.5", "r-1")),
        ([NETWORK], [b"10.0.0.6", b"10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([NETWORK], [b"10.0.0.6, 10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([NETWORK], [b"nonsense", b"10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([NETWORK], [b"::ffff:10.0.0.5"], Forwarded("blue", None, "10.0.0.5")),
        ([NETWORK], [b"2001:DB8:0::5"], Forwarded("blue", None, "2001:db8::5")),
        ([NETWORK], [b"fe80::ff:fe00:5"], Forwarded("blue", "02:00:00:00:00:05", "fe80::ff:fe00:5")),
        ([NETWORK], [b"fe80::ff:fe00:5%eth0"], Forwarded("blue", "02:00:00:00:00:05", "fe80::ff:fe00:5")),
        ([NETWORK], [b"fe80::1"], Forwarded("blue", None, "fe80::1")),
        ([(NETWORK[0], b" blue ")], [b" 10.0.0.5 "], Forwarded("blue", None, "10.0.0.5")),
        # nobody, or more than one
        ([], [b"10.0.0.5"], "forwarded_network"),
        ([NETWORK, ROUTER], [b"10.0.0.5"], "forwarded_network"),
        ([NETWORK, OVN], [b"10.0.0.5"], "forwarded_network"),
        ([OVN, OVN], [b"10.0.0.5"], "forwarded_network"),
        ([(OVN[0], b"green, blue")], [b"10.0.0.5"], "forwarded_network"),
        ([(OVN[0], b"")], [b"10.0.0.5"], "forwarded_network"),
        ([(OVN[0], b"../x")], [b"10.0.0.5"], "forwarded_network"),
        ([(OVN[0], b"x" * 65)], [b"10.0.0.5"], "forwarded_network"),
        ([NETWORK], [], "forwarded_address"),
        ([NETWORK], [b""], "forwarded_address"),
        ([NETWORK], [b"10.0.0.5", b""], "forwarded_address"),
        ([NETWORK], [b"10.0.0.5", b"unknown"], "forwarded_address"),
        ([NETWORK], [b"10.0.0.5:80"], "forwarded_address"),
        ([NETWORK], ["\uff11.0.0.5".encode()], "forwarded_address"),
    ],
)
def test_caller(names: list[tuple[bytes, bytes]], forwarded: list[bytes], expected: Forwarded | str) -> None:
    assert caller(names, forwarded) == expected


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("fe80::5054:ff:fe12:3456", "52:54:00:12:34:56"),
        ("fe80::5054:ff:fe12:3456:1", None),
        ("fe80:1::5054:ff:fe12:3456", None),
        ("2001:db8::5054:ff:fe12:3456", None),
        ("fe80::a9fe:a9fe", None),
        ("10.0.0.5", None),
    ],
)
def test_link_local_mac(address: str, mac: str | None) -> None:
    assert link_local_mac(address) == mac


def reader(*lines: str, body: str = "", method: str = "GET") -> ForwardedReader:
    made = ForwardedReader(Settings())
    made.feed("\r\n".join((f"{method} /latest HTTP/1.1", *lines, "", body)).encode())
    return made


HAPROXY = ("X-OVN-Network-ID: blue", "X-Forwarded-For: 10.0.0.5")


def test_a_request_has_its_caller() -> None:
    found = reader("Host: x", *HAPROXY)
    assert found.refusal is None
    assert [request.target for request in found.requests] == [b"/latest"]
    assert list(found.callers) == [Forwarded("blue", None, "10.0.0.5")]
    assert "x-forwarded-for" not in found.requests[0].headers


def test_every_request_has_its_own_caller() -> None:
    found = reader(*HAPROXY)
    found.feed(b"GET /b HTTP/1.1\r\nx-neutron-router-ID: r\r\nX-Forwarded-For: 10.0.0.6\r\n\r\n")
    assert list(found.callers) == [Forwarded("blue", None, "10.0.0.5"), Forwarded("", None, "10.0.0.6", "r")]
    assert [request.target for request in found.requests] == [b"/latest", b"/b"]


def test_what_the_guest_forwarded_is_left_in_the_request() -> None:
    assert reader("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2, 3.3.3.3", *HAPROXY).requests[0].headers == {
        "x-forwarded-for": "1.1.1.1, 2.2.2.2, 3.3.3.3"
    }


@pytest.mark.parametrize(
    "line",
    [
        "X-OVN-Network-ID: green",
        "x-ovn-network-id: blue",
        "X-Neutron-Network-ID: green",
        "X-Neutron-Router-ID: r-2",
    ],
)
def test_a_guest_that_names_a_network_gets_nothing(line: str) -> None:
    for lines in ((line, *HAPROXY), (*HAPROXY, line)):
        found = reader(*lines)
        assert found.refusal == "forwarded_network"
        assert not found.requests
        assert not found.callers


def test_names_that_only_look_like_it_are_nothing() -> None:
    found = reader("X_OVN_Network_ID: green", "X-OVN-Router-ID: r", "X-OVN-Network-ID-: green", *HAPROXY)
    assert list(found.callers) == [Forwarded("blue", None, "10.0.0.5")]


@pytest.mark.parametrize(
    "trailer", ["X-Forwarded-For: 10.0.0.6", "X-OVN-Network-ID: green", "X-Neutron-Network-ID: green"]
)
def test_trailers_say_nothing(trailer: str) -> None:
    body = f"1\r\nx\r\n0\r\n{trailer}\r\n\r\n"
    found = reader("Transfer-Encoding: chunked", *HAPROXY, body=body, method="POST")
    assert list(found.callers) == [Forwarded("blue", None, "10.0.0.5")]
    assert len(found.requests) == 1
    bare = reader("Transfer-Encoding: chunked", HAPROXY[1], body=body, method="POST")
    assert bare.refusal == "forwarded_network"


def test_ordinary_rules_hold() -> None:
    assert reader("Host: a", "Host: b", *HAPROXY).refusal == "hosts"
    assert reader(*HAPROXY, *(f"X-{n}: 1" for n in range(70))).refusal == "headers_too_large"

from __future__ import annotations

import pytest
from scapy.layers.dhcp import DHCP

from dataplane.dhcp.options import PortOption, code_of, encode, encode_name, from_extra
from dataplane.model import ExtraDhcpOpt


def option(name: str, value: str | None = "x") -> PortOption:
    return from_extra(ExtraDhcpOpt(opt_name=name, opt_value=value))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bootfile-name", 67),
        ("option:bootfile-name", 67),
        ("bootfile_name", 67),
        ("67", 67),
        ("server-ip-address", 255),
        ("next_server", 255),
        ("255", 255),
        ("tftp-server", 66),
        ("tftp-server-address", 150),
        ("T1", 58),
        ("T2", 59),
        ("mtu", 26),
        ("classless-static-route", 121),
        ("ms-classless-static-route", 249),
        ("domain-search", 119),
        ("224", 224),
    ],
)
def test_names_and_numbers(name: str, code: int) -> None:
    assert code_of(name) == code


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bootfile", 'unknown option "bootfile"'),
        ("", "unknown option"),
        ("0", "1 to 255"),
        ("256", "1 to 255"),
        ("\u00b2", "unknown option"),
        ("-1", "unknown option"),
        ("option6:59", "DHCPv6"),
        *((code, "belongs to the protocol") for code in ("50", "52", "53", "54", "55", "56", "57", "80", "82")),
    ],
)
def test_names_that_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        code_of(name)


@pytest.mark.parametrize(
    ("code", "text", "data"),
    [
        (1, "255.255.0.0", b"\xff\xff\0\0"),
        (2, "-3600", b"\xff\xff\xf1\xf0"),
        (3, "10.0.0.1, 10.0.0.2", b"\x0a\0\0\1\x0a\0\0\2"),
        (6, "10.0.0.1 10.0.0.2", b"\x0a\0\0\1\x0a\0\0\2"),
        (12, "web-1", b"web-1"),
        (19, "true", b"\1"),
        (19, "0", b"\0"),
        (23, "64", b"\x40"),
        (23, "0x40", b"\x40"),
        (26, "1400", b"\x05\x78"),
        (33, "10.1.0.0,10.0.0.1", b"\x0a\1\0\0\x0a\0\0\1"),
        (43, "01:04:0a:00:00:01", b"\1\4\x0a\0\0\1"),
        (43, "text", b"text"),
        (51, "1h", b"\0\0\x0e\x10"),
        (51, "3600", b"\0\0\x0e\x10"),
        (51, "infinite", b"\xff\xff\xff\xff"),
        (51, "-1", b"\xff\xff\xff\xff"),
        (58, "2m", b"\0\0\0\x78"),
        (61, "ff:00:01", b"\xff\0\1"),
        (67, "pxelinux.0", b"pxelinux.0"),
        (108, "1800", b"\0\0\7\x08"),
        (114, "https://portal.example/api", b"https://portal.example/api"),
        (119, "a.example,b.example.", b"\1a\7example\0\1b\7example\0"),
        (120, "10.0.0.9", b"\1\x0a\0\0\x09"),
        (120, "sip.example", b"\0\3sip\7example\0"),
        (121, "10.0.0.0/8,10.0.0.1", b"\x08\x0a\x0a\0\0\1"),
        (121, "0.0.0.0/0,10.0.0.1,169.254.169.254/32,0.0.0.0", b"\0\x0a\0\0\1\x20\xa9\xfe\xa9\xfe\0\0\0\0"),
        (255, "10.0.0.7", b"\x0a\0\0\7"),
        # Numbers without a type: as dnsmasq guesses.
        (224, "10.0.0.7,10.0.0.8", b"\x0a\0\0\7\x0a\0\0\x08"),
        (224, "7", b"\7"),
        (224, "700", b"\2\xbc"),
        (224, "70000", b"\0\1\x11\x70"),
        (224, "aa:bb", b"\xaa\xbb"),
        (224, "aa-bb", b"aa-bb"),
        (224, "99999999999", b"99999999999"),
    ],
)
def test_values(code: int, text: str, data: bytes) -> None:
    assert encode(code, text) == data


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("router", 3, "10.0.0.1"),
        ("lease_time", 51, "7200"),
        ("interface-mtu", 26, "1442"),
        ("NTP_server", 42, "10.0.0.9"),
        ("tftp_server_name", 66, "boot.example"),
        ("boot-file-name", 67, "undionly.kpxe"),
    ],
)
def test_values_against_scapy(name: str, code: int, text: str) -> None:
    data = encode(code, text)
    assert data is not None
    (found, value), _ = DHCP(bytes((code, len(data))) + data + b"\xff").options
    assert found == name
    assert (value.decode() if isinstance(value, bytes) else str(value)) == text


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (1, "10.0.0.1,10.0.0.2", "not an IPv4 address"),
        (3, "10.0.0.256", "not an IPv4 address"),
        (3, "2001:db8::1", "not an IPv4 address"),
        (3, ",", "holds nothing"),
        (6, "dns.example", "not an IPv4 address"),
        (19, "2", "0 or 1"),
        (23, "256", "0 to 255"),
        (23, "-1", "0 to 255"),
        (2, "4294967295", "to 2147483647"),
        (26, "big", "not a number"),
        (33, "10.0.0.1", "pairs"),
        (51, "0", "1 to"),
        (51, "1y", "not a time"),
        (51, "\u00b2", "not a time"),
        (51, "99999999w", "1 to"),
        (119, "a..b", "not a domain name"),
        (119, "x" * 64 + ".example", "not a domain name"),
        (119, "b\u00fccher.example", "not a domain name"),
        (121, "10.0.0.0/8", "pairs"),
        (121, "10.0.0.0/33,10.0.0.1", "not a route"),
        (121, "10.0.0.0/8,gateway", "not a route"),
        (12, "", "blank"),
        (12, None, "blank"),
        (67, "  ", "blank"),
        (67, "\u00fc" * 128, "256 bytes"),
    ],
)
def test_values_that_are_refused(code: int, text: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode(code, text)


@pytest.mark.parametrize("name", ["router", "classless-static-route"])
@pytest.mark.parametrize("value", ["", None])
def test_a_blank_value_takes_away(name: str, value: str | None) -> None:
    assert option(name, value).value is None


@pytest.mark.parametrize(
    ("name", "code", "ipxe", "applies"),
    [
        ("tag:ipxe,67", 67, True, True),
        ("tag:!ipxe,67", 67, False, True),
        ("tag:!ipxe,bootfile-name", 67, False, True),
        ("tag:ipxe,option:bootfile-name", 67, True, True),
        ("tag:ipxe, tag:!other, 67", 67, True, True),
        ("tag:efi-x86_64,67", 67, None, False),
        ("tag:ipxe,tag:!ipxe,67", 67, False, False),
        ("bootfile-name-alt", 67, True, True),
        ("67", 67, None, True),
    ],
)
def test_tags(name: str, code: int, ipxe: bool | None, applies: bool) -> None:
    found = option(name)
    assert (found.code, found.ipxe, found.applies) == (code, ipxe, applies)


@pytest.mark.parametrize("name", ["tag:ipxe", "tag:,67", "tag:!,67"])
def test_broken_tags(name: str) -> None:
    with pytest.raises(ValueError, match="tag"):
        option(name)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("x" * 65, "x", "64 characters"),
        ("12", "x" * 256, "255 characters"),
        # CVE-2021-40085, LP 1939733 and 1943930: a newline in either rewrote dnsmasq's configuration.
        ("12", "web\ntag:evil,3,6.6.6.6", "control characters"),
        ("12\n", "x", None),
        ("1\n2", "x", "control characters"),
        ("12", "x\x00", "control characters"),
        ("12", "x\x7f", "control characters"),
        ("12", "x\x85", "control characters"),
        ("12", "x\u2028", "control characters"),
    ],
)
def test_text_that_is_refused(name: str, value: str, reason: str | None) -> None:
    if reason is None:  # white space around a name is only white space
        assert option(name, value).code == 12
        return
    with pytest.raises(ValueError, match=reason):
        option(name, value)


def test_a_domain_name_of_more_than_255_bytes() -> None:
    with pytest.raises(ValueError, match="255"):
        encode_name(".".join(["x" * 60] * 5))

"""The DHCPv4 options that an operator may set: dnsmasq's name, the number and the type of each.

Names are those of `dnsmasq --help dhcp`, plus the ones that Neutron's ML2/OVN driver accepts. RFC 2132 where nothing
else is said.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from dataplane.dhcp import constants as c

Kind = Literal[
    "address",  # one IPv4 address
    "addresses",  # one or more
    "address-pairs",  # one or more pairs, e.g. destination and router
    "bytes",  # hexadecimal with colons, else the text itself
    "flag",  # 0 or 1, in one byte
    "i32",
    "names",  # domain names in DNS wire format (RFC 3397)
    "routes",  # destination,gateway pairs (RFC 3442)
    "seconds",  # 32 bits; suffixes s m h d w, and "infinite"
    "sip",  # addresses or names (RFC 3361)
    "text",
    "u8",
    "u16",
    "u32",
]


class OptionType(NamedTuple):
    """One settable option."""

    code: int
    names: tuple[str, ...]
    """Lower case; the first is dnsmasq's, if it has one."""
    kind: Kind


OPTIONS: Final = (
    OptionType(1, ("netmask",), "address"),
    OptionType(2, ("time-offset",), "i32"),
    OptionType(3, ("router",), "addresses"),
    OptionType(4, ("time-server",), "addresses"),
    OptionType(6, ("dns-server",), "addresses"),
    OptionType(7, ("log-server",), "addresses"),
    OptionType(9, ("lpr-server",), "addresses"),
    OptionType(12, ("hostname",), "text"),
    OptionType(13, ("boot-file-size",), "u16"),
    OptionType(15, ("domain-name",), "text"),
    OptionType(16, ("swap-server",), "address"),
    OptionType(17, ("root-path",), "text"),
    OptionType(18, ("extension-path",), "text"),
    OptionType(19, ("ip-forward-enable",), "flag"),
    OptionType(20, ("non-local-source-routing",), "flag"),
    OptionType(21, ("policy-filter",), "address-pairs"),
    OptionType(22, ("max-datagram-reassembly",), "u16"),
    OptionType(23, ("default-ttl",), "u8"),
    OptionType(26, ("mtu",), "u16"),
    OptionType(27, ("all-subnets-local",), "flag"),
    OptionType(28, ("broadcast", "broadcast-address"), "address"),
    OptionType(31, ("router-discovery",), "flag"),
    OptionType(32, ("router-solicitation",), "address"),
    OptionType(33, ("static-route",), "address-pairs"),
    OptionType(34, ("trailer-encapsulation",), "flag"),
    OptionType(35, ("arp-timeout",), "u32"),
    OptionType(36, ("ethernet-encap",), "flag"),
    OptionType(37, ("tcp-ttl",), "u8"),
    OptionType(38, ("tcp-keepalive", "tcp-keepalive-interval"), "u32"),
    OptionType(40, ("nis-domain",), "text"),
    OptionType(41, ("nis-server",), "addresses"),
    OptionType(42, ("ntp-server",), "addresses"),
    OptionType(43, ("vendor-encap",), "bytes"),
    OptionType(44, ("netbios-ns",), "addresses"),
    OptionType(45, ("netbios-dd",), "addresses"),
    OptionType(46, ("netbios-nodetype",), "u8"),
    OptionType(47, ("netbios-scope",), "text"),
    OptionType(48, ("x-windows-fs",), "addresses"),
    OptionType(49, ("x-windows-dm",), "addresses"),
    OptionType(51, ("lease-time",), "seconds"),
    OptionType(58, ("t1",), "seconds"),
    OptionType(59, ("t2",), "seconds"),
    OptionType(60, ("vendor-class",), "bytes"),
    OptionType(61, ("client-id",), "bytes"),
    OptionType(64, ("nis+-domain",), "text"),
    OptionType(65, ("nis+-server",), "addresses"),
    OptionType(66, ("tftp-server",), "text"),
    OptionType(67, ("bootfile-name",), "text"),
    OptionType(68, ("mobile-ip-home",), "addresses"),
    OptionType(69, ("smtp-server",), "addresses"),
    OptionType(70, ("pop3-server",), "addresses"),
    OptionType(71, ("nntp-server",), "addresses"),
    OptionType(74, ("irc-server",), "addresses"),
    OptionType(77, ("user-class",), "bytes"),
    OptionType(100, ("posix-timezone",), "text"),  # RFC 4833
    OptionType(101, ("tzdb-timezone",), "text"),
    OptionType(108, ("ipv6-only",), "u32"),  # RFC 8925
    OptionType(114, ("captive-portal",), "text"),  # RFC 8910
    OptionType(116, ("auto-configure",), "u8"),  # RFC 2563
    OptionType(119, ("domain-search",), "names"),  # RFC 3397
    OptionType(120, ("sip-server",), "sip"),  # RFC 3361
    OptionType(121, ("classless-static-route",), "routes"),  # RFC 3442
    OptionType(125, ("vendor-id-encap",), "bytes"),  # RFC 3925
    OptionType(150, ("tftp-server-address",), "addresses"),  # RFC 5859
    OptionType(162, ("dnr",), "bytes"),  # RFC 9463
    OptionType(175, ("etherboot",), "bytes"),
    OptionType(210, ("path-prefix",), "text"),  # RFC 5071
    OptionType(249, ("ms-classless-static-route",), "routes"),
    OptionType(252, ("wpad",), "text"),
    # Not an option on the wire: the field siaddr.
    OptionType(255, ("server-ip-address", "next-server"), "address"),
)

BY_NAME: Final[dict[str, int]] = {name: option.code for option in OPTIONS for name in option.names}
KINDS: Final[dict[int, Kind]] = {option.code: option.kind for option in OPTIONS}

RESERVED: Final[frozenset[int]] = frozenset(
    {
        c.PAD,
        c.REQUESTED_ADDRESS,
        c.OVERLOAD,
        c.MESSAGE_TYPE,
        c.SERVER_ID,
        c.PARAMETER_REQUEST_LIST,
        c.MESSAGE,
        c.MAX_MESSAGE_SIZE,
        c.RAPID_COMMIT,
        c.RELAY_AGENT,
    }
)
"""The protocol's own options: setting one would break the exchange or forge the server's identity."""

BLANK_ALLOWED: Final[frozenset[int]] = frozenset({c.ROUTER, c.CLASSLESS_ROUTES, c.CLASSLESS_ROUTES_MICROSOFT})
"""A blank value takes the option away (Neutron: only `router` and `classless-static-route`)."""

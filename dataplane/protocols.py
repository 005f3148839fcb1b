"""IP protocols by the names that the Neutron API takes, with IANA's numbers."""

from __future__ import annotations

from typing import Final

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

NUMBERS: Final[dict[str, int]] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": ICMPV6,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": TCP,
    "udp": UDP,
    "udplite": 136,
    "vrrp": 112,
}
NAMES: Final[dict[int, str]] = {number: name for name, number in NUMBERS.items() if name not in ("icmpv6", "ip")}
"""One name of each number."""
WITH_PORTS: Final = frozenset({TCP, UDP, NUMBERS["dccp"], NUMBERS["sctp"], NUMBERS["udplite"]})
"""Those whose first four octets are source and destination port."""
ICMPS: Final = frozenset({ICMP, ICMPV6})
IPV6_ONLY: Final = frozenset(number for name, number in NUMBERS.items() if name.startswith("ipv6-"))
"""Those that the Neutron API refuses in a rule for IPv4."""
_ANY: Final = "any"


def canonical(text: str, version: int) -> str | None:
    """A protocol's name or number in canonical form, None for `any`; as in Neutron, ICMP in IPv6 is ICMPv6.

    Raises ValueError for what is no protocol.
    """
    name = text.lower()
    if name == _ANY:
        return None
    if name.isascii() and name.isdecimal() and len(name) <= 3 and int(name) <= 255:
        name = str(int(name))
    elif name not in NUMBERS:
        raise ValueError(f"{text!r} is neither the name of a protocol nor a number from 0 to 255")
    if version == 6 and name in ("icmp", "icmpv6"):
        return "ipv6-icmp"
    return str(ICMPV6) if version == 6 and name == str(ICMP) else name


def number(text: str) -> int:
    """The number of a protocol in canonical form."""
    return NUMBERS[text] if text in NUMBERS else int(text)

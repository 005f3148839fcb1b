"""Classification rules: what a rule may ask of a packet, and the keys that rules are matched against."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

ANY_PORTS: Final = (0, 0xFFFF)
INGRESS: Final = 0
EGRESS: Final = 1
PRIORITIES: Final = 1 << 24
ZONES: Final = 1 << 15
"""Zones are numbers below this; with the direction they fill 16 bits."""


class RuleError(ValueError):
    """A rule says something that no packet can have; `field` names it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a packet must have to match; what is left out matches everything. Raises RuleError.

    A rule without addresses matches both IP versions, unless `version` says one. Ports are compared as the packet's
    key has them: that of a packet without ports has 0 in both, that of an ICMP packet type * 256 + code in
    `source_ports` (see `icmp`). Of a later fragment the ports are not known: it matches no rule that names a protocol
    and asks for ports, while a rule that asks for ports of any protocol sees zeros.
    """

    priority: int = 0
    """0 to 16777215; of several rules that match, the one with the highest wins, and the oldest of those."""
    source: IPv4Network | IPv6Network | None = None
    destination: IPv4Network | IPv6Network | None = None
    protocol: int | None = None
    """0 to 255."""
    source_ports: tuple[int, int] = ANY_PORTS
    """First and last, both included."""
    destination_ports: tuple[int, int] = ANY_PORTS
    tcp_flags: tuple[int, int] = (0, 0)
    """Value and mask over the 8 bits of the flags octet (RFC 9293 section 3.1); needs `protocol` 6. Of a packet that
    does not show them (a later fragment, a segment whose header is cut) all count as clear."""
    dscp: int | None = None
    """0 to 63."""
    zone: int | None = None
    """0 to 32767: a port, a network or a policy, as the caller numbers them."""
    direction: Literal[0, 1] | None = None
    """INGRESS or EGRESS."""
    version: Literal[4, 6] | None = None

    def __post_init__(self) -> None:
        """Check every field, and give equal rules one form: no /0, and the version always said where it is known."""
        if self.version not in (None, 4, 6):
            raise RuleError("version", f"{self.version} is not 4 or 6")
        versions = {net.version for net in (self.source, self.destination) if net is not None}
        if len(versions | ({self.version} - {None})) > 1:
            raise RuleError("destination", "source, destination and version must be of one IP version")
        if versions:
            object.__setattr__(self, "version", versions.pop())
        for field in ("source", "destination"):
            net = getattr(self, field)
            if net is not None and net.prefixlen == 0:
                object.__setattr__(self, field, None)
        for field, value, top in (("priority", self.priority, PRIORITIES - 1), ("protocol", self.protocol, 255),
                                  ("dscp", self.dscp, 63), ("zone", self.zone, ZONES - 1),
                                  ("direction", self.direction, 1)):  # fmt: skip
            if value is not None and not 0 <= value <= top:
                raise RuleError(field, f"{value} is not 0 to {top}")
        for field, (low, high) in (("source_ports", self.source_ports), ("destination_ports", self.destination_ports)):
            if not 0 <= low <= high <= 0xFFFF:
                raise RuleError(field, f"{low} to {high} is no range of ports")
        value, mask = self.tcp_flags
        if not (0 <= mask <= 0xFF and 0 <= value <= 0xFF and value & ~mask == 0):
            raise RuleError("tcp_flags", f"value {value:#x} has bits outside the mask {mask:#x}")
        if mask and self.protocol != 6:
            raise RuleError("tcp_flags", "only TCP (protocol 6) has flags")

    @property
    def versions(self) -> tuple[Literal[4, 6], ...]:
        """The IP versions it can match."""
        return (4, 6) if self.version is None else (self.version,)

    @property
    def asks_for_ports(self) -> bool:
        """Whether it cannot match a packet whose ports are not known."""
        return self.protocol is not None and (self.source_ports, self.destination_ports) != (ANY_PORTS, ANY_PORTS)

    @property
    def asks_for_more(self) -> bool:
        """Whether it asks for something that is not in a key: TCP flags or DSCP."""
        return self.tcp_flags[1] != 0 or self.dscp is not None


@dataclass(frozen=True, slots=True)
class Header:
    """What rules are matched against, of one packet. Addresses and ports are integers."""

    version: Literal[4, 6]
    source: int
    destination: int
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    zone: int = 0
    direction: int = INGRESS
    tcp_flags: int = 0
    dscp: int = 0
    ports_known: bool = True


def icmp(kind: int | None = None, code: int | None = None) -> tuple[int, int]:
    """Return `source_ports` for an ICMP type and code; None is any. Raises RuleError for a code without a type."""
    if kind is None:
        if code is not None:
            raise RuleError("code", "an ICMP code needs a type")
        return ANY_PORTS
    if not 0 <= kind <= 255 or (code is not None and not 0 <= code <= 255):
        raise RuleError("kind" if not 0 <= kind <= 255 else "code", "is not 0 to 255")
    return (kind << 8, kind << 8 | 0xFF) if code is None else (kind << 8 | code, kind << 8 | code)


def matches(rule: Rule, header: Header) -> bool:
    """Whether a packet with this header matches: the definition that every engine is tested against."""
    if header.version not in rule.versions:
        return False
    for net, address in ((rule.source, header.source), (rule.destination, header.destination)):
        if net is not None and address & int(net.netmask) != int(net.network_address):
            return False
    if rule.protocol not in (None, header.protocol):
        return False
    if rule.asks_for_ports and not header.ports_known:
        return False
    value, mask = rule.tcp_flags
    return (
        rule.source_ports[0] <= header.source_port <= rule.source_ports[1]
        and rule.destination_ports[0] <= header.destination_port <= rule.destination_ports[1]
        and rule.zone in (None, header.zone)
        and rule.direction in (None, header.direction)
        and header.tcp_flags & mask == value
        and rule.dscp in (None, header.dscp)
    )


def first_match(rules: Iterable[tuple[int, Rule]], header: Header) -> int:
    """Return the id of the rule that wins, of (id, rule) in order of insertion; -1 if none matches."""
    best, winner = -1, -1
    for number, rule in rules:
        if rule.priority > best and matches(rule, header):
            best, winner = rule.priority, number
    return winner


PACKED: Final = struct.Struct("<16s16sI5H10B")
"""A rule as bytes, see `pack`."""
KEY4: Final = struct.Struct("<IIHHHH")
KEY6: Final = struct.Struct("<8IHHHH24x")
_EITHER: Final = 2
_ANY_ZONE: Final = 0xFFFF
_VERSIONS: Final = {4: 1, 6: 2, None: 3}


def pack(rules: Iterable[Rule]) -> bytes:
    """Return rules as records of 56 bytes, the form in which a rule set takes very many at once.

    Little-endian: source, destination (16 bytes each, network order, IPv4 in the first 4); priority (u32); first and
    last source port, first and last destination port, zone or 0xffff for any (u16); then bytes: prefix lengths of
    source and destination, IP versions (1 IPv4, 2 IPv6, 3 both), direction or 2 for any, protocol, whether it counts,
    TCP flags' value and mask, DSCP, whether it counts.
    """
    return b"".join(map(_packed, rules))


def _packed(rule: Rule) -> bytes:
    source, destination, zone, direction = rule.source, rule.destination, rule.zone, rule.direction
    return PACKED.pack(
        b"" if source is None else source.network_address.packed,
        b"" if destination is None else destination.network_address.packed,
        rule.priority,
        *rule.source_ports,
        *rule.destination_ports,
        _ANY_ZONE if zone is None else zone,
        0 if source is None else source.prefixlen,
        0 if destination is None else destination.prefixlen,
        _VERSIONS[rule.version],
        _EITHER if direction is None else direction,
        rule.protocol or 0,
        rule.protocol is not None,
        *rule.tcp_flags,
        rule.dscp or 0,
        rule.dscp is not None,
    )


def unpack(data: bytes) -> list[Rule]:
    """Return the rules of `pack`. Raises RuleError for bytes that are none."""
    if len(data) % PACKED.size:
        raise RuleError("data", f"{len(data)} bytes are no whole number of records of {PACKED.size}")
    return [_unpacked(record) for record in PACKED.iter_unpack(data)]


def _unpacked(record: tuple[bytes, bytes, *tuple[int, ...]]) -> Rule:
    source, destination, *rest = record
    (
        priority,
        sport,
        sport2,
        dport,
        dport2,
        zone,
        slen,
        dlen,
        versions,
        direction,
        protocol,
        counts,
        value,
        mask,
        dscp,
        marked,
    ) = rest
    return Rule(
        priority=priority,
        source=_net(source, slen, versions),
        destination=_net(destination, dlen, versions),
        source_ports=(sport, sport2),
        destination_ports=(dport, dport2),
        zone=None if zone == _ANY_ZONE else zone,
        direction=None if direction == _EITHER else direction,  # type: ignore[arg-type]
        protocol=protocol if counts else None,
        tcp_flags=(value, mask),
        dscp=dscp if marked else None,
        version={1: 4, 2: 6, 3: None}.get(versions),
    )


def _net(packed: bytes, length: int, versions: int) -> IPv4Network | IPv6Network | None:
    if versions not in (1, 2, 3) or length > (0 if versions == 3 else 32 if versions == 1 else 128):
        raise RuleError("source", f"a prefix of {length} bits does not go with IP versions {versions}")
    if length == 0:
        return None
    if versions == 1:
        return IPv4Network((packed[:4], length), strict=False)
    return IPv6Network((packed, length), strict=False)


def key(header: Header) -> bytes:
    """Return the key of a packet as `lookup_keys` takes it: 16 bytes for IPv4, 64 for IPv6.

    Little-endian: the addresses as 32-bit words in host order, the leading one first; source and destination port;
    protocol * 2 + 1 if the ports are not known; zone + 32768 * direction; IPv6: zeros.
    """
    rest = (header.source_port, header.destination_port, header.protocol << 1 | (not header.ports_known),
            header.direction << 15 | header.zone)  # fmt: skip
    if header.version == 4:
        return KEY4.pack(header.source, header.destination, *rest)
    words = (
        address >> shift & 0xFFFFFFFF for address in (header.source, header.destination) for shift in (96, 64, 32, 0)
    )
    return KEY6.pack(*words, *rest)

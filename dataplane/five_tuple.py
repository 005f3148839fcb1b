"""Packets as people write them: `tcp 10.0.0.5:1234 > 10.0.0.9:80`, `icmp 10.0.0.5 > 10.0.0.9 8/0`, `gre A > B`.

A fragment but the first, which shows neither ports nor type and code, is `udp A > B fragment`.
And what the neighbours of a link say to each other: `arp 10.0.0.5 > 10.0.0.9` (sender and target), and
`icmpv6 fe80::5 > ff02::1 136/0 of 2001:db8::5` (an advertisement and its target).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from dataplane import protocols
from dataplane.fields import Address, parse_ip
from fastpath.rules import Header

SOURCE_PORT = 49152
"""Of a packet that is written without: the first dynamic one (RFC 6335 section 6)."""
_ECHO_REQUEST = {protocols.ICMP: 8, protocols.ICMPV6: 128}
_END = re.compile(r"\[(?P<v6>[^\]]*)\](?::(?P<port6>\d+))?|(?P<v4>[^:]*):(?P<port4>\d+)|(?P<bare>.*)")
_KIND = re.compile(r"(?P<kind>\d+)(?:/(?P<code>\d+))?")


def parse(text: str) -> Header:
    """The header of a packet; raises ValueError with what is wrong.

    The source port may be left out, and of ICMP type and code: then it is an echo request.
    """
    words = text.split()
    if len(words) not in (4, 5) or words[2] not in (">", "->"):
        raise ValueError(f"{text!r} is no packet such as 'tcp 10.0.0.5:1234 > 10.0.0.9:80' or 'icmp A > B 8/0'")
    (source, sport), (destination, dport) = _end(words[1]), _end(words[3])
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are not of one IP version")
    version: Literal[4, 6] = 4 if source.version == 4 else 6
    name = protocols.canonical(words[0], version)
    if name is None:
        raise ValueError("a packet has one protocol, not any")
    protocol = protocols.number(name)
    if words[4:] == ["fragment"]:
        if sport is not None or dport is not None:
            raise ValueError("a fragment but the first shows no ports")
        return Header(version, int(source), int(destination), protocol, ports_known=False)
    if protocol in protocols.WITH_PORTS:
        if dport is None:
            raise ValueError(f"the destination {words[3]} has no port")
        ports = (SOURCE_PORT if sport is None else sport, dport)
    elif sport is not None or dport is not None:
        raise ValueError(f"{words[0]} has no ports")
    else:
        ports = (0, 0)
    if protocol in protocols.ICMPS:
        kind, code = _kind(words[4]) if len(words) == 5 else (_ECHO_REQUEST[protocol], 0)
        ports = (kind << 8 | code, 0)
    elif len(words) == 5:
        raise ValueError(f"only ICMP has a type and a code, not {words[0]}")
    return Header(version, int(source), int(destination), protocol, *ports)


def parse_arp(text: str) -> tuple[Address, Address] | None:
    """Sender and target of an ARP message; None if the text is about another packet. Raises ValueError."""
    words = text.split()
    if not words or words[0].lower() != "arp":
        return None
    if len(words) != 4 or words[2] not in (">", "->"):
        raise ValueError(f"{text!r} is no ARP message such as 'arp 10.0.0.5 > 10.0.0.9'")
    ends = parse_ip(words[1]), parse_ip(words[3])
    if any(end.version == 6 for end in ends):
        raise ValueError("ARP is about IPv4 addresses")
    return ends


def split_target(text: str) -> tuple[str, Address | None]:
    """A packet, and the target of neighbour discovery that may stand behind it. Raises ValueError."""
    text, of, target = text.partition(" of ")
    return text, parse_ip(target.strip()) if of else None


def text_of(header: Header) -> str:
    """A packet as `parse` takes it."""
    name = protocols.NAMES.get(header.protocol, str(header.protocol))
    source, destination = addresses_of(header)
    if not header.ports_known:
        return f"{name} {source} > {destination} fragment"
    if header.protocol in protocols.WITH_PORTS:
        form = "{}:{}" if header.version == 4 else "[{}]:{}"
        return f"{name} {form.format(source, header.source_port)} > {form.format(destination, header.destination_port)}"
    kind = f" {header.source_port >> 8}/{header.source_port & 0xFF}" if header.protocol in protocols.ICMPS else ""
    return f"{name} {source} > {destination}{kind}"


def addresses_of(header: Header) -> tuple[Address, Address]:
    """Source and destination."""
    if header.version == 4:
        return IPv4Address(header.source), IPv4Address(header.destination)
    return IPv6Address(header.source), IPv6Address(header.destination)


def _end(text: str) -> tuple[Address, int | None]:
    match = _END.fullmatch(text)
    assert match is not None, "the last of the three forms takes anything"
    port = match["port4"] or match["port6"]
    if port is not None and int(port) > 65535:
        raise ValueError(f"{port} is no port")
    return parse_ip(match["v6"] or match["v4"] or match["bare"] or ""), None if port is None else int(port)


def _kind(text: str) -> tuple[int, int]:
    match = _KIND.fullmatch(text)
    kind, code = (int(match["kind"]), int(match["code"] or 0)) if match else (-1, 0)
    if not 0 <= kind <= 255 or not 0 <= code <= 255:
        raise ValueError(f"{text!r} is no ICMP type and code such as 8/0")
    return kind, code

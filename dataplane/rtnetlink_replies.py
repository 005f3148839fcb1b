"""Answers and notifications of rtnetlink, decoded into the few fields that the plan needs.

Everything comes from the kernel, but a truncated buffer must not end in an endless loop or an `IndexError`: each
length is checked, and what is left over is ignored. Integers are in native byte order.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from dataplane import rtnetlink as nl

# linux/ipv6.h, numbered from 0
_IPV6_ACCEPT_RA = 3
_IPV6_DISABLE = 26
_IPV6_ADDR_GEN_MODE = 47

_SIZES = {nl.AF_INET: 4, nl.AF_INET6: 16}
"""Bytes of an address by family."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network device as the kernel shows it."""

    index: int
    name: str
    kind: str = ""
    """`bridge`, `veth`, `tun`, ...; empty for a device without driver operations (a NIC, `lo`)."""
    up: bool = False
    mtu: int = 0
    address: bytes = b""
    """MAC, 6 bytes (empty for devices without one)."""
    alias: str = ""
    master: int = 0
    """Index of the bridge it is plugged into, 0 for none."""
    peer: int = 0
    """IFLA_LINK: for a veth, the far end's index in the far end's namespace."""
    port_cost: int = 0
    """Path cost in its bridge, 0 when it is in none."""
    plain_bridge: bool = True
    """For a bridge: no spanning tree, no forward delay, no multicast snooping."""
    rp_filter: int = 0
    """IPv4 reverse-path filter of this device."""
    ipv6_disabled: bool = True
    """True as well when the kernel has no IPv6."""
    addr_gen_none: bool = True
    """True: the kernel makes no link-local address (or has no IPv6)."""
    accept_ra: bool = False
    """Router advertisements give the device addresses and routes."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a link: `interface` is `address/prefix`."""

    index: int
    interface: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table: destination prefix, output link, preferred source (empty for none)."""

    index: int
    destination: str
    source: str


@dataclass(frozen=True, slots=True)
class LinkBrief:
    """What a notification needs: decoded up to the attributes that matter and not further."""

    index: int
    name: str
    up: bool
    mtu: int
    master: int


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Each message of a buffer: (type, flags, sequence, start of body, end of body)."""
    offset, total = 0, len(data)
    unpack, header = nl.HEADER.unpack_from, nl.HEADER.size
    while offset + header <= total:
        length, kind, flags, sequence, _port = unpack(data, offset)
        if length < header or offset + length > total:
            return
        yield kind, flags, sequence, offset + header, offset + length
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each attribute between two offsets: (type without flags, start of payload, end of payload)."""
    unpack = nl.ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & nl.NLA_TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def offsets(data: bytes, start: int, end: int, until: int = -1) -> dict[int, tuple[int, int]]:
    """Where each attribute's payload is, by type; of a repeated type the last. The type `until` ends the search.

    A whole link has about 50.
    """
    found: dict[int, tuple[int, int]] = {}
    unpack, mask = nl.ATTRIBUTE.unpack_from, nl.NLA_TYPE_MASK
    while start + 4 <= end:
        length, kind = unpack(data, start)
        stop = start + length
        if length < 4 or stop > end:
            break
        kind &= mask
        if kind == until:
            break
        found[kind] = (start + 4, stop)
        start = (stop + 3) & ~3
    return found


def error_number(data: bytes, start: int) -> int:
    """The errno of an NLMSG_ERROR body; 0 is an acknowledgement."""
    value: int = nl.I32.unpack_from(data, start)[0]
    return -value


def _u32(data: bytes, start: int) -> int:
    value: int = nl.U32.unpack_from(data, start)[0]
    return value


def _number(data: bytes, found: dict[int, tuple[int, int]], kind: int) -> int:
    return _u32(data, found[kind][0]) if kind in found else 0


def _text(data: bytes, found: dict[int, tuple[int, int]], kind: int) -> str:
    if kind not in found:
        return ""
    start, end = found[kind]
    return data[start:end].rstrip(b"\0").decode(errors="replace")


def link_family(data: bytes, start: int) -> int:
    """The address family of a link message: AF_BRIDGE messages tell of a bridge port, not of a link."""
    return data[start]


def decode_brief(data: bytes, start: int, end: int) -> LinkBrief:
    """Decode a link notification as far as the attribute IFLA_MASTER can be."""
    _family, _type, index, flags, _change = nl.IFINFO.unpack_from(data, start)
    # The kernel writes the carrier right after the master: nothing of interest follows.
    found = offsets(data, start + nl.IFINFO.size, end, until=nl.IFLA_CARRIER)
    name, mtu = _text(data, found, nl.IFLA_IFNAME), _number(data, found, nl.IFLA_MTU)
    return LinkBrief(index, name, bool(flags & nl.IFF_UP), mtu, _number(data, found, nl.IFLA_MASTER))


def decode_link(data: bytes, start: int, end: int) -> Link:
    """Decode the body of an RTM_NEWLINK message."""
    _family, _type, index, flags, _change = nl.IFINFO.unpack_from(data, start)
    found = offsets(data, start + nl.IFINFO.size, end)
    kind, plain_bridge, port_cost = "", True, 0
    if nl.IFLA_LINKINFO in found:
        kind, plain_bridge, port_cost = _link_info(data, *found[nl.IFLA_LINKINFO])
    rp_filter = 0
    ipv6_disabled = addr_gen_none = True
    accept_ra = False
    if nl.IFLA_AF_SPEC in found:
        families = offsets(data, *found[nl.IFLA_AF_SPEC])
        if nl.AF_INET in families:
            rp_filter = _setting(data, families[nl.AF_INET], nl.IFLA_INET_CONF, nl.IPV4_RP_FILTER - 1)
        if nl.AF_INET6 in families:
            ipv6 = families[nl.AF_INET6]
            ipv6_disabled = bool(_setting(data, ipv6, nl.IFLA_INET6_CONF, _IPV6_DISABLE))
            accept_ra = bool(_setting(data, ipv6, nl.IFLA_INET6_CONF, _IPV6_ACCEPT_RA))
            # The settings have it also when the attribute of its own is left out with the statistics.
            mode = _setting(data, ipv6, nl.IFLA_INET6_CONF, _IPV6_ADDR_GEN_MODE)
            addr_gen_none = mode == nl.ADDR_GEN_NONE
    address = found.get(nl.IFLA_ADDRESS)
    return Link(
        index=index,
        name=_text(data, found, nl.IFLA_IFNAME),
        kind=kind,
        up=bool(flags & nl.IFF_UP),
        mtu=_number(data, found, nl.IFLA_MTU),
        address=data[address[0] : address[1]] if address else b"",
        alias=_text(data, found, nl.IFLA_IFALIAS),
        master=_number(data, found, nl.IFLA_MASTER),
        peer=_number(data, found, nl.IFLA_LINK),
        port_cost=port_cost,
        plain_bridge=plain_bridge,
        rp_filter=rp_filter,
        ipv6_disabled=ipv6_disabled,
        addr_gen_none=addr_gen_none,
        accept_ra=accept_ra,
    )


def _setting(data: bytes, family: tuple[int, int], kind: int, position: int) -> int:
    """One number of an array attribute of an address family; 0 when the kernel is too old to have it."""
    for which, at, stop in attributes(data, *family):
        if which == kind:
            at += 4 * position
            return _u32(data, at) if at + 4 <= stop else 0
    return 0


def _link_info(data: bytes, start: int, end: int) -> tuple[str, bool, int]:
    """Kind, whether a bridge is plain, and the path cost as a bridge port."""
    found = offsets(data, start, end)
    kind, plain, cost = _text(data, found, nl.IFLA_INFO_KIND), True, 0
    if kind == "bridge" and nl.IFLA_INFO_DATA in found:
        bridge = offsets(data, *found[nl.IFLA_INFO_DATA])
        snooping = bridge.get(nl.IFLA_BR_MCAST_SNOOPING)
        timers = _number(data, bridge, nl.IFLA_BR_FORWARD_DELAY) or _number(data, bridge, nl.IFLA_BR_STP_STATE)
        plain = not timers and not (snooping and data[snooping[0]])
    if nl.IFLA_INFO_SLAVE_DATA in found and _text(data, found, nl.IFLA_INFO_SLAVE_KIND) == "bridge":
        for which, at, _ in attributes(data, *found[nl.IFLA_INFO_SLAVE_DATA]):
            if which == nl.IFLA_BRPORT_COST:
                cost = _u32(data, at)
                break
    return kind, plain, cost


def decode_address(data: bytes, start: int, end: int) -> Address | None:
    """Decode the body of an RTM_NEWADDR message; None when it is neither IPv4 nor IPv6."""
    family, prefix, _flags, _scope, index = nl.IFADDR.unpack_from(data, start)
    if family not in _SIZES:
        return None
    local = b""
    for kind, at, stop in attributes(data, start + nl.IFADDR.size, end):
        # IPv4 has its own address in IFA_LOCAL (IFA_ADDRESS may be a far end's); IPv6 has IFA_ADDRESS only.
        if kind == nl.IFA_LOCAL or (kind == nl.IFA_ADDRESS and not local):
            local = data[at:stop]
    return Address(index, f"{ipaddress.ip_address(local)}/{prefix}")


def decode_route(data: bytes, start: int, end: int) -> Route | None:
    """Decode the body of an RTM_NEWROUTE message; None when it is no unicast IP route of the main table."""
    family, length, _source, _tos, table, _protocol, _scope, kind, _flags = nl.RTMSG.unpack_from(data, start)
    if family not in _SIZES or table != nl.RT_TABLE_MAIN or kind != nl.RTN_UNICAST:
        return None
    index, destination, source = 0, bytes(_SIZES[family]), ""
    for number, at, stop in attributes(data, start + nl.RTMSG.size, end):
        if number == nl.RTA_OIF:
            index = _u32(data, at)
        elif number == nl.RTA_DST:
            destination = data[at:stop]
        elif number == nl.RTA_PREFSRC:
            source = str(ipaddress.ip_address(data[at:stop]))
    return Route(index, f"{ipaddress.ip_address(destination)}/{length}", source)

"""The outer headers of one tunnel, prepared: what both twins patch for each packet."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

_T = TypeVar("_T")
_UDP: Final = 17
_VXLAN_BYTES: Final = 16
"""UDP and VXLAN headers."""
VLAN_TYPE: Final = 0x8100
DONT_FRAGMENT: Final = 0x4000

# Bits of `Template.mode`; `_tunnels_c.pxd` has the same.
IP6: Final = 1 << 0
INHERIT_TTL: Final = 1 << 1
INHERIT_DSCP: Final = 1 << 2
COPY_ECN: Final = 1 << 3
INHERIT_DF: Final = 1 << 4
IDENTIFY: Final = 1 << 5
"""The outer datagram may be fragmented on its way, so it needs an identification."""
HASH_LABEL: Final = 1 << 6
CHECKSUM: Final = 1 << 7
TRUST_INNER: Final = 1 << 8

TTL_WITHOUT_IP: Final = 64
"""What an inherited TTL is for a frame that carries no IP."""


class Template(NamedTuple):
    """One tunnel's outer headers and what to do with them."""

    header: bytes
    """All outer headers; lengths, identification, checksums and source port are zero."""
    mode: int
    """Bits above."""
    ip_at: int
    """Where the outer IP header begins, bytes."""
    most: int
    """The longest inner frame, bytes."""
    ip_sum: int
    """The sum of the IPv4 header's words as they are in `header`; 0 for IPv6."""
    udp_sum: int
    """The sum of addresses, protocol, destination port and VXLAN header: the UDP checksum's constant part."""
    vni: int


def template(
    *,
    vni: int,
    source: str | bytes,
    destination: str | bytes,
    source_mac: str | bytes,
    destination_mac: str | bytes,
    port: int = 4789,
    ttl: int | str = 64,
    dscp: int | str = 0,
    ecn: str = "copy",
    df: bool | str = True,
    checksum: str = "zero",
    vlan: int | None = None,
    mtu: int | None = None,
    flow_label: int | str = "hash",
    gbp: int | None = None,
) -> Template:
    """Return the prepared headers; the arguments are those of `fastpath.vxlan.Tunnels.add`, which describes them."""
    check("vni", vni, 0, 0xFFFFFF)
    check("port", port, 1, 0xFFFF)
    from_ip, to_ip = address("source", source), address("destination", destination)
    if len(from_ip) != len(to_ip):
        raise ValueError("source and destination: one is IPv4, the other IPv6")
    six = len(from_ip) == 16
    mode = (
        (IP6 if six else 0)
        | _one_of("ecn", ecn, {"copy": COPY_ECN, "compatible": 0})
        | _one_of("checksum", checksum, {"zero": 0, "full": CHECKSUM, "local": CHECKSUM | TRUST_INNER})
    )
    mode |= INHERIT_TTL if ttl == "inherit" else 0
    mode |= INHERIT_DSCP if dscp == "inherit" else 0
    hops = 0 if ttl == "inherit" else check("ttl", ttl, 1, 255)
    traffic = 0 if dscp == "inherit" else check("dscp", dscp, 0, 63) << 2
    fragment = 0
    if not six:
        if df == "inherit":
            mode |= INHERIT_DF
        elif not isinstance(df, bool):
            raise ValueError(f"df is True, False or 'inherit', not {df!r}")
        elif df:
            fragment = DONT_FRAGMENT
        else:
            mode |= IDENTIFY
    label = 0
    if flow_label != "hash":
        label = check("flow_label", flow_label, 0, 0xFFFFF)
    elif six:
        mode |= HASH_LABEL
    most = 0xFFFF - _VXLAN_BYTES if six else 0xFFFF - 20 - _VXLAN_BYTES
    if mtu is not None:
        check("mtu", mtu, 1280 if six else 68, 1 << 20)
        most = min(most, mtu - (40 if six else 20) - _VXLAN_BYTES)
    ethernet = mac("destination_mac", destination_mac) + mac("source_mac", source_mac)
    if vlan is not None:
        ethernet += struct.pack("!HH", VLAN_TYPE, check("vlan", vlan, 1, 4094))
    ethernet += struct.pack("!H", 0x86DD if six else 0x0800)
    if six:
        ip = struct.pack("!IHBB", 6 << 28 | traffic << 20 | label, 0, _UDP, hops) + from_ip + to_ip
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, traffic, 0, 0, fragment, hops, _UDP, 0) + from_ip + to_ip
    vxlan = struct.pack("!II", 8 << 24, vni << 8)
    if gbp is not None:
        vxlan = struct.pack("!II", 0x88 << 24 | check("gbp", gbp, 0, 0xFFFF), vni << 8)
    return Template(
        header=ethernet + ip + struct.pack("!HHHH", 0, port, 0, 0) + vxlan,
        mode=mode,
        ip_at=len(ethernet),
        most=most,
        ip_sum=0 if six else _words(ip),
        udp_sum=_words(from_ip) + _words(to_ip) + _UDP + port + _words(vxlan),
        vni=vni,
    )


def check(name: str, value: object, least: int, most: int) -> int:
    """Return `value` if it is an integer in range; ValueError naming it otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value!r}")
    return value


def address(name: str, value: str | bytes) -> bytes:
    """Return an address in network order, 4 or 16 bytes; ValueError naming it otherwise."""
    return _parsed(name, value, lambda given: ipaddress.ip_address(given).packed)


def mac(name: str, value: str | bytes) -> bytes:
    """Return a MAC address, 6 bytes; ValueError naming it otherwise."""

    def parse(given: str | bytes) -> bytes:
        found = bytes.fromhex(given.replace(":", "")) if isinstance(given, str) else bytes(given)
        if len(found) != 6:
            raise ValueError("a MAC address has 6 bytes")
        return found

    return _parsed(name, value, parse)


def _parsed(name: str, value: str | bytes, parse: Callable[[str | bytes], _T]) -> _T:
    try:
        if not isinstance(value, str | bytes):
            raise ValueError("text or bytes are expected")
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _one_of(name: str, value: str, choices: dict[str, int]) -> int:
    if value not in choices:
        raise ValueError(f"{name} is {' or '.join(map(repr, choices))}, not {value!r}")
    return choices[value]


def _words(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))

"""VXLAN frames built field by field, wrong ones too, and the classes that belong to each level of the stage."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from fastpath import _batch_py, _hasher_py, _tunnels_py, _vtep_py
from fastpath._checksum_py import internet_checksum
from tests.twins import BATCH_C, HASHER_C, TUNNELS_C, VTEP_C

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
VNI, NETWORK = 5001, 77
NEAR, FAR = "192.0.2.2", "192.0.2.1"
NEAR6, FAR6 = "2001:db8::2", "2001:db8::1"
TUNNEL: dict[str, Any] = {
    "vni": VNI,
    "source": FAR,
    "destination": NEAR,
    "source_mac": MAC_A,
    "destination_mac": MAC_B,
}
TUNNEL6 = TUNNEL | {"source": FAR6, "destination": NEAR6}


@dataclass(frozen=True)
class Kit:
    """A stage and the classes that go with it."""

    stage: ModuleType
    batch: Any
    tunnels: Any
    vtep: Any
    hasher: Any

    @classmethod
    def of(cls, stage: ModuleType) -> Kit:
        """The classes for this level."""
        if stage.__name__.endswith("_py"):
            return cls(stage, _batch_py.Batch, _tunnels_py.Tunnels, _vtep_py.Vtep, _hasher_py.Hasher)
        assert BATCH_C is not None
        assert HASHER_C is not None
        assert TUNNELS_C is not None
        assert VTEP_C is not None
        return cls(stage, BATCH_C.Batch, TUNNELS_C.Tunnels, VTEP_C.Vtep, HASHER_C.Hasher)

    def filled(self, frames: list[bytes]) -> Any:
        """A batch of these frames."""
        batch = self.batch(max(1, len(frames)), huge=False)
        batch.fill(frames)
        return batch


def ip4(payload: bytes, protocol: int = 17, tos: int = 0, ttl: int = 64, fragment: int = 0x4000, **more: Any) -> bytes:
    """An IPv4 packet with a right header checksum."""
    source, destination = more.get("source", "10.0.0.1"), more.get("destination", "10.0.0.2")
    options = more.get("options", b"")
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        tos,
        20 + len(options) + len(payload),
        more.get("identification", 0),
        fragment,
        ttl,
        protocol,
        0,
        ipaddress.IPv4Address(source).packed,
        ipaddress.IPv4Address(destination).packed,
    )
    head += options
    checksum = internet_checksum(head).to_bytes(2, "big")
    return bytes(head[:10] + checksum + head[12:] + payload)


def ip6(payload: bytes, protocol: int = 17, tos: int = 0, ttl: int = 64, label: int = 0, **more: Any) -> bytes:
    """An IPv6 packet."""
    source, destination = more.get("source", "fd00::1"), more.get("destination", "fd00::2")
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return struct.pack("!IHBB", 6 << 28 | tos << 20 | label, len(payload), protocol, ttl) + addresses + payload


def layer4(packet: bytes) -> tuple[int, bytes, int]:
    """Of an IP packet without options: where layer 4 begins, its pseudo header, and where its checksum is."""
    six = packet[0] >> 4 == 6
    start, addresses, protocol = (40, packet[8:40], packet[6]) if six else (20, packet[12:20], packet[9])
    pseudo = addresses + struct.pack("!II", len(packet) - start, protocol)
    return start, pseudo, start + (16 if protocol == 6 else 6)


def checked(packet: bytes) -> bytes:
    """An IP packet without options whose TCP or UDP checksum is made right."""
    start, pseudo, field = layer4(packet)
    checksum = internet_checksum(pseudo + packet[start:field] + bytes(2) + packet[field + 2 :]) or 0xFFFF
    return packet[:field] + checksum.to_bytes(2, "big") + packet[field + 2 :]


def udp(payload: bytes = b"hello", source: int = 1111, destination: int = 2222) -> bytes:
    """A UDP datagram with a zero checksum."""
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def tcp(payload: bytes = b"hello", source: int = 1111, destination: int = 80) -> bytes:
    """A TCP segment with a zero checksum."""
    return struct.pack("!HHIIBBHHH", source, destination, 1, 2, 0x50, 0x18, 512, 0, 0) + payload


def ethernet(packet: bytes, tags: tuple[int, ...] = (), kind: int | None = None, **more: Any) -> bytes:
    """A frame around an IP packet; `tags` are VLAN ids, outermost first."""
    if kind is None:
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    types = [0x88A8] * (len(tags) - 1) + [0x8100] * bool(tags)
    stack = b"".join(struct.pack("!HH", *pair) for pair in zip(types, tags, strict=True))
    source, destination = more.get("source_mac", MAC_A), more.get("destination_mac", MAC_B)
    return bytes(destination + source + stack + struct.pack("!H", kind) + packet)


INNER = ethernet(ip4(udp()))


@dataclass(frozen=True)
class Outer:
    """One outer frame; every field can be wrong."""

    inner: bytes = INNER
    six: bool = False
    vni: int = VNI
    source: str = FAR
    destination: str = NEAR
    tos: int = 0
    ttl: int = 64
    tags: tuple[int, ...] = ()
    options: bytes = b""
    """IPv4 options, or extension headers behind IPv6, of which `protocol` is the first."""
    protocol: int = 17
    fragment: int = 0x4000
    port: int = 4789
    source_port: int = 50000
    vxlan: bytes = b"\x08\x00\x00\x00"
    last: int = 0
    """The VXLAN header's last byte."""
    checksum: int | None = 0
    """Of UDP; None: the right one."""
    udp_more: int = 0
    """Added to the UDP length."""
    padding: bytes = b""

    def but(self, **changes: Any) -> Outer:
        """Another with changes."""
        return replace(self, **changes)

    def build(self) -> bytes:
        """The frame."""
        source, destination = self.source, self.destination
        if self.six:
            source = FAR6 if source == FAR else source
            destination = NEAR6 if destination == NEAR else destination
        payload = self.vxlan + self.vni.to_bytes(3, "big") + bytes([self.last]) + self.inner
        length = 8 + len(payload) + self.udp_more
        head = struct.pack("!HHHH", self.source_port, self.port, length, 0)
        checksum = self.checksum
        if checksum is None:
            addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
            checksum = internet_checksum(addresses + struct.pack("!II", length, 17) + head + payload) or 0xFFFF
        datagram = head[:6] + checksum.to_bytes(2, "big") + payload
        more: dict[str, Any] = {"source": source, "destination": destination, "tos": self.tos, "ttl": self.ttl}
        if self.six:
            packet = ip6(self.options + datagram, self.protocol, **more)
        else:
            packet = ip4(datagram, self.protocol, fragment=self.fragment, options=self.options, **more)
        return ethernet(packet, self.tags) + self.padding


def changed(frame: bytes, at: int, value: bytes, mend: bool = True) -> bytes:
    """The frame with other bytes at a place; an untagged IPv4 header's checksum is made right again if `mend`."""
    result = bytearray(frame)
    result[at : at + len(value)] = value
    if mend and 14 <= at < 34:
        result[24:26] = bytes(2)
        result[24:26] = internet_checksum(bytes(result[14:34])).to_bytes(2, "big")
    return bytes(result)

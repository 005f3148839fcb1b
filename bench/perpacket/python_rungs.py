"""What a Python programmer has today: scapy, dpkt, pypacker, or struct alone; one packet a call, `bytes` in and out.

All write the same outer headers (bench/perpacket/outer.py), with a source port from a hash of the inner five-tuple, and
on decap all check EtherType, IPv4 version, IHL, protocol, fragment bits, lengths and checksum, UDP port and length, and
the I flag; ValueError otherwise. scapy and pypacker are GPL-2.0-only: imported here and in tests, never shipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Protocol

from bench.perpacket import outer

Tuple5 = tuple[Any, Any, int, int, int]
"""Source, destination, protocol, ports; addresses as the rung has them (see `packed`)."""

SOURCE_MAC, DESTINATION_MAC = (bytes.fromhex(mac.replace(":", "")) for mac in (outer.SOURCE_MAC, outer.DESTINATION_MAC))
SOURCE, DESTINATION = inet_pton(AF_INET, outer.SOURCE[4]), inet_pton(AF_INET, outer.DESTINATION[4])
VXLAN = struct.Struct("!II")
I_FLAG = 0x08000000


class Rung(Protocol):
    """One way to do it."""

    name: str
    version: str

    def encap(self, frame: bytes) -> bytes: ...
    def decap(self, frame: bytes) -> tuple[int, bytes]: ...
    def five_tuple(self, frame: bytes) -> Tuple5: ...
    def checksum(self, data: bytes) -> int: ...


def entropy(five_tuple: Hashable) -> int:
    """A source port as RFC 7348 wants it."""
    return 49152 | (hash(five_tuple) & 0x3FFF)


def packed(found: Tuple5) -> tuple[bytes, bytes, int, int, int]:
    """A five-tuple with its addresses as bytes; scapy has them as text."""
    source, destination, protocol, source_port, destination_port = found
    if isinstance(source, str):
        family = AF_INET6 if ":" in source else AF_INET
        source, destination = inet_pton(family, source), inet_pton(family, destination)
    return source, destination, int(protocol), source_port, destination_port


class Struct:
    """The standard library only, written for speed."""

    name = "struct"
    version = ""
    _OUTER = struct.Struct("!12sHBBHHHBBH4s4sHHHHII")
    _CHECKED = struct.Struct("!12xHBxHxxHxB2x8xHHHxxIxxxx")
    _IP4 = struct.Struct("!BxHxxHxB2x4s4s")
    _PORTS = struct.Struct("!HH")
    _TEN = struct.Struct("!10H")

    def __init__(self) -> None:
        fixed = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0x4000, outer.TTL, 17, 0, SOURCE, DESTINATION)
        self._sum = sum(self._TEN.unpack(fixed))

    def five_tuple(self, frame: bytes) -> Tuple5:
        kind = frame[12] << 8 | frame[13]
        if kind == 0x0800:
            first, total, fragment, protocol, source, destination = self._IP4.unpack_from(frame, 14)
            header = (first & 15) * 4
            if first >> 4 != 4 or header < 20 or total < header or 14 + total > len(frame):
                raise ValueError("not IPv4")
            if protocol in (6, 17) and not fragment & 0x1FFF:
                return source, destination, protocol, *self._PORTS.unpack_from(frame, 14 + header)
            return source, destination, protocol, 0, 0
        if kind == 0x86DD and len(frame) >= 54 and frame[14] >> 4 == 6:
            protocol = frame[20]
            ports = self._PORTS.unpack_from(frame, 54) if protocol in (6, 17) else (0, 0)
            return frame[22:38], frame[38:54], protocol, *ports
        raise ValueError("not IP")

    def encap(self, frame: bytes) -> bytes:
        size = len(frame)
        total = self._sum + size + 36
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        return self._OUTER.pack(
            DESTINATION_MAC + SOURCE_MAC, 0x0800, 0x45, 0, size + 36, 0, 0x4000, outer.TTL, 17, checksum, SOURCE,
            DESTINATION, entropy(self.five_tuple(frame)), outer.PORT, size + 16, 0, I_FLAG, outer.VNI << 8,
        ) + frame  # fmt: skip

    def decap(self, frame: bytes) -> tuple[int, bytes]:
        kind, first, total, fragment, protocol, _, port, size, flags = self._CHECKED.unpack_from(frame)
        checksum = sum(self._TEN.unpack_from(frame, 14))
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
        if (
            kind != 0x0800 or first != 0x45 or protocol != 17 or fragment & 0x3FFF or port != outer.PORT
            or size != total - 20 or total + 14 > len(frame) or not flags & I_FLAG
            or (checksum & 0xFFFF) + (checksum >> 16) != 0xFFFF
        ):  # fmt: skip
            raise ValueError("not VXLAN")
        return int.from_bytes(frame[46:49], "big"), frame[50:]

    def checksum(self, data: bytes) -> int:
        if len(data) % 2:
            data += b"\0"
        total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
        total = (total & 0xFFFF) + (total >> 16)
        return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


class Scapy:
    name = "scapy"

    def __init__(self) -> None:
        import scapy
        from scapy.layers.inet import IP, UDP
        from scapy.layers.l2 import Ether
        from scapy.layers.vxlan import VXLAN
        from scapy.packet import Raw
        from scapy.utils import checksum

        self.version: str = scapy.__version__
        self._ether, self._ip, self._udp, self._vxlan, self._raw = Ether, IP, UDP, VXLAN, Raw
        self._checksum = checksum

    def five_tuple(self, frame: bytes) -> Tuple5:
        layer3 = self._ether(frame).payload
        layer4 = layer3.payload
        protocol = layer3.proto if type(layer3) is self._ip else layer3.nh
        return layer3.src, layer3.dst, protocol, layer4.sport, layer4.dport

    def encap(self, frame: bytes) -> bytes:
        return bytes(outer.layers(4, entropy(self.five_tuple(frame))) / self._raw(frame))

    def decap(self, frame: bytes) -> tuple[int, bytes]:
        ip = self._ether(frame)[self._ip]
        udp = ip[self._udp]
        vxlan = udp[self._vxlan]
        if udp.dport != outer.PORT or self._checksum(frame[14:34]) or not vxlan.flags & 8 or udp.len != ip.len - 20:
            raise ValueError("not VXLAN")
        return vxlan.vni, vxlan.payload.original

    def checksum(self, data: bytes) -> int:
        return int(self._checksum(data))


class Dpkt:
    name = "dpkt"

    def __init__(self) -> None:
        import dpkt

        self.version: str = dpkt.__version__
        self._dpkt: Any = dpkt

    def five_tuple(self, frame: bytes) -> Tuple5:
        ip = self._dpkt.ethernet.Ethernet(frame).data
        layer4 = ip.data
        return ip.src, ip.dst, ip.p if ip.v == 4 else ip.nxt, layer4.sport, layer4.dport

    def encap(self, frame: bytes) -> bytes:
        dpkt = self._dpkt
        udp = dpkt.udp.UDP(sport=entropy(self.five_tuple(frame)), dport=outer.PORT, ulen=len(frame) + 16, sum=0,
                           data=VXLAN.pack(I_FLAG, outer.VNI << 8) + frame)  # fmt: skip
        # As bytes: dpkt would fill in the UDP checksum of an object.
        payload = bytes(udp)
        ip = dpkt.ip.IP(src=SOURCE, dst=DESTINATION, p=17, ttl=outer.TTL, df=1, len=20 + len(payload), data=payload)
        return bytes(dpkt.ethernet.Ethernet(src=SOURCE_MAC, dst=DESTINATION_MAC, type=0x0800, data=bytes(ip)))

    def decap(self, frame: bytes) -> tuple[int, bytes]:
        ethernet = self._dpkt.ethernet.Ethernet(frame)
        ip = ethernet.data
        udp = ip.data
        flags, vni = VXLAN.unpack_from(udp.data)
        if (
            ethernet.type != 0x0800 or ip.p != 17 or self._dpkt.in_cksum(frame[14:34]) or udp.dport != outer.PORT
            or udp.ulen != ip.len - 20 or not flags & I_FLAG
        ):  # fmt: skip
            raise ValueError("not VXLAN")
        return vni >> 8, udp.data[8:]

    def checksum(self, data: bytes) -> int:
        return int(self._dpkt.in_cksum(data))


class Pypacker:
    name = "pypacker"

    def __init__(self) -> None:
        from importlib.metadata import version

        from pypacker.checksum import in_cksum
        from pypacker.layer3 import ip
        from pypacker.layer4 import udp
        from pypacker.layer12 import ethernet

        self.version = version("pypacker")
        self._ethernet: Any = ethernet.Ethernet
        self._ip: Any = ip.IP
        self._udp: Any = udp.UDP
        self._checksum: Any = in_cksum

    def five_tuple(self, frame: bytes) -> Tuple5:
        ip = self._ethernet(frame).upper_layer
        layer4 = ip.upper_layer
        return ip.src, ip.dst, ip.p if type(ip) is self._ip else ip.nxt, layer4.sport, layer4.dport

    def encap(self, frame: bytes) -> bytes:
        body = VXLAN.pack(I_FLAG, outer.VNI << 8) + frame
        udp = self._udp(sport=entropy(self.five_tuple(frame)), dport=outer.PORT, sum=0, body_bytes=body)
        udp.sum_au_active = False
        ip = self._ip(src=SOURCE, dst=DESTINATION, p=17, frag_off=0x4000)
        made: bytes = (self._ethernet(src=SOURCE_MAC, dst=DESTINATION_MAC, type=0x0800) + ip + udp).bin()
        return made

    def decap(self, frame: bytes) -> tuple[int, bytes]:
        ethernet = self._ethernet(frame)
        ip = ethernet.upper_layer
        udp = ip.upper_layer
        body = udp.body_bytes
        flags, vni = VXLAN.unpack_from(body)
        if (
            ethernet.type != 0x0800 or ip.p != 17 or self._checksum(frame[14:34]) or udp.dport != outer.PORT
            or udp.ulen != ip.len - 20 or not flags & I_FLAG
        ):  # fmt: skip
            raise ValueError("not VXLAN")
        return vni >> 8, body[8:]

    def checksum(self, data: bytes) -> int:
        return int(self._checksum(data))


RUNGS: tuple[Callable[[], Rung], ...] = (Scapy, Dpkt, Pypacker, Struct)


def rungs() -> Iterator[Rung | str]:
    """Every rung that is installed; of another, what is missing."""
    for make in RUNGS:
        try:
            yield make()
        except ImportError as error:
            yield f"{error.name}: pip install '.[bench]'"

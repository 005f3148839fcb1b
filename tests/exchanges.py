"""Exchanges of TCP, UDP and ICMP as frames: scripts, and random ones that are mostly right."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastpath._checksum_py import internet_checksum

FIN, SYN, RST, PSH, ACK, URG = (1 << bit for bit in range(6))
ONE4, OTHER4 = bytes([10, 1, 0, 2]), bytes([10, 2, 0, 2])
ONE6, OTHER6 = bytes.fromhex("fd01" + "00" * 13 + "02"), bytes.fromhex("fd02" + "00" * 13 + "02")
_MASK = 0xFFFFFFFF


def addresses(version: int) -> tuple[bytes, bytes]:
    """Of the two ends of every exchange."""
    return (ONE4, OTHER4) if version == 4 else (ONE6, OTHER6)


def checksummed(source: bytes, destination: bytes, protocol: int, layer4: bytes, at: int) -> bytes:
    """Layer 4 with its checksum at an offset; ICMP of IPv4 has no pseudo header."""
    pseudo = source + destination + struct.pack("!II", len(layer4), protocol)
    value = internet_checksum((b"" if protocol == 1 else pseudo) + layer4[:at] + b"\0\0" + layer4[at + 2 :])
    if protocol == 17 and not value:
        value = 0xFFFF
    return layer4[:at] + value.to_bytes(2, "big") + layer4[at + 2 :]


def ip(source: bytes, destination: bytes, protocol: int, layer4: bytes) -> bytes:
    """An IP datagram of either version."""
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(layer4), protocol, 64) + source + destination + layer4
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(layer4), 0, 0x4000, 64, protocol, 0) + source + destination
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + layer4


def frame(datagram: bytes) -> bytes:
    """In Ethernet."""
    return bytes.fromhex("020000000001020000000002") + (b"\x86\xdd" if datagram[0] >> 4 == 6 else b"\x08\0") + datagram


def tcp(source: bytes, destination: bytes, sport: int, dport: int, flags: int, *, seq: int = 0, ack: int = 0,
        window: int = 8192, payload: bytes = b"", options: bytes = b"") -> bytes:  # fmt: skip
    """A TCP datagram; options are padded with their end."""
    options += bytes(-len(options) % 4)
    head = struct.pack(
        "!HHIIBBHHH", sport, dport, seq & _MASK, ack & _MASK, 5 + len(options) // 4 << 4, flags, window, 0, 0
    )
    return ip(source, destination, 6, checksummed(source, destination, 6, head + options + payload, 16))


def udp(source: bytes, destination: bytes, sport: int, dport: int, payload: bytes = b"x") -> bytes:
    """A UDP datagram."""
    layer4 = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    return ip(source, destination, 17, checksummed(source, destination, 17, layer4, 6))


def icmp(source: bytes, destination: bytes, kind: int, code: int, rest: bytes, payload: bytes = b"") -> bytes:
    """An ICMP or ICMPv6 datagram; `rest` are the four bytes behind the checksum."""
    protocol = 1 if len(source) == 4 else 58
    layer4 = bytes([kind, code, 0, 0]) + rest + payload
    return ip(source, destination, protocol, checksummed(source, destination, protocol, layer4, 2))


def unreachable(about: bytes, sender: bytes | None = None, target: bytes | None = None) -> bytes:
    """The error about a datagram, to who sent it."""
    six = about[0] >> 4 == 6
    source, destination = (about[8:24], about[24:40]) if six else (about[12:16], about[16:20])
    return icmp(sender or destination, target or source, 1 if six else 3, 4 if six else 3, bytes(4), about[:100])


@dataclass
class Side:
    """An end of a TCP connection, as its stack would count."""

    seq: int
    ack: int = 0
    window: int = 8192
    scale: int = 0


@dataclass
class Stream:
    """A TCP connection whose ends are mostly right; `next` gives who sends and the datagram."""

    chance: random.Random
    version: int
    ports: tuple[int, int]
    wild: float = 0.1
    sides: tuple[Side, Side] = field(init=False)
    sent: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """With other numbers, on the same ports."""
        self.sides = tuple(Side(self.chance.getrandbits(32)) for _ in range(2))  # type: ignore[assignment]
        self.steps = self._steps()

    def segment(
        self, who: int, flags: int, payload: bytes = b"", options: bytes = b"", **change: int
    ) -> tuple[int, bytes]:
        """What one end sends now."""
        side = self.sides[who]
        ends = addresses(self.version)
        made = tcp(
            ends[who], ends[not who], self.ports[who], self.ports[not who], flags, payload=payload, options=options,
            seq=change.get("seq", side.seq), ack=change.get("ack", side.ack if flags & ACK else 0),
            window=change.get("window", side.window),
        )  # fmt: skip
        if not change:
            side.seq = side.seq + len(payload) + bool(flags & SYN) + bool(flags & FIN) & _MASK
        self.sent.append((who, made))
        return who, made

    def heard(self, who: int) -> None:
        """That end knows of everything the other one has sent."""
        self.sides[who].ack = self.sides[not who].seq

    def next(self) -> tuple[int, bytes]:
        """The next datagram and who sends it."""
        chance = self.chance
        if chance.random() < self.wild:
            return self._wild()
        try:
            return next(self.steps)
        except StopIteration:
            self.begin()
            return next(self.steps)

    def _steps(self) -> Iterator[tuple[int, bytes]]:
        chance = self.chance
        options = chance.choice((b"", b"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07", b"\x02\x04\x05\xb4\x01\x03\x03\x02"))
        answer = chance.choice((options, options, b""))
        yield self.segment(0, SYN, options=options)
        if chance.random() < 0.15:
            yield self.segment(1, SYN, options=answer)
            self.heard(0)
            self.heard(1)
            if chance.random() < 0.5:
                self.sides[0].seq, self.sides[1].seq = self.sides[0].seq - 1, self.sides[1].seq - 1
                yield self.segment(0, SYN | ACK)
                yield self.segment(1, SYN | ACK)
        else:
            self.heard(1)
            yield self.segment(1, SYN | ACK, options=answer)
        self.heard(0)
        yield self.segment(0, ACK)
        for _ in range(chance.randrange(8)):
            who = chance.randrange(2)
            yield self.segment(who, ACK | chance.choice((0, PSH)), chance.randbytes(chance.choice((0, 1, 100, 900))))
            if chance.random() < 0.7:
                self.heard(not who)
                yield self.segment(not who, ACK)
        if chance.random() < 0.25:
            who = chance.randrange(2)
            yield self.segment(who, RST | chance.choice((0, ACK)))
            return
        first = chance.randrange(2)
        for who in (first, not first):
            self.heard(who)
            yield self.segment(who, FIN | ACK)
            if chance.random() < 0.7:
                self.heard(not who)
                yield self.segment(not who, ACK)

    def _wild(self) -> tuple[int, bytes]:
        chance = self.chance
        who = chance.randrange(2)
        side = self.sides[who]
        match chance.randrange(6):
            case 0 if self.sent:
                return chance.choice(self.sent[-8:])  # again, maybe late
            case 1:
                self.begin()
                return self.next()
            case 2:
                flags = chance.choice((SYN, ACK, SYN | ACK, FIN | ACK, RST, RST | ACK))
                return self.segment(who, flags, seq=side.seq, ack=side.ack)
            case 3:
                flags = chance.choice((SYN, ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, FIN, SYN | FIN, 63))
                near = chance.choice((-70000, -1, 1, 10, 70000, 1 << 20, chance.getrandbits(32)))
                return self.segment(who, flags, seq=side.seq + near, ack=side.ack + chance.choice((0, near)))
            case 4:
                side.window = chance.choice((0, 1, 500, 8192, 65535))
                return self.segment(who, ACK)
            case _:
                ack = side.ack
                blocks = struct.pack("!BBBBII", 1, 1, 5, 10, ack + 10 & _MASK, ack + chance.randrange(300) & _MASK)
                return self.segment(who, ACK, options=blocks)


def mixture(chance: random.Random, streams: int = 4, wild: float = 0.1) -> Iterator[tuple[int, bytes]]:
    """Datagrams of several exchanges of all protocols without end; 0 or 1 says which end sends."""
    made = [Stream(chance, chance.choice((4, 6)), (1000 + i, 80), wild) for i in range(streams)]
    recent: list[tuple[int, bytes]] = []
    while True:
        version = chance.choice((4, 6))
        who, ends = chance.randrange(2), addresses(version)
        port = 2000 + chance.randrange(4)
        match chance.randrange(10):
            case 0 | 1:
                ports = (port, 53) if who == 0 else (53, port)
                item = who, udp(ends[who], ends[not who], *ports)
            case 2:
                six = version == 6
                kind = chance.choice(((128, 129) if six else (8, 0)) if chance.random() < 0.9 else (13, 14, 130))
                item = who, icmp(ends[who], ends[not who], kind, 0, struct.pack("!HH", port, 1), b"ping")
            case 3 if recent:
                sender, about = chance.choice(recent[-10:])
                item = 1 - sender, unreachable(about)
            case 4 if chance.random() < 0.2:
                item = who, ip(ends[who], ends[not who], chance.choice((50, 89, 99)), chance.randbytes(24))
            case _:
                item = chance.choice(made).next()
        recent.append(item)
        del recent[:-20]
        yield item

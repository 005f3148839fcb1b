"""Random frames for the parsers of `fastpath`: mostly right, of every kind they know, some broken on purpose."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.bytes_mutator import mutate

TRANSPORTS = (6, 17, 132, 136, 33)
EXTENSIONS = (0, 43, 60, 135, 139, 140)
OTHERS = (2, 4, 41, 47, 50, 51, 59, 89, 255)
BORDERS = (-1000, -8, -1, 1, 4, 8, 1000)
"""How far a length field is wrong, when it is."""


def frame(chance: random.Random) -> bytes:
    """Return one frame: about two thirds whole and right, the others cut, lying or mutated."""
    made = _ethernet(chance)
    match chance.randrange(12):
        case 0:
            return made[: chance.randrange(len(made) + 1)]
        case 1:
            return mutate(made, chance, [made])
        case 2:
            # Headers, where a change matters.
            changed = bytearray(made)
            for _ in range(chance.randint(1, 3)):
                changed[chance.randrange(min(len(changed), 64))] = chance.choice(
                    (0, 1, 6, 17, 44, 0x45, 0x60, 0x81, 255)
                )
            return bytes(changed)
        case 3:
            return made + bytes(chance.randrange(1, 20))
        case _:
            return made


def common(chance: random.Random) -> bytes:
    """Return one whole frame of the kind most traffic is: TCP or UDP over plain IPv4 or IPv6."""
    payload = chance.randbytes(chance.randrange(20, 40))
    protocol = chance.choice((6, 17))
    if chance.random() < 0.5:
        return chance.randbytes(12) + b"\x08\x00" + _ip4(chance, protocol, payload, b"", 0x4000)
    return chance.randbytes(12) + b"\x86\xdd" + _ip6(chance, protocol, payload)


def tagged(chance: random.Random) -> bytes:
    """The same behind one VLAN tag."""
    made = common(chance)
    return made[:12] + chance.choice((b"\x81\x00", b"\x88\xa8", b"\x91\x00")) + chance.randbytes(2) + made[12:]


def frames(chance: random.Random) -> Iterator[bytes]:
    """Yield frames without end: runs of one kind, as a link sees them, and mixtures."""
    while True:
        make = chance.choice((frame, frame, common, tagged))
        for _ in range(chance.choice((1, 4, 9, 40))):
            yield make(chance)


def _ethernet(chance: random.Random) -> bytes:
    tags = b"".join(
        chance.choice((b"\x81\x00", b"\x88\xa8", b"\x91\x00")) + chance.randbytes(2)
        for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2, 3, 4, 5)))
    )
    match chance.randrange(9):
        case 0:
            kind = chance.choice((b"\x08\x06", b"\x00\x40", b"\x88\xcc", b"\x88\x47"))
            return chance.randbytes(12) + tags + kind + chance.randbytes(chance.randrange(60))
        case 1 | 2 | 3 | 4:
            return chance.randbytes(12) + tags + b"\x08\x00" + _any_ip4(chance)
        case _:
            return chance.randbytes(12) + tags + b"\x86\xdd" + _any_ip6(chance)


def _transport(chance: random.Random, version: int) -> tuple[int, bytes]:
    match chance.randrange(8):
        case 0:
            kind = chance.choice((0, 3, 5, 8, 11, 13, 42) if version == 4 else (1, 2, 3, 128, 129, 135, 160))
            body = bytes([kind]) + chance.randbytes(7)
            if chance.random() < 0.5:
                body += _ip4(chance, 17, chance.randbytes(8)) if version == 4 else _ip6(chance, 17, chance.randbytes(8))
            return (1 if version == 4 else 58), body
        case 1:
            return chance.choice((*OTHERS, 1, 58)), chance.randbytes(chance.randrange(40))
        case _:
            return chance.choice(TRANSPORTS), chance.randbytes(chance.choice((0, 3, 4, 8, 20, 40)))


def _lie(chance: random.Random, packet: bytes, length_at: int) -> bytes:
    """The packet, seldom with another length or first byte."""
    changed = bytearray(packet)
    if chance.random() < 0.1:
        length = int.from_bytes(changed[length_at : length_at + 2], "big") + chance.choice(BORDERS)
        changed[length_at : length_at + 2] = min(max(length, 0), 0xFFFF).to_bytes(2, "big")
    if chance.random() < 0.03:
        changed[0] = chance.randrange(256)
    return bytes(changed)


def _any_ip4(chance: random.Random) -> bytes:
    protocol, payload = _transport(chance, 4)
    options = bytes(chance.choice((0, 0, 0, 0, 0, 4, 12, 40)))
    fragment = chance.choice((0, 0, 0x4000, 0x4000, 0x8000, 0x2000, 0x2001, 0x1FFF, 0x0100))
    return _lie(chance, _ip4(chance, protocol, payload, options, fragment), 2)


def _ip4(chance: random.Random, protocol: int, payload: bytes, options: bytes = b"", fragment: int = 0x4000) -> bytes:
    header = 20 + len(options)
    total = (header + len(payload)).to_bytes(2, "big")
    first = 0x40 | header // 4
    head = bytes([first, chance.randrange(256)]) + total + chance.randbytes(2) + fragment.to_bytes(2, "big")
    return head + bytes([64, protocol]) + chance.randbytes(10) + options + payload


def _any_ip6(chance: random.Random) -> bytes:
    protocol, payload = _transport(chance, 6)
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2, 3, 8, 9))):
        kind = chance.choice((*EXTENSIONS, 44, 44, 51))
        if kind == 44:
            fragment = chance.choice((0, 0, 6, 1, 8, 9, 0xFFF8)).to_bytes(2, "big")
            payload = bytes([protocol, chance.randrange(256)]) + fragment + chance.randbytes(4) + payload
        else:
            size = chance.choice((0, 1, 1, 2, 3)) if kind == 51 else chance.choice((0, 0, 1, 2))
            length = (size + 2) * 4 if kind == 51 else (size + 1) * 8
            payload = bytes([protocol, size]) + chance.randbytes(length - 2) + payload
        protocol = kind
    return _lie(chance, _ip6(chance, protocol, payload), 4)


def _ip6(chance: random.Random, protocol: int, payload: bytes) -> bytes:
    length = len(payload).to_bytes(2, "big")
    return (
        bytes([0x60 | chance.randrange(16)])
        + chance.randbytes(3)
        + length
        + bytes([protocol, 64])
        + chance.randbytes(32)
        + payload
    )

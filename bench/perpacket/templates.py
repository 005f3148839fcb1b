"""Packets that scapy makes once, from a seed, kept in .cache/bench/profiles; bench/load/packets.pyx multiplies them."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any, Final

import msgspec
import scapy
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from bench.compile import BUILT
from bench.perpacket import malformed
from bench.perpacket.profiles import FAMILIES, MALFORMED, SIZES, TRANSPORTS

FOLDER: Final = BUILT / "profiles"
VERSION: Final = f"1, scapy {scapy.__version__}"
"""Of what is below: a stored file of another version is made again."""
COPIES: Final = 12
"""Templates of each kind; a multiple of every mix."""


class Template(msgspec.Struct, frozen=True, array_like=True):
    """One packet with right lengths and checksums, and where its fields lie."""

    frame: bytes
    layer3: int = 0
    layer4: int = 0
    version: int = 0
    """4 or 6; 0: nothing of it is to be changed."""
    protocol: int = 0


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A file of templates."""

    kind: str
    seed: int
    version: str
    sha256: str
    groups: int
    """Templates lie in so many groups of equally many; a flow keeps to one."""
    templates: list[Template]


def templates(kind: str, seed: int, folder: Path = FOLDER) -> Stored:
    """The templates of a profile's kind, from the store, or made and stored if it has none that fit."""
    path = folder / f"{kind}-{seed}.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Stored)
    except (OSError, msgspec.DecodeError):
        found = None
    if (
        found is not None
        and (found.kind, found.seed, found.version) == (kind, seed, VERSION)
        and found.sha256 == digest(found.templates)
    ):
        return found
    made, groups = _make(kind, random.Random(f"{kind} {seed}"))
    stored = Stored(kind=kind, seed=seed, version=VERSION, sha256=digest(made), groups=groups, templates=made)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(stored))
    return stored


def digest(made: list[Template]) -> str:
    """SHA-256 of everything in them."""
    return hashlib.sha256(msgspec.msgpack.encode(made)).hexdigest()


def _make(kind: str, rng: random.Random) -> tuple[list[Template], int]:
    if kind == MALFORMED:
        return [Template(frame) for frame in malformed.inner(rng)], 1
    if kind == f"{MALFORMED}-outer":
        return [Template(frame) for frame in malformed.encapsulated(rng)], 1
    family, transport, size = kind.split("-")
    sizes = SIZES[size]
    groups = [(version, protocol) for version in FAMILIES[family] for protocol in TRANSPORTS[transport]]
    made = [
        packet(version, protocol, sizes[number % len(sizes)], rng)
        for version, protocol in groups
        for number in range(COPIES)
    ]
    return made, len(groups)


def packet(version: int, protocol: int, size: int, rng: random.Random) -> Template:
    """A UDP datagram or TCP segment of `size` bytes with its Ethernet header, or as long as the headers are."""
    ip = (
        IP(src="10.0.0.1", dst="10.0.0.2", id=rng.getrandbits(16))
        if version == 4
        else IPv6(src="fd00::1", dst="fd00::2")
    )
    ports: dict[str, Any] = {"sport": 49152, "dport": 20000}
    layer4 = (
        UDP(**ports) if protocol == 17 else TCP(**ports, seq=rng.getrandbits(32), ack=rng.getrandbits(32), flags="A")
    )
    ethernet = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")
    headers = len(ethernet / ip / layer4)
    frame = bytes(ethernet / ip / layer4 / Raw(rng.randbytes(max(0, size - headers))))
    return Template(frame, 14, 34 if version == 4 else 54, version, protocol)

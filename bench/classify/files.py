"""Rule sets and header traces as ClassBench writes them, read and written; what is wrong with a file is said by line.

A rule is a line; the first line is the one that wins:

    @src/len dst/len lo : hi lo : hi protocol/mask [flags/mask]

with a tab or spaces between the columns. A header is a line of src, dst, source port, destination port and protocol,
optionally followed by the number of the rule that is expected, counted from 1, 0 for none. IPv4 addresses are dotted
in rules and one decimal number in traces; IPv6 addresses are textual in both. A file is of one IP version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, Literal

from fastpath.rules import KEY4, KEY6, PACKED, Rule, unpack

Version = Literal[4, 6]
MOST: Final = 1 << 20
"""Rules of a file: what a RuleSet holds."""
NONE: Final = -1
"""The position of no rule."""
_MARK: Final = 0xFFFF
_EITHER: Final = 2


class FileError(ValueError):
    """A rule file or a trace that cannot be read: the text begins with path:line: field, or path: file."""

    def __init__(self, path: Path, line: int, field: str, problem: str) -> None:
        self.path = path
        self.line = line
        """From 1; 0: the file itself."""
        self.field = field
        super().__init__(f"{path}:{line}: {field}: {problem}" if line else f"{path}: {field}: {problem}")


@dataclass(frozen=True)
class Rules:
    """Rules of one IP version, the first of which wins."""

    name: str
    version: Version
    records: bytes
    """As `fastpath.rules.pack` makes them; the priorities descend."""
    flags: int = 0
    """How many of the file ask for TCP flags, which a trace does not have: that part of them is left out."""

    def __len__(self) -> int:
        return len(self.records) // PACKED.size

    def rules(self) -> list[Rule]:
        """The same as objects."""
        return [rule for _, rule in self.listed]

    @cached_property
    def listed(self) -> list[tuple[int, Rule]]:
        """The same as objects behind their positions, as `first_match` takes them; kept, for it takes seconds."""
        return list(enumerate(unpack(self.records)))


@dataclass(frozen=True)
class Trace:
    """Headers of one IP version."""

    name: str
    version: Version
    keys: bytes
    """As `fastpath.rules.key` makes them."""
    expected: tuple[int, ...] | None = None
    """Positions that the file claims, from 0, NONE for none."""

    def __len__(self) -> int:
        return len(self.keys) // self.size

    @property
    def size(self) -> int:
        """Bytes of a key."""
        return key_size(self.version)

    def pick(self, positions: list[int], name: str) -> Trace:
        """Some of the headers, in another order."""
        size = self.size
        keys = [self.keys[i : i + size] for i in range(0, len(self.keys), size)]
        expected = None if self.expected is None else tuple(self.expected[i] for i in positions)
        return Trace(name, self.version, b"".join([keys[i] for i in positions]), expected)


def key_size(version: Version) -> int:
    """Bytes of a key of `lookup_keys`."""
    return KEY4.size if version == 4 else KEY6.size


Numbers = tuple[int, int, int, int, int]
"""Of a header: source, destination, source port, destination port, protocol."""
Fields = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], int | None]
"""Of a rule: source and destination as address and length, source and destination ports, protocol or None."""


def key(version: Version, header: Numbers) -> bytes:
    """`fastpath.rules.key` of zone 0, from numbers."""
    source, destination, source_port, destination_port, protocol = header
    if version == 4:
        return KEY4.pack(source, destination, source_port, destination_port, protocol << 1, 0)
    words = [address >> shift & 0xFFFFFFFF for address in (source, destination) for shift in (96, 64, 32, 0)]
    return KEY6.pack(*words, source_port, destination_port, protocol << 1, 0)


def record(version: Version, priority: int, rule: Fields) -> bytes:
    """`fastpath.rules.pack` of one rule."""
    source, destination, source_ports, destination_ports, protocol = rule
    size = 4 if version == 4 else 16
    return PACKED.pack(
        source[0].to_bytes(size, "big"), destination[0].to_bytes(size, "big"), priority, *source_ports,
        *destination_ports, _MARK, source[1], destination[1], 1 if version == 4 else 2, _EITHER, protocol or 0,
        protocol is not None, 0, 0, 0, 0,
    )  # fmt: skip


def packed(version: Version, rules: Sequence[Fields]) -> bytes:
    """Records of rules, the first of which gets the highest priority."""
    return b"".join([record(version, len(rules) - 1 - i, rule) for i, rule in enumerate(rules)])


_NET = r"@?(\S+?)/(\d+)"
_RULE = re.compile(
    rf"@{_NET[2:]}\s+{_NET[2:]}\s+(\d+)\s*:\s*(\d+)\s+(\d+)\s*:\s*(\d+)\s+"
    r"0x([0-9a-fA-F]+)/0x([0-9a-fA-F]+)(?:\s+0x([0-9a-fA-F]+)/0x([0-9a-fA-F]+))?\s*"
)
_FIELDS: Final = ("source", "destination", "source ports", "destination ports", "protocol", "flags")
_PIECES: Final = (
    r"@[^\s/]+/\d+\s+", r"[^\s/]+/\d+\s+", r"\d+\s*:\s*\d+\s+", r"\d+\s*:\s*\d+\s+", r"0x[0-9a-fA-F]+/0x[0-9a-fA-F]+",
    r"(?:\s+0x[0-9a-fA-F]+/0x[0-9a-fA-F]+)?\s*$",
)  # fmt: skip


def read_rules(path: Path) -> Rules:
    """Read a rule file. Raises FileError."""
    found: list[Fields] = []
    first: Version | None = None
    flags = 0
    for number, line in _lines(path):
        match = _RULE.fullmatch(line)
        if match is None:
            raise FileError(path, number, _wrong_field(line), f"cannot be read in {line[:120]!r}")
        parts = match.groups()
        version, source = _net(path, number, "source", parts[0], parts[1])
        other, destination = _net(path, number, "destination", parts[2], parts[3])
        first = first or version
        if first != version or other != version:
            raise FileError(path, number, "source" if first != version else "destination",
                            "a file is of one IP version")  # fmt: skip
        source_ports = _ports(path, number, "source ports", parts[4], parts[5])
        destination_ports = _ports(path, number, "destination ports", parts[6], parts[7])
        protocol = _protocol(path, number, parts[8], parts[9])
        flags += parts[11] is not None and int(parts[11], 16) != 0
        found.append((source, destination, source_ports, destination_ports, protocol))
        if len(found) > MOST:
            raise FileError(path, number, "rules", f"more than {MOST}")
    if first is None:
        raise FileError(path, 1, "rules", "there are none")
    return Rules(path.name, first, packed(first, found), flags)


def read_trace(path: Path, version: Version, rules: int | None = None) -> Trace:
    """Read a trace for rules of an IP version, of which there are so many. Raises FileError."""
    keys: list[bytes] = []
    expected: list[int] = []
    for number, line in _lines(path):
        columns = line.split()
        if not 5 <= len(columns) <= 6 or (keys and (len(columns) == 6) != bool(expected)):
            wanted = "5 or 6" if not keys else "6, as before" if expected else "5, as before"
            raise FileError(path, number, "columns", f"{len(columns)} of them, not {wanted}")
        addresses = [
            _address(path, number, field, text, version) for field, text in zip(_FIELDS[:2], columns[:2], strict=True)
        ]
        ports = [
            _decimal(path, number, field, text, 0xFFFF)
            for field, text in (("source port", columns[2]), ("destination port", columns[3]))
        ]
        protocol = _decimal(path, number, "protocol", columns[4], 255)
        keys.append(key(version, (addresses[0], addresses[1], ports[0], ports[1], protocol)))
        if len(columns) == 6:
            top = MOST if rules is None else rules
            expected.append(_decimal(path, number, "expected rule", columns[5], top) - 1)
    if not keys:
        raise FileError(path, 1, "headers", "there are none")
    return Trace(path.name, version, b"".join(keys), tuple(expected) if expected else None)


def write_rules(rules: Rules, path: Path) -> None:
    """Write rules so that `read_rules` finds them again."""
    with path.open("w") as file:
        for rule in rules.rules():
            nets = [
                f"{net or ('0.0.0.0/0' if rules.version == 4 else '::/0')}" for net in (rule.source, rule.destination)
            ]
            protocol = "0x00/0x00" if rule.protocol is None else f"0x{rule.protocol:02x}/0xFF"
            ports = [f"{low} : {high}" for low, high in (rule.source_ports, rule.destination_ports)]
            print("@" + "\t".join((*nets, *ports, protocol)), file=file)


def write_trace(trace: Trace, path: Path) -> None:
    """Write headers, with the expected rules if they are known, so that `read_trace` finds them again."""
    with path.open("w") as file:
        for number, (source, destination, *rest) in enumerate(headers(trace)):
            addresses = (source, destination) if trace.version == 4 else (IPv6Address(source), IPv6Address(destination))
            expected = () if trace.expected is None else (trace.expected[number] + 1,)
            print(*addresses, *rest, *expected, sep="\t", file=file)


def headers(trace: Trace) -> Iterator[Numbers]:
    """Source, destination, ports and protocol of each."""
    if trace.version == 4:
        for source, destination, sport, dport, protocol, _ in KEY4.iter_unpack(trace.keys):
            yield source, destination, sport, dport, protocol >> 1
        return
    for words in KEY6.iter_unpack(trace.keys):
        source, destination = (words[i] << 96 | words[i + 1] << 64 | words[i + 2] << 32 | words[i + 3] for i in (0, 4))
        yield source, destination, words[8], words[9], words[10] >> 1


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty. Raises FileError for what is no text or not there."""
    number = 0
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise FileError(path, number + 1, "text", f"is not ASCII: {error.reason}") from error
    except OSError as error:
        raise FileError(path, number and number + 1, "file", error.strerror or str(error)) from error


def _wrong_field(line: str) -> str:
    """The first column that is not as it should be."""
    at = 0
    for field, piece in zip(_FIELDS, _PIECES, strict=True):
        match = re.compile(piece).match(line, at)
        if match is None:
            return field
        at = match.end()
    return "rule"


def _net(path: Path, line: int, field: str, address: str, length: str) -> tuple[Version, tuple[int, int]]:
    """IP version, and address and length of a prefix; bits behind the length are cut off."""
    version: Version = 6 if ":" in address else 4
    bits = 32 if version == 4 else 128
    value = _dotted(path, line, field, address) if version == 4 else _six(path, line, field, address)
    size = int(length)
    if size > bits:
        raise FileError(path, line, field, f"/{size} is longer than {bits} bits")
    return version, (value >> (bits - size) << (bits - size), size)


def _dotted(path: Path, line: int, field: str, text: str) -> int:
    parts = text.split(".")
    if len(parts) != 4 or any(not part.isdigit() or int(part) > 255 for part in parts):
        raise FileError(path, line, field, f"{text!r} is no IPv4 address")
    return int(parts[0]) << 24 | int(parts[1]) << 16 | int(parts[2]) << 8 | int(parts[3])


def _six(path: Path, line: int, field: str, text: str) -> int:
    try:
        return int(IPv6Address(text))
    except ValueError as error:
        raise FileError(path, line, field, f"{text!r} is no IPv6 address") from error


def _address(path: Path, line: int, field: str, text: str, version: Version) -> int:
    return _decimal(path, line, field, text, (1 << 32) - 1) if version == 4 else _six(path, line, field, text)


def _decimal(path: Path, line: int, field: str, text: str, top: int) -> int:
    if not text.isdigit() or int(text) > top:
        raise FileError(path, line, field, f"{text!r} is not 0 to {top}")
    return int(text)


def _ports(path: Path, line: int, field: str, low: str, high: str) -> tuple[int, int]:
    first, last = int(low), int(high)
    if not first <= last <= 0xFFFF:
        raise FileError(path, line, field, f"{first} : {last} is no range of ports")
    return first, last


def _protocol(path: Path, line: int, value: str, mask: str) -> int | None:
    number, bits = int(value, 16), int(mask, 16)
    if bits not in (0, 0xFF):
        raise FileError(path, line, "protocol", f"the mask 0x{bits:02x} is neither 0x00 nor 0xFF")
    if number > 0xFF:
        raise FileError(path, line, "protocol", f"0x{number:x} is not 0x00 to 0xFF")
    return number if bits else None

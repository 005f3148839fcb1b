"""Random rules that overlap, nest and leave fields open, and headers that often match them; seeded."""

from __future__ import annotations

import random
from array import array
from ipaddress import IPv4Network, IPv6Network
from types import ModuleType
from typing import Literal

from fastpath.rules import ANY_PORTS, Header, Rule, first_match, key

Version = Literal[4, 6]
LENGTHS = {4: (0, 1, 4, 8, 12, 16, 20, 24, 28, 31, 32), 6: (0, 3, 16, 32, 48, 56, 60, 64, 65, 80, 96, 120, 127, 128)}
BITS = {4: 32, 6: 128}
PORTS = (0, 22, 53, 80, 443, 1024, 65535)


class Shapes:
    """A source of rules and headers of one IP version that keep meeting each other."""

    def __init__(self, seed: int, version: Version, *, more: bool = False) -> None:
        self.random = random.Random(seed)
        self.version = version
        self.more = more
        self.bases = [self.random.getrandbits(BITS[version]) for _ in range(6)]

    def rule(self, priority: int | None = None) -> Rule:
        """A random rule; of random priority unless one is given."""
        choose = self.random.choice
        source, destination = self._net(), self._net()
        protocol = choose((None, 6, 17, 1, 6, 17))
        flags = choose(((0, 0), (2, 0x12), (0x10, 0x10))) if self.more and protocol == 6 else (0, 0)
        return Rule(
            priority=choose((5, self.random.randrange(1 << 24), self.random.randrange(100)))
            if priority is None
            else priority,
            source=source,
            destination=destination,
            protocol=protocol,
            source_ports=self._ports() if self.random.random() < 0.3 else ANY_PORTS,
            destination_ports=self._ports(),
            tcp_flags=flags,
            dscp=choose((None, None, 10, 46)) if self.more else None,
            zone=choose((None, None, None, 1, 2, 32767)),
            direction=choose((None, None, 0, 1)),
            version=choose((None, self.version)) if source is None and destination is None else self.version,
        )

    def header(self, rules: list[Rule]) -> Header:
        """A header that mostly lies within one of `rules`."""
        near = self.random.random
        rule = self.random.choice(rules) if rules else Rule()
        return Header(
            version=self.version,
            source=self._address(rule.source),
            destination=self._address(rule.destination),
            protocol=rule.protocol
            if rule.protocol is not None and near() < 0.9
            else self.random.choice((0, 1, 6, 17, 255)),
            source_port=self.random.randint(*rule.source_ports),
            destination_port=self.random.randint(*rule.destination_ports)
            if near() < 0.9
            else self.random.choice(PORTS),
            zone=rule.zone if rule.zone is not None and near() < 0.9 else self.random.choice((0, 1, 2, 32767)),
            direction=self.random.randrange(2),
            tcp_flags=self.random.choice((0, 2, 0x10, 0x12, 0xFF)),
            dscp=self.random.choice((0, 10, 46)),
            ports_known=near() < 0.95,
        )

    def _net(self) -> IPv4Network | IPv6Network | None:
        bits = BITS[self.version]
        length = self.random.choice(LENGTHS[self.version])
        if length == 0:
            return None
        base = self.random.choice(self.bases)
        if self.random.random() < 0.3:
            base ^= self.random.getrandbits(bits - 8)
        network = base >> (bits - length) << (bits - length)
        return IPv4Network((network, length)) if self.version == 4 else IPv6Network((network, length))

    def _ports(self) -> tuple[int, int]:
        kind = self.random.random()
        if kind < 0.4:
            return ANY_PORTS
        if kind < 0.7:
            port = self.random.choice(PORTS)
            return (port, port)
        low, high = sorted((self.random.randrange(65536), self.random.randrange(65536)))
        return (low, high)

    def _address(self, net: IPv4Network | IPv6Network | None) -> int:
        if net is None or net.version != self.version or self.random.random() < 0.1:
            return self.random.getrandbits(BITS[self.version])
        return int(net.network_address) + self.random.randrange(net.num_addresses)


def answers(stage: ModuleType, rules: object, headers: list[Header], *, more: bool = False) -> list[int]:
    """What a level's `lookup_keys` says of headers of one IP version."""
    out = array("i", [-9] * len(headers))
    marks = array("H", [header.dscp << 8 | header.tcp_flags for header in headers]) if more else None
    version = headers[0].version if headers else 4
    assert stage.lookup_keys(rules, b"".join(map(key, headers)), out, version=version, more=marks) == len(headers)
    return list(out)


def expected(rules: dict[int, Rule], headers: list[Header], *, more: bool = False) -> list[int]:
    """The same by the definition."""
    asked = [(id, rule) for id, rule in rules.items() if more or not rule.asks_for_more]
    return [first_match(asked, header) for header in headers]

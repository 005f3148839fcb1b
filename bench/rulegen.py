"""Rule sets with the structure that ClassBench describes: acl (access lists), fw (firewalls), ipc (IP chains).

Written from the published description (Taylor and Turner, "ClassBench: A Packet Classification Benchmark", INFOCOM
2005) and general knowledge of such lists; its files, seeds and code were not used. The same kind, size, IP version and
seed give the same rules.

Of each kind (`KINDS`):

- **Prefix lengths** come in pairs, source and destination, of the kind's distributions; a share of the pairs, `wild`,
  leaves one side open (fw: much, acl: hardly), none leaves both.
- **Nesting.** Addresses are the leaves of a binary tree that is split from the top: at a node, with a probability
  that depends on the kind, everything goes to one child, else the heavier child gets the share `skew` of the leaves.
  Prefixes are leaves cut to their length, so prefixes of several lengths lie inside each other; of one leaf there are
  at most `nesting` lengths. The number of leaves grows with the number of rules (`leaves` per rule, by side):
  10,000 acl rules have about 4,300 sources and 640 destinations, fw 2,400 and 1,700, ipc 1,900 and 2,900.
- **Popularity.** Leaves are drawn by Zipf's law with the kind's exponent: few servers have many rules.
- **Correlation.** A share of the rules has source and destination in the same part of the tree.
- **Ports** are of ClassBench's classes: WC (any), HI (1024 to 65535), LO (0 to 1023), EM (one port), AR (another
  range), in pairs that depend on the protocol. EM and AR come from pools (acl about 100 destination ranges, no source
  ports but WC; ipc and fw few source classes) drawn by Zipf's law: distinct combinations of source ports, destination
  ports and protocol stay in the hundreds whatever the size.
- **Order.** Rules of one destination /16 (IPv6: /40) stand together, more specific ones first; those that are wider
  come last. A rule never stands behind one that covers it. No rule matches everything, so that there are misses.

IPv6: lengths are of IPv6's own (/32, /40, /48, /56, /60, /64, /128), addresses in 2000::/3, the tree ends at /64; of
the interface identifiers half are small numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from bench.classify.files import Fields, Rules, Version, packed
from fastpath.rules import ANY_PORTS

FEWEST: Final = 100
MOST: Final = 500_000
TCP, UDP, ICMP, GRE, ESP, OSPF = 6, 17, 1, 47, 50, 89
_PORTS = (80, 443, 22, 53, 25, 110, 161, 123, 21, 23, 389, 1521, 3306, 8080, 1433, 445, 139, 135, 137, 993, 143, 2049,
          5432, 5060, 6000, 8443, 636, 111, 1723, 514, 69, 7001, 179, 500, 3389, 9100)  # fmt: skip

Weighted = tuple[tuple[int, float], ...]
Pairs = tuple[tuple[str, str, float], ...]
"""Port class of source and destination, weight."""


@dataclass(frozen=True)
class Kind:
    """The distributions of a kind of rule sets; see the module."""

    source: dict[Version, Weighted]
    """Prefix lengths and weights."""
    destination: dict[Version, Weighted]
    wild: tuple[float, float]
    """Share of rules whose source, whose destination is open."""
    leaves: tuple[float, float]
    """Distinct hosts per rule, of source and destination."""
    skew: float
    single: float
    """Probability that everything goes to one child."""
    nesting: int
    popularity: float
    correlation: float
    protocols: Weighted
    """255: any."""
    ports: dict[int, Pairs]
    """By protocol; others have none."""
    exact: tuple[int, int]
    """Number of single ports in use, of source and destination."""
    ranges: tuple[int, int]


_V6 = ((128, 34.0), (64, 30.0), (48, 14.0), (56, 9.0), (60, 4.0), (40, 3.0), (32, 6.0))
ANY: Final = 255
_BOTH = "WC", "WC"
KINDS: Final[dict[str, Kind]] = {
    "acl": Kind(
        source={4: ((32, 30), (24, 20), (28, 15), (27, 10), (26, 8), (21, 5), (22, 5), (30, 5), (29, 3), (16, 1)),
                6: _V6},
        destination={4: ((32, 52), (24, 20), (29, 8), (28, 8), (30, 4), (27, 3), (16, 4), (23, 1)), 6: _V6},
        wild=(0.01, 0.03), leaves=(0.14, 0.016), skew=0.62, single=0.35, nesting=4, popularity=0.6, correlation=0.1,
        protocols=((TCP, 76), (UDP, 12), (ICMP, 7), (ANY, 5)),
        ports={TCP: (("WC", "EM", 70), ("WC", "AR", 9), ("WC", "WC", 16), ("WC", "HI", 5)),
               UDP: (("WC", "EM", 75), ("WC", "AR", 8), ("WC", "WC", 12), ("WC", "HI", 5))},
        exact=(0, 80), ranges=(0, 24),
    ),
    "fw": Kind(
        source={4: ((32, 44), (24, 26), (28, 11), (16, 8), (27, 4), (22, 3), (20, 2), (8, 2)), 6: _V6},
        destination={4: ((32, 54), (24, 22), (28, 11), (16, 6), (29, 4), (20, 2), (8, 1)), 6: _V6},
        wild=(0.16, 0.18), leaves=(0.08, 0.05), skew=0.70, single=0.40, nesting=5, popularity=0.8, correlation=0.05,
        protocols=((TCP, 56), (UDP, 29), (ICMP, 7), (GRE, 2), (ESP, 1), (ANY, 5)),
        ports={TCP: (("WC", "EM", 46), ("WC", "AR", 14), ("WC", "WC", 20), ("WC", "HI", 6), ("EM", "WC", 5),
                     ("HI", "EM", 6), ("HI", "HI", 3)),
               UDP: (("WC", "EM", 42), ("WC", "AR", 16), ("WC", "WC", 18), ("EM", "EM", 5), ("EM", "WC", 9),
                     ("HI", "EM", 7), ("WC", "LO", 3))},
        exact=(8, 40), ranges=(0, 22),
    ),
    "ipc": Kind(
        source={4: ((32, 38), (24, 21), (28, 11), (27, 10), (16, 7), (20, 6), (22, 4), (30, 3)), 6: _V6},
        destination={4: ((32, 43), (24, 22), (28, 11), (22, 6), (16, 6), (26, 6), (29, 4), (20, 2)), 6: _V6},
        wild=(0.05, 0.07), leaves=(0.04, 0.08), skew=0.64, single=0.35, nesting=5, popularity=0.7, correlation=0.2,
        protocols=((TCP, 50), (UDP, 28), (ICMP, 7), (OSPF, 1), (ANY, 14)),
        ports={TCP: (("WC", "EM", 36), ("WC", "AR", 11), ("WC", "WC", 34), ("WC", "HI", 5), ("EM", "WC", 6),
                     ("HI", "EM", 5), ("EM", "HI", 3)),
               UDP: (("WC", "EM", 34), ("WC", "AR", 10), ("WC", "WC", 34), ("EM", "EM", 8), ("EM", "WC", 7),
                     ("AR", "WC", 4), ("HI", "EM", 3))},
        exact=(9, 50), ranges=(3, 26),
    ),
}  # fmt: skip


def generate(kind: str, count: int, *, version: Version = 4, seed: int = 1) -> Rules:
    """Return a rule set. Raises ValueError for a kind or size that is not offered."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    if not FEWEST <= count <= MOST:
        raise ValueError(f"{count} rules are not {FEWEST} to {MOST}")
    rng = random.Random(f"{kind} {count} {version} {seed}")
    shape = KINDS[kind]
    sides = [_Side(rng, shape, side, count, version) for side in (0, 1)]
    ports = [_Ports(rng, shape.exact[side], shape.ranges[side]) for side in (0, 1)]
    rules: dict[Fields, None] = {}
    while len(rules) < count:
        before = len(rules)
        for rule in _draw(rng, shape, sides, ports, count - before):
            rules[rule] = None
        if len(rules) - before < (count - before) // 4:
            for side in sides:
                side.grow()
    ordered = _ordered(rng, list(rules)[:count], version)
    return Rules(f"{kind}-{_short(count)}{'-v6' * (version == 6)}", version, packed(version, ordered))


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


class _Side:
    """The addresses of one side."""

    def __init__(self, rng: random.Random, shape: Kind, side: int, count: int, version: Version) -> None:
        self.rng = rng
        self.shape = shape
        self.version = version
        self.bits = 32 if version == 4 else 128
        self.lengths = (shape.source, shape.destination)[side][version]
        self.count = max(16, int(count * shape.leaves[side]))
        self.grow(factor=1)

    def grow(self, factor: int = 2) -> None:
        """Make a tree with more leaves."""
        self.count *= factor
        self.leaves = sorted(self._tree())
        ranks = list(range(1, len(self.leaves) + 1))
        self.rng.shuffle(ranks)
        self.weights = list(accumulate(rank**-self.shape.popularity for rank in ranks))
        self.kept: dict[int, list[int]] = {}

    def draw(self, number: int) -> list[int]:
        """Indices of leaves."""
        return self.rng.choices(range(len(self.leaves)), cum_weights=self.weights, k=number)

    def prefix(self, leaf: int, length: int) -> tuple[int, int]:
        """The leaf cut to a length, or to one that was used of it before if there are too many."""
        kept = self.kept.setdefault(leaf, [])
        if length and length not in kept:
            if len(kept) < self.shape.nesting:
                kept.append(length)
            else:
                length = self.rng.choice(kept)
        shift = self.bits - length
        return (self.leaves[leaf] >> shift << shift, length)

    def _tree(self) -> set[int]:
        depth, top, begun = (32, 0, 0) if self.version == 4 else (64, 1, 3)
        random, bits, skew = self.rng.random, self.rng.getrandbits, self.shape.skew
        found: set[int] = set()
        todo = [(begun, top, self.count)]
        while todo:
            level, prefix, leaves = todo.pop()
            if leaves == 1 or level == depth:
                address = prefix << (depth - level) | (bits(depth - level) if level < depth else 0)
                found.add(address if self.version == 4 else address << 64 | bits(8 if random() < 0.5 else 64))
                continue
            # The first levels are nearly always split, or everything would lie in one corner.
            if random() < self.shape.single * min(1.0, (level - begun) / 8):
                todo.append((level + 1, prefix << 1 | bits(1), leaves))
                continue
            heavy = min(leaves - 1, max(1, round(leaves * (skew + (random() - 0.5) * 0.2))))
            side = bits(1)
            todo.append((level + 1, prefix << 1 | side, heavy))
            todo.append((level + 1, prefix << 1 | (1 - side), leaves - heavy))
        return found


class _Ports:
    """The ports that one side uses."""

    def __init__(self, rng: random.Random, exact: int, ranges: int) -> None:
        single = list(_PORTS[:exact])
        while len(single) < exact:
            if (port := rng.choice((rng.randrange(1, 1024), rng.randrange(1024, 1 << 16)))) not in single:
                single.append(port)
        pool: set[tuple[int, int]] = set()
        while len(pool) < ranges:
            low = rng.choice((rng.choice(_PORTS), rng.randrange(1024, 60000), rng.randrange(1024)))
            high = min(0xFFFF, low + rng.choice((1, 2, 4, 9, 10, 99, 100, 500, 999, 5000)))
            if (low, high) not in ((0, 1023), (1024, 0xFFFF)):
                pool.add((low, high))
        self.rng = rng
        self.pools = {"WC": [ANY_PORTS], "HI": [(1024, 0xFFFF)], "LO": [(0, 1023)],
                      "EM": [(port, port) for port in single], "AR": sorted(pool)}  # fmt: skip
        self.weights = {name: list(accumulate(1 / rank for rank in range(1, len(made) + 1)))
                        for name, made in self.pools.items()}  # fmt: skip

    def draw(self, name: str) -> tuple[int, int]:
        """Ports of a class."""
        pool = self.pools[name]
        return pool[0] if len(pool) == 1 else self.rng.choices(pool, cum_weights=self.weights[name])[0]


def _choices(rng: random.Random, weighted: Sequence[tuple[int, float]], number: int) -> list[int]:
    return rng.choices([value for value, _ in weighted], [weight for _, weight in weighted], k=number)


def _draw(rng: random.Random, shape: Kind, sides: list[_Side], ports: list[_Ports], number: int) -> list[Fields]:
    found: list[Fields] = []
    leaves = [side.draw(number) for side in sides]
    lengths = [_choices(rng, side.lengths, number) for side in sides]
    pairs = {protocol: [(one, other) for one, other, _ in pairs] for protocol, pairs in shape.ports.items()}
    weights = {protocol: list(accumulate(weight for *_, weight in pairs)) for protocol, pairs in shape.ports.items()}
    for i, protocol in enumerate(_choices(rng, shape.protocols, number)):
        source, destination = leaves[0][i], leaves[1][i]
        if rng.random() < shape.correlation:
            # Both trees are sorted: the same place in the order is about the same part of the address space.
            destination = source * len(sides[1].leaves) // len(sides[0].leaves)
        wild = rng.random()
        one, other = lengths[0][i], lengths[1][i]
        if wild < shape.wild[0]:
            one = 0
        elif wild < sum(shape.wild):
            other = 0
        classes = rng.choices(pairs[protocol], cum_weights=weights[protocol])[0] if protocol in pairs else _BOTH
        found.append((
            sides[0].prefix(source, one), sides[1].prefix(destination, other), ports[0].draw(classes[0]),
            ports[1].draw(classes[1]), None if protocol == ANY else protocol,
        ))  # fmt: skip
    return found


def _ordered(rng: random.Random, rules: list[Fields], version: Version) -> list[Fields]:
    section = 16 if version == 4 else 40
    shift = (32 if version == 4 else 128) - section
    places: dict[int, float] = {}

    def place(rule: Fields) -> tuple[float, int]:
        (address, length), (low, high), (low2, high2) = rule[1], rule[2], rule[3]
        where = 1.0 if length < section else places.setdefault(address >> shift, rng.random())
        # Whatever covers a rule has shorter prefixes or wider ranges, never the opposite.
        specific = rule[0][1] + length - (high - low + 1).bit_length() - (high2 - low2 + 1).bit_length()
        return where, -(4 * specific + (rule[4] is not None)) * (1 << 20) + (high - low) + (high2 - low2)

    return sorted(rules, key=place)

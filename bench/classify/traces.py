"""Headers for a rule set: within its rules, drawn by Zipf's law, of one flow, that match nothing, and to do harm."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from bench.classify import scan
from bench.classify.files import NONE, Fields, Rules, Trace, headers, key, packed
from fastpath.rules import ANY_PORTS, Rule

HEADERS: Final = 65_536
EXPONENT: Final = 0.99
WORST: Final = 64
"""Headers that are repeated in the trace of the worst ones."""
PROBED: Final = 2048


def uniform(rules: Rules, seed: int, count: int = HEADERS) -> Trace:
    """A header within a rule, for rules drawn with equal chances: it may match a rule before it."""
    rng = random.Random(seed)
    listed = rules.rules()
    bits = 32 if rules.version == 4 else 128
    keys = [_within(rng, rules, rng.choice(listed), bits) for _ in range(count)]
    return Trace("uniform", rules.version, b"".join(keys))


def _within(rng: random.Random, rules: Rules, rule: Rule, bits: int) -> bytes:
    addresses: list[int] = []
    for net in (rule.source, rule.destination):
        free = bits - net.prefixlen if net else bits
        addresses.append((int(net.network_address) if net else 0) | (rng.getrandbits(free) if free else 0))
    protocol = rng.choice((6, 6, 6, 17, 17, 1)) if rule.protocol is None else rule.protocol
    ports = [
        rng.choice((low, high, rng.randint(low, high))) for low, high in (rule.source_ports, rule.destination_ports)
    ]
    return key(rules.version, (addresses[0], addresses[1], ports[0], ports[1], protocol))


def zipf(trace: Trace, exponent: float, seed: int, count: int = HEADERS) -> Trace:
    """Headers of a trace drawn by Zipf's law; which of them are the frequent ones is drawn as well."""
    rng = random.Random(f"zipf {seed}")
    order = list(range(len(trace)))
    rng.shuffle(order)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(len(order))))
    return trace.pick(rng.choices(order, cum_weights=weights, k=count), f"{trace.name}, zipf {exponent:g}")


def uniform_of(trace: Trace, seed: int, count: int = HEADERS) -> Trace:
    """Headers of a trace drawn with equal chances."""
    rng = random.Random(f"uniform {seed}")
    return trace.pick(rng.choices(range(len(trace)), k=count), f"{trace.name}, drawn")


def one_flow(trace: Trace, wanted: list[int] | None = None, count: int = HEADERS) -> Trace:
    """One header again and again: the first that matches a rule, if its answers are given."""
    first = next((i for i, rule in enumerate(wanted or ()) if rule != NONE), 0)
    return Trace("one flow", trace.version, trace.keys[first * trace.size : (first + 1) * trace.size] * count)


def crossed(trace: Trace, seed: int, count: int = HEADERS) -> Trace:
    """Each field from another header: every field is one that the rules know, few headers match as a whole."""
    rng = random.Random(f"crossed {seed}")
    columns = list(zip(*headers(trace), strict=True))
    drawn = [rng.choices(column, k=count) for column in columns]
    return Trace("crossed fields", trace.version, b"".join(key(trace.version, row) for row in zip(*drawn, strict=True)))


def misses(rules: Rules, trace: Trace, seed: int, count: int = HEADERS) -> Trace | None:
    """Headers that match nothing: half of the crossed ones, half at random; None if there are none."""
    rng = random.Random(f"misses {seed}")
    bits = 32 if rules.version == 4 else 128
    draw = rng.getrandbits
    rows = [(draw(bits), draw(bits), draw(16), draw(16), rng.choice((6, 17, 1))) for _ in range(count // 2)]
    strange = Trace("random", rules.version, b"".join(key(rules.version, row) for row in rows))
    found = []
    for candidates in (strange, crossed(trace, seed, count)):
        missed = [i for i, rule in enumerate(scan.answers(rules, candidates)) if rule == NONE]
        if missed:
            found.append(candidates.pick(rng.choices(missed, k=count // 2), ""))
    if not found:
        return None
    keys = b"".join(part.keys for part in found) * (3 - len(found))
    size = found[0].size
    every = [keys[i : i + size] for i in range(0, len(keys), size)]
    rng.shuffle(every)
    return Trace("all miss", rules.version, b"".join(every))


def worst(trace: Trace, cost: Callable[[bytes], float], count: int = HEADERS) -> Trace:
    """The headers for which `cost` of a batch of copies is highest, again and again."""
    size = trace.size
    step = max(1, len(trace) // PROBED)
    probed = [trace.keys[i * size : (i + 1) * size] for i in range(0, len(trace), step)]
    costs = [cost(one * 256) for one in probed]
    chosen = sorted(range(len(probed)), key=costs.__getitem__, reverse=True)[:WORST]
    repeated = b"".join(probed[i] for i in chosen)
    return Trace(
        "worst headers repeated", trace.version, (repeated * (count * size // len(repeated) + 1))[: count * size]
    )


def tuple_explosion(count: int, seed: int) -> Rules:
    """Rules of all pairs of prefix lengths alike, nested around one address: as many tuples as there can be."""
    rng = random.Random(f"tuples {count} {seed}")
    centre = [rng.getrandbits(32) for _ in range(2)]
    drawn: dict[Fields, float] = {}
    while len(drawn) < count:
        nets = []
        for address in centre:
            length = rng.randrange(1, 33)
            # The last bits differ: all prefixes of a side would lie in each other otherwise.
            value = address >> (32 - length) ^ rng.getrandbits(min(length, 6))
            nets.append((value << (32 - length), length))
        source_ports = rng.choice((ANY_PORTS, (1024, 0xFFFF), (53, 53)))
        destination_ports = rng.choice(((80, 80), ANY_PORTS, (1024, 0xFFFF)))
        drawn[nets[0], nets[1], source_ports, destination_ports, rng.choice((6, 17, None))] = rng.random()
    ordered = sorted(drawn, key=lambda rule: (-rule[0][1] - rule[1][1], drawn[rule]))
    return Rules(f"tuples-{count // 1000}k", 4, packed(4, ordered))


def hash_flooding(count: int, seed: int) -> Rules:
    """Rules that fall into few buckets of a table with a coarse mask: 64 pairs of /16 hold all of them."""
    rng = random.Random(f"flood {count} {seed}")
    pairs = [(rng.getrandbits(16) << 16, rng.getrandbits(16) << 16) for _ in range(64)]
    drawn: dict[Fields, None] = {}
    while len(drawn) < count:
        source, destination = (address | rng.getrandbits(4) for address in rng.choice(pairs))
        port = rng.randrange(1, 1024)
        drawn[(source, 32), (destination, 32), ANY_PORTS, (port, port), 6] = None
    return Rules(f"flood-{count // 1000}k", 4, packed(4, list(drawn)))

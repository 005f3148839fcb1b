"""Looks packets up in a flow cache, and what it lacks in the rules: specification and oracle of `_flowcache_c`."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from fastpath import _classify_py
from fastpath.rules import KEY4, KEY6, ZONES, key

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath._batch_py import Batch
    from fastpath._flowtable_py import FlowCache, Known
    from fastpath._ruleset_py import RuleSet

_GIVEN = 1 << 16


def lookup(
    batch: Batch,
    cache: FlowCache,
    rules: RuleSet,
    *,
    direction: int = 0,
    zone: int | None = None,
    connections: bool = False,
) -> int:
    """Do what `fastpath.classify.lookup` does, with the same results, asking the cache first.

    While another thread changes `rules`, a packet gets the answer of a version that was current at some time during the
    call, not always the same for all packets. Flows count packets, and bytes by column `length`; with `connections`
    both directions of a connection are one flow. One cache can serve several rule sets, directions and zones. Raises
    ValueError as `classify.lookup`, BatchInUseError while another thread uses the cache.
    """
    if not 0 <= direction <= 1:
        raise ValueError("direction is 0 or 1")
    if zone is not None and not 0 <= zone < ZONES:
        raise ValueError(f"zone is 0 to {ZONES - 1}")
    cache._enter()
    try:
        began = time.perf_counter_ns()
        if not cache._always and cache._governor.direct():
            matched = _classify_py.lookup(batch, rules, direction=direction, zone=zone, connections=connections)
            cache._counts["direct"] += batch.count
            cache._record(True, batch.count, 0, began)
            return matched
        asked = _asks_for_more(rules)
        packets: dict[int, list[tuple[int, bytes, int]]] = {4: [], 6: []}
        for i in range(batch.count):
            batch.rule[i] = -1
            header = _classify_py.header(batch, i, direction, zone, connections)
            if header is None:
                continue
            mark = _GIVEN | header.dscp << 8 | header.tcp_flags if asked else 0
            packets[header.version].append((i, key(header), mark))
        hits = 0
        for version, some in packets.items():
            lengths = [batch.length[i] for i, _, _ in some]
            found, answers = _ask(cache, rules, version, [(k, mark) for _, k, mark in some], lengths)
            hits += found
            for (i, _, _), rule in zip(some, answers, strict=True):
                batch.rule[i] = rule
        total = sum(map(len, packets.values()))
        cache._record(False, total, hits, began)
        return sum(batch.rule[i] >= 0 for i in range(batch.count))
    finally:
        cache._leave()


def lookup_keys(
    cache: FlowCache,
    rules: RuleSet,
    keys: Buffer,
    out: Buffer | array[int],
    version: int = 4,
    more: Buffer | None = None,
) -> int:
    """Do what `fastpath.classify.lookup_keys` does, with the same results, asking the cache first; see `lookup`.

    Flows count packets, but no bytes.
    """
    if version not in (4, 6):
        raise ValueError("version is 4 or 6")
    cache._enter()
    try:
        began = time.perf_counter_ns()
        if not cache._always and cache._governor.direct():
            n = _classify_py.lookup_keys(rules, keys, out, version, more)
            cache._counts["direct"] += n
            cache._record(True, n, 0, began)
            return n
        size = KEY4.size if version == 4 else KEY6.size
        data, target = bytes(keys), memoryview(out).cast("B")
        n = len(data) // size
        if len(data) % size:
            raise ValueError(f"keys: {len(data)} bytes are no whole number of keys of {size}")
        if target.nbytes < 4 * n:
            raise ValueError(f"out: {n} keys need {4 * n} aligned bytes")
        given = None if more is None else memoryview(more).cast("B")
        if given is not None and given.nbytes < 2 * n:
            raise ValueError(f"more: {n} keys need {2 * n} bytes")
        marks = None if given is None else given[: 2 * n].cast("H")
        asked = marks is not None and _asks_for_more(rules)
        some = [
            (data[i * size : (i + 1) * size], _GIVEN | marks[i] if asked and marks is not None else 0) for i in range(n)
        ]
        hits, answers = _ask(cache, rules, version, some, [0] * n)
        target[: 4 * n].cast("i")[:] = array("i", answers)
        cache._record(False, n, hits, began)
        return n
    finally:
        cache._leave()


def _asks_for_more(rules: RuleSet) -> bool:
    return any(rule.asks_for_more for rule in rules.rules().values())


def _ask(
    cache: FlowCache, rules: RuleSet, version: int, some: list[tuple[bytes, int]], lengths: list[int]
) -> tuple[int, list[int]]:
    """The answers for keys with marks, and how many were in the cache."""
    place, stamp = cache._view(rules)
    known: list[Known] = [(place, version, one, mark) for one, mark in some]
    found = [cache._find(one, stamp, size) for one, size in zip(known, lengths, strict=True)]
    missing = [i for i, rule in enumerate(found) if rule is None]
    if missing:
        answers = array("i", bytes(4 * len(missing)))
        marked = any(some[i][1] for i in missing)
        more = array("H", [some[i][1] & 0xFFFF for i in missing]) if marked else None
        _classify_py.lookup_keys(rules, b"".join(some[i][0] for i in missing), answers, version, more)
        for i, rule in zip(missing, answers, strict=True):
            found[i] = rule
            cache._keep(known[i], stamp, rule, lengths[i])
    return len(some) - len(missing), [-1 if rule is None else rule for rule in found]

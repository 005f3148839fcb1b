"""Looks packets up in a rule set in plain Python: specification and oracle of `_classify_c`."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from fastpath.connection_records import INVERSE, KEY, is_icmp
from fastpath.connections import Ct
from fastpath.flags import Flags
from fastpath.rules import KEY4, KEY6, ZONES, Header, first_match

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath._batch_py import Batch
    from fastpath._ruleset_py import RuleSet

_TCP = 6


def lookup_keys(
    rules: RuleSet, keys: Buffer, out: Buffer | array[int], version: int = 4, more: Buffer | None = None
) -> int:
    """Write the id of the rule that wins, -1 for none, for every key; return how many keys there are.

    `keys` are records of 16 bytes (`version` 4) or 64 bytes (6) as `fastpath.rules.key` makes them, one behind the
    other; `out` is a buffer of as many int32. `more` (uint16 a key) is DSCP * 256 + TCP flags; without it, rules that
    ask for those match nothing. Raises ValueError for sizes that do not fit and another version.
    """
    if version not in (4, 6):
        raise ValueError("version is 4 or 6")
    record = KEY6 if version == 6 else KEY4
    data = bytes(keys)
    if len(data) % record.size:
        raise ValueError(f"keys: {len(data)} bytes are no whole number of keys of {record.size}")
    n = len(data) // record.size
    target = memoryview(out).cast("B")
    if target.nbytes < 4 * n:
        raise ValueError(f"out: {n} keys need {4 * n} aligned bytes")
    marks = None if more is None else memoryview(more).cast("B").cast("H")
    if marks is not None and len(marks) < n:
        raise ValueError(f"more: {n} keys need {2 * n} bytes")
    all_rules = [(id, rule) for id, rule in rules.rules().items() if marks is not None or not rule.asks_for_more]
    answers = target[: 4 * n].cast("i")
    for i, fields in enumerate(record.iter_unpack(data)):
        *addresses, source_port, destination_port, protocol, zone = fields
        half = len(addresses) // 2
        answers[i] = first_match(all_rules, Header(
            version=4 if version == 4 else 6, source=_number(addresses[:half]), destination=_number(addresses[half:]),
            protocol=protocol >> 1, source_port=source_port, destination_port=destination_port, zone=zone & 0x7FFF,
            direction=zone >> 15, ports_known=not protocol & 1, tcp_flags=marks[i] & 0xFF if marks is not None else 0,
            dscp=marks[i] >> 8 if marks is not None else 0,
        ))  # fmt: skip
    return n


def lookup(
    batch: Batch, rules: RuleSet, *, direction: int = 0, zone: int | None = None, connections: bool = False
) -> int:
    """Write the id of the rule that wins to the batch's `rule` column, -1 for none; return how many packets matched.

    Keys must have been extracted (`fastpath.flow.extract`). Packets without an IP key match nothing, dropped packets
    are not looked up. The zone is that of each packet's key, or `zone` for all. With `connections`, packets that
    answer (`Ct.REPLY` in column `ct`, of new or established connections) are looked up as their reverse in the other
    direction: rules of connections are about who began. TCP flags and DSCP stay the packet's own. Raises ValueError
    for a direction or zone that does not exist.
    """
    if not 0 <= direction <= 1:
        raise ValueError("direction is 0 or 1")
    if zone is not None and not 0 <= zone < ZONES:
        raise ValueError(f"zone is 0 to {ZONES - 1}")
    all_rules = list(rules.rules().items())
    matched = 0
    for i in range(batch.count):
        found = header(batch, i, direction, zone, connections)
        batch.rule[i] = -1 if found is None else first_match(all_rules, found)
        matched += batch.rule[i] >= 0
    return matched


def header(batch: Batch, index: int, direction: int, zone: int | None, connections: bool) -> Header | None:
    """What rules are asked about a packet, see `lookup`; None if it is dropped or has no IP key."""
    source, destination, source_port, destination_port, protocol, version, own = KEY.unpack(
        bytes(batch.key[index, j] for j in range(KEY.size))
    )
    if batch.verdict[index] or version not in (4, 6):
        return None
    flags, ct = batch.flags[index], batch.ct[index]
    if connections and ct & Ct.REPLY and ct & Ct.KIND in (Ct.NEW, Ct.ESTABLISHED):
        direction ^= 1
        source, destination = destination, source
        if is_icmp(version, protocol):
            source_port = bytes([INVERSE[version].get(source_port[0], source_port[0]), source_port[1]])
        else:
            source_port, destination_port = destination_port, source_port
    size = 4 if version == 4 else 16
    dscp, tcp_flags = _more(batch, index, version, protocol, flags)
    return Header(
        version=4 if version == 4 else 6, source=int.from_bytes(source[:size], "big"),
        destination=int.from_bytes(destination[:size], "big"), protocol=protocol,
        source_port=int.from_bytes(source_port, "big"), destination_port=int.from_bytes(destination_port, "big"),
        zone=own & 0x7FFF if zone is None else zone, direction=direction, tcp_flags=tcp_flags, dscp=dscp,
        ports_known=not flags & Flags.LATER_FRAGMENT,
    )  # fmt: skip


def _number(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value << 32 | word
    return value


def _more(batch: Batch, index: int, version: int, protocol: int, flags: int) -> tuple[int, int]:
    """DSCP and TCP flags of a packet; 0 where it has none."""
    packet = batch.frame(index)
    layer3, layer4 = batch.layers[index] & 0xFFFF, batch.layers[index] >> 16
    dscp = tcp_flags = 0
    if layer3 + 2 <= len(packet):
        word = int.from_bytes(packet[layer3 : layer3 + 2], "big")
        dscp = word >> (2 if version == 4 else 6) & 0x3F
    if protocol == _TCP and layer4 and layer4 + 14 <= len(packet) and not flags & Flags.LATER_FRAGMENT:
        tcp_flags = packet[layer4 + 13]
    return dscp, tcp_flags

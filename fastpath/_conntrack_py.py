"""Connection tracking in plain Python: specification, fall-back and oracle of `_conntrack_c`.

- A connection is two endpoints, a protocol and a zone; both directions find the same one. ICMP queries and replies are
  connections of their identifier.
- `track` says of every packet that is not dropped what it is, in the column `ct` (bits of `fastpath.connections.Ct`),
  and lets it change its connection. It makes none: `commit` does, for what the rules have let pass.
- UDP, ICMP and the others are established by the first answer. A UDP exchange is assured when it goes on after two
  seconds. TCP: `_conntrack_tcp_py`. SCTP, DCCP and UDP-Lite have ports and else are as unknown protocols.
- An ICMP error is RELATED to the connection of the packet that it quotes, if it goes to who sent that (RFC 5508); it
  changes nothing. Errors about no known connection are INVALID.
- Fragments but the first of protocols with ports are INVALID: reassemble before. So are cut and contradictory packets.
- Time comes with each call and never goes back. What has expired is not found; `expire` removes it.
- When the table or a zone is full, first goes what has expired, then the oldest connection that is not assured or is
  closing: of the same zone if it has one, else (table full only) of any. Without one the packet is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastpath import _conntrack_tcp_py as tcp
from fastpath._batch_py import KEY_BYTES
from fastpath._flow_py import parse_embedded
from fastpath.batch import Batch
from fastpath.connection_records import (
    FORMAT,
    HEADER,
    INVERSE,
    MAGIC,
    QUERIES,
    RECORD,
    WITH_PORTS,
    checked,
    described,
    is_icmp,
    normal,
)
from fastpath.connections import (
    ICMP,
    ICMP6,
    LAST_TICK,
    MOST,
    OTHER,
    STREAM_TICKS,
    TICK_BITS,
    UDP,
    UDP_STREAM,
    ZONES,
    Connection,
    Ct,
    Mark,
    ticks_of,
)
from fastpath.flags import Flags
from fastpath.reasons import Reason

_ERRORS: Final = {4: frozenset({3, 4, 5, 11, 12}), 6: frozenset({1, 2, 3, 4})}
_UNTRACKED: Final = frozenset({130, 131, 132, 133, 134, 135, 136, 143})
_BROKEN: Final = Flags.TRUNCATED | Flags.MALFORMED
_COUNTERS: Final = ("created", "expired", "evicted", "closed", "flushed", "denied", "invalid", "full", "limited")
_NO_CT: Final = int(Ct.LOOKUP)
_INVALID: Final = int(Ct.INVALID)


class _Packet:
    """What `track` and `commit` need of one packet: its normal key, its direction, its layer 4."""

    __slots__ = ("begins", "frame", "high", "key", "octets", "segment")

    def __init__(self, key: bytes, high: bool) -> None:
        self.key, self.high = key, high
        self.segment: tcp.Segment | None = None
        self.begins = True
        self.octets = 0


class Conntrack:
    """Connections of up to 65536 zones, for one thread at a time.

    `capacity` connections, 1 to 2^26. `seed` (64 bits) keys the hash; None takes a random one, so that nobody outside
    can choose flows that collide. `timeouts`: seconds, see `fastpath.connections.TIMEOUTS`. `zone_limit`: connections
    of each zone, 0 without limit; see `limit`. `window_check`: TCP's sequence numbers are checked. `pick_up`: TCP
    connections are taken in the middle, after a restart without `restore`. `count`: packets and bytes are counted.

    Raises ValueError naming what is out of range, MemoryError.
    """

    def __init__(self, capacity: int, *, seed: int | None = None, timeouts: Mapping[str, int] | None = None,
                 zone_limit: int = 0, window_check: bool = False, pick_up: bool = True,
                 count: bool = False) -> None:  # fmt: skip
        if not 1 <= capacity <= MOST:
            raise ValueError(f"capacity is 1 to {MOST} connections")
        if seed is not None and not 0 <= seed < 1 << 64:
            raise ValueError("seed is 64 bits")
        self._capacity = capacity
        self._ticks = ticks_of(timeouts)
        self._zone_limit = _limit(zone_limit)
        self._limits: dict[int, int] = {}
        self._windows, self._pick_up, self._count = bool(window_check), bool(pick_up), bool(count)
        self._entries: dict[bytes, tcp.Entry] = {}
        self._droppable: dict[bytes, tcp.Entry] = {}
        self._zones: dict[int, int] = {}
        self._counters = dict.fromkeys(_COUNTERS, 0)
        self._base: int | None = None
        self._tick = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def capacity(self) -> int:
        """Connections there is room for."""
        return self._capacity

    @property
    def stats(self) -> dict[str, int]:
        """`connections` now, of them `droppable`, `capacity`; since it was made: created, expired, evicted (to make
        room), closed (reset before an answer, or begun anew), flushed, denied connections; invalid packets; packets
        dropped because the table was full, or their zone (limited)."""
        held = {"connections": len(self._entries), "droppable": len(self._droppable), "capacity": self._capacity}
        return held | self._counters

    def track(self, batch: Batch, now: int, *, zone: int | None = None, policy: int = 0) -> int:
        """Fill in the column `ct` of every packet that is not dropped; returns how many need the rules (LOOKUP).

        The batch has been through `fastpath.flow.extract` or `keys`. `now`: ns of a clock that does not go back; an
        earlier one counts as the latest. `zone`: of all packets; None takes it from the key. `policy`: 32 bits; of
        connections that were made or confirmed under another one, LOOKUP is set. The rules are asked about who began,
        so of a packet with REPLY about its reverse. Raises ValueError naming what is out of range, BatchInUseError.
        """
        self._at(now)
        _check(zone, policy)
        asked = 0
        for i in range(batch.count):
            if batch.verdict[i]:
                continue
            ct = self._track(batch, i, zone, policy)
            batch.ct[i] = ct
            asked += ct & Ct.LOOKUP != 0
            self._counters["invalid"] += ct & Ct.KIND == Ct.INVALID
        return asked

    def commit(self, batch: Batch, now: int, *, zone: int | None = None, policy: int = 0, denied: int = 0) -> int:
        """Make the connections of new packets, and confirm known ones under `policy`; returns how many were made.

        Concerns packets with LOOKUP: those that are not dropped get KNOWN and lose LOOKUP; a connection that is there
        already, by an earlier packet of the batch, is changed by the packet as in `track`. Those dropped with the
        verdict `denied` (not 0) lose their connection. A packet whose connection has no room is dropped, for
        CONNECTIONS_FULL or ZONE_FULL. Raises as `track`.
        """
        self._at(now)
        _check(zone, policy)
        if not 0 <= denied < 1 << 32:
            raise ValueError("denied is a verdict")
        made = 0
        for i in range(batch.count):
            ct, verdict = batch.ct[i], batch.verdict[i]
            kind = ct & Ct.KIND
            if not ct & Ct.LOOKUP or kind not in (Ct.NEW, Ct.ESTABLISHED) or (verdict and verdict != denied):
                continue
            packet = self._packet(batch, i, zone)
            if isinstance(packet, int):
                continue
            entry = self._find(packet.key)
            if verdict:
                if entry is not None and ct & Ct.KNOWN:
                    self._remove(entry, "denied")
            elif ct & Ct.KNOWN:
                if entry is not None:
                    entry.policy = policy
                batch.ct[i] = ct & ~Ct.LOOKUP
            elif entry is not None:
                batch.ct[i] = self._change(entry, packet, policy)
            elif not packet.begins:
                continue
            elif reason := self._make(packet, policy):
                batch.verdict[i] = reason
            else:
                batch.ct[i] = ct & ~Ct.LOOKUP | Ct.KNOWN
                made += 1
        return made

    def expire(self, now: int) -> int:
        """Remove what has expired; returns how many connections. Raises ValueError."""
        self._at(now)
        return self._sweep()

    def flush(self, zone: int) -> int:
        """Forget all connections of a zone, at once however many there are; returns how many. Raises ValueError."""
        _check(zone, 0)
        gone = [entry for entry in self._entries.values() if _zone(entry.key) == zone]
        for entry in gone:
            self._remove(entry, "flushed")
        return len(gone)

    def limit(self, zone: int, connections: int | None) -> None:
        """Give a zone a limit of its own; 0 none, None what all have. What it has stays. Raises ValueError."""
        _check(zone, 0)
        if connections is None:
            self._limits.pop(zone, None)
        else:
            self._limits[zone] = _limit(connections)

    def zone_count(self, zone: int) -> int:
        """How many connections a zone has, expired ones that nobody removed included. Raises ValueError."""
        _check(zone, 0)
        return self._zones.get(zone, 0)

    def connections(self) -> Iterator[Connection]:
        """Everything that has not expired, for people; changes of the table meanwhile may or may not be seen."""
        for record in RECORD.iter_unpack(self.export()[HEADER.size :]):
            yield described(record)

    def export(self) -> bytes:
        """Everything that has not expired, for `restore` of another table; times are kept as what is left of them.

        See `fastpath.connections.RECORD`.
        """
        live = [entry for entry in self._entries.values() if entry.expires > self._tick]
        first = [entry for entry in self._droppable.values() if entry.expires > self._tick]
        rest = [entry for entry in live if entry.key not in self._droppable]
        records = [self._record(entry) for entry in (*first, *rest)]
        return HEADER.pack(MAGIC, FORMAT, RECORD.size, len(records), 0) + b"".join(records)

    def restore(self, data: bytes) -> int:
        """Take in an export; returns how many connections were made. What is there already stays as it is, what finds
        no free room is left out, limits of zones do not count.

        Raises ConntrackError if the data is no export, or not of this format; nothing is changed then.
        """
        records = checked(data)
        made = 0
        for fields in records:
            if len(self._entries) < self._capacity and fields[0] not in self._entries:
                self._restore(fields)
                made += 1
        return made

    def _at(self, now: int) -> None:
        if not 0 <= now < 1 << 64:
            raise ValueError("now is nanoseconds, 64 bits")
        if self._base is None:
            self._base = now
        tick = max(0, now - self._base) >> TICK_BITS
        if tick > LAST_TICK:
            raise ValueError("now is more than eight years after the first one")
        self._tick = max(self._tick, tick)

    def _packet(self, batch: Batch, i: int, zone: int | None) -> _Packet | int:
        """What is known of packet i, or what to write if it is not tracked."""
        flags = batch.flags[i]
        key = bytes(batch.key.cast("B")[i * KEY_BYTES : (i + 1) * KEY_BYTES])
        version, protocol = key[37], key[36]
        if version not in (4, 6):
            return _INVALID if flags & (Flags.IPV4 | Flags.IPV6) else _NO_CT
        if flags & _BROKEN:
            return _INVALID
        found = _Packet(*normal(key, zone))
        ip, at, length = batch.layers[i] & 0xFFFF, batch.layers[i] >> 16, batch.length[i]
        found.octets = max(0, length - ip)
        if protocol in WITH_PORTS:
            if not flags & Flags.PORTS:
                return _INVALID
            if protocol in (6, 17):
                data = _layer4(batch, i, version, ip, at, length)
                if protocol == 6:
                    found.segment = tcp.segment(data, len(data))
                    if found.segment is None:
                        return _INVALID
                    found.begins = tcp.begins(found.segment, self._pick_up)
                elif len(data) < 8 or not 8 <= int.from_bytes(data[4:6], "big") <= len(data):
                    return _INVALID
        elif is_icmp(version, protocol):
            if not flags & Flags.ICMP:
                return _INVALID
            kind = key[32]
            if kind not in INVERSE[version]:
                if version == 6 and kind in _UNTRACKED:
                    return _NO_CT
                return _INVALID
            found.begins = kind in QUERIES[version]
        return found

    def _track(self, batch: Batch, i: int, zone: int | None, policy: int) -> int:
        key = bytes(batch.key.cast("B")[i * KEY_BYTES : (i + 1) * KEY_BYTES])
        if (is_icmp(key[37], key[36]) and batch.flags[i] & Flags.ICMP and not batch.flags[i] & _BROKEN
                and key[37] in _ERRORS and key[32] in _ERRORS[key[37]]):  # fmt: skip
            return self._related(batch, i, zone, policy, key)
        packet = self._packet(batch, i, zone)
        if isinstance(packet, int):
            return packet
        entry = self._find(packet.key)
        if entry is None:
            return int(Ct.NEW | Ct.LOOKUP) if packet.begins else _INVALID
        return self._change(entry, packet, policy)

    def _change(self, entry: tcp.Entry, packet: _Packet, policy: int) -> int:
        reply = int(packet.high != bool(entry.marks & Mark.FROM_HIGH))
        ct = Ct.ESTABLISHED if reply or entry.marks & Mark.REPLIED else Ct.NEW
        if reply:
            ct |= Ct.REPLY
        protocol = entry.key[36]
        if packet.segment is not None:
            lasts = tcp.receive(entry, packet.segment, reply, self._windows, self._ticks)
            if lasts == tcp.INVALID:
                return _INVALID
            if lasts == tcp.REOPEN:
                self._remove(entry, "closed")
                return int(Ct.NEW | Ct.LOOKUP)
        else:
            lasts = self._ticks[self._timeout(entry)]
            if protocol == 17 and entry.marks & Mark.REPLIED and self._tick >= entry.last_end:
                entry.marks |= Mark.ASSURED
                lasts = self._ticks[UDP_STREAM]
        ct |= Ct.KNOWN
        if entry.policy != policy:
            ct |= Ct.LOOKUP
        if lasts == tcp.REMOVE:
            self._remove(entry, "closed")
            return int(ct)
        if lasts:
            entry.expires = self._tick + lasts
        if reply:
            entry.marks |= Mark.REPLIED
        self._count_packet(entry, packet, reply)
        self._sort(entry)
        return int(ct)

    def _count_packet(self, entry: tcp.Entry, packet: _Packet, reply: int) -> None:
        if self._count:
            entry.packets[reply] += 1
            entry.octets[reply] += packet.octets

    def _sort(self, entry: tcp.Entry) -> None:
        droppable = not entry.marks & Mark.ASSURED or entry.state in tcp.CLOSING
        if not droppable:
            self._droppable.pop(entry.key, None)
        elif entry.key not in self._droppable:
            self._droppable[entry.key] = entry

    @staticmethod
    def _timeout(entry: tcp.Entry) -> int:
        version, protocol = entry.key[37], entry.key[36]
        if protocol == 17:
            return UDP
        if is_icmp(version, protocol):
            return ICMP if version == 4 else ICMP6
        return OTHER

    def _related(self, batch: Batch, i: int, zone: int | None, policy: int, key: bytes) -> int:
        ip, length = batch.layers[i] & 0xFFFF, batch.length[i]
        if ip + (20 if key[37] == 4 else 40) > length:
            return _INVALID
        found = parse_embedded(batch.frame(i))
        if found is None:
            return _INVALID
        inner, _, flags = found
        version, protocol = inner[37], inner[36]
        if not version or flags & (_BROKEN | Flags.LATER_FRAGMENT) or inner[:16] != key[16:32]:
            return _INVALID
        if is_icmp(version, protocol) and inner[32] not in INVERSE[version]:
            return _INVALID
        if protocol in WITH_PORTS and not flags & Flags.PORTS:
            return _INVALID
        if zone is None:
            zone = _zone(key)
        wanted, high = normal(inner, zone)
        entry = self._find(wanted)
        if entry is None:
            return _INVALID
        ct = Ct.RELATED | Ct.KNOWN
        if high == bool(entry.marks & Mark.FROM_HIGH):
            ct |= Ct.REPLY
        if entry.policy != policy:
            ct |= Ct.LOOKUP
        return int(ct)

    def _find(self, key: bytes) -> tcp.Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires <= self._tick:
            self._remove(entry, "expired")
            return None
        return entry

    def _make(self, packet: _Packet, policy: int) -> int:
        """Make the connection of a packet; the reason why there is no room, or 0."""
        zone = _zone(packet.key)
        limit = self._limits.get(zone, self._zone_limit)
        if limit and self._zones.get(zone, 0) >= limit:
            self._sweep()
            if self._zones.get(zone, 0) >= limit and not self._evict(zone):
                self._counters["limited"] += 1
                return int(Reason.ZONE_FULL)
        if len(self._entries) >= self._capacity:
            self._sweep()
            if len(self._entries) >= self._capacity and not (self._evict(zone) or self._evict(None)):
                self._counters["full"] += 1
                return int(Reason.CONNECTIONS_FULL)
        entry = tcp.Entry(packet.key, int(Mark.FROM_HIGH) if packet.high else 0, policy)
        if packet.segment is not None:
            lasts = tcp.begin(entry, packet.segment, self._windows, self._ticks)
        else:
            lasts = self._ticks[self._timeout(entry)]
            if packet.key[36] == 17:
                entry.last_end = self._tick + STREAM_TICKS
        entry.expires = self._tick + lasts
        self._add(entry)
        self._count_packet(entry, packet, 0)
        self._counters["created"] += 1
        return 0

    def _add(self, entry: tcp.Entry) -> None:
        zone = _zone(entry.key)
        self._entries[entry.key] = entry
        self._zones[zone] = self._zones.get(zone, 0) + 1
        self._sort(entry)

    def _remove(self, entry: tcp.Entry, why: str) -> None:
        del self._entries[entry.key]
        self._droppable.pop(entry.key, None)
        self._zones[_zone(entry.key)] -= 1
        self._counters[why] += 1

    def _evict(self, zone: int | None) -> bool:
        for entry in self._droppable.values():
            if zone is None or _zone(entry.key) == zone:
                self._remove(entry, "evicted")
                return True
        return False

    def _sweep(self) -> int:
        gone = [entry for entry in self._entries.values() if entry.expires <= self._tick]
        for entry in gone:
            self._remove(entry, "expired")
        return len(gone)

    def _record(self, entry: tcp.Entry) -> bytes:
        last_end = entry.last_end
        if entry.key[36] == 17:
            last_end = max(0, last_end - self._tick)
        return RECORD.pack(
            entry.key, entry.policy, entry.expires - self._tick, last_end, entry.state, entry.marks, entry.last, 0,
            *entry.sides[0].fields(), *entry.sides[1].fields(), entry.last_seq, entry.last_ack, entry.last_window,
            entry.last_scale, entry.last_bits, entry.retransmissions, *entry.packets, *entry.octets,
        )  # fmt: skip

    def _restore(self, fields: tuple[Any, ...]) -> None:
        key, policy, left, last_end, state, marks, last, _ = fields[:8]
        entry = tcp.Entry(key, marks, policy)
        entry.expires = self._tick + left
        entry.last_end = last_end + self._tick if key[36] == 17 else last_end
        entry.state, entry.last = state, last
        for side, at in zip(entry.sides, (8, 14), strict=True):
            side.end, side.most_end, side.window, side.acked, side.scale, side.bits = fields[at : at + 6]
        (entry.last_seq, entry.last_ack, entry.last_window, entry.last_scale, entry.last_bits,
         entry.retransmissions) = fields[20:26]  # fmt: skip
        if self._count:
            entry.packets, entry.octets = list(fields[26:28]), list(fields[28:30])
        self._add(entry)


def _layer4(batch: Batch, i: int, version: int, ip: int, at: int, length: int) -> bytes:
    """Layer 4 of packet i, as long as the IP header says; empty if the columns do not fit the packet."""
    least = 20 if version == 4 else 40
    if ip + least > at or at > length:
        return b""
    frame = batch.frame(i)
    if version == 4:
        end = ip + int.from_bytes(frame[ip + 2 : ip + 4], "big")
    else:
        size = int.from_bytes(frame[ip + 4 : ip + 6], "big")
        end = ip + 40 + size if size else length
    return frame[at : min(end, length)]


def _zone(key: bytes) -> int:
    return int.from_bytes(key[38:40], "little")


def _limit(connections: int) -> int:
    if not 0 <= connections < 0xFFFFFFFF:
        raise ValueError("zone_limit is 0 (none) or a number of connections, 32 bits")
    return connections


def _check(zone: int | None, policy: int) -> None:
    if zone is not None and not 0 <= zone < ZONES:
        raise ValueError("zone is 0 to 65535")
    if not 0 <= policy < 1 << 32:
        raise ValueError("policy is 32 bits")

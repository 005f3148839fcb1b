"""Prepared outer headers of many tunnels in plain Python: specification and oracle of `_tunnels_c`."""

from __future__ import annotations

from typing import Any, Final

from fastpath._tables import by_reason, fresh_counters
from fastpath._template import Template, check, template
from fastpath.reasons import Reason
from fastpath.vxlan_errors import TableFullError

CAPACITY: Final = 4096


class Tunnels:
    """A table of up to `capacity` tunnels, for `encap`; a batch's `tunnel` column holds numbers that `add` gave.

    Tunnels may be added, replaced and removed while other threads encapsulate with the table: a call that already runs
    ends with the table as it was when it began, later ones see the change. (An update during a call copies the table
    once; bulk updates are best done together.) Raises ValueError for a capacity that is not 1 to 1048576.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = check("capacity", capacity, 1, 1 << 20)
        self._table: dict[int, Template] = {}
        self._free: list[int] = []
        self._next = 0
        self._counters = fresh_counters()
        self._identification = 0

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, index: object) -> bool:
        return index in self._table

    @property
    def capacity(self) -> int:
        """Tunnels there is room for."""
        return self._capacity

    @property
    def counters(self) -> memoryview:
        """Packets by verdict, uint64, the index is a `Reason`; [0] went on. Read-only, and always current."""
        return memoryview(self._counters).toreadonly()

    def counts(self) -> dict[Reason, int]:
        """`counters` as they are now, by reason."""
        return by_reason(self._counters)

    def add(self, **fields: Any) -> int:
        """Add a tunnel and return its number.

        Required:

        - vni: 0 to 16777215
        - source, destination: outer addresses, both IPv4 or both IPv6, text or bytes in network order
        - source_mac, destination_mac: of the outer Ethernet header, text (02:00:00:00:00:01) or bytes

        With defaults:

        - port (4789): UDP destination port. The source port is 49152 to 65535, from the inner flow's hash, the same
          for all of a flow's packets in both directions (RFC 7348 section 5)
        - ttl (64): or "inherit", the inner TTL or hop limit (64 for what is not IP); an inherited 0 drops the packet
        - dscp (0): or "inherit" (0 for what is not IP)
        - ecn ("copy"): the inner field, RFC 6040's normal mode; "compatible": Not-ECT, its compatibility mode, for a
          decapsulator that may not know RFC 6040
        - df (True): the outer Don't Fragment bit; "inherit": the inner one, set for IPv6, not set for what is not IP.
          Where it is set, the identification is 0 (RFC 6864), else it counts packets. IPv6 has no such bit
        - checksum ("zero"): of UDP. "full": over all of the packet. "local": as "full", but where the inner checksum
          is known to be right (flag VALID_CHECKSUM) without reading the payload (Local Checksum Offload). Where it is
          partial (flag PARTIAL_CHECKSUM), both do that, for the packet as it will be when the device has completed it
        - vlan (None): 802.1Q tag of the outer frame, 1 to 4094
        - mtu (None): the longest outer IP packet, bytes: longer ones are dropped, nothing is ever fragmented
        - flow_label ("hash"): of the outer IPv6 header; or 0 to 1048575
        - gbp (None): group policy id, 0 to 65535 (draft-smith-vxlan-group-policy)

        Raises TypeError for a missing or unknown field, ValueError naming the field that is out of range, and
        TableFullError.
        """
        prepared = template(**fields)
        if self._free:
            index = self._free.pop()
        elif self._next < self._capacity:
            index = self._next
            self._next += 1
        else:
            raise TableFullError(self._capacity)
        self._table[index] = prepared
        return index

    def replace(self, index: int, **fields: Any) -> None:
        """Give tunnel `index` new fields, all of them: see `add`. Raises KeyError if it is not there."""
        if index not in self:
            raise KeyError(index)
        self._table[index] = template(**fields)

    def remove(self, index: int) -> None:
        """Remove tunnel `index`; its number may be given again. Raises KeyError if it is not there."""
        if index not in self:
            raise KeyError(index)
        del self._table[index]
        self._free.append(index)

    def _get(self, index: int) -> Template | None:
        return self._table.get(index)

    def _begin(self, packets: int) -> int:
        first = self._identification
        self._identification = (first + packets) & 0xFFFFFFFF
        return first

    def _count(self, reason: int) -> None:
        self._counters[reason] += 1

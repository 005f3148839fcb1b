"""What an endpoint takes from the underlay, in plain Python: specification and oracle of `_vtep_c`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from fastpath._tables import by_reason, fresh_counters
from fastpath._template import address, check
from fastpath.reasons import Reason
from fastpath.vxlan_errors import TableFullError

CAPACITY: Final = 1 << 17
RESERVED: Final = ("strict", "ignore", "count")


class Vtep:
    """A VXLAN tunnel endpoint: which frames `decap` takes, and which network each VNI is.

    - addresses: its own; a frame to another outer destination is dropped. None given: any destination
    - port: UDP destination port
    - reserved: what happens to frames with reserved bits set: "strict" drops them as Linux does, "ignore" lets them go
      on as RFC 7348 says, "count" does so with the flag RESERVED_BITS and counts them under VXLAN_RESERVED
    - zero_checksum6: accept UDP without a checksum over IPv6 (RFC 6935, 6936)
    - gbp, gpe: group policies and the generic protocol extension are known, not reserved bits. Of GPE, only Ethernet
      is taken, whatever the policy; OAM packets never are
    - verify_checksum: verify the UDP checksum where there is one
    - options: take IPv4 options and, behind IPv6, hop-by-hop and destination options, up to 4 headers
    - any_vni: a VNI that is in no table goes on, with itself as the network
    - capacity: entries of the table: one a VNI, one a (VNI, source), one an address

    The table may change while other threads decapsulate with it: a call that already runs ends with the table as it
    was when it began, later ones see the change. Raises ValueError naming what is out of range, TableFullError.
    """

    def __init__(
        self,
        *,
        addresses: Iterable[str | bytes] = (),
        port: int = 4789,
        reserved: Literal["strict", "ignore", "count"] = "strict",
        zero_checksum6: bool = False,
        gbp: bool = False,
        gpe: bool = False,
        verify_checksum: bool = True,
        options: bool = False,
        any_vni: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        self._capacity = check("capacity", capacity, 1, 1 << 22)
        self._port = check("port", port, 1, 0xFFFF)
        if reserved not in RESERVED:
            raise ValueError(f"reserved is 'strict', 'ignore' or 'count', not {reserved!r}")
        self._reserved = reserved
        self._zero6, self._gbp, self._gpe, self._verify = zero_checksum6, gbp, gpe, verify_checksum
        self._options, self._any_vni = options, any_vni
        self._addresses = frozenset(address("addresses", each) for each in addresses)
        self._networks: dict[int, tuple[int, frozenset[bytes] | None]] = {}
        self._counters = fresh_counters()
        self._entries = 0
        self._room(len(self._addresses))

    def __len__(self) -> int:
        return len(self._networks)

    def __contains__(self, vni: object) -> bool:
        return vni in self._networks

    @property
    def capacity(self) -> int:
        """Entries there is room for."""
        return self._capacity

    @property
    def entries(self) -> int:
        """Entries in use."""
        return self._entries

    @property
    def counters(self) -> memoryview:
        """Packets by verdict, uint64, the index is a `Reason`; [0] went on. Read-only, and always current."""
        return memoryview(self._counters).toreadonly()

    def counts(self) -> dict[Reason, int]:
        """`counters` as they are now, by reason."""
        return by_reason(self._counters)

    def allow(self, vni: int, network: int, sources: Iterable[str | bytes] | None = None) -> None:
        """Take frames of `vni`, as `network` (0 to 2^32 - 1), from these outer source addresses only; None: from any.

        Replaces what was said of this VNI before. Raises ValueError naming what is out of range; TableFullError, and
        then nothing has changed.
        """
        check("vni", vni, 0, 0xFFFFFF)
        check("network", network, 0, 0xFFFFFFFF)
        allowed = None if sources is None else frozenset(address("sources", each) for each in sources)
        self._room(1 + len(allowed or ()) - self._size(vni))
        self._networks[vni] = (network, allowed)

    def forbid(self, vni: int) -> None:
        """Take no more frames of `vni`. Raises KeyError if it was not allowed."""
        if vni not in self._networks:
            raise KeyError(vni)
        self._room(-self._size(vni))
        del self._networks[vni]

    def _size(self, vni: int) -> int:
        return 1 + len(self._networks[vni][1] or ()) if vni in self._networks else 0

    def _room(self, more: int) -> None:
        if self._entries + more > self._capacity:
            raise TableFullError(self._capacity)
        self._entries += more

    def _network(self, vni: int, source: bytes) -> tuple[Reason, int]:
        """Whether the source may send for this VNI, and the network."""
        if vni not in self._networks:
            return Reason.PASS if self._any_vni else Reason.VNI_UNKNOWN, vni
        network, sources = self._networks[vni]
        return Reason.PASS if sources is None or source in sources else Reason.VTEP_NOT_ALLOWED, network

    def _count(self, reason: int) -> None:
        self._counters[reason] += 1

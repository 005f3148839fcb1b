"""Lease events and the table of leases: what guests were promised, for observation only.

Answers never depend on this table (they come from port data), so losing it costs an operator a view and a guest
nothing. Times are Unix seconds, passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, Literal

import msgspec

from dataplane.model import Ip, Mac, NetworkId, PortId

LeaseEventKind = Literal["offered", "withdrawn", "bound", "renewed", "released", "declined", "nak"]
LeaseState = Literal["offered", "bound", "released", "declined"]

INFINITE: Final = 0xFFFFFFFF
"""A lease time without an end (RFC 2131 section 3.3)."""

# Chosen: an offer that nobody took is shown for a minute; dhclient and dnsmasq give up on one in about that time.
OFFER_SECONDS: Final = 60.0
# Chosen: an ended lease stays visible for an hour, long enough to be asked about.
ENDED_SECONDS: Final = 3600.0
# Chosen: far above the ports of one node; a bound, not a size to plan with.
MAX_LEASES: Final = 65536


class LeaseEvent(msgspec.Struct, frozen=True, gc=False):
    """What the DHCP core promised a guest, or heard from it."""

    kind: LeaseEventKind
    """`withdrawn`: the guest took another server's offer."""
    network_id: NetworkId
    port_id: PortId
    mac: Mac
    address: Ip
    """The port's address; of a `nak`, the address that the guest asked for."""
    now: float
    lease_seconds: int = 0
    """The time sent in option 51 (offered, bound, renewed; `INFINITE`: no end), else 0."""
    hostname: str = ""
    """The guest's own words of option 12, printable ASCII only."""
    client_id: str = ""
    """Option 61 in hexadecimal with colons; empty if not sent."""


class LeaseRow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One promise of one address to one port, as `nodeplane get leases` shows it and the journal keeps it."""

    network_id: NetworkId
    port_id: PortId
    mac: Mac
    address: Ip
    state: LeaseState
    since: float
    """When the present state began."""
    updated: float
    """When the guest was last heard in this state."""
    expires: float | None = None
    """End of the longest promise made (RFC 2131 section 3.3), or of the row's showing; None: never."""
    hostname: str = ""
    client_id: str = ""


LeaseKey = tuple[PortId, Ip]


class LeaseTable:
    """The leases of all networks of a node, newest last, at most `max_leases` (the longest unheard goes first)."""

    def __init__(self, rows: Iterable[LeaseRow] = (), *, max_leases: int = MAX_LEASES) -> None:
        """Start from the rows of a journal; of several rows for one port and address the last counts."""
        if max_leases < 1:
            raise ValueError("a lease table holds at least one lease")
        self._max = max_leases
        self._rows: dict[LeaseKey, LeaseRow] = {}
        for row in rows:
            self._put(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[LeaseRow]:
        return iter(tuple(self._rows.values()))

    def apply(self, event: LeaseEvent) -> LeaseRow | None:
        """Take an event in; return the row as it is now, to be journalled, or None if nothing changed.

        An offer never replaces a running lease: the guest may still hold what it was promised before.
        """
        key = (event.port_id, event.address)
        old = self._rows.get(key)
        running = old is not None and old.state == "bound" and not _is_over(old, event.now)
        match event.kind:
            case "nak":
                return None
            case "withdrawn":
                if old is not None and old.state == "offered":
                    del self._rows[key]
                return None
            case "offered":
                return None if running else self._put(_row(event, "offered", event.now, event.now + OFFER_SECONDS))
            case "released" | "declined" as state:
                return self._put(_row(event, state, event.now, event.now + ENDED_SECONDS))
            case "bound" | "renewed":
                expires = None if event.lease_seconds == INFINITE else event.now + event.lease_seconds
                if not running or old is None:
                    return self._put(_row(event, "bound", event.now, expires))
                return self._put(_row(event, "bound", old.since, _later(old.expires, expires)))

    def expire(self, now: float) -> list[LeaseRow]:
        """Remove what has ended by `now` and return it. Cost: one look at every row."""
        over = [row for row in self._rows.values() if _is_over(row, now)]
        for row in over:
            del self._rows[row.port_id, row.address]
        return over

    def forget_ports(self, port_ids: Collection[PortId]) -> list[LeaseRow]:
        """Remove the rows of deleted ports and return them. Cost: one look at every row."""
        gone = [row for row in self._rows.values() if row.port_id in port_ids]
        for row in gone:
            del self._rows[row.port_id, row.address]
        return gone

    def rows(self, network_id: NetworkId | None = None) -> list[LeaseRow]:
        """The rows of one network, or all, in the order in which they were last heard."""
        return [row for row in self._rows.values() if network_id is None or row.network_id == network_id]

    def _put(self, row: LeaseRow) -> LeaseRow:
        key = (row.port_id, row.address)
        self._rows.pop(key, None)  # so that the dict's order is the order of hearing
        self._rows[key] = row
        if len(self._rows) > self._max:
            del self._rows[next(iter(self._rows))]
        return row


def _row(event: LeaseEvent, state: LeaseState, since: float, expires: float | None) -> LeaseRow:
    return LeaseRow(
        network_id=event.network_id,
        port_id=event.port_id,
        mac=event.mac,
        address=event.address,
        state=state,
        since=since,
        updated=event.now,
        expires=expires,
        hostname=event.hostname,
        client_id=event.client_id,
    )


def _is_over(row: LeaseRow, now: float) -> bool:
    return row.expires is not None and row.expires <= now


def _later(one: float | None, other: float | None) -> float | None:
    """The later of two ends, where None never ends."""
    return None if one is None or other is None else max(one, other)

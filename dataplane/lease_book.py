"""What guests were promised: the lease table, its journal in the store, and the log line of each event."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Protocol

from dataplane.events import EVENTS
from dataplane.leases import LeaseEvent, LeaseRow, LeaseTable
from dataplane.model import NetworkId, PortId

log = logging.getLogger("nodeplane.dhcp")

_LEVELS = logging.getLevelNamesMapping()
_NAMED = {"withdrawn": "", **{kind: f"dhcp.{kind}" for kind in (
    "offered", "bound", "renewed", "released", "declined", "nak")}}  # fmt: skip


class Journal(Protocol):
    """Where rows are kept over a restart; the store is one."""

    def record_leases(self, rows: Iterable[LeaseRow], gone: Iterable[LeaseRow] = ()) -> None:
        """Write rows and take others out, soon; never waits and never fails."""


class LeaseBook:
    """Takes lease events from every network. Answers to guests never wait for it."""

    def __init__(self, journal: Journal, rows: Iterable[LeaseRow] = ()) -> None:
        self._journal = journal
        self._table = LeaseTable(rows)

    def take(self, event: LeaseEvent) -> None:
        """Note an event; a promise that was taken goes into the journal, a mere offer does not."""
        row = self._table.apply(event)
        if row is not None and row.state != "offered":
            self._journal.record_leases([row])
        if name := _NAMED[event.kind]:
            level = _LEVELS[EVENTS[name].level.upper()]
            if log.isEnabledFor(level):
                log.log(level, name, extra={"fields": _fields(event)})

    def rows(self, network_id: NetworkId | None = None) -> list[LeaseRow]:
        """The leases of one network, or all."""
        return self._table.rows(network_id)

    def count(self) -> dict[str, int]:
        """How many leases there are in each state."""
        counts: dict[str, int] = {"bound": 0}
        for row in self._table:
            counts[row.state] = counts.get(row.state, 0) + 1
        return counts

    def expire(self, now: float) -> None:
        """Drop what has ended; cost: one look at every row."""
        if gone := self._table.expire(now):
            self._journal.record_leases([], gone)

    def forget_ports(self, port_ids: Collection[PortId]) -> None:
        """Drop the leases of deleted ports; cost: one look at every row."""
        if gone := self._table.forget_ports(port_ids):
            self._journal.record_leases([], gone)


def _fields(event: LeaseEvent) -> dict[str, object]:
    fields: dict[str, object] = {
        "network": event.network_id, "port": event.port_id, "mac": event.mac, "address": event.address,
    }  # fmt: skip
    if event.lease_seconds:
        fields["lease_seconds"] = event.lease_seconds
    if event.hostname:
        fields["hostname"] = event.hostname
    return fields

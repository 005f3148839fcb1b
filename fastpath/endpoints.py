"""What `fastpath.flow.five_tuple` returns."""

from __future__ import annotations

from typing import NamedTuple


class FiveTuple(NamedTuple):
    """Who talks to whom: addresses as 4 or 16 bytes, the protocol's number, ports as host integers.

    Without ports (other protocols, later fragments, what was cut off) these are 0. Of ICMP the source port is
    type * 256 + code, the destination port the identifier of a query.
    """

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int

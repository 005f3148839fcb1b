"""What the flow cache's twins share: its bounds, and a flow as people see it."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST_FLOWS: Final = 1 << 22


class CachedFlow(NamedTuple):
    """A flow in the cache: the classifier's key with the answer, and what was found in the cache since it came in."""

    version: int
    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int
    zone: int
    direction: int
    rule: int
    packets: int
    bytes: int

"""The questions, in the order in which `run all` asks them."""

from __future__ import annotations

from bench.cases import (
    batch_sizes,
    boot_storm,
    checksum,
    classify,
    conntrack,
    decap,
    density,
    dhcp,
    encap,
    engine,
    five_tuple,
    flow_cache,
    flows,
    memory,
    metadata,
    networks_up,
    nova_stall,
    port_change,
    restart,
    segmentation,
)
from bench.context import Case

CASES: dict[str, Case] = {
    module.CASE.name: module.CASE
    for module in (
        networks_up, memory, restart, metadata, boot_storm, nova_stall, dhcp, port_change, density,
        encap, decap, five_tuple, checksum, segmentation, batch_sizes, flows, conntrack, engine,
        classify, flow_cache,
    )
}  # fmt: skip

PACKETS = frozenset(
    case.name for case in CASES.values() if not case.network and case not in (classify.CASE, flow_cache.CASE)
)
"""The per-packet ones, `run packets`."""

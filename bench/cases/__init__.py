"""The questions, in the order in which `run all` asks them."""

from __future__ import annotations

from bench.cases import (
    boot_storm,
    density,
    dhcp,
    memory,
    metadata,
    networks_up,
    nova_stall,
    port_change,
    restart,
)
from bench.context import Case

CASES: dict[str, Case] = {
    module.CASE.name: module.CASE
    for module in (networks_up, memory, restart, metadata, boot_storm, nova_stall, dhcp, port_change, density)
}

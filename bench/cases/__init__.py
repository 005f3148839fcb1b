"""The questions, in the order in which `run all` asks them."""

from __future__ import annotations

from bench.cases import density, dhcp, memory, metadata, networks_up, port_change, restart
from bench.context import Case

CASES: dict[str, Case] = {
    module.CASE.name: module.CASE for module in (networks_up, memory, restart, metadata, dhcp, port_change, density)
}

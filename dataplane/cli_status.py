"""`nodeplane status`: the node on one screen, or in one line for probes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dataplane.cli_output import printable, span
from dataplane.status import NetworkStatus, Status, Traffic

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

SHOWN_NETWORKS = 20
"""Rows of the table of networks without --all; those that are not ready come first."""

COLOURS = {"ready": "green", "pending": "yellow", "error": "red"}
_ORDER = ("error", "pending", "ready")


def verdict(status: Status) -> str:
    """One word for the node: ready, degraded (ready, but something is wrong) or starting."""
    if not status.ready:
        return "starting"
    healthy = status.source.connected and not any(network.state == "error" for network in status.networks)
    return "ready" if healthy else "degraded"


def brief(status: Status) -> str:
    """The whole status in one line, parts separated by middle dots."""
    return " · ".join(_brief(status))


def _brief(status: Status) -> Iterator[str]:
    yield verdict(status)
    states = [network.state for network in status.networks]
    failing = states.count("error")
    text = _plural(len(states), "network")
    yield f"{text}, {failing} in error" if failing else text
    ports = sum(network.ports for network in status.networks)
    yield f"{sum(network.plugged for network in status.networks)}/{ports} ports plugged"
    yield f"revision {status.revision}" if status.in_step else f"revision {status.applied} of {status.revision}"
    yield f"{_plural(status.leases, 'lease')}"
    yield f"dhcp {status.dhcp.answered} answered"
    yield f"metadata {status.metadata.answered} answered"
    if not status.source.connected:
        yield f"source away for {span(status.source.age_seconds)}"


def show(status: Status, *, everything: bool = False, console: Console | None = None) -> None:
    """Print the screen; `everything` lists all networks."""
    from rich.console import Console

    console = console or Console(highlight=False)
    console.print(_head(status))
    console.print(_services(status))
    if status.networks:
        rows = sorted(status.networks, key=lambda network: (_ORDER.index(network.state), network.name, network.id))
        shown = rows if everything else rows[:SHOWN_NETWORKS]
        console.print(_networks(shown))
        if len(rows) > len(shown):
            console.print(f"  ... and {len(rows) - len(shown)} more: nodeplane status --all\n", style="dim")
        for network in shown:
            if network.error:
                console.print(f"  {printable(network.name or network.id)}: {printable(network.error)}", style="red")
    for line in _advice(status):
        console.print(f"  {line}", style="dim")


def _head(status: Status) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    colour = {"ready": "green", "degraded": "yellow", "starting": "yellow"}[verdict(status)]
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text("● ", colour).append(printable(status.node), "bold"),
        Text(verdict(status).upper(), f"bold {colour}"),
        Text(f"up {span(time.time() - status.started_at)}"),
        Text(f"nodeplane {printable(status.version)}, pid {status.pid}", "dim"),
    )
    return line


def _services(status: Status) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    def label(text: str) -> Text:
        return Text(text, "dim")

    ports = sum(network.ports for network in status.networks)
    plugged = sum(network.plugged for network in status.networks)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(label("desired"), _revision(status), label("dhcp"), _traffic(status.dhcp))
    grid.add_row(label("networks"), _states(status.networks), label("metadata"), _traffic(status.metadata))
    grid.add_row(
        label("ports"),
        Text(f"{plugged} of {ports} plugged", "" if plugged == ports else "yellow"),
        label("leases"),
        Text(f"{status.leases} bound"),
    )
    grid.add_row(
        label("instances"),
        Text(str(status.instances)),
        label("process"),
        Text(f"{status.resident_bytes / 2**20:.0f} MiB, loop late by {status.loop_lag_seconds * 1e3:.1f} ms"),
    )
    return Padding(grid, (0, 0, 0, 2))


def _revision(status: Status) -> Text:
    from rich.text import Text

    if not status.source.connected:
        return Text(f"source away for {span(status.source.age_seconds)}, serving revision {status.applied}", "yellow")
    if status.in_step:
        return Text(f"revision {status.revision}, carried out")
    return Text(f"revision {status.applied} of {status.revision} carried out", "yellow")


def _states(networks: Sequence[NetworkStatus]) -> Text:
    from rich.text import Text

    text = Text()
    for state in reversed(_ORDER):
        count = sum(network.state == state for network in networks)
        if count:
            text.append(f"{', ' if text else ''}{count} {state}", COLOURS[state])
    return text or Text("none")


def _traffic(traffic: Traffic) -> Text:
    from rich.text import Text

    text = Text(f"{traffic.received} in, {traffic.answered} answered")
    if traffic.dropped:
        text.append(f", {traffic.dropped} dropped", "yellow")
    if traffic.held:
        text.append(f", {traffic.held} held", "yellow")
    return text


def _networks(rows: Sequence[NetworkStatus]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("network", max_width=32, no_wrap=True)
    table.add_column("id", no_wrap=True, min_width=max(len(printable(network.id)) for network in rows))
    table.add_column("state", no_wrap=True)
    for heading in ("ports", "vni"):
        table.add_column(heading, justify="right", no_wrap=True)
    for network in rows:
        name = Text(printable(network.name) or "-")
        table.add_row(
            name.append(" (adopted)", "dim") if network.adopted else name,
            Text(printable(network.id), "dim"),
            Text(network.state, COLOURS[network.state]),
            Text(f"{network.plugged}/{network.ports}", "" if network.plugged == network.ports else "yellow"),
            Text("-" if network.vni is None else str(network.vni)),
        )
    return table


def _advice(status: Status) -> Iterator[str]:
    """The next step, where there is one."""
    if not status.networks:
        yield "no network has a port on this node yet: nodeplane apply -f FILE"
    if any(network.ports > network.plugged for network in status.networks):
        yield "a port waits for its device; its name: nodeplane get ports"
    if any(network.state == "error" for network in status.networks):
        yield "networks in error are tried again; each attempt: network.failed in the log"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""What `nodeplane get` prints: a table for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

Row = Mapping[str, Any]

UNLIMITED = 10_000
"""Columns of a terminal that fits every table."""


class Column(NamedTuple):
    """A column of a table: its heading and how a cell is made of an object."""

    heading: str
    cell: Callable[[Row], str]


def printable(text: object) -> str:
    """Text without characters that a terminal would act on."""
    return "".join(character for character in str(text) if character.isprintable())


def span(seconds: float) -> str:
    """A span of time in its two greatest units: `3h 12m`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _key(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name) or "")


def _joined(name: str, key: str) -> Callable[[Row], str]:
    return lambda row: " ".join(str(item[key]) for item in row.get(name, ()))


def _device(row: Row) -> str:
    from dataplane.model import TAP_ID_CHARACTERS, TAP_PREFIX

    return str(row.get("device") or TAP_PREFIX + row["id"][:TAP_ID_CHARACTERS])


def _user_data(row: Row) -> str:
    if (text := row.get("user_data")) is not None:
        return f"{len(text.encode())} bytes"
    if (text := row.get("user_data_base64")) is not None:
        return f"{len(text) * 3 // 4 - text.count('=')} bytes"
    return ""


def _expires(row: Row) -> str:
    end = row.get("expires")
    if end is None:
        return "never"
    left = end - time.time()
    return f"in {span(left)}" if left > 0 else "over"


def _count(items: Sequence[object] | None, missing: str = "") -> str:
    return missing if items is None else str(len(items))


COLUMNS: dict[str, tuple[Column, ...]] = {
    "networks": (
        Column("id", _key("id")),
        Column("name", _key("name")),
        Column("vni", _key("vni")),
        Column("mtu", lambda row: str(row.get("mtu", 1500))),
        Column("subnets", _joined("subnets", "cidr")),
        Column("domain", _key("dns_domain")),
    ),
    "ports": (
        Column("id", _key("id")),
        Column("network", _key("network_id")),
        Column("mac", _key("mac_address")),
        Column("addresses", _joined("fixed_ips", "ip_address")),
        Column("device", _device),
        Column("instance", _key("device_id")),
        Column("host", _key("host")),
    ),
    "instances": (
        Column("id", _key("id")),
        Column("name", _key("name")),
        Column("hostname", _key("hostname")),
        Column("project", _key("project_id")),
        Column("keys", _joined("keys", "name")),
        Column("user data", _user_data),
    ),
    "security_groups": (
        Column("id", _key("id")),
        Column("name", _key("name")),
        Column("project", _key("project_id")),
        Column("stateful", lambda row: "yes" if row.get("stateful", True) else "no"),
        Column("rules", lambda row: _count(row.get("security_group_rules"), "default")),
    ),
    "address_groups": (
        Column("id", _key("id")),
        Column("name", _key("name")),
        Column("project", _key("project_id")),
        Column("addresses", lambda row: _count(row.get("addresses", ()))),
    ),
    "firewall_policies": (
        Column("id", _key("id")),
        Column("name", _key("name")),
        Column("project", _key("project_id")),
        Column("rules", lambda row: _count(row.get("firewall_rules", ()))),
    ),
    "leases": (
        Column("network", _key("network_id")),
        Column("port", _key("port_id")),
        Column("mac", _key("mac")),
        Column("address", _key("address")),
        Column("state", _key("state")),
        Column("expires", _expires),
        Column("hostname", _key("hostname")),
    ),
}


def write_json(data: object) -> None:
    """Indented JSON on standard output."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def write_yaml(kind: str, rows: Sequence[Row]) -> None:
    """A document on standard output that `nodeplane apply -f -` takes back."""
    import yaml

    from dataplane.cli_input import SCALARS

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Safe dumping with text of several lines as a block."""

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else "'" if any(rule.fullmatch(value) for rule in SCALARS.values()) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    yaml.dump({kind: list(rows)}, sys.stdout, Dumper, sort_keys=False, allow_unicode=True, width=120)


def write_table(kind: str, rows: Sequence[Row]) -> None:
    """A table on standard output: ruled on a terminal, plain columns in a pipe."""
    headings = [column.heading for column in COLUMNS[kind]]
    cells = [[printable(column.cell(row)) for column in COLUMNS[kind]] for row in rows]
    if sys.stdout.isatty():
        _ruled(headings, cells)
    else:
        plain(sys.stdout, headings, cells)


def plain(out: TextIO, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Columns by spaces under headings in capitals; an empty cell is `-`, so that fields can be counted."""
    lines = [[heading.upper().replace(" ", "-") for heading in headings]]
    lines += [[cell or "-" for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=out)


def _ruled(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console()
    # A narrow terminal wraps lines; an id that is cut short would be of no use.
    wanted = console.measure(table, options=console.options.update(max_width=UNLIMITED)).maximum
    Console(width=max(console.width, wanted), height=console.height).print(table)

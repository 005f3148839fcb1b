"""The status screen and the status line."""

from __future__ import annotations

import io
import time
from typing import Any

import msgspec
import pytest
from rich.console import Console

from dataplane import cli_status
from dataplane.model import NetworkId
from dataplane.status import NetworkStatus, SourceStatus, Status, Traffic


def network(tenant: str, **changes: Any) -> NetworkStatus:
    made = NetworkStatus(id=NetworkId(f"{tenant}-net"), name=tenant, state="ready", ports=2, plugged=2, vni=5)
    return msgspec.structs.replace(made, **changes)


def status(*networks: NetworkStatus, **changes: Any) -> Status:
    made = Status(
        node="n1", version="1.2.3", pid=42, started_at=time.time() - 3700, ready=True, revision=7, applied=7,
        networks=networks, instances=3, leases=1, dhcp=Traffic(received=4, answered=3, dropped=1, held=2),
        metadata=Traffic(received=9, answered=9), loop_lag_seconds=0.0012, resident_bytes=50 << 20,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def screen(shown: Status, width: int = 100, everything: bool = False) -> str:
    out = io.StringIO()
    cli_status.show(shown, everything=everything, console=Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (status(), "ready"),
        (status(network("blue")), "ready"),
        (status(network("blue", state="pending")), "ready"),
        (status(network("blue", state="error")), "degraded"),
        (status(source=SourceStatus(connected=False)), "degraded"),
        (status(ready=False), "starting"),
    ],
)
def test_verdict(shown: Status, word: str) -> None:
    assert cli_status.verdict(shown) == word
    assert word.upper() in screen(shown)


def test_the_line() -> None:
    assert cli_status.brief(status(network("blue"))) == (
        "ready · 1 network · 2/2 ports plugged · revision 7 · 1 lease · dhcp 3 answered · metadata 9 answered"
    )
    line = cli_status.brief(
        status(
            network("blue"),
            network("green", state="error", plugged=1),
            revision=9,
            source=SourceStatus(connected=False, age_seconds=61),
        )
    )
    assert "2 networks, 1 in error" in line
    assert "3/4 ports" in line
    assert "revision 7 of 9" in line
    assert line.endswith("source away for 1m 1s")
    assert "\n" not in line


def test_the_screen() -> None:
    text = screen(status(network("blue"), network("green", state="error", error="no room", plugged=1, adopted=True)))
    for part in ("n1", "up 1h 1m", "nodeplane 1.2.3, pid 42", "revision 7, carried out", "1 ready, 1 error",
                 "3 of 4 plugged", "4 in, 3 answered, 1 dropped, 2 held", "50 MiB, loop late by 1.2 ms",
                 "green (adopted)", "green: no room", "nodeplane get ports"):  # fmt: skip
        assert part in text, part
    assert text.index("green-net") < text.index("blue-net"), "what is wrong comes first"


def test_an_empty_node_says_what_to_do() -> None:
    assert "nodeplane apply -f FILE" in screen(status())
    assert "none" in screen(status())


def test_it_fits_eighty_columns() -> None:
    long = network("a-name-that-is-rather-long", id="6f1d1a52-3a5b-4c1e-9c40-0000000000b1", error="x " * 100)
    assert max(map(len, screen(status(long, network("blue", state="pending")), width=80).splitlines())) <= 80
    assert long.id in screen(status(long), width=80)


def test_many_networks_are_cut_short() -> None:
    many = status(*(network(f"n{number}") for number in range(50)))
    assert "... and 30 more: nodeplane status --all" in screen(many)
    assert "... and" not in screen(many, everything=True)
    assert "n49-net" in screen(many, everything=True)


def test_text_of_others_cannot_act_on_the_terminal() -> None:
    text = screen(status(network("blue", name="\x1b[31m[red]x", state="error", error="\x1b]0;evil\x07")))
    assert "\x1b" not in text
    assert "[31m[red]x" in text

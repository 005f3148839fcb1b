"""Tables, JSON and YAML of `nodeplane get`."""

from __future__ import annotations

import io
import json
import sys
import time
from typing import Any

import msgspec
import pytest

from dataplane import cli_input, cli_output
from dataplane.model import DesiredState
from tests.unit.dataplane.fake_backend import LEASE, TENANT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3661, "1h 1m"),
        (86400, "1d"),
        (90061, "1d 1h"),
        (3605, "1h 5s"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert cli_output.span(seconds) == text


@pytest.mark.parametrize("kind", ["networks", "ports", "instances"])
def test_plain_tables_can_be_cut_into_fields(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli_output.write_table(kind, TENANT[kind])
    head, row = capsys.readouterr().out.splitlines()
    assert len(head.split()) == len(cli_output.COLUMNS[kind])
    assert row.startswith(TENANT[kind][0]["id"])


def test_ports_show_the_device_that_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    cli_output.write_table("ports", [{**TENANT["ports"][0], "id": "0123456789abcdef"}])
    assert "tap0123456789a " in capsys.readouterr().out


def test_user_data_is_shown_by_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "user_data": "ü"}, {"id": "b", "user_data_base64": "YWJjZA=="}, {"id": "c"}]
    cli_output.write_table("instances", rows)
    assert [line.split(maxsplit=5)[-1] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "2 bytes",
        "4 bytes",
        "-",
    ]


def test_leases_say_when_they_end(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = msgspec.to_builtins(LEASE)
    ends = [time.time() + 3700, time.time() - 1, None]
    cli_output.write_table("leases", [{**row, "expires": end} for end in ends])
    out = capsys.readouterr().out
    assert "in 1h" in out
    assert "over" in out
    assert "never" in out


def test_terminals_get_rules_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    row = msgspec.to_builtins(LEASE)
    cli_output.write_table("leases", [{**row, "hostname": "a\x1b]0;evil\x07[bold]b"}])
    assert "─" in terminal.getvalue()
    assert "a]0;evil[bold]b" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    cli_output.write_json(TENANT["ports"])
    assert json.loads(capsys.readouterr().out) == TENANT["ports"]


def test_yaml_can_be_applied_again(capsys: pytest.CaptureFixture[str]) -> None:
    network = {**TENANT["networks"][0], "id": "010", "name": "52:54:00:12:34:56"}
    instance = {**TENANT["instances"][0], "meta": {"a": "yes", "b": "1e3", "c": "~", "d": "2024-01-01", "e": ""}}
    for kind, row in (("networks", network), ("instances", instance)):
        cli_output.write_yaml(kind, [row])
        text = capsys.readouterr().out
        assert cli_input.parse(text) == {kind: [row]}
        msgspec.convert(cli_input.parse(text), DesiredState)
    assert "user_data: |\n" in text
